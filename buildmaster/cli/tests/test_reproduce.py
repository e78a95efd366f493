"""Builds that repeat others, and what came of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from buildmaster import builders, builds, files, notifications, orders, queue
from buildmaster.cli.follow import follow
from buildmaster.cli.tests.conftest import Cli, Meanwhile, end, make_source, start
from buildmaster.cli.tests.test_verify import BUILDINFO
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState, Event
from buildmaster.store import Sha256
from buildmaster.tables import build, build_queue

DEB, INFO = "hello_1.0_amd64.deb", "hello_1.0_amd64.buildinfo"
WITH_TIME = BUILDINFO + 'Environment:\n SOURCE_DATE_EPOCH="1672068600"\n'
FILES = {DEB: b"a package", INFO: WITH_TIME.encode(), "hello_1.0_amd64.changes": b"changes"}
CHROOT = "c" * 64


@pytest.fixture
def built(ready: Cli, farm: Farm, dsc: Path) -> Farm:
    """The farm after build 1 ended well, on builder `local`; there is another one, `bob`."""
    ready("submit", dsc)
    start(farm, 1)
    end(farm, 1, Event.SUCCEEDED, files=FILES)
    with farm.transaction() as connection:
        builders.add(connection, "bob", "http://bob:8221/", "amd64", 1.0)
    return farm


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """What happens while a repetition is waited for."""
    happening = Meanwhile()
    monkeypatch.setattr("buildmaster.cli.reproduce.follow", partial(follow, sleep=happening))
    return happening


def ends(
    farm: Farm, build_id: int, event: Event = Event.SUCCEEDED, builder: str = "bob", **words: object
) -> Callable[[], None]:
    """Let a builder have a build, which ends so."""

    def it_does() -> None:
        start(farm, build_id, builder=builder)
        end(farm, build_id, event, **words)  # type: ignore[arg-type]

    return it_does


def test_reproduced(ready: Cli, built: Farm, meanwhile: Meanwhile) -> None:
    """The same files: it is reproduced; .changes and .buildinfo, which tell of the build itself, may differ."""
    meanwhile.then(ends(built, 2, files=FILES | {"hello_1.0_amd64.changes": b"others"}))
    out = ready("reproduce", 1).out
    assert "build 2 repeats build 1: hello 1.0 in bookworm for amd64" in out
    assert "build 1 is reproduced by build 2: all of 1 file the same" in out
    assert ready("reproduce", 2, "--json").json["reproduced"]  # Looked at once more; nothing is built.
    assert ready("show", 2, "--json").json["reproduces"] == 1
    assert ready("show", 1, "--json").json["reproductions"] == [2]


def test_not_reproduced(ready: Cli, built: Farm, meanwhile: Meanwhile, tmp_path: Path) -> None:
    """Files that differ are named, with what was not the same to begin with, and what differs in them."""
    info = WITH_TIME.replace("gcc (= 4:12.2.0-3)", "gcc (= 4:13)").encode()
    files = {DEB: b"another package", INFO: info, "extra.deb": b"more"}
    meanwhile.then(ends(built, 2, files=files))
    ended = ready("reproduce", 1, "--report", tmp_path / "report", status=1)
    assert "build 1 is not reproduced by build 2:\n  extra.deb: made by the second only\n" in ended.out
    assert "gcc 4:13, not 4:12.2.0-3" in ended.out
    assert f"\n{DEB}:\n" in ended.out
    assert (tmp_path / "report").read_text()
    document = ready("reproduce", 2, "--no-diff", "--json", status=1).json
    assert [each["name"] for each in document["differing"]] == ["extra.deb", DEB]
    assert (document["reproduced"], document["same"]) == (False, [])


def test_it_fails(ready: Cli, built: Farm, meanwhile: Meanwhile) -> None:
    """What cannot be built again is not reproduced, and nobody is written to for it."""
    ready("change-archive", "primary", "--notify", "somebody@example.org")
    meanwhile.then(ends(built, 2, Event.PACKAGE_FAILED, reason="it does not compile"))
    ended = ready("reproduce", 1, status=1)
    assert "build 1 is not reproduced: build 2 is failed: it does not compile" in ended.out
    with built.reading() as connection:
        assert notifications.due(connection, 1e12, 10) == []


def test_how_it_is_ordered(ready: Cli, built: Farm, dsc: Path) -> None:
    """It comes last, is for another builder than the first, and is done as the first was, at the time of that."""
    ready("reproduce", 1, "--no-wait")
    ready("submit", make_source(dsc.parent / "other", "other"))
    with built.reading() as connection:
        row = connection.execute(select(build_queue).where(build_queue.c.build_id == 2)).one()
        assert row.lost_by_id == builders.find(connection, "local").id
        bob = builders.find(connection, "bob")
        assert queue.candidates(connection, bob, 1e12, 5) == [3, 2]
        assert '"source_date_epoch": 1672068600' in builds.find(connection, 2).wishes


def test_only_one_builder(ready: Cli, farm: Farm, dsc: Path) -> None:
    """Where there is no other builder, that is said."""
    ready("submit", dsc)
    start(farm, 1)
    end(farm, 1, Event.SUCCEEDED, files=FILES)
    assert "There is no builder for amd64 but local, which made build 1." in ready("reproduce", 1, "--no-wait").err


def test_a_builder_is_named(ready: Cli, built: Farm) -> None:
    """It can be given to a builder by name; when that cannot have it, nothing is ordered."""
    ready("reproduce", 1, "--no-wait", "--builder", "bob")
    assert ready("builders", "--json").json["builders"][0]["given"] == 2
    assert "no builder" in ready("reproduce", 1, "--no-wait", "--builder", "eve", status=1).err
    assert "there is no build 3" in ready("show", 3, status=1).err


def test_a_newer_source_comes(ready: Cli, built: Farm, dsc: Path) -> None:
    """A repetition is wanted whatever becomes of what it repeats, before it begins and while it runs."""
    ready("reproduce", 1, "--no-wait")
    ready("submit", make_source(dsc.parent / "newer", "hello", "2.0"))
    with built.reading() as connection:
        assert builds.state(connection, 2) is BuildState.NEEDS_BUILD
    start(built, 2, builder="bob")
    ready("submit", make_source(dsc.parent / "newest", "hello", "3.0"))
    assert end(built, 2, Event.REQUEUED, log=None) is BuildState.NEEDS_BUILD


def test_with_packages_from_elsewhere(ready: Cli, built: Farm) -> None:
    """It can be given archives that have the packages of then; nobody asks those of now whether they will do."""
    line = "deb [check-valid-until=no] http://snapshot.example/20261122T120000Z bookworm main"
    assert "is no line of sources.list" in ready("reproduce", 1, "--archive-line", "http://x", status=1).err
    ready("reproduce", 1, "--no-wait", "--archive-line", line)
    assert line in ready("show", 2).out
    with built.reading() as connection:
        order = orders.find(connection, 2)
        assert order.wire_arguments("http://archives", None)["archives"] == [line]
        row = connection.execute(select(build_queue).where(build_queue.c.build_id == 2)).one()
        assert row.looked_at is not None


def test_what_cannot_be_repeated(ready: Cli, built: Farm, dsc: Path) -> None:
    """What was not built, and a repetition that has not been; there is no build 9."""
    ready("submit", make_source(dsc.parent / "other", "other"))
    assert "build 2 is needs-build: what is built can be repeated" in ready("reproduce", 2, status=1).err
    assert "there is no build 9" in ready("reproduce", 9, status=1).err


def test_its_chroot(ready: Cli, built: Farm, tmp_path: Path) -> None:
    """It gets the chroot that the first had, though another one is set by now; when that is gone, the new one."""
    old = built.store.add([b"the old chroot"])
    with built.transaction() as connection:
        files.keep(connection, old, old.stored_at)
        connection.execute(build.update().where(build.c.id == 1).values(chroot_sha256=old.sha256))
    ready("reproduce", 1, "--no-wait")
    with built.reading() as connection:
        order = orders.find(connection, 2)
        assert order.chroot == old
        assert order.arguments.source_date_epoch == 1672068600
    with built.transaction() as connection:
        connection.execute(build.update().where(build.c.id == 2).values(chroot_sha256=Sha256(CHROOT)))
    with built.reading() as connection:
        chroot = orders.find(connection, 2).chroot
        assert chroot is not None
        assert chroot != old
