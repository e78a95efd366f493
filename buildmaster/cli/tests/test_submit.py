"""Submitting a source package, and following its builds to their end."""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from buildd.protocol import Cause
from buildmaster import builds
from buildmaster.cli.follow import Lines, Screen, follow
from buildmaster.cli.tests.conftest import Cli, Meanwhile, end, make_source, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.tests.stores import IN_A_FOLDER


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """What happens while `submit --wait` waits."""
    happening = Meanwhile()
    monkeypatch.setattr("buildmaster.cli.submit.follow", partial(follow, sleep=happening))
    return happening


def timeless(lines: Iterable[str]) -> list[str]:
    """What follow() said, without when, and how long it took on a busy machine."""
    return [re.sub(r" \(\d+ s\)$", "", line.split(" ", 1)[1]) for line in lines]


def test_submit(ready: Cli, dsc: Path) -> None:
    """The builds that were made are told."""
    ended = ready("submit", dsc)
    assert ended.out == "build 1: hello 1.0 in bookworm for amd64, needs-build\n"
    assert re.search(r"buildmaster --dir \S+ log 1$", ended.err, re.MULTILINE)
    assert "is here already: `submit --rebuild`" in ready("submit", dsc, status=1).err
    assert ready("submit", dsc, "--rebuild", "--json").json["builds"][0]["id"] == 2


def test_wait_for_a_good_end(ready: Cli, farm: Farm, dsc: Path, meanwhile: Meanwhile) -> None:
    """Each change of state and stage is a line; at the end, where the log and the results are; exit status 0."""
    meanwhile.then(
        lambda: start(farm, 1, "prepare"),
        lambda: None,
        lambda: set_stage(farm, "build"),
        lambda: end(farm, 1, Event.SUCCEEDED, files={"hello.deb": b"", "hello.changes": b""}),
    )
    ended = ready("submit", dsc, "--wait")
    assert timeless(line for line in ended.out.splitlines() if line[2:3] == ":") == [
        "build 1 needs-build: no builder for amd64",
        "build 1 building on local: prepare",
        "build 1 building on local: build",
        "build 1 built",
    ]
    assert re.search(r"build 1: hello 1.0 in bookworm for amd64: built after \d+ s$", ended.out, re.MULTILINE)
    logs = [Path(line.split()[1]) for line in ended.out.splitlines() if line.startswith("  log: ")]
    assert [log.is_file() for log in logs] == [True] * IN_A_FOLDER
    assert f"read the log with: buildmaster --dir {ready.directory} log 1" in ended.err
    assert f"2 files: buildmaster --dir {ready.directory} fetch 1 --to DIRECTORY" in ended.err


def set_stage(farm: Farm, stage: str) -> None:
    with farm.transaction() as connection:
        builds.set_stage(connection, 1, stage)


def test_wait_for_a_bad_end(ready: Cli, farm: Farm, dsc: Path, meanwhile: Meanwhile) -> None:
    """A build that fails: exit status 1, the reason, and where the log is."""
    meanwhile.then(lambda: start(farm, 1), lambda: end(farm, 1, Event.PACKAGE_FAILED, reason="make: *** [all] Error 1"))
    ended = ready("submit", dsc, "--wait", status=1)
    assert re.search(r"failed after \d+ s: make: \*\*\* \[all\] Error 1$", ended.out, re.MULTILINE)
    assert f"read the log with: buildmaster --dir {ready.directory} log 1" in ended.err


def test_wait_for_an_error_that_is_known(ready: Cli, farm: Farm, dsc: Path, meanwhile: Meanwhile) -> None:
    """The cause, and the first error's lines."""
    how: dict[str, Any] = {"reason": "it does not build", "cause": Cause.TESTS, "error": "FAIL: adding\n  1 and 1"}
    meanwhile.then(lambda: start(farm, 1), lambda: end(farm, 1, Event.PACKAGE_FAILED, **how))
    ended = ready("submit", dsc, "--wait", status=1)
    assert re.search(
        r"failed after \d+ s: tests: FAIL: adding\n  first error:\n {4}FAIL: adding\n {6}1 and 1\n", ended.out
    )


def test_wait_without_a_chroot(cli: Cli, dsc: Path) -> None:
    """A build that has to wait for nobody knows how long is not waited for."""
    cli("init", "--series", "bookworm", "--architecture", "amd64")
    assert "chroot-wait: there is no chroot" in cli("submit", dsc, "--wait", status=1).out


def test_wait_as_json(ready: Cli, farm: Farm, dsc: Path, meanwhile: Meanwhile) -> None:
    """With --json there is one document, when all is over."""
    meanwhile.then(lambda: start(farm, 1), lambda: end(farm, 1, Event.SUCCEEDED, files={"hello.deb": b"x"}))
    ended = ready("submit", dsc, "--wait", "--json")
    (build,) = ended.json["builds"]
    assert (build["state"], [each["name"] for each in build["results"]]) == ("built", ["hello.deb"])
    assert Path(build["log_path"]).is_file() if IN_A_FOLDER else build["log_path"] is None
    assert ended.err == ""


