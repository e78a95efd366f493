"""What is decided by the changes alone is what would be decided by looking at all of the suite."""

import os
import random
import time
from dataclasses import dataclass, field, replace

import pytest

from buildmaster import entering, publications, suites
from buildmaster.farm import Farm
from buildmaster.publications import LISTED, Publication, Suite
from buildmaster.scoring import Pocket
from buildmaster.suites import Plan, Shown
from buildmaster.tables import publication
from buildmaster.tests.databases import on_postgresql
from buildmaster.tests.factories import make_repository, make_series
from buildmaster.tests.test_publications import accept, deb

SEED = int(os.environ.get("DEBFARM_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
STEPS = 40
SOURCES = ("one", "two", "three")


@dataclass
class World:
    """An archive of a few sources, which change what they make."""

    farm: Farm
    chance: random.Random
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, 0))

    def __post_init__(self) -> None:
        make_series(self.farm)
        self.where = Suite(make_repository(self.farm, "mine"), 1, Pocket.RELEASE)
        self.farm.write(publications.ensure_suite, self.where, 0.0)

    def upload(self, name: str) -> None:
        """A new version, with packages that depend on some that there are, or were, or never will be."""
        self.versions[name] += 1
        version = str(self.versions[name])
        accepted = accept(self.farm, version, name)
        made = []
        for number in self.chance.sample(range(4), self.chance.randint(1, 3)):
            one = deb(self.farm, f"{name}{number}", version)
            others = [self._any() for _ in range(self.chance.randrange(3))]
            fields = f"Depends: {', '.join(others)}\n" if others else ""
            fields += f"Provides: {self._any()}\n" if self.chance.random() < 0.2 else ""
            made.append(replace(one, source=name, control=one.control + fields))
        self.farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], made, time.time())

    def _any(self) -> str:
        return f"{self.chance.choice(SOURCES)}{self.chance.randrange(4)}"

    def delete(self, name: str) -> None:
        ids = [each.id for each in self.listed() if each.source == name]
        self.farm.write(publications.leave, ids, "deleted", time.time())

    def publish(self) -> None:
        plan = self.plan()
        shown = Shown(plan.generation + 1, time.time(), None, ("main",))
        self.farm.write(suites.done, plan, shown, time.time())

    def plan(self, *, full: bool = False) -> Plan:
        with self.farm.reading() as connection:
            return suites.plan(connection, self.where, full=full)

    def listed(self) -> list[Publication]:
        with self.farm.reading() as connection:
            return publications.in_archive(connection, self.where.archive_id, LISTED)


@pytest.mark.skipif(on_postgresql(), reason="it is about what is decided, which no database has a part in")
@pytest.mark.parametrize("number", range(int(os.environ.get("DEBFARM_WORLDS", "2"))))
def test_nothing_is_left_for_who_looks_at_all(farm: Farm, number: int) -> None:
    """Packages that are not made any more, and that others need, in circles as well, until these go, or are deleted:
    after each publication nothing more would leave if all of the suite were looked at."""
    print(f"DEBFARM_SEED={SEED}, world {number}")
    world, kept = World(farm, random.Random(SEED + number)), 0
    for _ in range(STEPS):
        for name in world.chance.sample(SOURCES, world.chance.randint(1, 2)):
            world.delete(name) if world.chance.random() < 0.15 else world.upload(name)
        world.publish()
        kept += sum(each.kept_for_id is not None for each in world.listed())
        plan = world.plan(full=True)
        assert [f"{each.publication.name} {each.publication.version}" for each in plan.leaves] == []
    assert kept  # Else this would show nothing.


def test_what_stayed_elsewhere(farm: Farm) -> None:
    """A number that was another's once does not lead out of the suite."""
    world = World(farm, random.Random(1))
    world.upload("one")
    world.upload("two")
    world.publish()
    ids = {each.source: each.id for each in world.listed()}
    elsewhere = publication.update().where(publication.c.id == ids["two"])
    with farm.transaction() as connection:
        connection.execute(elsewhere.values(pocket=Pocket.UPDATES, kept_for_id=ids["one"]))
    world.delete("one")
    assert {each.publication.source for each in world.plan().leaves} == {"one"}
