"""What the database has for a suite comes to the tree on disk, and apt reads it."""

import dataclasses
import gzip
import hashlib
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from buildd.protocol import FileName
from buildmaster import (
    binaries,
    builds,
    copying,
    debs,
    entering,
    inventory,
    leaving,
    offered,
    packages,
    publications,
    repositories,
    retention,
    snapshots,
    suites,
)
from buildmaster.copying import CannotCopy
from buildmaster.farm import Farm
from buildmaster.packages import SourceRefused
from buildmaster.publications import State, Suite
from buildmaster.publishing import archive_keys, cleaning, keeping
from buildmaster.publishing.cleaning import Cleaned
from buildmaster.publishing.publication import Busy, Outcome, Press
from buildmaster.publishing.snapshots import take_snapshot
from buildmaster.repositories import ArchiveKey, RepositoryRefused, Settings
from buildmaster.retention import SourceForgotten
from buildmaster.scoring import Pocket
from buildmaster.secrets import Secrets
from buildmaster.snapshots import Snapshot
from buildmaster.suites import PublishedMeanwhile
from buildmaster.tables import archive, binary, stored_file
from buildmaster.tests.archive_case import Apt, Client, key
from buildmaster.tests.databases import on_postgresql
from buildmaster.tests.factories import make_repository, make_series, write_deb, write_source
from buildmaster.tests.test_debs import CONTROL
from buildmaster.tests.test_publications import deb


@dataclass
class Mine:
    """An archive that the farm publishes, with a clock of its own."""

    farm: Farm
    directory: Path
    now: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        make_series(self.farm)
        self.archive_id = make_repository(self.farm, "mine")
        self.secrets = Secrets(self.farm.directory / "secrets")
        self.press = Press(self.farm, self.directory, self.secrets, lambda: self.now)
        made = key()
        archive_key = ArchiveKey(made.fingerprint, made.certificate, 0.0, 0.0, None)
        archive_keys.keep(self.secrets, archive_key, made.secret)
        self.farm.write(repositories.add_key, self.archive_id, archive_key)
        self.suite = Suite(self.archive_id, 1, Pocket.RELEASE)
        self.farm.write(publications.ensure_suite, self.suite, self.now)

    @property
    def folder(self) -> Path:
        return self.directory / "debian" / "mine"

    def accept(self, version: str = "1.0", name: str = "hello", architectures: str = "any") -> packages.Accepted:
        dsc = write_source(self.farm.directory / "sources", name, version, architectures)
        return packages.accept(
            self.farm, dsc, self.now, distribution="debian", series_name="bookworm", archive_name="mine"
        )

    def built(
        self,
        accepted: packages.Accepted,
        *names: str,
        architecture: str = "amd64",
        fields: str = "",
        suffix: str = ".deb",
        files: Collection[str] = (),
    ) -> None:
        """A build of it ends well.

        :param files: of usr/bin, in each package; as packages are called, if none is named.
        """
        found = {}
        for name in names or (accepted.name,):
            source = f"Source: {accepted.name} ({accepted.version})\n{fields}".strip()
            path = write_deb(
                self.farm.directory / "debs", name, accepted.version, architecture, fields=source,
                files={f"usr/bin/{each}": b"x" for each in files or [name]}, suffix=suffix,
            )  # fmt: skip
            found[FileName(path.name)] = self.farm.add_file(path)
        said = debs.read(self.farm.store, found)
        self.farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], said, self.now)

    def publish(self, *, full: bool = False) -> Outcome:
        self.now += 1
        return self.press.publish(self.suite, full=full)

    def states(self, source_id: int) -> dict[str, State]:
        with self.farm.reading() as connection:
            found = publications.of_source(connection, source_id)
        return {f"{each.name}/{each.architecture}": each.state for each in found}

    def index(self, path: str = "main/binary-amd64/Packages") -> list[str]:
        """The names and versions in an index, sorted; checked from InRelease on."""
        text = Client(self.folder / "dists" / "bookworm").index(path).decode()
        stanzas = [
            dict(line.split(": ", 1) for line in each.splitlines() if ": " in line) for each in text.split("\n\n")
        ]
        return sorted(f"{each['Package']} {each['Version']}" for each in stanzas if "Package" in each)

    def languages(self) -> list[str]:
        """The indices of translations."""
        names = Client(self.folder / "dists" / "bookworm").sums
        return sorted(each for each in names if "/i18n/" in each and not each.endswith((".xz", ".gz")))

    def contents(self, path: str = "main/Contents-amd64") -> str:
        return Client(self.folder / "dists" / "bookworm").index(path).decode()


@pytest.fixture
def mine(farm: Farm, tmp_path: Path) -> Mine:
    return Mine(farm, tmp_path / "archives")


def test_an_empty_suite(mine: Mine) -> None:
    """It is published, so that apt update works; and again, nothing changes."""
    with mine.farm.reading() as connection:
        assert publications.suites_with_work(connection, mine.now) == [mine.suite]
    assert mine.publish() == Outcome("debian/mine bookworm", 1, 0, 0, changed=True)
    assert mine.index() == []
    with mine.farm.reading() as connection:
        assert publications.suites_with_work(connection, mine.now + 1e9) == []
        (known,) = publications.suites_of(connection, mine.archive_id)
    assert (known.generation, known.published_at, known.valid_until) == (1, mine.now, None)
    assert "BEGIN PGP PUBLIC KEY" in (mine.folder / "key.asc").read_text()
    assert mine.publish() == Outcome("debian/mine bookworm", 1, 0, 0)


