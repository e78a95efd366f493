"""What `why` says, on a real farm."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildmaster import archives as farm_archives
from buildmaster import builders, builds, depwaits, packages
from buildmaster.builders import Cleanliness
from buildmaster.cli.tests.conftest import Cli, end, make_source, start
from buildmaster.farm import Farm
from buildmaster.forecasting import BLOCKING
from buildmaster.lifecycle import Event
from buildmaster.reasons import Code
from buildmaster.scoring import ArchivePurpose
from buildmaster.tables import archive, build_queue


@pytest.fixture(autouse=True)
def master_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a master ran."""
    for command in ("why", "when"):
        monkeypatch.setattr(f"buildmaster.cli.{command}.somebody_runs", lambda *_: True)


def codes(cli: Cli, build_id: int) -> list[str]:
    return [each["code"] for each in cli("why", build_id, "--json").json["reasons"]]


def only(cli: Cli, build_id: int) -> tuple[str, str, str]:
    """Code, why and change of the one reason."""
    (reason,) = cli("why", build_id, "--json").json["reasons"]
    return reason["code"], reason["why"], reason["change"]


def set_builder(farm: Farm, name: str, cleanliness: Cleanliness) -> None:
    with farm.transaction() as connection:
        builders.set_cleanliness(connection, builders.find(connection, name).id, cleanliness)


def test_builders_that_cannot(ready: Cli, farm: Farm, dsc: Path) -> None:
    """No builder, a disabled one, one in manual mode, one that is cleaned, and one that is idle: each with what would
    change it."""
    ready("submit", dsc)
    assert only(ready, 1) == ("no-builder", "no builder for amd64", "`buildmaster add-builder URL` adds one.")
    ready("add-builder", "http://local:8221/", "--offline", "--architecture", "amd64")
    assert only(ready, 1)[0] == "cleaning" and "local" in only(ready, 1)[2]
    ready("disable-builder", "local", "--reason", "new disk")
    assert only(ready, 1)[0] == "disabled" and "local (new disk)" in only(ready, 1)[2]
    ready("enable-builder", "local")
    ready("change-builder", "local", "--manual")
    assert only(ready, 1)[0] == "manual"
    ready("change-builder", "local", "--automatic", "--restricted-tag", "gpu")
    assert only(ready, 1)[0] == "kept"
    ready("change-builder", "local", "--no-tags")
    set_builder(farm, "local", Cleanliness.CLEAN)
    assert only(ready, 1) == ("next", "starts at the master's next look", "")


