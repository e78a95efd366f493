"""Every bad upload of the catalogue is refused with a sentence, and leaves nothing but the record of that."""

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from buildmaster import uploads
from buildmaster.tables import metadata
from buildmaster.tests.bad_uploads import BYTES, catalogue
from buildmaster.tests.factories import make_farm
from buildmaster.tests.upload_case import UploadCase
from buildmaster.tests.uploading import Upload, make_archive
from buildmaster.uploading.acceptance import Verdict, process
from buildmaster.uploading.arrivals import Folder, NotReadable, Received, read_control
from buildmaster.uploading.terms import Terms

CATALOGUE = catalogue()
TERMS = Terms(unpacked_bytes=BYTES)


class World:
    """A farm whose debian/mine has hello 1.0."""

    def __init__(self, directory: Path) -> None:
        self.farm = make_farm(directory)
        self.place = make_archive(self.farm)
        assert self.send(Upload().write(directory / "first")).accepted
        self.before = self.all()

    def send(self, changes: Path) -> Verdict:
        received = Received(changes.name, read_control(changes), Folder(changes.parent))
        return process(self.farm, received, self.place, TERMS, time.time())

    def all(self) -> dict[str, int]:
        """How many rows each table has, and the store and the spool files."""
        with self.farm.reading() as connection:
            found = {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
                if table.name != "upload"
            }
        spool = self.farm.directory / "uploads"
        left = [path for path in spool.rglob("*") if not path.is_dir() or path.parent.name == "new"]
        return found | {"files in the store": len(list(self.farm.store.files())), "spool": len(left)}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as name:
        made = World(Path(name))
        yield made
        made.farm.close()


def test_a_hundred_kinds() -> None:
    """There are that many."""
    assert len(CATALOGUE) > 100


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_bad_upload(name: str, world: World, tmp_path: Path) -> None:
    """It is refused with what is wrong with it, in lines that can be shown; nothing else has changed."""
    bad = CATALOGUE[name]
    changes = bad.write(tmp_path)
    began = time.process_time()
    try:
        verdict = world.send(changes)
    except NotReadable as error:
        assert bad.says in str(error)
        return
    assert time.process_time() - began < 5.0  # No upload is a lot of work.
    said = "\n".join(verdict.faults)
    assert verdict.faults and bad.says in said, said
    assert all(fault.isprintable() and 10 < len(fault) <= 400 for fault in verdict.faults), said
    assert world.all() == world.before
    with world.farm.reading() as connection:
        assert verdict.faults in [each.faults for each in uploads.every(connection, 1000)]


class TestBadUploadsByHttp(UploadCase):
    terms = Terms(file_bytes=8 << 20, unpacked_bytes=BYTES)

    async def test_by_http(self) -> None:
        """By HTTP, too (every fifth): each is refused, or waits for what did not come; then the spool is empty."""
        first = Upload().write(self.directory / "first")
        for path in sorted(first.parent.iterdir()):
            assert (await self.put(path.name, path.read_bytes()))[0] in (201, 202)
        for number, (name, bad) in enumerate(itertools.islice(CATALOGUE.items(), 0, None, 5)):
            changes = bad.write(self.directory / str(number))
            for path in sorted(changes.parent.iterdir(), key=lambda path: path == changes):
                if path.is_file():
                    code, _ = await self.put(path.name, path.read_bytes())
            # What does not come, or is called as nothing that does, is waited for.
            told = "did not come" in bad.says or "alone names" in name or "belongs to nothing" in name
            assert code in ((202, 400) if told else (400,)), (name, code)
        self.clock = lambda: time.time() + 86401
        await self.reception._look()
        assert self.sources() == ["hello 1.0"] and self.spooled() == []
        assert not [each for each in self.left_behind() if each.startswith("file")]
        assert len(self.uploads()) >= len(CATALOGUE) // 5