def test_a_source_and_what_is_built_of_it(mine: Mine) -> None:
    """In the pool as links to the store; in Packages, Sources and Contents."""
    accepted = mine.accept()
    assert mine.publish() == Outcome("debian/mine bookworm", 1, 1, 0, changed=True)
    mine.built(accepted, "hello", "hello-dbgsym")
    assert mine.publish() == Outcome("debian/mine bookworm", 2, 2, 0, changed=True)
    assert set(mine.states(accepted.source_id).values()) == {State.PUBLISHED}
    assert (mine.index("main/source/Sources"), mine.index()) == (["hello 1.0"], ["hello 1.0"])
    assert mine.index("main/debug/binary-amd64/Packages") == ["hello-dbgsym 1.0"]
    assert mine.contents().split() == ["usr/bin/hello", "misc/hello"]
    pool = mine.folder / "pool" / "main" / "h" / "hello"
    assert sorted(each.name for each in pool.iterdir()) == [
        "hello-dbgsym_1.0_amd64.deb", "hello_1.0.dsc", "hello_1.0.tar.xz", "hello_1.0_amd64.deb",
    ]  # fmt: skip


def test_descriptions_in_other_languages(mine: Mine) -> None:
    """They have indices of their own, as long as a package gives some; those of all architectures share them."""
    make_series(mine.farm, architecture="armhf")
    old = mine.accept()
    german = "Description-de: sagt hallo"
    for architecture in ("amd64", "armhf"):
        mine.built(old, architecture=architecture, fields=german)
    mine.built(mine.accept(name="other"), fields="Description-fr: dit bonjour")
    mine.publish()
    path = "main/i18n/Translation-"
    assert mine.languages() == [f"{path}de", f"{path}fr"]
    text = Client(mine.folder / "dists" / "bookworm").index(f"{path}de").decode()
    assert text.startswith("Package: hello\nDescription-md5: ") and text.endswith("\nDescription-de: sagt hallo\n\n")
    new = mine.accept("1.1")
    mine.built(new, fields="Description-nl: zegt hallo")
    mine.publish()
    assert mine.languages() == [f"{path}de", f"{path}fr", f"{path}nl"]  # armhf's is 1.0's.
    client = Client(mine.folder / "dists" / "bookworm")
    mine.built(new, architecture="armhf")
    mine.publish()
    assert mine.languages() == [f"{path}fr", f"{path}nl"]
    client.check()  # Who has read InRelease before that finds what it names.
    generation = mine.publish().generation
    assert mine.publish(full=True).generation == generation + 1
    assert mine.languages() == [f"{path}fr", f"{path}nl"]
    client = Client(mine.folder / "dists" / "bookworm")
    for name in ("hello", "other"):
        mine.built(mine.accept("2.0", name))
    mine.publish()
    assert mine.languages() == []
    client.check()


def test_what_is_for_the_installer(mine: Mine) -> None:
    """A .udeb is in a component of its own, as in Debian's archive; and leaves it like all others."""
    accepted = mine.accept()
    mine.built(accepted)
    mine.publish()
    assert "debian-installer" not in (mine.folder / "dists" / "bookworm" / "Release").read_text()
    mine.built(accepted, "hello-udeb", suffix=".udeb")
    mine.publish()
    installer = "main/debian-installer/binary-amd64/Packages"
    assert (mine.index(), mine.index(installer)) == (["hello 1.0"], ["hello-udeb 1.0"])
    packages_text = Client(mine.folder / "dists" / "bookworm").index(installer).decode()
    assert "Filename: pool/main/h/hello/hello-udeb_1.0_amd64.udeb\n" in packages_text
    assert (mine.folder / "pool/main/h/hello/hello-udeb_1.0_amd64.udeb").exists()
    with mine.farm.reading() as connection:
        (own,) = offered.suites(connection, mine.archive_id)
    assert own.components == ("main",)  # Builds do not see it.
    mine.built(mine.accept("1.1"))
    mine.publish()
    assert (mine.index(), mine.index(installer)) == (["hello 1.1"], [])


def test_a_newer_version(mine: Mine) -> None:
    """It takes the place of the older one in the same step, but for what is not built yet."""
    old = mine.accept()
    mine.built(old)
    mine.publish()
    new = mine.accept("1.1")
    mine.publish()
    assert mine.index("main/source/Sources") == ["hello 1.0", "hello 1.1"]
    mine.built(new)
    assert (mine.publish().left, mine.index()) == (2, ["hello 1.1"])
    assert mine.index("main/source/Sources") == ["hello 1.1"]
    assert mine.contents().split() == ["usr/bin/hello", "misc/hello"]
    assert mine.states(old.source_id) == {"hello/source": State.GONE, "hello/amd64": State.GONE}
    with mine.farm.reading() as connection:
        reasons = {each.reason for each in publications.of_source(connection, old.source_id)}
    assert reasons == {"hello 1.1 took its place"}


def test_older_versions_that_are_kept(mine: Mine) -> None:
    """They stay beside the newest; a file that two versions have is in Contents as long as one of them is there."""
    mine.farm.write(repositories.change, mine.archive_id, Settings(keep_versions=1))
    for version in ("1.0", "1.1", "1.2"):
        mine.built(mine.accept(version))
        mine.publish()
    assert mine.index() == ["hello 1.1", "hello 1.2"]
    assert mine.contents().split() == ["usr/bin/hello", "misc/hello"]


def test_files_of_versions_that_are_kept(mine: Mine) -> None:
    """Contents have what any version has that is there, and lose what only one had that left; so they do made anew."""
    mine.farm.write(repositories.change, mine.archive_id, Settings(keep_versions=1))
    there: list[set[str]] = []
    for version, files in (("1.0", {"old", "both"}), ("1.1", {"both", "new"}), ("1.2", {"newest"})):
        mine.built(mine.accept(version), files=files)
        there = [*there[-1:], files]
        mine.publish()
        for _ in range(2):
            told = {line.split()[0] for line in mine.contents().splitlines()}
            assert told == {f"usr/bin/{name}" for name in set().union(*there)}
            mine.publish(full=True)


