"""The pool: what is placed is whole, and what is retired leaves when its time is over."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from buildmaster.publishing import pool as pools
from buildmaster.publishing.pool import NoPoolPath, Pool, PoolConflict, PoolFile, PoolFileDamaged
from buildmaster.tests.archive_case import tree_of

DEB = "pool/main/h/hello/hello_1_amd64.deb"


def file(folder: Path, content: bytes = b"content", path: str = DEB, stream: bool = False) -> PoolFile:
    """A file of a store."""
    sha256 = hashlib.sha256(content).hexdigest()
    source = folder / sha256
    if not source.exists():
        source.write_bytes(content)
        source.chmod(0o600)

    def opened() -> BinaryIO:
        return io.BytesIO(content)

    return PoolFile(path, len(content), sha256, opened if stream else source)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.mark.parametrize("stream", [False, True])
def test_placed(tmp_path: Path, archive: Path, stream: bool) -> None:
    """A file is there, as often as it is placed, and a web server may read it."""
    for _ in range(2):
        Pool(archive).place([file(tmp_path, stream=stream)])
    assert (archive / DEB).read_bytes() == b"content"
    assert (archive / DEB).stat().st_mode & 0o777 == 0o644
    assert (archive / DEB).stat().st_nlink == (1 if stream else 2)
    assert list(tree_of(archive / "pool")) == [DEB.removeprefix("pool/")]


def test_another_file_system(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files cannot be linked they are copied."""

    def link(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    Pool(archive).place([file(tmp_path)])
    assert (archive / DEB).read_bytes() == b"content" and (archive / DEB).stat().st_nlink == 1


def test_a_conflict(tmp_path: Path, archive: Path) -> None:
    """Another content under the same name is refused, of another length or not; what was there stays."""
    pool = Pool(archive)
    pool.place([file(tmp_path)])
    for content in (b"Content", b"longer content"):
        with pytest.raises(PoolConflict):
            pool.place([file(tmp_path, content)])
    assert (archive / DEB).read_bytes() == b"content"


@pytest.mark.parametrize("stream", [False, True])
def test_not_what_was_promised(tmp_path: Path, archive: Path, stream: bool) -> None:
    """A file that is not what was promised leaves nothing."""
    good = file(tmp_path, stream=stream)
    with pytest.raises(PoolFileDamaged):
        Pool(archive).place([PoolFile(DEB, 8, good.sha256, good.source)])
    assert list(tree_of(archive / "pool")) == []
    assert list(tree_of(archive / ".state/copies")) == [] if stream else True


@pytest.mark.parametrize("path", ["", "pool", "pool/", "/pool/x", "pool/../x", "pool/a/../../x", "dists/x", "pool/.x"])
def test_paths_that_lead_elsewhere(tmp_path: Path, archive: Path, path: str) -> None:
    """Nothing outside the pool is written, or retired."""
    with pytest.raises(NoPoolPath):
        Pool(archive).place([file(tmp_path, path=path)])
    with pytest.raises(NoPoolPath):
        Pool(archive).retire([path], 1.0)
    assert not archive.exists()


def test_retired(tmp_path: Path, archive: Path) -> None:
    """A file that no index names leaves when its time is over, and its folder with it; saying it again changes
    nothing."""
    pool = Pool(archive)
    other = "pool/main/b/bash/bash_1_amd64.deb"
    pool.place([file(tmp_path), file(tmp_path, path=other)])
    pool.retire([DEB], 100.0)
    Pool(archive).retire([DEB], 200.0)
    assert pool.sweep(100.0) == []
    assert pool.sweep(101.0) == [DEB]
    assert not (archive / "pool/main/h").exists() and (archive / other).exists()
    assert pool.sweep(1000.0) == []


def test_wanted_again(tmp_path: Path, archive: Path) -> None:
    """What is placed after it was retired stays."""
    pool = Pool(archive)
    pool.place([file(tmp_path)])
    pool.retire([DEB], 100.0)
    pool.place([file(tmp_path)])
    assert pool.sweep(1000.0) == []
    assert (archive / DEB).exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": "b"}', b'{"pool/x": null}', b"\xff"])
def test_the_list_is_damaged(tmp_path: Path, archive: Path, content: bytes) -> None:
    """When nobody knows what was retired, nothing leaves; and it can be retired anew."""
    pool = Pool(archive)
    pool.place([file(tmp_path)])
    pool.retire([DEB], 100.0)
    (archive / ".state/leaving.json").write_bytes(content)
    assert pool.sweep(1000.0) == []
    pool.retire([DEB], 200.0)
    assert pool.sweep(1000.0) == [DEB]


def test_a_list_that_leads_elsewhere(archive: Path) -> None:
    """What is not in the pool is not removed, whatever the list says."""
    (archive / ".state").mkdir(parents=True)
    (archive / "key.asc").write_text("key")
    (archive / ".state/leaving.json").write_text(json.dumps({"key.asc": 1.0}))
    with pytest.raises(NoPoolPath):
        Pool(archive).sweep(1000.0)
    assert (archive / "key.asc").exists()


def test_what_was_interrupted_is_swept(tmp_path: Path, archive: Path) -> None:
    """What an interrupted copy left goes with the next sweep."""
    pool = Pool(archive)
    pool.place([file(tmp_path, stream=True)])
    (archive / ".state/copies/half").write_bytes(b"con")
    pool.sweep(0.0)
    assert list(tree_of(archive / ".state/copies")) == []


def test_a_large_file(tmp_path: Path, archive: Path) -> None:
    """A file is copied whole, however long it is."""
    content = bytes(range(256)) * (pools._CHUNK // 100)
    Pool(archive).place([file(tmp_path, content, stream=True)])
    assert (archive / DEB).read_bytes() == content