def test_no_master_for_what_is_being_built(ready: Cli, farm: Farm, dsc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a build go on that a builder has: nobody will hear of its end."""
    monkeypatch.setattr("buildmaster.cli.why.somebody_runs", lambda *_: False)
    ready("submit", dsc)
    start(farm, 1)
    assert codes(ready, 1) == ["no-master", "running"]


def test_no_master(ready: Cli, dsc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no master runs, that comes first."""
    monkeypatch.setattr("buildmaster.cli.why.somebody_runs", lambda *_: False)
    ready("submit", dsc)
    assert codes(ready, 1) == ["no-master", "no-builder"]


def test_what_goes_before_it(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """Builds of a higher band, of higher score, and older ones are counted; and the archives that take turns."""
    for number in range(1, 7):
        ready("submit", make_source(tmp_path / str(number), f"source{number}"))
    start(farm, 6)
    with farm.transaction() as connection:
        builds.set_score(connection, 1, 20_000)
        builds.set_score(connection, 2, 4_000)
        builds.set_score(connection, 3, 4_000)
    told = {each["code"]: each["why"] for each in ready("why", 5, "--json").json["reasons"]}
    assert told == {
        "busy": "every builder for amd64 is busy",
        "higher-band": "1 build of a higher band of scores goes before it",
        "higher-score": "2 builds of higher score in archive primary go before it",
        "older": "1 build of the same score in archive primary, and older, goes before it",
    }
    text = ready("why", 5).out
    assert text.startswith(
        "build 5: source5 1.0 in bookworm for amd64, needs-build\n  Every builder for amd64 is busy. "
    )
    assert codes(ready, 1) == ["busy"]


def test_fair_share(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """An archive that has used more than another waits for it, and that is said."""
    with farm.transaction() as connection:
        values = {"distribution_id": 1, "name": "other", "purpose": ArchivePurpose.PPA}
        connection.execute(archive.insert().values(**values))
    for number in range(1, 4):
        name = "other" if number == 3 else "primary"
        dsc = make_source(tmp_path / str(number), f"source{number}")
        packages.accept(farm, dsc, 1.0, distribution="debian", series_name="bookworm", archive_name=name)
    start(farm, 1)
    share = [each for each in ready("why", 2, "--json").json["reasons"] if each["code"] == "fair-share"]
    assert "takes turns with 1 more, 1 of which have used less builder time, by up to 30 s" in share[0]["why"]
    assert "used less" not in ready("why", 3).out


def test_a_dependency_that_a_build_will_supply(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """A package that is missing is told with the build that will bring it, and where that stands."""
    ready("submit", make_source(tmp_path / "a", "needy"))
    start(farm, 1)
    end(farm, 1, Event.DEPENDENCIES_MISSING)
    with farm.transaction() as connection:
        builds.retry(connection, 1, 1.0)
        builds.record(connection, 1, Event.DEPENDENCIES_MISSING, 2.0, dependencies="libfoo (>= 2), libnever-dev")
    assert codes(ready, 1) == ["dependencies", "dependencies"]
    ready("submit", make_source(tmp_path / "b", "libfoo", "1.9"))
    assert ready("why", 1).out.count("Nothing in the farm") == 2
    ready("submit", make_source(tmp_path / "c", "libfoo", "2.0"))
    lines = ready("why", 1).out.splitlines()
    will = "Build-dependencies: libfoo (>= 2). Build 3 (libfoo 2.0), which is needs-build, will supply that."
    assert lines[1].strip() == will
    assert lines[2].startswith("  Build-dependencies: libnever-dev. Nothing in the farm would supply that")
    start(farm, 3, builder="other")
    end(farm, 3, Event.PACKAGE_FAILED)
    assert "Build 3 (libfoo 2.0) would supply that, and is failed: see `why 3`." in ready("why", 1).out


def test_builds_that_are_not_in_the_queue(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A build that runs, is stopped, or has ended says so."""
    ready("submit", dsc)
    start(farm, 1, stage="unpack chroot")
    assert only(ready, 1) == ("running", "builder local has it: unpack chroot", "")
    ready("cancel", 1)
    assert only(ready, 1)[0] == "cancelling"
    end(farm, 1, Event.ABORTED)
    assert only(ready, 1)[0] == "ended" and "retry" in only(ready, 1)[2]
    ready("retry", 1)
    start(farm, 1)
    end(farm, 1, Event.SUCCEEDED)
    assert only(ready, 1) == ("built", "it is built", "")
    assert "no build 7" in ready("why", 7, status=1).err


def test_no_chroot(cli: Cli, dsc: Path) -> None:
    """A build that waits for a chroot says which, and how one is given."""
    cli("init", "--distribution", "debian", "--series", "bookworm", "--architecture", "amd64")
    cli("submit", dsc)
    code, why, change = only(cli, 1)
    assert (code, why) == ("chroot", "there is no chroot for debian bookworm amd64")
    assert "add-chroot bookworm amd64 FILE" in change


def test_a_pause(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A build that was given back is left alone for a while, and says how long."""
    ready("submit", dsc)
    start(farm, 1)
    with farm.transaction() as connection:
        builds.record(connection, 1, Event.REQUEUED, time.time(), pause_s=100.0)
    assert codes(ready, 1)[0] == "pause"
    assert "tried again in" in ready("why", 1).out


def test_pages(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """A page of the queue says how many there are, and how to see the next; held builds come after the queue's."""
    for number in range(1, 6):
        ready("submit", make_source(tmp_path / str(number), f"source{number}"))
    start(farm, 2)
    end(farm, 2, Event.DEPENDENCIES_MISSING)
    shown = []
    for after in range(0, 6, 2):
        page = ready("queue", "--limit", 2, "--after", after, "--json").json
        shown += [each["build"]["id"] for each in page["queue"]]
        assert (page["total"], page["more"]) == (5, after < 4)
    assert shown == [1, 3, 4, 5, 2]
    assert "3 more wait; --after 2 shows the next" in ready("queue", "--limit", 2).err
    assert "No more than 5 wait" in ready("queue", "--after", 9).err


def look(tmp_path: Path) -> None:
    """Let masters look at build-dependencies before builders get builds, as they do unless told otherwise."""
    conf = tmp_path / "test.conf"
    conf.write_text(conf.read_text().replace("look = no", "look = yes"))


def test_not_looked_at_yet(idle: Cli, farm: Farm, dsc: Path, tmp_path: Path) -> None:
    """As long as nobody has looked at its build-dependencies, a build is given to no builder, and that is said: by
    `why`, in the queue, and by whoever else tells why it waits."""
    look(tmp_path)
    idle("submit", dsc)
    why = "whether its build-dependencies are there has not been looked at yet"
    assert only(idle, 1) == ("unchecked", why, "The master does so by itself, in a few seconds.")
    assert idle("queue", "--json").json["queue"][0]["why"] == why
    assert idle("show", 1, "--json").json["waits_for"] == why
    set_builder(farm, "local", Cleanliness.DIRTY)
    assert codes(idle, 1) == ["unchecked", "cleaning"]
    idle("disable-builder", "local")
    assert codes(idle, 1) == ["disabled"]
    idle("enable-builder", "local")
    set_builder(farm, "local", Cleanliness.CLEAN)
    with farm.transaction() as connection:
        depwaits.let_pass(connection, [1], time.time())
    assert codes(idle, 1) == ["next"]


def test_where_nobody_looks(idle: Cli, dsc: Path) -> None:
    """Where masters are told not to look, nothing waits for that."""
    idle("submit", dsc)
    assert codes(idle, 1) == ["next"]


@pytest.fixture
def idle(ready: Cli, farm: Farm) -> Cli:
    """A farm with an idle builder."""
    ready("add-builder", "http://local:8221/", "--offline", "--architecture", "amd64")
    set_builder(farm, "local", Cleanliness.CLEAN)
    return ready


@dataclass(frozen=True)
class World:
    """An idle builder, and build 1, which waits."""

    cli: Cli
    farm: Farm
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def submit(self, name: str, archive_name: str = "primary") -> None:
        dsc = make_source(self.folder / name, name)
        packages.accept(
            self.farm, dsc, time.time(), distribution="debian", series_name="bookworm", archive_name=archive_name
        )

    def runs(self) -> None:
        start(self.farm, 1)

    def is_cancelled(self) -> None:
        self.runs()
        self.cli("cancel", 1)

    def ends(self, event: Event) -> None:
        self.runs()
        end(self.farm, 1, event)

    def has_no_chroot(self) -> None:
        self.ends(Event.CHROOT_UNUSABLE)

    def has_no_master(self) -> None:
        self.monkeypatch.setattr("buildmaster.cli.why.somebody_runs", lambda *_: False)

    def is_looked_at_later(self) -> None:
        look(self.folder)

    def change_builder(self, *words: str) -> None:
        self.cli("change-builder", "local", *words)

    def is_lost(self, pause_s: float = 0.0, other: str = "") -> None:
        self.runs()
        with self.farm.transaction() as connection:
            builds.record(connection, 1, Event.REQUEUED, time.time(), pause_s=pause_s)
        if other:
            self.cli("add-builder", f"http://{other}:8221/", "--offline", "--architecture", "amd64")
            set_builder(self.farm, other, Cleanliness.CLEAN)

    def fails(self) -> None:
        with self.farm.transaction() as connection:
            builder_id = builders.find(connection, "local").id
            builders.set_trouble(connection, builder_id, "connection refused", time.time())

    def is_second(self) -> None:
        self.submit("other")
        start(self.farm, 2)

    def is_behind(self, score: int | None) -> None:
        """Behind a build of this score, or an older one."""
        self.submit("other")
        with self.farm.transaction() as connection:
            if score is None:
                connection.execute(build_queue.update().where(build_queue.c.build_id == 1).values(id=99))
            else:
                builds.set_score(connection, 2, score)

    def shares(self) -> None:
        with self.farm.transaction() as connection:
            farm_archives.add(connection, "debian", "other", ArchivePurpose.PPA)
            builds.set_score(connection, 1, 2_500)
        self.submit("other", "other")
        self.cli("score", 2, 2_500)


STATES: dict[Code, Callable[[World], object]] = {
    Code.RUNNING: World.runs,
    Code.CANCELLING: World.is_cancelled,
    Code.BUILT: lambda world: world.ends(Event.SUCCEEDED),
    Code.ENDED: lambda world: world.ends(Event.PACKAGE_FAILED),
    Code.DEPENDENCIES: lambda world: world.ends(Event.DEPENDENCIES_MISSING),
    Code.CHROOT: World.has_no_chroot,
    Code.NO_MASTER: World.has_no_master,
    Code.UNCHECKED: World.is_looked_at_later,
    Code.NO_BUILDER: lambda world: world.cli("change-source", "first", "--needs", "gpu"),
    Code.KEPT: lambda world: world.change_builder("--restricted-tag", "gpu"),
    Code.DISABLED: lambda world: world.cli("disable-builder", "local"),
    Code.MANUAL: lambda world: world.change_builder("--manual"),
    Code.PAUSE: lambda world: world.is_lost(pause_s=100.0),
    Code.LEFT_TO_OTHERS: lambda world: world.is_lost(other="other"),
    Code.GIVEN: lambda world: world.cli("give", 1, "local"),
    Code.NEXT: lambda world: None,
    Code.CLEANING: lambda world: set_builder(world.farm, "local", Cleanliness.DIRTY),
    Code.FAILING: World.fails,
    Code.BUSY: World.is_second,
    Code.BAND: lambda world: world.is_behind(1_000_000),
    Code.SCORE: lambda world: world.is_behind(2_600),
    Code.AGE: lambda world: world.is_behind(None),
    Code.SHARE: World.shares,
}


def test_every_code_has_a_state() -> None:
    assert STATES.keys() == set(Code)


@pytest.mark.parametrize("code", Code)
def test_what_is_told(code: Code, idle: Cli, farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reason is told of a state that a farm can be in; and `when` knows no time where one of them says that
    something else must happen first, and says which."""
    world = World(idle, farm, tmp_path, monkeypatch)
    world.submit("first")
    STATES[code](world)
    told = idle("why", 1, "--json").json["reasons"]
    assert code in [each["code"] for each in told]
    monkeypatch.setattr("buildmaster.cli.when.somebody_runs", lambda *_: code is not Code.NO_MASTER)
    when = idle("when", 1, "--json").json
    blocking = [each for each in told if each["code"] in BLOCKING]
    assert (when["begins"] is None) == (when["not_before"] is not None) == bool(blocking)
    if blocking:
        assert when["not_before"] == blocking[0]


def test_given_to_a_builder_in_manual_mode(idle: Cli, dsc: Path) -> None:
    """It begins there next, and nothing else keeps it; `when` knows so."""
    idle("change-builder", "local", "--manual")
    idle("submit", dsc)
    idle("give", 1, "local")
    assert codes(idle, 1) == ["given"]
    assert idle("when", 1, "--json").json["begins"] is not None