def test_fewer_are_to_be_kept(mine: Mine) -> None:
    """Those that were there leave when all of the suite is made anew."""
    mine.farm.write(repositories.change, mine.archive_id, Settings(keep_versions=1))
    for version in ("1.0", "1.1"):
        mine.built(mine.accept(version))
        mine.publish()
    mine.farm.write(repositories.change, mine.archive_id, Settings(keep_versions=0))
    mine.publish()
    assert mine.index() == ["hello 1.0", "hello 1.1"]
    assert mine.publish(full=True).left == 2
    assert (mine.index(), mine.index("main/source/Sources")) == (["hello 1.1"], ["hello 1.1"])


def test_an_older_version_that_comes_later(mine: Mine) -> None:
    """It is never seen, and says why."""
    new = mine.accept("2.0")
    mine.built(new)
    mine.publish()
    old = mine.accept("1.0")
    mine.built(old)
    mine.publish()
    assert mine.index() == ["hello 2.0"]
    assert set(mine.states(old.source_id).values()) == {State.GONE}


def test_packages_that_are_not_made_any_more(mine: Mine) -> None:
    """They leave with the version that does not, but stay as long as another package depends on them."""
    mine.built(mine.accept(), "libhello1")
    mine.built(mine.accept(name="user"), fields="Depends: libc6, libhello1 (>= 1)")
    mine.publish()
    mine.built(mine.accept("2.0"), "libhello2")
    mine.publish()
    assert mine.index() == ["libhello1 1.0", "libhello2 2.0", "user 1.0"]
    mine.built(mine.accept("2.0", "user"), fields="Depends: libhello2")
    mine.publish()
    mine.built(mine.accept("3.0"), "libhello2")
    mine.publish()
    assert mine.index() == ["libhello2 3.0", "user 2.0"]


def test_what_others_need_of_what_is_not_made_any_more(mine: Mine) -> None:
    """It stays: also what that itself needs, and what is needed by a name that it provides."""
    old = mine.accept()
    mine.built(old, "libhello1", fields="Provides: libhello-abi (= 1)")
    mine.built(old, "libhello1-dev", fields="Depends: libhello-abi (= 1)")
    mine.built(old, "libhello1-doc")
    mine.built(mine.accept(name="user"), fields="Depends: libhello1-dev")
    mine.publish()
    mine.built(mine.accept("2.0"), "libhello2")
    mine.publish()
    assert mine.index() == ["libhello1 1.0", "libhello1-dev 1.0", "libhello2 2.0", "user 1.0"]


def test_who_needed_it_does_so_no_more(mine: Mine) -> None:
    """What is kept for others leaves when the last of them does without it, with what was kept for it in turn."""
    old = mine.accept()
    mine.built(old, "libhello1")
    mine.built(old, "libhello1-dev", fields="Depends: libhello1")
    for name in ("one", "two"):
        mine.built(mine.accept(name=name), fields="Depends: libhello1-dev (>= 1)")
    mine.publish()
    mine.built(mine.accept("2.0"), "libhello2")
    mine.publish()
    kept = ["libhello1 1.0", "libhello1-dev 1.0", "libhello2 2.0"]
    assert mine.index() == [*kept, "one 1.0", "two 1.0"]
    with mine.farm.reading() as connection:
        (library,) = (each for each in publications.of_source(connection, old.source_id) if each.name == "libhello1")
    assert library.reason == "hello 2.0 does not make it any more, but libhello1-dev depends on it"
    mine.built(mine.accept("2.0", "one"), fields="Depends: libhello2")
    mine.publish()
    assert mine.index() == [*kept, "one 2.0", "two 1.0"]
    mine.built(mine.accept("2.0", "two"), fields="Depends: libhello1-dev")  # Another version that needs it as well.
    mine.publish()
    assert mine.index() == [*kept, "one 2.0", "two 2.0"]
    mine.built(mine.accept("3.0", "two"), fields="Depends: libhello2")
    mine.publish()
    assert mine.index() == ["libhello2 2.0", "one 2.0", "two 3.0"]
    assert mine.index("main/source/Sources") == ["hello 2.0", "one 2.0", "two 3.0"]


def test_who_needed_it_is_deleted(mine: Mine) -> None:
    """What is kept for others leaves with them; also what depends on each other, of two sources."""
    mine.built(mine.accept(), "libhello1", fields="Depends: hello-data")
    mine.built(mine.accept(name="data"), "hello-data", fields="Depends: libhello1")
    user = mine.accept(name="user")
    mine.built(user, fields="Depends: libhello1")
    mine.publish()
    mine.built(mine.accept("2.0"), "libhello2")
    mine.built(mine.accept("2.0", "data"), "data2")
    mine.publish()
    assert mine.index() == ["data2 2.0", "hello-data 1.0", "libhello1 1.0", "libhello2 2.0", "user 1.0"]
    with mine.farm.reading() as connection:
        ids = [each.id for each in publications.of_source(connection, user.source_id)]
    mine.farm.write(publications.leave, ids, "deleted", mine.now)
    mine.publish()
    assert mine.index() == ["data2 2.0", "libhello2 2.0"]


def test_an_architecture_that_a_source_is_not_for_any_more(mine: Mine) -> None:
    """Packages there leave once the new version is built wherever it is for, and the old source with them."""
    make_series(mine.farm, architecture="armhf")
    old = mine.accept(architectures="any all")
    for architecture in ("amd64", "armhf"):
        mine.built(old, architecture=architecture)
    mine.built(old, "hello-data", architecture="all")
    mine.publish()
    new = mine.accept("2.0", architectures="amd64 all")
    mine.publish()
    assert mine.index("main/binary-armhf/Packages") == ["hello 1.0", "hello-data 1.0"]
    mine.built(new)
    mine.built(new, "hello-data", architecture="all")
    mine.publish()
    assert mine.index("main/binary-armhf/Packages") == ["hello-data 2.0"]
    assert mine.index("main/source/Sources") == ["hello 2.0"]


def test_a_source_that_is_for_all_architectures_now(mine: Mine) -> None:
    """What it was for one alone leaves."""
    mine.built(mine.accept(), "hello", "hello-bin")
    mine.publish()
    mine.built(mine.accept("2.0", architectures="all"), "hello", "hello-data", architecture="all")
    mine.publish()
    assert mine.index() == ["hello 2.0", "hello-data 2.0"]
    assert mine.index("main/source/Sources") == ["hello 2.0"]


