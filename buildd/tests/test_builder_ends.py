"""How a build is ended from outside, and what comes of a builder then: abort, clean, stop, finish."""

import os

import pytest
from twisted.internet.defer import CancelledError, Deferred

from buildd.builder import Refused
from buildd.protocol import BuilderStatus
from buildd.tests.builder_world import BUILD, World, now


def test_abort(world: World) -> None:
    """BUILDING -abort-> ABORTING -(stopped)-> WAITING; harmless while ABORTING."""
    world.build(hang=True, files={"a": "1"})
    assert world.builder.abort() is BuilderStatus.ABORTING
    assert world.status["build_status"] == "BuildStatus.ABORTED"
    assert (world.directory / "buildlog").read_text().endswith("\nBuildStatus.ABORTED: it was aborted\n")
    assert "filemap" not in world.status
    assert world.manager.torn_down == 1
    assert world.clock.getDelayedCalls() == []


def test_abort_while_aborting(world: World) -> None:
    """abort() is harmless while ABORTING: the teardown is not disturbed. ABORTING has build_id only."""
    world.build(hang=True, deaf=True)
    world.builder.abort()
    assert world.builder.abort() is BuilderStatus.ABORTING
    assert world.status == {"builder_status": "BuilderStatus.ABORTING", "builder_version": "1.2", "build_id": BUILD}
    world.manager.teardown.callback(None)
    assert world.status["build_status"] == "BuildStatus.ABORTED"


def test_processes_that_do_not_end_are_named(world: World) -> None:
    """Nobody can end a process in uninterruptible sleep; who reads the reason knows where to look."""
    world.build(hang=True, deaf=True, process=os.getpid())
    world.builder.abort()
    world.clock.advance(120)
    start, _, named = world.status["reason"].partition(": these processes do not end: ")
    assert start == "it could not be stopped within 120 s"
    assert f"{os.getpid()} (" in named
    world.manager.teardown.callback(None)


def test_abort_that_cannot_stop_the_build(world: World) -> None:
    """An abort that cannot stop the build within 120 s ends as BUILDERFAIL."""
    world.build(hang=True, deaf=True)
    world.builder.abort()
    world.clock.advance(119)
    assert world.status["builder_status"] == "BuilderStatus.ABORTING"
    world.clock.advance(1)
    assert world.status["build_status"] == "BuildStatus.BUILDERFAIL"
    assert world.status["reason"] == "it could not be stopped within 120 s"
    now(world.builder.clean())
    assert not world.manager.removed  # Something is still at work there.
    world.manager.teardown.callback(None)
    assert world.manager.removed
    assert world.status["builder_status"] == "BuilderStatus.IDLE"
    assert world.left() == []


def test_abort_as_results_are_gathered(world: World) -> None:
    """An abort when the build has just ended still ends as ABORTED, and keeps no result."""
    world.build(hang=True, files={"a": "1"})
    world.threads = []
    world.manager.hanging.callback(None)
    assert world.status["builder_status"] == "BuilderStatus.BUILDING"
    world.builder.abort()
    world.threads.pop().callback(None)
    assert world.status["build_status"] == "BuildStatus.ABORTED"
    world.threads = None
    now(world.builder.clean())
    assert world.left() == []


def test_results_are_taken_at_the_same_time(world: World) -> None:
    """Each waits for the disk, and none for the others; but not more than a few do at once. They are told in order."""
    names = [f"{number}.deb" for number in range(6)]
    world.build(hang=True, files={name: name for name in names})
    world.threads = []
    world.manager.hanging.callback(None)
    assert len(world.threads) == 4
    for _ in names:
        assert world.status["builder_status"] == "BuilderStatus.BUILDING"
        world.threads.pop().callback(None)
    assert list(world.status["filemap"]) == names


def test_one_result_that_cannot_be_taken(world: World) -> None:
    """The builder does not say so before the others have come; then nothing is kept of them."""
    world.build(hang=True, files={"a.deb": "a", "b.deb": "b"})
    world.threads = []
    world.manager.hanging.callback(None)
    first, second = world.threads
    second.errback(OSError("the disk is broken"))
    assert world.status["builder_status"] == "BuilderStatus.BUILDING"
    world.threads = None
    first.callback(None)
    assert world.status["build_status"] == "BuildStatus.BUILDERFAIL"
    now(world.builder.clean())
    assert world.left() == []


