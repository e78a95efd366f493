"""What queue, builds and builders show."""

import time
from pathlib import Path

from buildd.protocol import Cause
from buildmaster import builders, builds
from buildmaster.cli.tests.conftest import Cli, end, make_source, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event


def test_nothing_there(ready: Cli) -> None:
    """An empty list is an empty document, or a hint on stderr and nothing on stdout."""
    assert ready("queue", "--json").json == {"queue": [], "total": 0, "more": False}
    ended = ready("queue")
    assert ended.out == ""
    assert "submit FILE.dsc" in ended.err
    assert "submit FILE.dsc" in ready("builds").err
    assert ready("builds", "--state", "failed").err == "No such builds.\n"


def why(cli: Cli) -> str:
    return str(cli("queue", "--json").json["queue"][0]["why"])


def test_why_a_build_waits(ready: Cli, farm: Farm, dsc: Path) -> None:
    """The queue tells what keeps a build: no builder, disabled or busy ones, or nothing but the next look."""
    ready("submit", dsc)
    assert why(ready) == "no builder for amd64"
    ready("add-builder", "http://local:8221/", "--offline", "--architecture", "amd64")
    assert why(ready) == "every builder for amd64 is being cleaned"
    with farm.transaction() as connection:
        builder = builders.find(connection, "local").id
        builders.set_cleanliness(connection, builder, builders.Cleanliness.CLEAN)
    assert why(ready) == "starts at the master's next look"
    with farm.transaction() as connection:
        builders.set_manual(connection, "local", True)
    assert why(ready) == "every builder for amd64 is in manual mode"
    ready("disable-builder", "local")
    assert why(ready) == "every builder for amd64 is disabled"


