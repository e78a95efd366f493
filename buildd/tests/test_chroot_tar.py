"""Chroot tarballs that a master sends: what is taken, and what is refused with a sentence."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from buildd.isolation import chroot_tar
from buildd.isolation.chroot_tar import BadTar, sift

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
_CAN = subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
needs_namespaces = pytest.mark.skipif(not _CAN, reason="no user namespace can be made here")

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


def sifted(tarball: Path) -> list[str]:
    """The names of the members that were left out; the others are in the archive beside."""
    with tarball.open("rb") as source, tarball.with_suffix(".sifted").open("wb") as kept:
        through, sink = os.pipe()
        with os.fdopen(through, "rb") as reading, ThreadPoolExecutor() as threads:
            copying = threads.submit(shutil.copyfileobj, reading, kept)
            try:
                return sift(source.fileno(), sink)
            finally:
                os.close(sink)
                copying.result()


def run(tarball: Path, tree: Path) -> subprocess.CompletedProcess[str]:
    """The program, as the daemon runs it."""
    argv = [*NAMESPACE, sys.executable, "-I", "-S", chroot_tar.__file__, str(tarball), str(tree)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def tarball(path: Path, members: list[Member], mode: str = "w", format: int = tarfile.DEFAULT_FORMAT) -> Path:
    with tarfile.open(path, mode, format=format) as archive:  # type: ignore[call-overload]
        for name, kind, target in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            entry.size = 1000 if kind == FILE else 0
            archive.addfile(entry, io.BytesIO(b"x" * 1000))
    return path


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("top", ["./", "", "chroot-autobuild/"])
def test_a_sound_chroot_is_taken(tmp_path: Path, kind: int, top: str) -> None:
    """At the top or below Launchpad's folder; devices and /dev are left out, and all else stays to the byte."""
    members = [(name.replace("./", top, 1) or ".", kind, target) for name, kind, target in SOUND]
    sound = tarball(tmp_path / "sound.tar", members, format=kind)
    left_out = [(f"{top}dev/fd", LINK, "/proc/self/fd"), (f"{top}srv/null", DEVICE, ""), (f"{top}dev/file", FILE, "")]
    whole = tarball(tmp_path / "whole.tar", [*members[:3], *left_out, *members[3:]], format=kind)
    assert sifted(whole) == [name for name, _, _ in left_out]
    kept = whole.with_suffix(".sifted").read_bytes()
    assert kept.rstrip(b"\0") == sound.read_bytes().rstrip(b"\0")
    assert len(kept) % 512 == 0


@needs_namespaces
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_tarball_is_unpacked(tmp_path: Path, mode: str) -> None:
    """Plain or compressed, with names of any length, and nothing is lost."""
    long = f"./{'long/' * 60}{'n' * 200}"
    members = [*SOUND, (long, FILE, ""), ("./etc/long", LINK, f"/{'x' * 300}"), ("./dev/null", DEVICE, "")]
    packed = tarball(tmp_path / "t", members, mode, format=tarfile.GNU_FORMAT)
    (tmp_path / "tree").mkdir()
    assert run(packed, tmp_path / "tree").stdout == ""
    assert (tmp_path / "tree" / long).read_bytes() == b"x" * 1000
    assert (tmp_path / "tree/usr/bin/dash").samefile(tmp_path / "tree/usr/bin/sh")
    assert str((tmp_path / "tree/etc/long").readlink()) == f"/{'x' * 300}"
    assert not (tmp_path / "tree/dev").exists()


@needs_namespaces
def test_extended_attributes_are_not_unpacked(tmp_path: Path) -> None:
    """overlayfs would take some of them for its own: a directory could hide others, or be another's content."""
    packed = tmp_path / "t"
    with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("./etc")
        entry.type, entry.mode = FOLDER, 0o755
        names = ("user.overlay.opaque", "user.overlay.redirect", "trusted.overlay.opaque", "user.other")
        entry.pax_headers = {f"SCHILY.xattr.{name}": "y" for name in names}
        archive.addfile(entry)
    (tmp_path / "tree").mkdir()
    assert run(packed, tmp_path / "tree").returncode == 0
    assert os.listxattr(tmp_path / "tree/etc") == []


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
        sifted(tarball(tmp_path / "t", [*SOUND, member]))


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
        sifted(path)


def header(kind: bytes, size: int) -> bytes:
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "hostile",
    [
        (header(tarfile.GNUTYPE_LONGNAME, 10) + b"x" * 512) * 2000,
        header(FILE, 1 << 70),
        header(tarfile.XHDTYPE, 25) + b"25 GNU.sparse.map=none,1\n".ljust(512, b"\0") + header(FILE, 0),
        header(tarfile.XHDTYPE, 1 << 40),
    ],
    ids=["a name of a name of a name", "longer than all disks", "a number that is none", "described at length"],
)
def test_a_hostile_tarball_is_refused(tmp_path: Path, hostile: bytes) -> None:
    """And no more is read of it than there is."""
    path = tmp_path / "t"
    path.write_bytes(hostile + bytes(1024))
    with pytest.raises((BadTar, tarfile.ReadError)):
        sifted(path)


@needs_namespaces
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_tarball_that_was_cut_short_is_refused(tmp_path: Path, mode: str) -> None:
    """Wherever: also where only its end is missing."""
    path = tarball(tmp_path / "t", SOUND, mode)
    content = path.read_bytes()
    end = len(content.rstrip(b"\0")) if mode == "w" else len(content)
    for number, length in enumerate((end // 3, end // 2, end - 20)):
        path.write_bytes(content[:length])
        (tmp_path / f"tree-{number}").mkdir()
        ended = run(path, tmp_path / f"tree-{number}")
        assert (ended.returncode, ended.stdout[:35]) == (1, "the chroot tarball cannot be used: "), length


@needs_namespaces
def test_the_program_says_what_is_wrong_in_a_sentence(tmp_path: Path) -> None:
    """Exit status 1 and one line."""
    ended = run(tarball(tmp_path / "t", [*SOUND, ("/etc/passwd", FILE, "")]), tmp_path)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout == "the chroot tarball cannot be used: '/etc/passwd' is an absolute path\n"


@needs_namespaces
def test_a_tarball_that_cannot_be_unpacked_is_not_damaged(tmp_path: Path) -> None:
    """tar says what went wrong: no space, say. The exit status differs."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "usr").touch()
    ended = run(tarball(tmp_path / "t", SOUND), tmp_path / "tree")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "tar: " in ended.stderr


@needs_namespaces
def test_nothing_but_the_tree_can_be_written_to(tmp_path: Path) -> None:
    """Whatever tar is made to do: also what was writable through another mount."""
    (tmp_path / "tree").mkdir()
    program = (
        "from pathlib import Path; import sys\n"
        "from buildd.isolation.chroot_tar import make_all_else_read_only\n"
        "tree = Path(sys.argv[1]); make_all_else_read_only(tree); (tree / 'in').touch(); (tree.parent / 'out').touch()"
    )
    argv = [*NAMESPACE, sys.executable, "-c", program, str(tmp_path / "tree")]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Read-only file system" in ended.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "tree"]
