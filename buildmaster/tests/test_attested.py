"""What is shown beside an archive of where its packages come from."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildd.protocol import FileName
from buildmaster import archives, attested, attesting, builds, distributions, envelopes, files
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState, Event
from buildmaster.publications import State
from buildmaster.scoring import ArchivePurpose
from buildmaster.store import StoredFile
from buildmaster.tables import binary, build, build_file, publication, source, source_file
from buildmaster.tests.factories import make_build, make_builder, make_busy, make_farm, make_series

HERE = ("debian", "primary")
BUILDINFO = ["buildinfo", "h", "hello", "hello_1.0_amd64.buildinfo"]


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm with a series and a builder."""
    made = make_farm(tmp_path)
    make_series(made)
    make_builder(made)
    yield made
    made.close()


@pytest.fixture
def deb(farm: Farm) -> StoredFile:
    """What build 1 has built."""
    return finish(farm, make_build(farm))


def finish(farm: Farm, build_id: int, content: bytes = b"a package") -> StoredFile:
    """Let a build end well; its .deb."""
    make_busy(farm, "x86", build_id)
    stored, info = farm.store.add([content]), farm.store.add([b"Source: hello\n"])
    with farm.transaction() as connection:
        builds.record(connection, build_id, Event.SUCCEEDED, 5.0)
        results = {FileName("hello_1.0_amd64.deb"): stored, FileName("hello_1.0_amd64.buildinfo"): info}
        builds.keep_results(connection, build_id, results, 5.0)
        assert builds.record(connection, build_id, Event.GATHERED, 6.0) is BuildState.BUILT
    return stored


def statement(sha256: str) -> list[str]:
    return ["provenance", f"{sha256}.json"]


def test_a_buildinfo(farm: Farm, deb: StoredFile) -> None:
    """It is where a pool would have it."""
    found = attested.served(farm, *HERE, BUILDINFO)
    assert found is not None
    assert found.content == b"Source: hello\n"


def test_a_statement(farm: Farm, deb: StoredFile) -> None:
    """Whoever has a package finds the statement by its digest, and the key beside it."""
    assert attested.served(farm, *HERE, ["provenance", "key.pem"]) is None  # Nothing was signed yet.
    found = attested.served(farm, *HERE, statement(deb.sha256))
    assert found is not None
    assert json.loads(found.content)["payloadType"] == "application/vnd.in-toto+json"
    key = attested.served(farm, *HERE, ["provenance", "key.pem"])
    with farm.reading() as connection:
        (known,) = attesting.keys(connection)
    assert key is not None
    assert key.content == known.pem.encode()


@pytest.mark.parametrize(
    "segments",
    [
        [],
        ["provenance"],
        ["provenance", ""],
        ["provenance", "0" * 64 + ".json"],
        ["provenance", "../key.pem"],
        ["buildinfo"],
        ["buildinfo", "l", "hello", "hello_1.0_amd64.buildinfo"],
        ["buildinfo", "h", "hello", "hello_1.0_amd64.deb"],
        ["buildinfo", "h", "hello", "%.buildinfo"],
        ["buildinfo", "h", "h'ello", "hello_1.0_amd64.buildinfo"],
        ["buildinfo", "", "", ".buildinfo"],
    ],
)
def test_nothing_there(farm: Farm, deb: StoredFile, segments: list[str]) -> None:
    """Anything else is not there."""
    assert attested.served(farm, *HERE, segments) is None


def test_of_another_archive(farm: Farm, deb: StoredFile) -> None:
    """An archive shows what was built for it, or copied there: a private one must not be read through another."""
    with farm.transaction() as connection:
        archives.add(connection, "debian", "other", ArchivePurpose.PPA)
    for path in (BUILDINFO, statement(deb.sha256)):
        assert attested.served(farm, "debian", "other", path) is None
        assert attested.served(farm, "ubuntu", "primary", path) is None
        assert attested.served(farm, *HERE, path) is not None
    with farm.transaction() as connection:
        other = distributions.find_archive(connection, "debian", "other")
    publish(farm, other, None, State.PUBLISHED)  # The source, and perhaps packages of another build.
    publish(farm, other, deb, State.REMOVED)
    for path in (BUILDINFO, statement(deb.sha256)):
        assert attested.served(farm, "debian", "other", path) is None
    publish(farm, other, deb, State.PUBLISHED)
    for path in (BUILDINFO, statement(deb.sha256)):
        assert attested.served(farm, "debian", "other", path) is not None