def test_for_all_architectures(mine: Mine) -> None:
    """Such a package is in the index of each; an architecture that comes later has it, too."""
    mine.built(mine.accept(architectures="all"), architecture="all")
    mine.publish()
    make_series(mine.farm, architecture="armhf")
    mine.publish()
    assert mine.index("main/binary-armhf/Packages") == mine.index() == ["hello 1.0"]
    assert mine.contents("main/Contents-all").split() == ["usr/bin/hello", "misc/hello"]


def test_who_waits_is_looked_at(mine: Mine) -> None:
    """In the archive, and in those whose builds may use it; nobody, when no package has come, or left."""
    user, stranger = make_repository(mine.farm, "user"), make_repository(mine.farm, "stranger")
    mine.farm.write(offered.depend, user, mine.archive_id)

    def told() -> list[float | None]:
        with mine.farm.reading() as connection:
            rows = {row.id: row.changed_at for row in connection.execute(select(archive))}
        return [rows[each] for each in (mine.archive_id, user, stranger)]

    mine.publish()
    assert told() == [None, None, None]
    accepted = mine.accept()
    mine.publish()
    assert told() == [None, None, None]
    mine.built(accepted)
    mine.publish()
    assert told() == [mine.now, mine.now, None]


def test_deleted(mine: Mine) -> None:
    """It leaves, with its source."""
    accepted = mine.accept()
    mine.built(accepted)
    mine.publish()
    with mine.farm.reading() as connection:
        ids = [each.id for each in publications.of_source(connection, accepted.source_id)]
    mine.farm.write(publications.leave, ids, "not wanted", mine.now)
    assert mine.publish().left == 2
    assert (mine.index(), mine.index("main/source/Sources"), mine.contents()) == ([], [], "")


def test_what_cannot_be_listed(mine: Mine) -> None:
    """It is left out, with the reason, and keeps nobody waiting."""
    bad, good = mine.accept(name="bad"), mine.accept(name="good")
    with mine.farm.transaction() as connection:
        connection.exec_driver_sql(f"UPDATE source SET dsc = 'bad_1.0.tar.xz' WHERE id = {bad.source_id}")
    outcome = mine.publish()
    assert (outcome.entered, len(outcome.refused)) == (1, 1)
    assert mine.index("main/source/Sources") == ["good 1.0"]
    assert mine.states(bad.source_id) == {"bad/source": State.GONE}
    assert mine.states(good.source_id) == {"good/source": State.PUBLISHED}


