"""Tests of the form in which base chroots are packed."""

import io
import tarfile
from collections.abc import Callable

import pytest

from tools.base_chroot import repack


def _archive(*entries: tuple[str, bytes, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(content)
            else:
                entry.linkname = content
            tar.addfile(entry, io.BytesIO(content.encode()) if kind == tarfile.REGTYPE else None)
    return buffer.getvalue()


def _repacked(archive: bytes) -> tarfile.TarFile:
    target = io.BytesIO()
    repack(io.BytesIO(archive), target)
    target.seek(0)
    return tarfile.open(fileobj=target)


@pytest.fixture
def repacked() -> tarfile.TarFile:
    return _repacked(
        _archive(
            ("./", tarfile.DIRTYPE, ""),
            ("./dev/null", tarfile.CHRTYPE, ""),
            ("./bin/sh", tarfile.REGTYPE, "shell"),
            ("./bin/dash", tarfile.LNKTYPE, "./bin/sh"),
            ("./bin/.hidden", tarfile.SYMTYPE, "/bin/sh"),
        )
    )


def test_everything_is_below_one_folder(repacked: tarfile.TarFile) -> None:
    """Every entry stands below chroot-autobuild/, and device nodes are left out."""
    assert repacked.getnames() == [
        "chroot-autobuild",
        "chroot-autobuild/bin/sh",
        "chroot-autobuild/bin/dash",
        "chroot-autobuild/bin/.hidden",
    ]


def test_links(repacked: tarfile.TarFile) -> None:
    """A hard link names its target in the archive, which moved; a symbolic link one in the chroot, which did not."""
    content = repacked.extractfile("chroot-autobuild/bin/dash")
    assert content is not None and content.read() == b"shell"
    assert repacked.getmember("chroot-autobuild/bin/.hidden").linkname == "/bin/sh"


@pytest.mark.parametrize("cut", [lambda data: b"", lambda data: data[:1300], lambda data: data[:700]])
def test_cut_short(cut: Callable[[bytes], bytes]) -> None:
    """An archive that breaks off is an error, not a small chroot."""
    whole = _archive(("./a", tarfile.REGTYPE, "x" * 600), ("./b", tarfile.REGTYPE, "y" * 600))
    with pytest.raises(tarfile.ReadError):
        _repacked(cut(whole))
