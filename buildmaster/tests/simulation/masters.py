"""The lives of a farm's masters: each begins, has its troubles, ends somehow, and another one takes its place."""

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from buildmaster.tests.simulation.clock import MasterReactor
from buildmaster.tests.simulation.master import Character, SimMaster

if TYPE_CHECKING:
    from buildmaster.tests.simulation.world import World

_STILL_S = (1.0, 10.0, 29.0, 31.0, 60.0, 300.0)  # How long a master stands still: around its lease, too.
_AGAIN_S = (0.0, 2.0, 30.0, 400.0)  # Until another one takes the place of one that is dead.


class Lives:
    """All masters of a farm, one after the other in each of its places."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._masters: dict[int, SimMaster] = {}  # By the place.
        self._dead: list[SimMaster] = []  # Kept, so that nothing of them is cleaned up.
        self._seen: Counter[str] = Counter()  # Points that masters have come by, by their kind.
        self._characters = [self._character() for _ in range(world.plan.masters)]

    def _character(self) -> Character:
        if self._world.plan.masters == 1:
            return Character()
        chance = self._world.chance
        fast_s, uncertain = chance.choice((0.0, 0.0, -200.0, 200.0)), chance.choice((0.0, 0.0, 0.005))
        return Character(shared=True, fast_s=fast_s, uncertain=uncertain)

    @property
    def living(self) -> list[SimMaster]:
        return list(self._masters.values())

    def begin(self) -> None:
        """Start all, and have them get into trouble as planned."""
        plan, at_any_time = self._world.plan, self._world.at_any_time
        for place in range(plan.masters):
            self._start(place)
        at_any_time(plan.deaths, lambda: self._to_any(lambda one: one.reactor.die("anywhere")))
        at_any_time(plan.stops, lambda: self._to_any(self._stop))
        at_any_time(plan.outages, lambda: self._to_any(self._cut_off))
        at_any_time(plan.ends, lambda: self._to_any(SimMaster.end))

    def _to_any(self, what: Callable[[SimMaster], None]) -> None:
        if self._masters:
            what(self._world.chance.choice(self.living))

    def _stop(self, one: SimMaster) -> None:
        self._world.note("stands still")
        one.reactor.stand_still(self._world.chance.choice(_STILL_S) * self._world.chance.uniform(0.9, 1.1))

    def _cut_off(self, one: SimMaster) -> None:
        self._world.note("is cut off")
        one.lose_database(self._world.chance.choice(_STILL_S))

    def _start(self, place: int) -> None:
        world = self._world
        reactor = MasterReactor(world.clock, lambda where: self._is_last(reactor, where))
        name, chance = f"master-{place}", random.Random(world.chance.random())
        one = SimMaster(name, reactor, chance, world, self._characters[place])
        reactor.on_death = lambda where: self._died(place, one, where)
        self._masters[place] = one
        one.begin()

    def _is_last(self, reactor: MasterReactor, where: str) -> bool:
        """Whether a master dies at this point: at each kind of point about as often as at any other, common or rare. Or
        it stands still there."""
        world, plan, kind = self._world, self._world.plan, _kind(where)
        world.note(where)
        self._seen[kind] += 1
        if world.repaired:
            return False
        if plan.stillness and world.chance.random() < plan.stillness / self._seen[kind]:
            reactor.stand_still(world.chance.choice(_STILL_S))
        return world.chance.random() < plan.deadliness / self._seen[kind]

    def _died(self, place: int, one: SimMaster, where: str) -> None:
        self._world.note(f"died {where}")
        self._world.report.died[_kind(where)] += 1
        self._dead.append(one)
        one.bury()
        del self._masters[place]
        self._world.clock.callLater(self._world.chance.choice(_AGAIN_S), self._start, place)

    def tell(self, by: SimMaster | None, about: int | None) -> None:
        """Let all others hear of a commit."""
        for one in self.living:
            if one is not by and one.commits is not None:
                one.reactor.callLater(self._world.chance.uniform(0.0, 0.1), one.commits.tell, about)

    def repair(self) -> None:
        """From now on nothing is wrong with any."""
        for one in self.living:
            one.reactor.still_until = one.trouble_until = 0.0
        self._characters = [Character(shared=each.shared) for each in self._characters]

    def close(self) -> None:
        for one in self.living:
            one.reactor.alive = False
            one.bury()

    def forget(self) -> None:
        """Throw away all there were."""
        self._masters.clear()
        self._dead.clear()


def _kind(where: str) -> str:
    """What kind of point it is, at whichever machine."""
    return where.partition(" of ")[0]
