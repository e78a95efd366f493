"""What is read of a log, what is told of a failure, and whose fault it is when the kernel kills."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from buildd.buildlog import BuildLog
from buildd.explaining import Explainer, broken, log_lines, told
from buildd.managers.base import BuildResult
from buildd.protocol import BuildStatus, Cause

T = TypeVar("T")
FAILED = BuildResult(BuildStatus.PACKAGEFAIL, "the package does not build")
KILLED = "g++: fatal error: Killed signal terminated program cc1plus\n"


def at_once(blocking: Callable[..., T], /, *args: object) -> Deferred[T]:
    return maybeDeferred(blocking, *args)


def explained(tmp_path: Path, words: str, result: BuildResult = FAILED, kills: int = 0) -> tuple[BuildResult, str]:
    """The result of a build that wrote this in its last stage, and the log."""
    log = BuildLog(tmp_path / "log", 1 << 20)
    counts = iter((5, 5 + kills))
    explainer = Explainer(log, at_once, lambda: next(counts))
    log.say("x.c:1:1: error: of an earlier stage")
    explainer.stage_begins()
    log.write(words.encode())
    results: list[BuildResult] = []
    Deferred.fromCoroutine(explainer.explain(result)).addCallback(results.append)
    log.close()
    return results[0], log.path.read_text()


def test_the_log_tells_the_cause(tmp_path: Path) -> None:
    """At its end, with the first error; errors of earlier stages are of no concern."""
    result, log = explained(tmp_path, "x.c:2:2: error: here\n    2 | code\nmake: *** [x] Error 1\n")
    assert (result.cause, result.error) == (Cause.COMPILE, "x.c:2:2: error: here\n    2 | code")
    assert log.endswith("\nCause: compile\nFirst error:\n  x.c:2:2: error: here\n      2 | code\n")


def test_what_is_in_no_log_is_not_called_an_error(tmp_path: Path) -> None:
    """What a build said last before it took too long is worth to be seen; it need not be why."""
    late = BuildResult(BuildStatus.PACKAGEFAIL, "it took too long", cause=Cause.TIME)
    assert explained(tmp_path, "tick 1\n", late)[1].endswith("\nCause: time\nLast lines:\n  tick 1\n")


def test_a_build_that_succeeds_has_no_cause(tmp_path: Path) -> None:
    """Nothing is added to its log."""
    result, log = explained(tmp_path, "error: none\n", BuildResult(BuildStatus.OK, "built"))
    assert (result.cause, result.error) == (None, "")
    assert log.endswith("error: none\n")


@pytest.mark.parametrize(
    ("words", "result", "kills", "status", "cause"),
    [
        (KILLED, FAILED, 0, BuildStatus.PACKAGEFAIL, Cause.SIGNAL),  # It may kill itself.
        (KILLED, FAILED, 1, BuildStatus.BUILDERFAIL, Cause.MEMORY),
        ("x.c:1:1: error: y\n", FAILED, 1, BuildStatus.PACKAGEFAIL, Cause.COMPILE),  # Somebody else's process.
        ("", BuildResult(BuildStatus.BUILDERFAIL, "no summary"), 1, BuildStatus.BUILDERFAIL, Cause.MEMORY),
        ("", BuildResult(BuildStatus.BUILDERFAIL, "no summary"), 0, BuildStatus.BUILDERFAIL, Cause.BUILDER),
        ("", BuildResult(BuildStatus.BUILDERFAIL, "full", cause=Cause.DISK), 1, BuildStatus.BUILDERFAIL, Cause.DISK),
        (
            KILLED,
            BuildResult(BuildStatus.PACKAGEFAIL, "its limit", cause=Cause.MEMORY),
            1,
            BuildStatus.PACKAGEFAIL,
            Cause.MEMORY,
        ),
    ],
)
def test_whose_memory_it_was(
    tmp_path: Path, words: str, result: BuildResult, *, kills: int, status: BuildStatus, cause: Cause
) -> None:
    """A process that is killed while the kernel counts such a kill, with no limit of ours reached: the builder's."""
    explained_result, log = explained(tmp_path, words, result, kills)
    assert (explained_result.status, explained_result.cause) == (status, cause)
    assert (f"\n{BuildStatus.BUILDERFAIL}: " in log) == (status is not result.status)


def test_what_the_daemon_itself_fails_with() -> None:
    """It is the builder's fault, and the log says so."""
    assert told(broken(OSError("it hurts"))) == "\nCause: builder fault"


def test_a_long_log_is_read_at_its_ends(tmp_path: Path) -> None:
    """Its first and last megabytes, whatever is between; and no line twice."""
    log = tmp_path / "log"
    line = b"%07d " + b"x" * 991 + b"\n"
    log.write_bytes(b"".join(line % number for number in range(10_000)))
    numbers = [int(each[:7]) for each in log_lines(log, 100_000) if each.endswith(b"x\n") and len(each) == 1000]
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (100, 9999)
    assert 5_000 < len(numbers) < 5_300
    assert 5000 not in numbers


def test_a_log_of_short_lines_is_read_at_its_ends(tmp_path: Path) -> None:
    """However many there are, a bounded number is looked at, the last among them."""
    log = tmp_path / "log"
    log.write_bytes(b"\n" * 3_000_000 + b"last\n")
    *lines, last = log_lines(log, 0)
    assert last == b"last\n"
    assert len(lines) < 60_000


@pytest.mark.parametrize(("content", "begin"), [(b"", 0), (b"one\ntwo\n", 4), (b"one\ntwo", 4), (b"one\n", 4)])
def test_a_short_log_is_read_whole(tmp_path: Path, content: bytes, begin: int) -> None:
    """Every byte from where the stage begins."""
    log = tmp_path / "log"
    log.write_bytes(content)
    assert b"".join(log_lines(log, begin)) == content[begin:]
