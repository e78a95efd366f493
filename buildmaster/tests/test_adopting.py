"""What an archive had before it was published."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from buildd.protocol import FileName
from buildmaster import archives, builds, entering, packages, publications, repositories
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.publications import State
from buildmaster.publishing.adopting import Adopted, adopt
from buildmaster.repositories import Settings
from buildmaster.scoring import ArchivePurpose
from buildmaster.store import Sha256
from buildmaster.tables import build
from buildmaster.tests.factories import make_repository, make_series, write_deb, write_source


class Old:
    """An archive that the farm does not publish yet."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        make_series(farm)
        make_series(farm, architecture="arm64")
        farm.write(archives.add, "debian", "old", ArchivePurpose.PPA)

    def accept(self, version: str, name: str = "hello") -> packages.Accepted:
        dsc = write_source(self.farm.directory / "sources", name, version, "any")
        return packages.accept(
            self.farm, dsc, time.time(), distribution="debian", series_name="bookworm", archive_name="old"
        )

    def built(
        self,
        accepted: packages.Accepted,
        *names: str,
        architecture: str = "amd64",
        number: int = 0,
        content: bytes = b"",
    ) -> None:
        """A build of it ended well, with these packages."""
        found = {FileName("hello.buildinfo"): self.farm.add_file(Path(__file__))}
        for name in names:
            fields = f"Source: {accepted.name} ({accepted.version})"
            path = write_deb(
                self.farm.directory / "debs", name, accepted.version, architecture, fields=fields,
                files={f"usr/bin/{name}": content},
            )  # fmt: skip
            found[FileName(path.name)] = self.farm.add_file(path)
        build_id = accepted.build_ids[number]

        def end(connection: Connection) -> None:
            builds.keep_results(connection, build_id, found, time.time())
            connection.execute(update(build).where(build.c.id == build_id).values(state=BuildState.BUILT))

        self.farm.write(end)

    def publish(self) -> None:
        self.archive_id = make_repository(self.farm, "old")

    def adopt(self) -> Adopted:
        return adopt(self.farm, self.archive_id, time.time())

    def states(self) -> dict[str, State]:
        with self.farm.reading() as connection:
            found = publications.in_archive(connection, self.archive_id, frozenset(State))
        return {f"{each.name} {each.version} {each.architecture}": each.state for each in found}


@pytest.fixture
def old(farm: Farm) -> Old:
    return Old(farm)


def test_what_was_built_before(old: Old) -> None:
    """Of each source the newest version that was built for some architecture, and newer ones, are published then."""
    for version in ("1.0", "1.1"):
        old.built(old.accept(version), "hello", "hello-data")
    newest = old.accept("1.2")
    old.accept("0.9", "other")
    old.publish()
    assert old.adopt() == Adopted(3, 2, ())
    assert old.states() == dict.fromkeys(
        ("hello 1.1 source", "hello 1.1 amd64", "hello-data 1.1 amd64", "hello 1.2 source", "other 0.9 source"),
        State.PENDING,
    )
    assert old.adopt() == Adopted(0, 0, ())
    old.built(newest, "hello")  # While nobody gathered it.
    assert old.adopt() == Adopted(0, 1, ())
    assert old.states()["hello 1.2 amd64"] is State.PENDING


def test_what_was_once_published(old: Old) -> None:
    """What was deleted since does not come again, and nothing older in its place."""
    old.built(old.accept("1.0"), "hello")
    old.built(old.accept("1.1"), "hello")
    old.publish()
    old.adopt()
    with old.farm.reading() as connection:
        ids = [each.id for each in publications.in_archive(connection, old.archive_id, [State.PENDING])]
    old.farm.write(publications.leave, ids, "deleted", time.time())
    assert old.adopt() == Adopted(0, 0, ())


def test_what_cannot_be(old: Old) -> None:
    """It is told, and keeps nobody else out: a build of something else, a lost file, a name that another one has."""
    wrong, twice, lost = (old.accept("1.0", name) for name in ("wrong", "twice", "lost"))
    old.built(wrong, "wrong", architecture="arm64")
    old.built(twice, "twice", content=b"first")
    old.built(twice, "twice", content=b"second", number=1, architecture="amd64")
    old.built(lost, "lost")
    with (old.farm.directory / "debs" / "lost_1.0_amd64.deb").open("rb") as stream:
        old.farm.store.delete(Sha256(hashlib.file_digest(stream, "sha256").hexdigest()))
    old.built(old.accept("1.0"), "hello")
    old.publish()
    done = old.adopt()
    assert (done.sources, done.packages) == (4, 2)
    assert [words.partition(": ")[0] for words in done.left] == [
        "build 5 (lost 1.0, amd64)",
        "build 4 (twice 1.0, arm64)",
        "build 1 (wrong 1.0, amd64)",
    ]
    assert {"hello 1.0 amd64", "twice 1.0 amd64"} <= old.states().keys()


def test_built_twice(old: Old) -> None:
    """The newer build's packages are taken; the other one's have the same names."""
    again = old.accept("1.0")
    old.built(again, "hello", content=b"first")
    dsc = next((old.farm.directory / "sources").glob("hello_1.0.dsc"))
    rebuilt = packages.accept(
        old.farm, dsc, time.time(), distribution="debian", series_name="bookworm", archive_name="old", rebuild=True
    )
    old.built(rebuilt, "hello", content=b"second")
    old.publish()
    done = old.adopt()
    assert (done.sources, done.packages) == (1, 1)
    assert done.left == (f"hello_1.0_amd64.deb of build {again.build_ids[0]}: another file is there by that name",)


def test_held(old: Old) -> None:
    """What is complete is published, what is not is held, as if it came now."""
    whole, part = old.accept("1.0"), old.accept("1.0", "part")
    old.built(whole, "hello")
    old.built(whole, "hello", architecture="arm64", number=1)
    old.built(part, "part")
    old.publish()
    old.farm.write(repositories.change, old.archive_id, Settings(hold=True))
    assert old.adopt() == Adopted(2, 3, ())
    held = {name for name, state in old.states().items() if state is State.HELD}
    assert held == {"part 1.0 source", "part 1.0 amd64"}


def test_twice_at_once(old: Old) -> None:
    """Who takes in what another one takes in just now waits, and finds nothing left."""
    old.accept("1.0")
    old.publish()
    with ThreadPoolExecutor(1) as threads:
        with old.farm.transaction() as connection:
            assert entering.add_earlier_sources(connection, old.archive_id, time.time()) == (1, [])
            other = threads.submit(old.farm.write, entering.add_earlier_sources, old.archive_id, time.time())
            time.sleep(0.5)
        assert other.result() == (0, [])