def test_builders_that_do_not_answer(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A builder whose scans fail says so, and for how long; the queue promises nothing of it."""
    ready("submit", dsc)
    ready("add-builder", "http://local:8221/", "--offline", "--architecture", "amd64")
    with farm.transaction() as connection:
        builder = builders.find(connection, "local").id
        builders.set_cleanliness(connection, builder, builders.Cleanliness.CLEAN)
        builders.set_trouble(connection, builder, "no answer within 40 s.", time.time() - 7510)
    assert "failing for 2 h 5 min: no answer within 40 s" in ready("builders").out
    (document,) = ready("builders", "--json").json["builders"]
    assert (document["state"], document["trouble"]) == ("failing", "no answer within 40 s.")
    assert document["trouble_since"].endswith("Z")
    assert why(ready) == "no builder for amd64 answers as it should: see `builders`"
    start(farm, 1)
    assert "failing for 2 h 5 min: no answer within 40 s; 1: hello 1.0, build" in ready("builders").out
    with farm.transaction() as connection:
        builders.set_trouble(connection, builder, "", time.time())
    assert "failing" not in ready("builders").out


def test_left_to_others(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A build that a builder lost is left to others, and says so, while there is another that can take it."""
    ready("submit", dsc)
    start(farm, 1, builder="one")
    ready("add-builder", "http://two:8221/", "--name", "two", "--offline", "--architecture", "amd64")
    with farm.transaction() as connection:
        builds.record(connection, 1, Event.REQUEUED, 0.0)
        for name in ("one", "two"):
            builders.set_cleanliness(connection, builders.find(connection, name).id, builders.Cleanliness.CLEAN)
    assert why(ready) == "one had it already; left to other builders"
    with farm.transaction() as connection:
        builders.count_failure(connection, builders.find(connection, "two").id)
    assert why(ready) == "starts at the master's next look"


def test_queue_order(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """The queue is in the order in which builders take from it; what is held stands last, without a position."""
    for number, name in enumerate(("aa", "bb", "cc", "dd"), 1):
        ready("submit", make_source(tmp_path / name, name))
        if name == "dd":
            continue
        with farm.transaction() as connection:
            builds.set_score(connection, number, {"aa": 10, "bb": 30, "cc": 20}[name])
    start(farm, 4)
    assert why(ready) == "every builder for amd64 is busy"
    with farm.transaction() as connection:
        builds.record(connection, 4, Event.DEPENDENCIES_MISSING, 0.0, dependencies="libnever-dev (>= 2)")
    listed = ready("queue", "--json").json["queue"]
    assert [(each["position"], each["build"]["source"]) for each in listed] == [
        (1, "bb"),
        (2, "cc"),
        (3, "aa"),
        (None, "dd"),
    ]
    assert listed[3]["why"] == "build-dependencies: libnever-dev (>= 2)"
    lines = ready("queue").out.splitlines()
    assert lines[0].split()[:3] == ["POS", "BUILD", "SOURCE"]
    assert lines[1].split()[:4] == ["1", "2", "bb", "1.0"]
    assert lines[4].split()[:2] == ["-", "4"]


def test_builds_newest_first(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """Builds are listed newest first, by state and source, and there is a word when there are more."""
    for name in ("one", "two", "three"):
        ready("submit", make_source(tmp_path / name, name))
    ready("cancel", 2)
    ids = [each["id"] for each in ready("builds", "--json").json["builds"]]
    assert ids == [3, 2, 1]
    assert [each["id"] for each in ready("builds", "--state", "cancelled", "--json").json["builds"]] == [2]
    assert [each["id"] for each in ready("builds", "--source", "three", "--json").json["builds"]] == [3]
    limited = ready("builds", "--limit", "2", "--json").json
    assert ([each["id"] for each in limited["builds"]], limited["more"]) == ([3, 2], True)
    assert ready("builds", "--limit", "3", "--json").json["more"] is False
    assert "There are more" in ready("builds", "--limit", "2").err
    assert "'sleeping'" in ready("builds", "--state", "sleeping", status=2).err
    ready("add-archive", "mine")
    assert ready("builds", "--archive", "mine", "--json").json["builds"] == []
    ready("submit", make_source(tmp_path / "four", "four"), "--archive", "mine")
    assert [each["id"] for each in ready("builds", "--archive", "debian/mine", "--json").json["builds"]] == [4]
    assert "no archive 'yours'" in ready("builds", "--archive", "yours", status=1).err


def test_builders_and_what_they_do(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A builder's build and its stage are shown; a disabled one's reason."""
    ready("submit", dsc)
    start(farm, 1, stage="install dependencies")
    assert "1: hello 1.0, install dependencies" in ready("builders").out
    (document,) = ready("builders", "--json").json["builders"]
    assert (document["state"], document["build"], document["stage"]) == ("building", 1, "install dependencies")
    end(farm, 1, Event.SUCCEEDED, files={"hello.deb": b"deb"})
    ready("disable-builder", "local", "--reason", "new disk")
    ended = ready("builders")
    assert "new disk" in ended.out
    assert "enable-builder" in ended.err
    assert ready("enable-builder", "local", "--json").json["state"] == "cleaning"


def test_strangers_text_in_a_table(ready: Cli, farm: Farm, dsc: Path) -> None:
    """What a builder wrote can neither drive the terminal nor break the table."""
    ready("submit", dsc)
    start(farm, 1)
    end(farm, 1, Event.PACKAGE_FAILED, reason="\x1b[2Jbad\nthings [red]happen[/red]\u202e")
    lines = ready("builds").out.splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("^[[2Jbad things [red]happen[/red]\\u202e")


def test_why_a_build_failed(ready: Cli, farm: Farm, dsc: Path) -> None:
    """The cause and how the first error begins stand in the list; all of its lines where one build is shown."""
    ready("submit", dsc)
    start(farm, 1)
    error = "x.c:1:1: error: \x1b[2Jodd\n    1 | code"
    end(farm, 1, Event.PACKAGE_FAILED, reason="it does not build", cause=Cause.COMPILE, error=error)
    assert ready("builds").out.splitlines()[1].endswith("  compile: x.c:1:1: error: ^[[2Jodd")
    shown = ready("show", 1).out
    assert "\nWhy:         it does not build\nCause:       compile\n" in shown
    assert "\nFirst error: x.c:1:1: error: ^[[2Jodd\n                 1 | code\n" in shown
    (document,) = ready("builds", "--json").json["builds"]
    assert (document["cause"], document["error"]) == ("compile", error)


def test_why_a_build_was_ended(ready: Cli, farm: Farm, dsc: Path) -> None:
    """Where a limit was reached, the reason tells more than how the log goes on."""
    ready("submit", dsc)
    start(farm, 1)
    end(farm, 1, Event.PACKAGE_FAILED, reason="it was silent", cause=Cause.SILENCE, error="so far\nso good")
    assert ready("builds").out.splitlines()[1].endswith("  silence: it was silent")


def test_a_limit_beyond_all_builds(ready: Cli) -> None:
    """A limit that no database could have so many builds for is refused, and the message says what is taken."""
    assert "is not in the range" in ready("builds", "--limit", "9" * 20, status=2).err
    ready("builds", "--limit", 10**9)
