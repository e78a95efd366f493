"""Tests of buildd.builder: the states, and what is left behind."""

import os
from typing import Any
from xmlrpc.client import Binary

import pytest
from twisted.internet.defer import CancelledError, Deferred

from buildd.builder import Refused
from buildd.protocol import BuilderStatus, BuildId, FileName, ProtocolError, Sha1
from buildd.tests.builder_world import BUILD, BUILDING, World, now


def test_idle_status(world: World) -> None:
    """IDLE has no more keys."""
    assert world.status == {"builder_status": "BuilderStatus.IDLE", "builder_version": "1.2"}


def test_whole_way(world: World) -> None:
    """IDLE -build-> BUILDING -(finished)-> WAITING -clean-> IDLE, and nothing is left."""
    world.build(hang=True, log="x" * 3000, files={"hello.deb": "content"})
    status = world.status
    assert status.pop("logtail") == Binary(b"x" * 2048)
    assert status == {
        "builder_status": "BuilderStatus.BUILDING",
        "builder_version": "1.2",
        "build_id": BUILD,
        "stage": "fake",
    }
    world.manager.hanging.callback(None)
    status = world.status
    sha1 = status["filemap"]["hello.deb"]
    assert status == {
        "builder_status": "BuilderStatus.WAITING",
        "builder_version": "1.2",
        "build_id": BUILD,
        "build_status": "BuildStatus.OK",
        "filemap": {"hello.deb": sha1},
        "dependencies": "",
        "reason": "as the test says",
    }
    assert world.cache.path(sha1).read_bytes() == b"content"
    assert world.builder.log_path.read_bytes() == b"x" * 3000
    assert now(world.builder.clean()) is BuilderStatus.IDLE
    assert world.status["builder_status"] == "BuilderStatus.IDLE"
    assert world.left() == []
    assert world.manager.removed


def test_fast_cleanup_leaves_the_directory(world: World) -> None:
    """fast_cleanup: the machine is thrown away after the build, so clean() skips the tidying; results are forgotten."""
    world.build(fast_cleanup=True, files={"hello.deb": "content"}, log="x")
    (request,) = world.manager.requests
    now(world.builder.clean())
    assert world.left() == [str(request.directory.relative_to(world.directory))]
    assert not world.manager.removed
    now(world.builder.stop())  # Which does not wait for it either.


def test_fast_cleanup_that_is_no_boolean(world: World) -> None:
    """A wrong argument is a fault before anything begins."""
    with pytest.raises(ProtocolError, match="fast_cleanup must be a boolean, not 'soon'"):
        now(world.start(fast_cleanup="soon"))
    assert world.left() == []


def test_request_has_paths_in_the_cache(world: World) -> None:
    """A build type gets paths in the cache, and an empty directory of its own."""
    world.build(hang=True)
    (request,) = world.manager.requests
    assert request.chroot == world.cache.path(world.chroot)
    assert request.files == {"hello.dsc": world.cache.path(world.dsc)}
    assert list(request.directory.iterdir()) == []
    assert request.directory.parent == world.directory / "builds"


def test_build_works_from_what_was_checked(world: World) -> None:
    """What the check made of a request is what is built from: nothing is parsed a second time."""
    world.threads = []
    arguments: dict[str, Any] = {"hang": True, "log": "checked"}
    first = world.start(**arguments)
    world.let_threads_go()
    assert now(first) == BUILDING
    assert world.manager.plans == [arguments]
    assert world.status["logtail"] == Binary(b"checked")


@pytest.mark.parametrize("status", ["OK", "PACKAGEFAIL", "DEPFAIL"])
def test_ends_with_files(status: str, world: World) -> None:
    """For OK, PACKAGEFAIL and DEPFAIL, WAITING has filemap and dependencies."""
    world.build(status=f"BuildStatus.{status}", files={"a": "1", "b": "2"}, dependencies="libx (>= 2)")
    assert world.status["build_status"] == f"BuildStatus.{status}"
    assert set(world.status["filemap"]) == {"a", "b"}
    assert world.status["dependencies"] == "libx (>= 2)"


@pytest.mark.parametrize("status", ["GIVENBACK", "CHROOTFAIL", "BUILDERFAIL"])
def test_ends_without_files(status: str, world: World) -> None:
    """For the others it has neither, and no result is kept."""
    world.build(status=f"BuildStatus.{status}", files={"a": "1"})
    assert world.status["build_status"] == f"BuildStatus.{status}"
    assert not {"filemap", "dependencies"} & set(world.status)
    assert {path.name for path in world.cache.directory.iterdir()} == {world.chroot, world.dsc}