def test_clean_answers_once_the_results_are_gone(world: World) -> None:
    """clean() forgets the files that the build produced before it answers."""
    world.build(files={"a": "1"})
    world.threads = []
    cleaning = Deferred.fromCoroutine(world.builder.clean())
    assert not cleaning.called
    world.threads.pop().callback(None)
    now(cleaning)
    assert world.left() == []


def test_results_that_come_after_clean(world: World) -> None:
    """A result that is still being gathered when the build is given up, and cleaned, is forgotten as it comes."""
    world.build(hang=True, files={"a": "1"})
    world.threads = []
    world.manager.hanging.callback(None)
    world.builder.abort()
    world.clock.advance(120)
    assert world.status["build_status"] == "BuildStatus.BUILDERFAIL"
    now(world.builder.clean())
    gathering = world.threads.pop()
    world.threads = None
    gathering.callback(None)
    assert world.left() == []


def test_cancellation_that_nobody_asked_for(world: World) -> None:
    """A build that is cancelled by anything but abort() shows a broken builder."""
    world.build(hang=True)
    world.manager.hanging.errback(CancelledError())
    assert world.status["build_status"] == "BuildStatus.BUILDERFAIL"


@pytest.mark.parametrize("state", ["IDLE", "WAITING"])
def test_abort_is_refused_without_a_build(state: str, world: World) -> None:
    """abort() is a fault unless BUILDING or ABORTING."""
    if state == "WAITING":
        world.build()
    with pytest.raises(Refused, match=f"this builder is {state}"):
        world.builder.abort()
    assert world.status["builder_status"] == f"BuilderStatus.{state}"


@pytest.mark.parametrize("state", ["IDLE", "BUILDING", "ABORTING"])
def test_clean_is_refused_unless_waiting(state: str, world: World) -> None:
    """clean() is a fault unless WAITING."""
    if state != "IDLE":
        world.build(hang=True, deaf=True)
    if state == "ABORTING":
        world.builder.abort()
    with pytest.raises(Refused, match=f"this builder is {state}"):
        now(world.builder.clean())
    assert world.status["builder_status"] == f"BuilderStatus.{state}"


def test_stop_aborts_and_removes(world: World) -> None:
    """stop() aborts the build, removes all of it, and no build is taken any more."""
    world.build(hang=True)
    now(world.builder.stop())
    assert world.status["builder_status"] == "BuilderStatus.IDLE"
    assert world.left() == []
    with pytest.raises(Refused, match="the daemon is ending"):
        now(world.start())


def test_stop_while_a_build_is_checked(world: World) -> None:
    """A build that is being checked when the daemon ends is refused, and stop() waits for that."""
    world.threads = []
    first = world.start()
    stopping = Deferred.fromCoroutine(world.builder.stop())
    assert not stopping.called
    world.let_threads_go()
    with pytest.raises(Refused, match="the daemon is ending"):
        now(first)
    now(stopping)
    assert world.left() == []


def test_finish_waits_for_the_master(world: World) -> None:
    """finish() ends after the current build, once the master has collected it; meanwhile no build is taken."""
    world.build(hang=True)
    finishing = Deferred.fromCoroutine(world.builder.finish())
    world.clock.advance(10_000)
    assert not finishing.called
    world.manager.hanging.callback(None)
    assert not finishing.called
    now(world.builder.clean())
    now(finishing)
    with pytest.raises(Refused, match="ends after the current build"):
        now(world.start())


def test_finish_does_not_wait_for_ever(world: World) -> None:
    """A master that never collects is waited for 10 minutes."""
    world.build()
    finishing = Deferred.fromCoroutine(world.builder.finish())
    world.clock.advance(599)
    assert not finishing.called
    world.clock.advance(1)
    now(finishing)


def test_finish_when_idle(world: World) -> None:
    """When IDLE, finish() returns at once."""
    now(world.builder.finish())