def test_several_series(ready: Cli, dsc: Path, tmp_path: Path) -> None:
    """Where there are several series, one has to be chosen."""
    ready("init", "--series", "trixie", "--architecture", "amd64")
    assert "debian/bookworm, debian/trixie" in ready("submit", dsc, status=1).err
    assert "no series 'sid'" in ready("submit", dsc, "--series", "sid", status=1).err
    assert ready("submit", dsc, "--series", "debian/trixie", "--json").json["builds"][0]["series"] == "trixie"
    source = make_source(tmp_path / "other", "other")
    assert ready("submit", source, "--series", "bookworm", "--json").json["builds"][0]["series"] == "bookworm"


def test_no_series(cli: Cli, dsc: Path) -> None:
    """A farm without any series says how to add one."""
    cli("init")
    assert "add-chroot" in cli("submit", dsc, status=1).err


def test_bad_source(ready: Cli, dsc: Path) -> None:
    """A source that does not check is refused in one sentence, and nothing of it is recorded."""
    (dsc.parent / "hello_1.0.tar.xz").write_bytes(b"stufg")
    assert "digests that the .dsc promises" in ready("submit", dsc, status=1).err
    assert ready("builds", "--json").json["builds"] == []
    ready("submit", dsc.parent / "none.dsc", status=2)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 by 24 that knows colours."""
    for name, value in (("COLUMNS", "80"), ("LINES", "24"), ("FORCE_COLOR", "1"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal(ready: Cli, farm: Farm, dsc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal shows builder, stage and the log's tail, without what could drive it, and is left as it was."""
    ready("submit", dsc)
    start(farm, 1, "install dependencies")
    lines = "".join(f"line {n}\n" for n in range(50)).encode()
    farm.log_path(1).write_bytes(lines + b"\x1b]0;evil\x07 [bold]x[/bold]\n")
    meanwhile = Meanwhile(lambda: None, lambda: end(farm, 1, Event.SUCCEEDED, files={}))
    (build,) = follow(farm, [1], Screen(), sleep=meanwhile, looks=False)
    out = capsys.readouterr().out
    assert build.state == "built"
    for shown in ("hello 1.0", "local", "install dependencies", "line 49", "^[]0;evil^G [bold]x[/bold]"):
        assert shown in out
    assert "line 38\n" not in out
    assert "\x1b]0;" not in out
    assert out.rstrip().endswith(("\x1b[?25h", "\x1b[2K"))


def test_lines_do_not_repeat(ready: Cli, farm: Farm, dsc: Path) -> None:
    """While nothing changes, nothing is said."""
    ready("submit", dsc)
    meanwhile = Meanwhile(*[lambda: None] * 5, lambda: ready("cancel", 1))
    said: list[str] = []
    follow(farm, [1], Lines(said.append), sleep=meanwhile, looks=False)
    assert timeless(said) == [
        "build 1 needs-build: no builder for amd64",
        "build 1 cancelled: cancelled by hand",
    ]


def test_lines_say_what_keeps_a_build_now(ready: Cli, farm: Farm, dsc: Path) -> None:
    """Who waits hears that the last builder was taken out of service."""
    ready("add-builder", "http://127.0.0.1:1", "--name", "local", "--offline", "--architecture", "amd64")
    ready("submit", dsc)
    meanwhile = Meanwhile(lambda: ready("disable-builder", "local"), lambda: ready("cancel", 1))
    said: list[str] = []
    follow(farm, [1], Lines(said.append), sleep=meanwhile, looks=False)
    assert "needs-build: every builder for amd64 is disabled" in said[1]


def test_how_it_is_to_be_built(ready: Cli, tmp_path: Path) -> None:
    """What is said of a build is shown with it; what no daemon would take is refused, and nothing is stored."""
    dsc = make_source(tmp_path, "hello")
    refused = ready("submit", dsc, "--limit", "memory=much", status=1)
    assert "limit memory: 'much' is not a size" in refused.err
    words = ("--package-builder", "direct", "--profiles", "nocheck,nodoc", "--build-options", "parallel=2 noddebs")
    ready("submit", dsc, *words, "--limit", "memory=2G", "--limit", "timeout=1h")
    document = ready("show", 1, "--json").json
    assert (document["package_builder"], document["profiles"]) == ("direct", ["nocheck", "nodoc"])
    assert (document["build_options"], document["limits"]) == (
        ["parallel=2", "noddebs"],
        {"memory": 2 << 30, "timeout": 3600},
    )
    shown = ready("show", 1).out
    assert "nocheck nodoc" in shown and "parallel=2 noddebs" in shown and "timeout 3600" in shown


def test_an_architecture_that_is_not_there(ready: Cli, dsc: Path) -> None:
    """Which architectures there are is told, and which was asked for."""
    err = ready("submit", dsc, "--architecture", "arm64", status=1).err
    assert err.endswith("the architectures of debian bookworm are: amd64; asked for was: arm64\n")
