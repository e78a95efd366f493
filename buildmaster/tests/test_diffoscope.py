"""diffoscope, as Debian has it, run on what builders made."""

import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from buildmaster.diffoscope import CannotCompare, can_shut_in, differences

needs_it = pytest.mark.skipif(shutil.which("diffoscope") is None, reason="diffoscope is not installed")


def hidden(tmp_path: Path) -> Path:
    """A directory with a secret in it."""
    (tmp_path / "farm").mkdir(exist_ok=True)
    (tmp_path / "farm" / "secret").write_text("of ours")
    return tmp_path / "farm"


@needs_it
def test_what_differs(tmp_path: Path) -> None:
    """It tells the line that differs, and nothing where nothing does."""
    for name, text in (("was", "one\ntwo\n"), ("now", "one\nthree\n")):
        (tmp_path / name).write_text(text)
    told = differences(tmp_path / "was", tmp_path / "now", 60.0, hidden(tmp_path))
    assert "-two" in told
    assert "+three" in told
    assert differences(tmp_path / "was", tmp_path / "was", 60.0, hidden(tmp_path)) == ""


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> tuple[Path, Path]:
    """Have a script called in place of diffoscope; two files for it."""
    program = tmp_path / "diffoscope"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("was", "now"):
        (tmp_path / name).write_text(name)
    return tmp_path / "was", tmp_path / "now"


def test_one_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, with all that it has started, and what it had unpacked is gone."""
    files = fake(tmp_path, monkeypatch, f"pwd > {tmp_path}/room; (sleep 3; touch {tmp_path}/late) & sleep 60")
    began = time.monotonic()
    with pytest.raises(CannotCompare, match="had not ended after 1 s"):
        differences(*files, 1.0, hidden(tmp_path))
    assert time.monotonic() - began < 30
    assert not Path((tmp_path / "room").read_text().strip()).exists()
    time.sleep(3)
    assert not (tmp_path / "late").exists()


def test_one_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it complains of is said."""
    files = fake(tmp_path, monkeypatch, "echo out of luck >&2; exit 2")
    with pytest.raises(CannotCompare, match="ended with 2: out of luck"):
        differences(*files, 60.0, hidden(tmp_path))


def test_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no memory without end, and nothing of our environment."""
    monkeypatch.setenv("SECRET", "of ours")
    files = fake(tmp_path, monkeypatch, "ulimit -v; echo $SECRET; exit 1")
    assert differences(*files, 60.0, hidden(tmp_path)) == f"{2 << 20}\n\n"


def test_what_it_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the network nor what is in the farm's directory, and it cannot bring that back."""
    place = hidden(tmp_path)
    if not can_shut_in(place):
        pytest.skip("no user namespaces here")
    script = f"ls {place}; umount {place} 2>&1; cat {place}/secret; cat /proc/net/route; id -u"
    files = fake(tmp_path, monkeypatch, script + "; exit 1")
    told = differences(*files, 60.0, place)
    assert told.startswith("umount: ") and "of ours" not in told
    assert told.splitlines()[-1] == str(os.getuid())
    assert not any(line.startswith(("eth", "en", "wl")) for line in told.splitlines())
    assert (place / "secret").read_text() == "of ours"


def test_where_it_cannot_be_shut_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs all the same, and who asks is told."""
    files, place = fake(tmp_path, monkeypatch, "echo seen; exit 1"), hidden(tmp_path)
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    assert not can_shut_in(place)
    assert differences(*files, 60.0, place) == "seen\n"


def test_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, it is said which package has it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotCompare, match="diffoscope-minimal"):
        differences(tmp_path, tmp_path, 1.0, hidden(tmp_path))
