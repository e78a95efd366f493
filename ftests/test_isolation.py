"""What a build cannot do, each tried by a program that would do it (shut_in.py)."""

import json
import re

import pytest

from ftests.trial import run_trial

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What came of each attempt."""
    return run_trial("shut_in.py")


def test_a_command_in_the_root_sees_the_root_only(found: dict[str, str]) -> None:
    """No old root, no process but its own and the first, root of the namespace, a loopback and nothing else."""
    processes, uid, interfaces = found["inside"].split()[:-2], *found["inside"].split()[-2:]
    assert processes[0] == "/proc/1"
    assert len(processes) <= 4
    assert (uid, interfaces) == ("0", "3")  # Two lines of heading.


def test_the_end_of_a_command_waits_for_no_disk(found: dict[str, str]) -> None:
    """The overlay is not synced; that holds for each command, and for one after another."""
    assert "volatile" in found["overlay"]


def test_the_mounts_of_a_build_do_not_tell_where_it_is(found: dict[str, str]) -> None:
    """Layers and builds have no path in there."""
    assert "lowerdir=" in found["overlay"]
    assert "/buildd/" not in found["overlay"]


def test_a_setuid_program_left_in_the_root_is_one_like_any_other(found: dict[str, str]) -> None:
    """Who starts it stays who they are."""
    assert found["setuid outside"].split() == ["0"], "the attack does not even work"
    assert found["setuid"].split() == ["65534"]


def test_root_beside_a_root_finds_nothing_outside(found: dict[str, str]) -> None:
    """It leaves the chroot, as it may, and stands among the host's programs, with nothing there to harm."""
    words = found["beside"].split()
    assert words[0] == "0", "the attack does not even work"
    assert "usr" in words
    assert "boot" not in words, "it is still in the chroot"
    assert "escaped" not in found["beside"]
    assert found["owned"] == "False"


def test_a_process_group_is_the_builds_own(found: dict[str, str]) -> None:
    """Root of a build has the daemon's user id, and kill(2) asks no pid namespace when it is for a whole group."""
    heard = json.loads(found["signal"])
    assert heard.pop("outside"), "the attack does not even work"
    assert heard == {"inside": 0, "beside": 0}


@pytest.mark.parametrize("what", ["mount", "hostname", "new user", "new mounts"])
def test_root_of_a_build_is_not_what_root_of_a_namespace_is(found: dict[str, str], what: str) -> None:
    """Nor may it become that, in a namespace of its own; a maintainer script may no more than what builds."""
    assert found[f"{what}, outside"].split() == ["done"], "the attack does not even work"
    for when in ("inside", "beside"):
        assert "done" not in found[f"{what}, {when}"].split()
        assert re.search(r"ermitted|denied|must be root", found[f"{what}, {when}"])


@pytest.mark.parametrize("when", ["inside", "beside"])
def test_the_whole_machine_is_hidden(found: dict[str, str], when: str) -> None:
    """What /proc tells of it, and what may be set there; and nobody takes the masks away."""
    assert (found["interrupts, outside"].strip(), found[f"interrupts, {when}"].strip()) == ("4", "0")
    assert found["writable, outside"].split() == ["done"], "the attack does not even work"
    for attack in ("writable", "remount"):
        assert "done" not in found[f"{attack}, {when}"].split()
        assert "Read-only file system" in found[f"{attack}, {when}"]
    assert found[f"umask, {when}"] == "0022\n"


def test_what_runs_beside_a_root_sees_no_other_build(found: dict[str, str]) -> None:
    """Nor the daemon's own files, nor anybody's home."""
    assert "usr" in found["host"].split()
    assert not {"bases", "layers", "filecache", "lock", "home", "root", "srv"} & set(found["host"].split())


def test_memory_is_no_place_for_files(found: dict[str, str]) -> None:
    """What is in these file systems is memory; without control groups nobody counts it, but for /dev/shm."""
    _, devices, temporary = found["room"].split()
    assert int(devices) <= 1
    assert int(temporary) <= 256


@pytest.mark.parametrize("when", ["inside", "beside"])
def test_a_command_begins_as_if_the_machine_had_just_been_started(found: dict[str, str], when: str) -> None:
    """Nothing of the daemon's environment, no signal ignored or blocked; and no devices but these."""
    names = {line.partition("=")[0] for line in found[f"environment, {when}"].splitlines()}
    assert names - {"PWD"} == {"PATH", "LANG", "HOME", "DEBIAN_FRONTEND"}  # That one is the shell's.
    _, blocked, _, ignored = found[f"signals, {when}"].split()
    # The C library's posix_spawn(3), which make(1) uses as well, has its own two ignored.
    assert (int(blocked, 16), int(ignored, 16) & ~(0b11 << 31)) == (0, 0)
    links = {"fd", "ptmx", "pts", "shm", "stderr", "stdin", "stdout"}
    assert set(found[f"devices, {when}"].split()) == {"full", "null", "random", "tty", "urandom", "zero"} | links


def test_what_it_sees_of_the_host_is_read_only(found: dict[str, str]) -> None:
    """Whoever owns a file there."""
    assert found["host, written"].count("Read-only file system") == 3


def test_only_its_archives_are_within_reach(found: dict[str, str]) -> None:
    """By the proxy; a service of the host's own loopback is not, in any way, and nothing is without a Reach."""
    assert "secret" in found["outside"]
    assert "Origin: here" in found["archive"]
    assert "Origin: here" in found["archive, beside"]
    assert " 403 " in found["by the proxy"]
    assert "none of the build's archives" in found["by the proxy"]
    assert found["directly"] == found["no network"] == "no connection\n"


def test_nothing_of_the_daemon_is_inherited(found: dict[str, str]) -> None:
    """No file besides the usual three, also where the proxy's socket was handed over; nor has the first process any."""
    assert found["inherited"].split() == ["0", "1", "2", "3"]  # 3 is ls's own.
    assert len(found["of the first"].splitlines()) == 1 + 3
    assert "socket" not in found["of the first"]


def test_what_is_to_be_seen_beside_a_root_is_shown(found: dict[str, str]) -> None:
    """What is written there is there afterwards. All builds are on one host."""
    assert found["visible"] == "True"
    assert found["host name"] == "localhost\n"


def test_a_command_that_is_ended_at_once_ends(found: dict[str, str]) -> None:
    """However early: also while its namespaces are being set up."""
    assert found["lost kills"] == "0"


def test_nothing_is_left(found: dict[str, str]) -> None:
    """Of a build whose directory was removed."""
    assert found["left"] == ""