def test_broken_builder(world: World) -> None:
    """An exception out of a build type means that the builder is broken."""
    world.build(crash="no \x00 more")
    assert world.status["build_status"] == "BuildStatus.BUILDERFAIL"
    assert world.status["reason"] == "the builder is broken: RuntimeError: no \ufffd more"
    assert (world.status["cause"], world.status["error"]) == ("builder fault", "")
    assert (world.directory / "buildlog").read_text().endswith("RuntimeError: no \x00 more\n\nCause: builder fault\n")


def test_failure_names_its_cause(world: World) -> None:
    """Status and log name the cause of a failure, and the first error's lines; a success and an abort have none."""
    world.build(status="BuildStatus.PACKAGEFAIL", log="x.c:1:2: error: odd\x00\n    1 | code\n")
    assert world.status["cause"] == "compile"
    assert world.status["error"] == "x.c:1:2: error: odd\n    1 | code"
    assert "\nCause: compile\nFirst error:\n  x.c:1:2: error: odd\n" in (world.directory / "buildlog").read_text()
    now(world.builder.clean())
    world.build(log="x.c:1:2: error: none\n")
    assert world.status.keys() & {"cause", "error"} == set()
    now(world.builder.clean())
    world.build(hang=True)
    world.builder.abort()
    assert world.status["build_status"] == "BuildStatus.ABORTED"
    assert world.status.keys() & {"cause", "error"} == set()


def test_results_that_cannot_be_gathered(world: World) -> None:
    """Whatever goes wrong once the build type is done is a broken builder too; the build does not stay BUILDING."""
    world.build(hang=True, files={"a.deb": "x"})
    world.no_threads = True
    world.manager.hanging.callback(None)
    assert world.status["build_status"] == "BuildStatus.BUILDERFAIL"
    assert world.status["reason"] == "the builder is broken: RuntimeError: can't start new thread"
    world.no_threads = False
    now(world.builder.clean())
    assert world.left() == []


