"""Chroot tarballs that a master sends: what is taken, and what is refused with a sentence."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from buildd.isolation import chroot_tar
from buildd.isolation.chroot_tar import BadTar, members_to_leave_out

Member = tuple[str, bytes, str]  # Name, type, link target.

FILE, LINK, HARD_LINK, DEVICE, FOLDER = (
    tarfile.REGTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.DIRTYPE,
)
SOUND: list[Member] = [
    ("./", FOLDER, ""),
    ("./bin", LINK, "usr/bin"),
    ("./usr/bin/sh", FILE, ""),
    ("./usr/bin/dash", HARD_LINK, "./usr/bin/sh"),
    ("./etc/mtab", LINK, "../proc/self/mounts"),
    ("./etc/alternatives/x", LINK, "/usr/bin/x"),
]


def tarball(path: Path, members: list[Member], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, kind, target in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            entry.size = 1000 if kind == FILE else 0
            archive.addfile(entry, io.BytesIO(b"x" * 1000))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("top", ["./", "", "chroot-autobuild/"])
def test_a_sound_chroot_is_taken(tmp_path: Path, mode: str, top: str) -> None:
    """Plain or compressed, at the top or below Launchpad's folder; devices and /dev are left out, by name."""
    members = [(name.replace("./", top, 1) or ".", kind, target) for name, kind, target in SOUND]
    members += [(f"{top}dev/fd", LINK, "/proc/self/fd"), (f"{top}srv/null", DEVICE, "")]
    assert members_to_leave_out(tarball(tmp_path / "t", members, mode)) == [f"{top}dev/fd", f"{top}srv/null"]


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        (("/etc/passwd", FILE, ""), "absolute"),
        (("./a/../../etc/passwd", FILE, ""), "leads out"),
        (("./etc/up", LINK, "../../outside"), "leads out"),
        (("./chroot-autobuild/up", LINK, "../outside"), "leads out"),
        (("./hard", HARD_LINK, "/etc/passwd"), "absolute"),
        (("./hard", HARD_LINK, "../outside"), "leads out"),
        (("./bin/evil", FILE, ""), "below a symbolic link"),
        (("./a\nb", FILE, ""), "line break"),
    ],
)
def test_what_leads_out_is_refused(tmp_path: Path, member: Member, complaint: str) -> None:
    """No member may land, or point, outside the chroot."""
    with pytest.raises(BadTar, match=complaint):
        members_to_leave_out(tarball(tmp_path / "t", [*SOUND, member]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: 512 * 4 + 100],
        lambda content: content[: 512 * 6],
        lambda content: content.rstrip(b"\0"),
        lambda content: b"",
        lambda content: b"\0" * 10240,
        lambda content: b"no tar at all" * 1000,
        lambda content: b"\x28\xb5\x2f\xfd" + content,
    ],
)
def test_a_damaged_tarball_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """Cut short anywhere, empty, or something else."""
    path = tarball(tmp_path / "t", SOUND)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((BadTar, tarfile.TarError, EOFError)):
        members_to_leave_out(path)


def test_the_program_says_what_is_wrong_in_a_sentence(tmp_path: Path) -> None:
    """Exit status 1 and one line."""
    path = tarball(tmp_path / "t", [*SOUND, ("/etc/passwd", FILE, "")])
    ended = subprocess.run(
        [sys.executable, "-I", chroot_tar.__file__, path], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout == "the chroot tarball cannot be used: '/etc/passwd' is an absolute path\n"