def test_many_changes(mine: Mine, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are published some at a time; packages that leave in great numbers are looked up some at a time, too."""
    monkeypatch.setattr(suites, "CHANGES_MAX", 3)
    monkeypatch.setattr(leaving, "_MENTIONS_MAX", 2)
    mine.built(mine.accept(), *(f"lib{number}" for number in range(5)))
    mine.built(mine.accept(name="user"), fields="Depends: lib0, lib3, lib4")
    outcomes = [mine.publish() for _ in range(3)]  # No source is cut in two.
    assert [(each.entered, each.more) for each in outcomes] == [(6, True), (2, False), (0, False)]
    mine.built(mine.accept("2.0"), "other")
    mine.publish()
    assert mine.index() == ["lib0 1.0", "lib3 1.0", "lib4 1.0", "other 2.0", "user 1.0"]


@pytest.mark.parametrize("full", [False, True])
def test_nothing_leaves_for_what_follows_later(mine: Mine, monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    """However many changes there are: of its own source, or of another one that makes the package by now."""
    mine.built(mine.accept(), "hello", "hello-a", "moved")
    mine.publish()
    mine.built(mine.accept("2.0"), "hello", "hello-a")
    mine.built(mine.accept("2.0", "far"))
    mine.built(mine.accept("2.0", "other"), "moved")
    monkeypatch.setattr(suites, "CHANGES_MAX", 2)
    assert mine.publish(full=full).more
    assert mine.index() == ["hello 2.0", "hello-a 2.0", "moved 2.0"]
    mine.publish(full=full)
    assert mine.index() == ["far 2.0", "hello 2.0", "hello-a 2.0", "moved 2.0"]


def test_an_architecture_that_the_series_has_not(mine: Mine) -> None:
    """A package of it is left out, and keeps nobody waiting."""
    accepted = mine.accept()
    mine.built(accepted, architecture="riscv64")
    mine.built(accepted)
    assert mine.publish().refused == ("hello 1.0 (riscv64): the suite has amd64",)
    assert mine.index() == ["hello 1.0"]


def come(mine: Mine, accepted: packages.Accepted, content: str) -> None:
    """Let a package of a version be published as nobody would who sees what others do."""
    own = dataclasses.replace(deb(mine.farm, content=content), control=CONTROL)

    def add(connection: Connection) -> None:
        (binary_id,) = binaries.record(connection, accepted.source_id, None, [own], mine.now)
        publications.add(
            connection, mine.suite, mine.now, component="main", source_id=accepted.source_id, binary_id=binary_id
        )

    mine.farm.write(add)


def test_two_files_of_one_name(mine: Mine) -> None:
    """Of builds that ended at the same moment: the first stays, the second is left out, and keeps nobody waiting."""
    first = mine.accept()
    mine.built(first)
    mine.publish()
    second = mine.accept("1.1")
    come(mine, second, "other")
    (refused,) = mine.publish().refused
    assert refused == "pool/main/h/hello/hello_1.0_amd64.deb is in the pool already, with other content"
    assert mine.index() == ["hello 1.0"]
    assert mine.states(second.source_id) == {"hello/source": State.PUBLISHED, "hello/amd64": State.GONE}
    assert mine.publish(full=True).refused == ()
    assert mine.index() == ["hello 1.0"]


def test_two_files_of_one_name_at_once(mine: Mine) -> None:
    """The same, where they come with one publication."""
    first, second = mine.accept(), mine.accept("1.1")
    come(mine, first, "one")
    come(mine, second, "other")
    assert len(mine.publish().refused) == 1
    assert mine.index() == ["hello 1.0"]
    assert mine.states(first.source_id)["hello/amd64"] is State.PUBLISHED
    assert mine.states(second.source_id)["hello/amd64"] is State.GONE


def die(mine: Mine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A master dies after apt sees what it has published, before the database does."""

    def now(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(suites, "done", now)
        mine.publish()


def test_a_death_between_disk_and_database(mine: Mine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next publication finds all of it there, and says so."""
    accepted = mine.accept()
    mine.built(accepted)
    die(mine, monkeypatch)
    assert mine.index() == ["hello 1.0"]
    outcome = mine.publish()
    assert (outcome.entered, outcome.changed, mine.index()) == (2, True, ["hello 1.0"])
    assert set(mine.states(accepted.source_id).values()) == {State.PUBLISHED}
    mine.built(mine.accept("1.1"))
    mine.publish()
    assert mine.index() == ["hello 1.1"]


@pytest.mark.parametrize("then", ["deleted", "kept", "backup"])
def test_another_plan_after_a_death(mine: Mine, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """What the dead one had put there, or taken out, is not left so: the indices say what the database does."""
    mine.built(mine.accept())
    mine.publish()
    new = mine.accept("1.1")
    mine.built(new)
    die(mine, monkeypatch)
    assert mine.index() == ["hello 1.1"]
    if then == "deleted":
        mine.farm.write(copying.delete, found(mine, new), "bad", mine.now)
    elif then == "kept":
        mine.farm.write(repositories.change, mine.archive_id, Settings(keep_versions=1))
    else:  # It was before 1.1 came.
        with mine.farm.transaction() as connection:
            connection.exec_driver_sql(f"DELETE FROM publication WHERE source_id = {new.source_id}")
    mine.publish()
    assert mine.index() == (["hello 1.0", "hello 1.1"] if then == "kept" else ["hello 1.0"])


def test_all_of_it_anew(mine: Mine) -> None:
    """When somebody wants it."""
    mine.built(mine.accept())
    mine.publish()
    assert mine.publish(full=True).generation == 2
    assert mine.index() == ["hello 1.0"]


def test_a_tree_that_was_lost(mine: Mine) -> None:
    """The next publication makes all of it anew, whatever it is that has changed; so it does with one from a backup,
    and when the database is from one."""
    mine.built(mine.accept(name="first"))
    mine.publish()
    saved = shutil.copytree(mine.folder, mine.directory / "saved", symlinks=True)
    for name in ("second", "third"):
        mine.built(mine.accept(name=name))
        mine.publish()
    shutil.rmtree(mine.folder)
    mine.built(mine.accept(name="fourth"))
    mine.publish()
    names = ["first 1.0", "fourth 1.0", "second 1.0", "third 1.0"]
    assert mine.index() == names
    mine.publish(full=True)
    mine.publish(full=True)
    shutil.rmtree(mine.folder)
    saved.rename(mine.folder)
    mine.publish()
    assert mine.index() == names
    for _ in range(2):
        mine.publish(full=True)
    with mine.farm.transaction() as connection:
        connection.exec_driver_sql("UPDATE suite SET generation = 1")
        connection.exec_driver_sql("DELETE FROM publication WHERE source_id = 2")
    mine.publish()
    assert mine.index() == ["first 1.0", "fourth 1.0", "third 1.0"]


def test_signed_anew(mine: Mine) -> None:
    """When half of the time is over for which it is valid."""
    mine.farm.write(repositories.change, mine.archive_id, Settings(valid_s=1000.0))
    mine.publish()
    with mine.farm.reading() as connection:
        assert publications.suites_with_work(connection, mine.now + 499) == []
        assert publications.suites_with_work(connection, mine.now + 502) == [mine.suite]
    mine.now += 502
    assert mine.publish().generation == 2


@pytest.mark.parametrize("due", [False, True])
def test_settings_that_change_meanwhile(mine: Mine, monkeypatch: pytest.MonkeyPatch, due: bool) -> None:
    """What an archive is told while one of its suites is published is done by the next publication."""
    if not due:
        mine.publish()
    mine.built(mine.accept())
    bring = Press._bring

    def change(connection: Connection) -> None:
        repositories.change(connection, mine.archive_id, Settings(valid_s=604800.0))
        publications.refresh(connection, mine.archive_id, mine.now)

    def late(*arguments: Any, **more: Any) -> Any:
        shown = bring(*arguments, **more)
        mine.farm.write(change)
        return shown

    with monkeypatch.context() as patched:
        patched.setattr(Press, "_bring", late)
        mine.publish()
    with mine.farm.reading() as connection:
        assert publications.suites_with_work(connection, mine.now) == [mine.suite]
    assert mine.publish().changed
    with mine.farm.reading() as connection:
        assert publications.suites_with_work(connection, mine.now + 1) == []
        (known,) = publications.suites_of(connection, mine.archive_id)
    assert known.valid_until == mine.now + 604800.0


def test_files_that_nobody_needs(mine: Mine) -> None:
    """They stay in the pool for a day after they have left, and go then."""
    mine.built(mine.accept())
    mine.publish()
    pool = mine.folder / "pool" / "main" / "h" / "hello"
    old = {each.name for each in pool.iterdir()}
    mine.built(mine.accept("1.1"))
    mine.publish()
    left = mine.now
    assert cleaning.clean(mine.press, mine.archive_id) == Cleaned((), 0)
    mine.now = left + 86000
    assert cleaning.clean(mine.press, mine.archive_id) == Cleaned((), 0)
    mine.now = left + 86500
    done = cleaning.clean(mine.press, mine.archive_id)
    assert ({Path(each).name for each in done.files}, done.packages) == (old, 2)
    assert {each.name for each in pool.iterdir()} == {
        "hello_1.1.dsc", "hello_1.1.tar.xz", "hello_1.1_amd64.deb",
    }  # fmt: skip
    assert cleaning.clean(mine.press, mine.archive_id) == Cleaned((), 0)
    with mine.farm.reading() as connection:
        assert retention.archives(connection, mine.now) == []


@pytest.mark.skipif(not on_postgresql(), reason="SQLite takes that many as Debian builds it")
def test_very_much_that_leaves(mine: Mine) -> None:
    """More than a database takes as parameters of one query: its files are found, and go."""
    accepted = mine.accept()
    mine.built(accepted)
    mine.publish()
    mine.farm.write(copying.delete, found(mine, accepted), "not wanted", mine.now)
    mine.publish()
    columns = "source_id, build_id, version, architecture, file_name, stored_file_id, control"
    of_publication = "archive_id, series_id, pocket, component, source_id, state, created_at, gone_at"
    with mine.farm.transaction() as connection:
        connection.exec_driver_sql(
            f'INSERT INTO "binary" (name, {columns}) WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1'
            f" FROM many WHERE n < 70000) SELECT 'x' || n, {columns} FROM \"binary\", many"
        )
        connection.exec_driver_sql(
            f'INSERT INTO publication (binary_id, {of_publication}) SELECT "binary".id,'
            f' {", ".join(f"publication.{each}" for each in of_publication.split(", "))} FROM "binary", publication'
            " WHERE name LIKE 'x%%' AND binary_id IS NULL"
        )
    with mine.farm.reading() as connection:
        assert len(retention.gone(connection, mine.archive_id)) == 70002


def test_all_of_the_pool_anew(mine: Mine) -> None:
    """What no row knows leaves it, as what has left does, and is in nobody's way; what is damaged is mended."""
    mine.built(mine.accept())
    mine.publish()
    pool = mine.folder / "pool" / "main" / "h" / "hello"
    good = (pool / "hello_1.0_amd64.deb").read_bytes()
    for name in ("hello_1.0_amd64.deb", "hello_1.1_amd64.deb", "hello_1.2_amd64.deb"):
        (pool / name).unlink(missing_ok=True)
        (pool / name).write_bytes(b"junk")
    mine.publish(full=True)
    assert (pool / "hello_1.0_amd64.deb").read_bytes() == good
    mine.built(mine.accept("1.1"))
    assert mine.publish().refused == ()
    assert mine.index() == ["hello 1.1"]
    assert (pool / "hello_1.1_amd64.deb").read_bytes() != b"junk"
    mine.now += 200000
    assert cleaning.archives(mine.press) == [mine.archive_id]
    assert f"{pool.relative_to(mine.folder)}/hello_1.2_amd64.deb" in cleaning.clean(mine.press, mine.archive_id).files


def test_a_strange_file_in_a_quiet_archive(mine: Mine) -> None:
    """It goes, though no package has left the archive."""
    mine.publish()
    strange = mine.folder / "pool" / "main" / "x" / "strange.deb"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"junk")
    mine.publish(full=True)
    assert cleaning.archives(mine.press) == [mine.archive_id]
    mine.now += 200000
    cleaning.clean(mine.press, mine.archive_id)
    assert not strange.exists()


def test_valid_for_too_short(mine: Mine) -> None:
    """What would expire before anybody looks whether it is to be signed anew is refused."""
    with pytest.raises(RepositoryRefused, match="at least 10 minutes"):
        mine.farm.write(repositories.change, mine.archive_id, Settings(valid_s=40.0))


def test_what_left_long_ago_is_forgotten(mine: Mine) -> None:
    """Its file is needed by nobody in the store then; not as long as it is in another suite or archive."""
    old = mine.accept()
    mine.built(old)
    other = make_repository(mine.farm, "other")
    with mine.farm.reading() as connection:
        what = publications.of_source(connection, old.source_id)
    mine.farm.write(copying.copy, what, Suite(other, 1, Pocket.RELEASE), mine.now)
    mine.publish()
    mine.built(mine.accept("1.1"))
    mine.publish()
    for days in (2, 40):
        mine.now += days * 86400
        assert cleaning.clean(mine.press, mine.archive_id).forgotten == 0  # The other archive has it.
    with mine.farm.reading() as connection:
        ids = [each.id for each in publications.in_archive(connection, other, publications.PRESENT)]
    mine.farm.write(publications.leave, ids, "deleted", mine.now)
    with mine.farm.transaction() as connection:
        connection.exec_driver_sql(
            f"UPDATE publication SET state = 'REMOVED', gone_at = {mine.now} WHERE state = 'LEAVING'"
        )
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 0  # It has just had it.
    mine.now += 31 * 86400
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 2  # With its source.
    assert mine.states(old.source_id) == {}
    report = inventory.check(mine.farm, inventory.How(quick=True), lambda: time.time() + 7200)
    unreferenced = {each.sha256 for each in report.of(inventory.Wrong.UNREFERENCED)}
    with (mine.farm.directory / "debs" / "hello_1.0_amd64.deb").open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() in unreferenced
    assert mine.index() == ["hello 1.1"]


def gone(mine: Mine, accepted: packages.Accepted) -> None:
    """It is deleted, and its files leave the pool; nothing of it is to be built any more."""
    mine.farm.write(copying.delete, found(mine, accepted), "a bug", mine.now)
    mine.publish()
    for _ in range(2):
        assert cleaning.clean(mine.press, mine.archive_id).forgotten == 0
        mine.now += 2 * 86400
    cleaning.clean(mine.press, mine.archive_id)
    assert set(mine.states(accepted.source_id).values()) == {State.REMOVED}


def stored(mine: Mine) -> set[str]:
    """What the store has, once all that nobody needs is deleted."""
    how = inventory.How(delete_unreferenced=True)
    inventory.check(mine.farm, how, lambda: time.time() + 7200)
    return {each.sha256 for each in mine.farm.store.files()}


def test_a_source_is_forgotten(mine: Mine) -> None:
    """With its packages, its files leave the store; it cannot be built again then, nor come again."""
    farms = stored(mine)
    accepted = mine.accept()
    mine.built(accepted)
    mine.publish()
    before = stored(mine)
    other = mine.accept("1.0", "other")
    mine.built(other)
    mine.publish()
    new = stored(mine) - before
    gone(mine, accepted)
    assert stored(mine) == before | new
    mine.now += 30 * 86400
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 2
    assert stored(mine) == farms | new
    assert mine.states(accepted.source_id) == {}
    with pytest.raises(SourceForgotten, match="were given up"):
        mine.farm.write(builds.retry, accepted.build_ids[0], mine.now)
    with pytest.raises(SourceRefused, match="was here, left, and was forgotten"):
        mine.accept()
    mine.built(mine.accept("1.1"), "hello-new")
    mine.publish()
    assert mine.index() == ["hello-new 1.1", "other 1.0"]
    assert cleaning.archives(mine.press) == []


def test_a_source_that_is_to_be_built(mine: Mine) -> None:
    """It is not forgotten before its builds have ended."""
    accepted = mine.accept()
    mine.publish()
    gone(mine, accepted)
    mine.farm.write(builds.retry, accepted.build_ids[0], mine.now)
    mine.now += 40 * 86400
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 0
    mine.farm.write(builds.cancel, accepted.build_ids[0], mine.now)
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 1


def test_what_a_snapshot_has(mine: Mine) -> None:
    """It is not forgotten, as long as the snapshot is there."""
    accepted = mine.accept()
    mine.built(accepted)
    mine.publish()
    mine.farm.write(snapshots.add, mine.archive_id, "20261122T120000Z", mine.now + 1)
    mine.now += 2
    gone(mine, accepted)
    mine.now += 40 * 86400
    assert cleaning.archives(mine.press) == []
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 0
    mine.farm.write(snapshots.remove, mine.archive_id, "20261122T120000Z")
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 2


def test_snapshots_by_time(mine: Mine) -> None:
    """One is taken when it is due, and something has changed; so many are kept of these, and all that a person took."""
    mine.built(mine.accept())
    mine.publish()
    assert keeping.due(mine.press) == []
    by_hand = keeping.take(mine.press, mine.archive_id, mine.folder)
    mine.farm.write(repositories.change, mine.archive_id, Settings(snapshot_every_s=86400.0, snapshots_kept=2))
    taken = []
    for version in ("1.1", "1.2", None, "1.3"):
        mine.now += 3600
        if version:
            mine.built(mine.accept(version))
            mine.publish()
        if version == "1.2":  # The last one is an hour old.
            assert keeping.due(mine.press) == []
        mine.now += 86400
        assert keeping.due(mine.press) == ([mine.archive_id] if version else [])
        taken.append(keeping.keep(mine.press, mine.archive_id))
    names = [each.taken for each in taken]
    assert [each.dropped for each in taken] == [(), (), (), (names[0],)]
    there = {by_hand, names[1], names[3]}
    assert {each.name for each in (mine.folder / "snapshot").iterdir()} == there
    with mine.farm.reading() as connection:
        assert {each.name for each in snapshots.of(connection, mine.archive_id)} == there
    packages_file = mine.folder / "snapshot" / str(names[1]) / "dists/bookworm/main/binary-amd64/Packages.gz"
    assert b"Version: 1.2" in gzip.decompress(packages_file.read_bytes())
    mine.farm.write(repositories.change, mine.archive_id, Settings(snapshots_kept=1))
    assert keeping.due(mine.press) == [mine.archive_id]
    assert keeping.keep(mine.press, mine.archive_id) == keeping.Kept(None, (str(names[1]),))
    assert keeping.due(mine.press) == []


def test_a_snapshot_that_nobody_knows_of(mine: Mine) -> None:
    """Who took it died before it was written down: that is done later, and it stays as one that was taken by hand."""
    mine.publish()
    name = "20261122T120000Z"
    take_snapshot(mine.folder, name)
    (mine.folder / "snapshot/another").mkdir()
    assert keeping.due(mine.press) == [mine.archive_id]
    kept = keeping.keep(mine.press, mine.archive_id)
    assert kept == keeping.Kept(None, (), (name,)) and kept.words == f"found on the disk: {name}"
    with mine.farm.reading() as connection:
        assert snapshots.of(connection, mine.archive_id) == [Snapshot(name, 1795348800.0, was_due=False)]
    assert keeping.due(mine.press) == []


def test_snapshots_too_often(mine: Mine) -> None:
    """Oftener than anybody looks is refused."""
    with pytest.raises(RepositoryRefused, match="every 20 minutes at most"):
        mine.farm.write(repositories.change, mine.archive_id, Settings(snapshot_every_s=60.0))


def test_when_an_archive_forgets(mine: Mine) -> None:
    """As it is told: after another time, or never."""
    accepted = mine.accept()
    mine.built(accepted)
    mine.publish()
    gone(mine, accepted)
    mine.farm.write(repositories.change, mine.archive_id, Settings(forget_s=0.0))
    mine.now += 400 * 86400
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 0
    mine.farm.write(repositories.change, mine.archive_id, Settings(forget_s=500 * 86400.0))
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 0
    mine.now += 100 * 86400
    assert cleaning.clean(mine.press, mine.archive_id).forgotten == 2


def test_what_left_a_quiet_archive_is_forgotten(mine: Mine) -> None:
    """When its time is over, also if nothing has left since."""
    accepted = mine.accept()
    mine.built(accepted)
    mine.publish()
    mine.farm.write(copying.delete, found(mine, accepted), "a bug", mine.now)
    mine.publish()
    asked = []
    for _ in range(40):
        mine.now += 86400
        with mine.farm.reading() as connection:
            due = retention.archives(connection, mine.now)
        asked.append(len(due))
        for each in due:
            cleaning.clean(mine.press, each)
    assert mine.states(accepted.source_id) == {}
    assert sum(asked) < 5  # Not of what is to stay for long yet.


def test_what_leaves_and_was_lost(mine: Mine) -> None:
    """A package can leave though the store has the list of its files no more."""
    accepted = mine.accept()
    mine.built(accepted)
    mine.built(mine.accept(name="other"))
    mine.publish()
    with mine.farm.reading() as connection:
        lists = select(stored_file.c.sha256).join(binary, binary.c.contents_file_id == stored_file.c.id)
        lost = connection.execute(lists.where(binary.c.name == "hello")).scalar_one()
    mine.farm.store.delete(lost)
    mine.farm.write(copying.delete, found(mine, accepted), "a bug", mine.now)
    mine.publish()
    assert mine.index() == ["other 1.0"] and "hello" not in mine.contents()


def test_what_is_elsewhere_stays(mine: Mine) -> None:
    """A package that has left one suite is in the pool for another one."""
    accepted = mine.accept()
    mine.built(accepted)
    mine.publish()
    there = Suite(mine.archive_id, 1, Pocket.UPDATES)
    with mine.farm.reading() as connection:
        what = publications.of_source(connection, accepted.source_id)
    mine.farm.write(copying.promote, what, there, mine.now)
    mine.press.publish(there)
    mine.publish()
    mine.now += 100_000
    assert cleaning.clean(mine.press, mine.archive_id) == Cleaned((), 2)
    assert (mine.folder / "pool" / "main" / "h" / "hello" / "hello_1.0_amd64.deb").exists()
    mine.farm.write(
        copying.promote, [each for each in found(mine, accepted) if each.suite == there], mine.suite, mine.now
    )
    mine.publish()
    mine.press.publish(there)
    assert mine.index() == ["hello 1.0"]


def test_an_older_version_is_not_promoted(mine: Mine) -> None:
    """It would be in no suite then. Where older versions are kept, or the newer one is deleted, it is."""
    there = Suite(mine.archive_id, 1, Pocket.UPDATES)
    old, new = mine.accept("1.9"), mine.accept("1.10")
    mine.farm.write(copying.promote, found(mine, old), there, mine.now)
    for move in (copying.promote, copying.copy):
        with pytest.raises(CannotCopy, match=r"hello 1\.10 is there, which is newer than 1\.9"):
            mine.farm.write(move, here(mine, old, there), mine.suite, mine.now)
    mine.farm.write(repositories.change, mine.archive_id, Settings(keep_versions=1))
    mine.farm.write(copying.copy, here(mine, old, there), mine.suite, mine.now)
    mine.farm.write(repositories.change, mine.archive_id, Settings(keep_versions=0))
    mine.farm.write(copying.delete, found(mine, new), "not wanted", mine.now)
    mine.farm.write(copying.promote, here(mine, old, there), mine.suite, mine.now)
    mine.publish()
    assert mine.index("main/source/Sources") == ["hello 1.9"]


def test_what_is_promoted_enters_before_it_leaves(mine: Mine) -> None:
    """Who has both suites never misses it."""
    accepted = mine.accept()
    mine.publish()
    for pocket in (Pocket.PROPOSED, Pocket.UPDATES):
        there = Suite(mine.archive_id, 1, pocket)
        (before,) = {each.suite for each in found(mine, accepted)}
        mine.farm.write(copying.promote, found(mine, accepted), there, mine.now)
        with mine.farm.reading() as connection:
            assert publications.suites_with_work(connection, mine.now + 1) == [there, before]
        mine.press.publish(there)
        mine.press.publish(before)


def here(mine: Mine, accepted: packages.Accepted, where: Suite) -> list[publications.Publication]:
    return [each for each in found(mine, accepted) if each.suite == where]


def found(mine: Mine, accepted: packages.Accepted) -> list[publications.Publication]:
    with mine.farm.reading() as connection:
        every = publications.of_source(connection, accepted.source_id)
    return [each for each in every if each.state in publications.LISTED]


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not installed")
def test_apt(mine: Mine, tmp_path: Path) -> None:
    """apt updates without a warning, downloads what was built, finds debug symbols and gets the source."""
    accepted = mine.accept()
    mine.built(accepted, "hello", "hello-dbgsym")
    mine.now = time.time() - 1  # apt refuses what comes from the future.
    mine.publish()
    apt = Apt(tmp_path / "root", f"copy:{mine.folder}", "bookworm", "main main/debug")
    apt.update()
    assert apt.packages() == ["hello", "hello-dbgsym"]
    apt.run("apt-get", "download", "hello", "hello-dbgsym")
    apt.run("apt-get", "source", "--download-only", "hello")
    got = sorted(path.name for path in (tmp_path / "root").glob("hello*"))
    assert got == ["hello-dbgsym_1.0_amd64.deb", "hello_1.0.dsc", "hello_1.0.tar.xz", "hello_1.0_amd64.deb"]


def test_two_masters(mine: Mine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them publishes; the other one does not wait for it, and finds nothing left. Where the lock does not hold,
    since they share no disk, the second writes down nothing."""
    mine.built(mine.accept())
    other = Press(mine.farm, mine.directory, mine.secrets, lambda: mine.now)
    with mine.press.turn(mine.archive_id), pytest.raises(Busy):
        other.publish(mine.suite)
    elsewhere = Press(mine.farm, mine.directory / "elsewhere", mine.secrets, lambda: mine.now)
    bring = Press._bring

    def late(self: Press, *arguments: Any, **more: Any) -> Any:
        shown = bring(self, *arguments, **more)
        if self is elsewhere:
            other.publish(mine.suite)
        return shown

    monkeypatch.setattr(Press, "_bring", late)
    with pytest.raises(PublishedMeanwhile, match="another master has published bookworm"):
        elsewhere.publish(mine.suite)
    assert mine.index() == ["hello 1.0"]
    with mine.farm.reading() as connection:
        assert publications.suites_with_work(connection, mine.now) == []