def test_what_is_held(farm: Farm, deb: StoredFile) -> None:
    """Nobody sees of a build that is held back that it was made."""
    with farm.reading() as connection:
        own = distributions.find_archive(connection, *HERE)
    publish(farm, own, deb, State.HELD)
    for path in (BUILDINFO, statement(deb.sha256)):
        assert attested.served(farm, *HERE, path) is None
    with farm.transaction() as connection:
        connection.execute(publication.update().values(state=State.PENDING))
    for path in (BUILDINFO, statement(deb.sha256)):
        assert attested.served(farm, *HERE, path) is not None


def publish(farm: Farm, archive_id: int, deb: StoredFile | None, state: State) -> None:
    """Let an archive have what build 1 has built, or its source."""
    with farm.transaction() as connection:
        row = connection.execute(source.select()).one()
        values = {"archive_id": archive_id, "series_id": row.series_id, "pocket": "RELEASE", "component": "main"}
        values |= {"source_id": row.id, "state": state, "created_at": 1.0}
        if deb is not None:
            said = {"source_id": row.id, "build_id": 1, "name": "hello", "version": "1.0", "architecture": "amd64"}
            said |= {"file_name": "hello_1.0_amd64.deb", "control": "", "stored_file_id": 1}
            added = connection.execute(binary.insert().values(**said).returning(binary.c.id))
            values |= {"binary_id": added.scalar_one()}
        connection.execute(publication.insert().values(**values))


def test_of_a_reproduction(farm: Farm, deb: StoredFile) -> None:
    """What repeats another build is shown nowhere, nor is what did not end well."""
    with farm.transaction() as connection:
        row = builds.find(connection, 1)
        again = builds.add(connection, row.source_id, row.series_architecture_id, 7.0)
        connection.execute(build.update().where(build.c.id == again).values(reproduces_id=1))
    other = finish(farm, again, b"another package")
    assert attested.served(farm, *HERE, statement(other.sha256)) is None
    with pytest.raises(attesting.NothingToState, match="repeats build 1"):
        attesting.ensure(farm, again)


def test_what_was_forgotten(farm: Farm, deb: StoredFile) -> None:
    """A package that is kept no more was built here all the same: whoever has it finds the statement, which is made
    again when it is lost, with the same content."""
    first = attesting.ensure(farm, 1)
    with farm.transaction() as connection:
        connection.execute(build_file.delete().where(build_file.c.name.endswith(".deb")))
        assert attesting.maker_of(connection, deb.sha256) == 1
        assert attesting.made_by(connection, 1)["hello_1.0_amd64.deb"] == deb.sha256
        (statement_sha256,) = attesting.statements(connection)
    farm.store.delete(statement_sha256)
    found = attested.served(farm, *HERE, statement(deb.sha256))
    assert found is not None
    assert found.content == first


def test_of_a_source_that_was_forgotten(farm: Farm, deb: StoredFile) -> None:
    """Its statement says what it was built from, also when it is signed anew; it is not made again without that."""
    with farm.transaction() as connection:
        file_id = files.keep(connection, farm.store.add([b"a source"]), 1.0)
        connection.execute(source_file.insert().values(source_id=1, stored_file_id=file_id, name="hello_1.0.tar.gz"))
    first = attesting.ensure(farm, 1)
    assert b"hello_1.0.tar.gz" in envelopes.payload(first)
    with farm.transaction() as connection:
        connection.execute(source_file.delete())
        connection.execute(source.update().values(forgotten_at=9.0))
        signed_by = attesting.current(connection)
    assert signed_by is not None
    attesting.revoke(farm, signed_by.key_id, 10.0)
    second = attesting.ensure(farm, 1)
    assert envelopes.signers(first).isdisjoint(envelopes.signers(second))
    assert envelopes.payload(second) == envelopes.payload(first)
    with farm.reading() as connection:
        (statement_sha256,) = attesting.statements(connection)
    farm.store.delete(statement_sha256)
    with pytest.raises(attesting.NothingToState, match="was forgotten"):
        attesting.ensure(farm, 1)
    assert attested.served(farm, *HERE, statement(deb.sha256)) is None