def test_build_type_that_does_not_begin(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build type that fails before there is anything to wait for is a broken builder as well."""
    monkeypatch.setattr(world.manager, "build", None)
    world.build()
    assert world.status["build_status"] == "BuildStatus.BUILDERFAIL"
    assert "not callable" in world.status["reason"]


def test_log_that_cannot_be_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails as the log is closed ends the build."""
    world.build(hang=True)
    fd = world.manager.requests[0].log._fd
    assert fd is not None
    os.close(fd)
    world.manager.hanging.callback(None)
    assert world.status["build_status"] == "BuildStatus.BUILDERFAIL"
    assert "Bad file descriptor" in world.status["reason"]
    assert now(world.builder.clean()) is BuilderStatus.IDLE


def test_reason_is_one_line(world: World) -> None:
    """The reason is one sentence on one line, whatever an exception says."""
    world.build(crash="first\n  second\r\nthird\u2028fourth\n")
    assert world.status["reason"] == "the builder is broken: RuntimeError: first second third fourth"


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_hostile_result_fails_the_package(kind: str, world: World) -> None:
    """A result that is no plain file is the package's fault, and is not followed."""
    world.build(files={"good.deb": "x"}, **{kind: "evil.deb"})
    assert world.status["build_status"] == "BuildStatus.PACKAGEFAIL"
    assert "'evil.deb' is not a plain file" in world.status["reason"]
    assert world.status["cause"] == "packaging"
    assert world.status["filemap"] == {}
    assert {path.name for path in world.cache.directory.iterdir()} == {world.chroot, world.dsc}
    now(world.builder.clean())
    assert world.left() == []


def test_build_is_refused_unless_idle(world: World) -> None:
    """build() is a fault when it is not IDLE, and changes nothing, not even the build id."""
    world.build(hang=True)
    before = world.status
    with pytest.raises(Refused, match="only when IDLE, and this builder is BUILDING"):
        now(world.start(BuildId("other")))
    assert world.status == before
    world.builder.abort()
    with pytest.raises(Refused, match="WAITING"):
        now(world.start(BuildId("other")))
    assert world.status["build_id"] == BUILD
    assert len(world.manager.requests) == 1


def test_second_build_while_the_first_is_checked(world: World) -> None:
    """While a build is being checked, another is refused, status is IDLE, and clean and abort are refused."""
    world.threads = []
    first = world.start()
    assert world.status == {"builder_status": "BuilderStatus.IDLE", "builder_version": "1.2"}
    with pytest.raises(Refused, match="PACKAGEBUILD-1 is about to begin"):
        now(world.start(BuildId("other")))
    with pytest.raises(Refused):
        world.builder.abort()
    with pytest.raises(Refused):
        now(world.builder.clean())
    world.let_threads_go()
    assert now(first) == BUILDING


def test_build_that_is_found_wrong_changes_nothing(world: World) -> None:
    """When the build type finds a mistake, that is the fault's text, and nothing has changed."""
    with pytest.raises(ProtocolError, match=r"^no \.dsc$"):
        now(world.start(refuse="no .dsc"))
    assert world.status["builder_status"] == "BuilderStatus.IDLE"
    assert world.left() == []
    world.cache.forget(world.chroot)  # Not pinned any more.
    assert world.chroot not in world.cache


def test_unknown_manager(world: World) -> None:
    """UNKNOWNBUILDER for an unknown manager."""
    answer = now(world.builder.build(BUILD, "nope\x00", world.chroot, {}, {}))
    assert answer == ("BuilderStatus.UNKNOWNBUILDER", "no build type 'nope\ufffd'; there are: fake")


def test_unknown_files(world: World) -> None:
    """UNKNOWNSUM names what is not in the cache."""
    absent = Sha1("a" * 40)
    files = {FileName("x.dsc"): world.dsc, FileName("x.tar"): absent}
    code, why = now(world.builder.build(BUILD, "fake", Sha1("b" * 40), files, {}))
    assert code == "BuilderStatus.UNKNOWNSUM"
    assert why == f"not in the cache: the chroot ({'b' * 40}), x.tar ({'a' * 40})"
    assert world.left() == []


def test_files_of_a_build_stay_in_the_cache(world: World) -> None:
    """Eviction never takes a file of a build, from build() to clean()."""
    world.build(files={"hello.deb": "content"})
    for sha1 in [world.chroot, world.dsc, world.status["filemap"]["hello.deb"]]:
        world.cache.forget(sha1)
        assert sha1 in world.cache


def test_result_that_equals_an_input_stays(world: World) -> None:
    """clean() forgets results; a file that is also someone else's stays until they are done."""
    world.cache.pin([world.dsc])
    world.build(files={"copy.dsc": "dsc"})
    now(world.builder.clean())
    assert world.dsc in world.cache


def test_limits_that_are_none_are_refused(world: World) -> None:
    """Before anything has changed."""
    with pytest.raises(ProtocolError, match="limits: memory"):
        now(world.start(limits={"memory": "much"}))
    assert world.status["builder_status"] == "BuilderStatus.IDLE"
    assert world.left() == []


def test_a_build_gets_the_limits_that_it_asks_for(world: World) -> None:
    """Its log among them."""
    world.build(limits={"log_size": 10, "memory": 1 << 20}, log="x" * 100)
    (request,) = world.manager.requests
    assert (request.limits.memory_bytes, request.limits.wall_s) == (1 << 20, world.config.timeout_s)
    assert world.builder.log_path.read_text() == "x" * 10


def test_log_of_before_a_restart_stays_until_the_next_build(world: World) -> None:
    """The log of the last build may be there after a restart; a refused build does not take it."""
    world.builder.log_path.write_bytes(b"old")
    with pytest.raises(ProtocolError):
        now(world.start(refuse="no"))
    assert world.builder.log_path.read_bytes() == b"old"
    world.build(log="new")
    assert world.builder.log_path.read_bytes() == b"new"


def test_wait_answers_at_once_when_it_knows_better(world: World) -> None:
    """wait() answers at once when status or build id differ from those given."""
    world.build(hang=True)
    idle, building = "BuilderStatus.IDLE", "BuilderStatus.BUILDING"
    assert now(world.builder.wait(idle, "", 60))["builder_status"] == building
    assert now(world.builder.wait(building, "other", 60))["build_id"] == BUILD


def test_wait_answers_when_something_changes(world: World) -> None:
    """wait() answers as soon as the state changes."""
    waiting = Deferred.fromCoroutine(world.builder.wait("BuilderStatus.IDLE", "", 60))
    assert not waiting.called
    world.build(hang=True)
    assert now(waiting)["build_id"] == BUILD
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize(("asked_s", "lasts_s"), [(0.5, 0.5), (60, 60), (1e9, 60)])
def test_wait_answers_in_the_end(asked_s: float, lasts_s: float, world: World) -> None:
    """wait() answers after timeout_s, at most 60 s."""
    waiting = Deferred.fromCoroutine(world.builder.wait("BuilderStatus.IDLE", "", asked_s))
    world.clock.advance(lasts_s - 0.1)
    assert not waiting.called
    world.clock.advance(0.1)
    assert now(waiting)["builder_status"] == "BuilderStatus.IDLE"
    assert now(world.builder.wait("BuilderStatus.IDLE", "", 0))["builder_status"] == "BuilderStatus.IDLE"


def test_wait_whose_caller_has_gone_leaves_nothing(world: World) -> None:
    """A wait() that is cancelled leaves no timer."""
    waiting = Deferred.fromCoroutine(world.builder.wait("BuilderStatus.IDLE", "", 60))
    waiting.cancel()
    with pytest.raises(CancelledError):
        now(waiting)
    assert world.clock.getDelayedCalls() == []
    world.build()
