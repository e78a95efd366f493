"""What is remembered of digests changes what a publication costs, and nothing of what it makes."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildmaster.indices.records import Edit, put
from buildmaster.indices.stanzas import contents_records
from buildmaster.publishing.digests import Digests, Progress
from buildmaster.publishing.tree import SuiteTree, TreeDamaged
from buildmaster.tests.archive_case import CONTENTS, PACKAGES, Archive, Client, package

# Some packages, and how long each is from now on; None: it is gone.
_Changes = dict[int, int | None]
_CHANGES = st.dictionaries(st.integers(0, 12), st.one_of(st.none(), st.integers(1, 60_000)), min_size=1, max_size=6)


def edits(changes: _Changes) -> list[Edit]:
    found: list[Edit] = []
    for number, size in changes.items():
        name = f"package{number}"
        record, _ = package(name, more="" if size is None else f"Section: {'x' * size}\n")
        if size is None:
            found += [Edit(PACKAGES, record.key, None), Edit(CONTENTS, f"misc/{name}".encode(), None)]
        else:
            paths = [b"usr/share/%d/%d" % (number, each) for each in range(size // 100 + 1)]
            found += [*put(PACKAGES, [record]), *put(CONTENTS, contents_records(paths, "", name))]
    return found


def indices(archive: Archive) -> dict[str, bytes]:
    found = archive.dists.resolve().rglob("*.[gx]z")
    return {path.name: path.read_bytes() for path in found if "by-hash" not in path.parts}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(_CHANGES, st.booleans()), max_size=8))
def test_any_changes(tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[_Changes, bool]]) -> None:
    """With what is remembered, without, and with what was forgotten in between, the same bytes are made; they are what
    Release says, and what gzip and xz read."""
    folder = tmp_path_factory.mktemp("archives")
    warm, cold, both = (Archive(folder / name) for name in ("warm", "cold", "both"))
    wanted: dict[int, int] = {}
    for changes, forget in rounds:
        cold.tree = SuiteTree(cold.directory, "bookworm")
        if forget:
            both.tree = SuiteTree(both.directory, "bookworm")
        for archive in (warm, cold, both):
            archive.publish(edits(changes))
        wanted = {number: size for number, size in {**wanted, **changes}.items() if size is not None}
        Client(warm.dists).check()
        assert indices(warm) == indices(cold) == indices(both)
    assert not rounds or warm.names() == sorted(f"package{number}" for number in wanted)
    for path in warm.dists.resolve().rglob("*.[gx]z"):
        plain = subprocess.run(["xz" if path.suffix == ".xz" else "gzip", "-dc", path], capture_output=True, check=True)
        assert plain.stdout == Client(warm.dists).index(str(path.with_suffix("").relative_to(warm.dists.resolve())))


def grown(archive: Archive) -> None:
    """Have several pieces."""
    archive.publish(edits(dict.fromkeys(range(8), 60000)))


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.EPERM])
def test_a_file_system_that_copies_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What is before a change is read and written then; the same is made of it."""
    archives = [Archive(tmp_path / each) for each in ("with", "without")]
    asked: list[int] = []
    rounds: list[_Changes] = [dict.fromkeys(range(4), 60_000), {9: 10}]

    def refuse(*_: object) -> int:
        asked.append(1)
        raise OSError(number, "cannot be")

    for archive in archives:
        for changes in rounds:
            archive.publish(edits(changes))
        monkeypatch.setattr(os, "copy_file_range", refuse)
    assert indices(archives[0]) == indices(archives[1]) and asked
    Client(archives[1].dists).check()


def test_what_did_not_change_is_not_read(archive: Archive) -> None:
    """A publication of one package reads nothing of what was there, but at the end; who has forgotten reads it all."""
    grown(archive)
    pieces = archive.directory / ".state/suites/bookworm/pieces"
    manifest = archive.tree.manifest()
    assert manifest is not None
    (pieces / manifest.indices[PACKAGES].pieces[0].name).unlink()
    archive.add("hello")
    Client(archive.dists).check()
    archive.tree = SuiteTree(archive.directory, "bookworm")
    with pytest.raises(TreeDamaged):
        archive.add("more")


def test_damage_is_noticed_in_the_end(archive: Archive) -> None:
    """What is remembered is believed for an hour: then all pieces are read again."""
    grown(archive)
    for piece in (archive.directory / ".state/suites/bookworm/pieces").iterdir():
        piece.write_bytes(bytes(piece.stat().st_size))
    archive.now += 4000
    with pytest.raises(TreeDamaged):
        archive.add("more")


@pytest.mark.parametrize("what", ["gone", "short"])
def test_an_index_that_is_not_whole(archive: Archive, what: str) -> None:
    """What was copied from is not there any more, or lost its end: that is said."""
    grown(archive)
    path = archive.dists / "main/binary-amd64/Packages.xz"
    if what == "gone":
        path.unlink()
    else:
        with path.open("r+b") as stream:
            stream.truncate(100)
    with pytest.raises(TreeDamaged):
        archive.add("more")


def test_somebody_else_publishes_as_well(archive: Archive) -> None:
    """What is remembered is of no use then, and does no harm."""
    grown(archive)
    other = Archive(archive.directory)
    other.now = archive.now
    for number in range(4):
        other.publish(edits({number: 100}))
        archive.now = other.now + 1
        archive.publish(edits({number + 4: 200}))
        other.now = archive.now + 1
        Client(archive.dists).check()
    assert archive.names() == [f"package{number}" for number in range(8)]


def test_no_more_is_remembered_than_there_is_room_for(tmp_path: Path) -> None:
    """What was not asked for for longest is forgotten; what is replaced does not count."""
    digests = Digests(most=10)
    for number in range(6):
        for _ in range(3):
            digests.keep(tmp_path / str(number), PACKAGES, Progress((), ((),) * 3, 0.0))
    known = [digests.of(tmp_path / str(number), PACKAGES, (), 1.0) is not None for number in range(6)]
    assert known == [False, False, False, True, True, True]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")
