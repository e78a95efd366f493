"""What people do to a farm with commands, at any moment."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from buildmaster import builders, builds, giving
from buildmaster.giving import GiveRefused
from buildmaster.lifecycle import ImpossibleTransition

if TYPE_CHECKING:
    from buildmaster.tests.simulation.world import World

_OFF_S = (5.0, 900.0)
_MANUAL_S = (10.0, 2000.0)


class People:
    """All of them."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.submitted = 0  # Builds.

    def do(self, what: str, function: Callable[..., Any], *args: Any, **more: Any) -> None:
        """What a person does with a command: a transaction of another process."""
        world = self._world
        try:
            with world.farm.transaction() as connection:
                function(connection, *args, **more)
        except (ImpossibleTransition, GiveRefused):
            what += " refused"
        world.report.did[what] += 1
        world.committed(what)

    def submit(self) -> None:
        chance, land = self._world.chance, self._world.land
        self.submitted += 1
        self.do("submit", builds.add, chance.choice(land.source_ids), chance.choice(land.places), self._world.now)

    def act(self) -> None:
        """A person does something."""
        world, chance = self._world, self._world.chance
        known = list(world.invariants.states)
        if not known:
            return
        build_id, name = chance.choice(known), chance.choice(list(world.machines))
        match chance.randrange(14):
            case 0 | 1:
                self.do("cancel", builds.cancel, build_id, world.now)
            case 2 | 3:
                self.do("retry", builds.retry, build_id, world.now)
            case 4:
                self.do("disable", builders.disable, name, "by hand")
            case 5 | 6:
                self.enable(name)
            case 7:
                place, put = world.land.new_chroot()
                self.do("chroot", put, world.now)
                world.check_chroot_waits([place])
            case 8:
                self.submitted += world.land.new_version(world.now)
                world.report.did["supersede"] += 1
                world.committed("supersede")
            case 9:
                self.do("score", builds.set_score, build_id, chance.choice((None, -5, 5, 100_000)))
            case 10 | 11:
                world.invariants.given.add(build_id)
                self.do("give", giving.give, build_id, name)
            case 12:
                self.do("manual", builders.set_manual, name, True)
                world.clock.callLater(chance.uniform(*_MANUAL_S), self.do, "auto", builders.set_manual, name, False)
            case 13:
                world.machines[name].switch_off(chance.uniform(*_OFF_S))

    def enable(self, name: str) -> None:
        self.do("enable", builders.enable, name)
