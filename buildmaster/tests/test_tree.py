"""A suite on disk: what apt reads, before and after, and what is left."""

import shutil
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildmaster.indices.records import Edit, IndexKind, IndexName, Record, put, take_out
from buildmaster.indices.stanzas import contents_records
from buildmaster.publishing.signing import Keys, keyring, make_key
from buildmaster.publishing.tree import Keep, SuiteTree, TreeDamaged
from buildmaster.tests.archive_case import CONTENTS, FACTS, PACKAGES, START, Apt, Archive, Client, key, package, tree_of


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def test_a_suite_comes_into_being(archive: Archive, tmp_path: Path) -> None:
    """The first publication makes all indices, be they empty; apt reads them without a warning."""
    assert archive.tree.current() is None
    published = archive.publish()
    assert published.generation == 1 and archive.tree.current() == published
    Client(archive.dists).check()
    apt = Apt(tmp_path / "apt", f"file:{archive.directory}", "bookworm")
    apt.update()
    assert apt.packages() == []


def test_apt_sees_each_change(archive: Archive, tmp_path: Path) -> None:
    """What is added, changed and removed is what apt has after its next update."""
    apt = Apt(tmp_path / "apt", f"file:{archive.directory}", "bookworm")
    archive.add("hello", "bash")
    apt.update()
    assert apt.packages() == ["bash", "hello"]
    archive.add("coreutils")
    archive.publish(take_out(PACKAGES, [b"bash 1 amd64"]))
    apt.update()
    assert apt.packages() == ["coreutils", "hello"]
    assert "It is hello." in apt.run("apt-cache", "show", "hello")


def test_publishing_again_is_nothing(archive: Archive) -> None:
    """Who does not know whether a publication was made makes it again: nothing changes."""
    first = archive.add("hello")
    before = list(tree_of(archive.directory))
    assert archive.add("hello") == first
    assert archive.publish(take_out(PACKAGES, [b"bash 1 amd64"])) == first
    assert list(tree_of(archive.directory)) == before


def test_what_did_not_change_is_linked(archive: Archive) -> None:
    """An index that did not change is the same file as before."""
    archive.add("hello")
    sources = (archive.dists / "main/source/Sources.xz").stat().st_ino
    packages = (archive.dists / "main/binary-amd64/Packages.xz").stat().st_ino
    archive.add("bash")
    assert (archive.dists / "main/source/Sources.xz").stat().st_ino == sources
    assert (archive.dists / "main/binary-amd64/Packages.xz").stat().st_ino != packages


def test_older_indices_stay_for_a_while(tmp_path: Path) -> None:
    """Who has read InRelease has the time to fetch what it names, and no longer: at least so many generations, and at
    least so long."""
    archive = Archive(tmp_path, keep=Keep(seconds=100, generations=2))
    archive.publish()
    clients = []
    for number in range(6):
        archive.add(f"package{number}")
        clients.append(Client(archive.dists))
    for client in clients:
        client.check()
    archive.now += 99
    archive.add("more")
    archive.publish()
    with pytest.raises(FileNotFoundError):
        clients[0].check()
    for client in clients[4:]:
        client.check()
    archive.now += 1000
    archive.publish()  # Nothing new; but a look at what is over.
    for client in clients[4:]:  # Of the two generations before the current one.
        client.check()
    for client in clients[:4]:
        with pytest.raises(FileNotFoundError):
            client.check()


def test_a_file_that_comes_back(tmp_path: Path) -> None:
    """An index that is again what it was stays when its older self's time is over."""
    archive = Archive(tmp_path, keep=Keep(seconds=10, generations=1))
    archive.add("hello")
    archive.add("bash")
    archive.publish(take_out(PACKAGES, [b"bash 1 amd64"]))
    for number in range(3):
        archive.now += 20
        archive.publish(description=f"number {number}")
        assert archive.names() == ["hello"]


def test_little_is_kept(tmp_path: Path) -> None:
    """The number of files does not grow with the number of publications."""
    archive = Archive(tmp_path, keep=Keep(seconds=0, generations=2))
    counts = []
    for number in range(12):
        archive.add("hello", version=str(number))
        counts.append(len(list(tree_of(archive.directory))))
    assert len(set(counts[4:])) == 1


def test_release_expires(archive: Archive) -> None:
    """A Release file that expires is signed again when half of its time is over."""
    first = archive.publish(valid_s=1000)
    assert first.valid_until == archive.now + 1000
    archive.now += 400
    assert archive.publish() == first
    archive.now += 200
    second = archive.publish()
    assert second.generation == 2 and second.valid_until == archive.now + 1000


def test_times_of_release_files_differ(archive: Archive) -> None:
    """Publications within one second have times of change that clients can tell from one another."""
    times = []
    for number in range(3):
        archive.now = START
        archive.add(f"package{number}")
        times.append((archive.dists / "InRelease").stat().st_mtime)
    assert times == [START + 1, START + 2, START + 3]


def test_a_clock_that_is_set_back(archive: Archive, tmp_path: Path) -> None:
    """A publication by a clock that is behind the last one's is no older than that: apt would pass over it."""
    apt = Apt(tmp_path / "apt", f"file:{archive.directory}", "bookworm")
    first = archive.add("hello")
    apt.update()
    archive.now -= 100
    assert archive.add("bash").published_at == first.published_at
    apt.update()
    assert apt.packages() == ["bash", "hello"]
    archive.now += 200
    assert archive.add("coreutils").published_at == archive.now


def test_a_clock_that_was_far_ahead(tmp_path: Path) -> None:
    """When a clock was a year ahead, what is published by a right one is of its time; and by-hash files expire."""
    archive = Archive(tmp_path, keep=Keep(seconds=10, generations=1))
    archive.now += 365 * 86400
    archive.add("hello")
    archive.add("bash")
    archive.now -= 365 * 86400
    assert archive.add("coreutils").published_at == archive.now
    clients = [Client(archive.dists)]
    for number in range(3):
        archive.now += 20
        archive.add(f"package{number}")
        clients.append(Client(archive.dists))
    clients[-1].check()
    with pytest.raises(FileNotFoundError):
        clients[0].check()
    by_hash = tmp_path / ".state/suites/bookworm/by-hash/SHA256"
    assert len(list(by_hash.iterdir())) < 10


def test_another_key(archive: Archive, tmp_path: Path) -> None:
    """With another key the suite is signed again, by both while it takes over; and who knows one is content."""
    archive.add("hello")
    apt = Apt(tmp_path / "apt", f"file:{archive.directory}", "bookworm")
    apt.update()
    new = make_key("new")
    archive.signer = Keys([new.secret, key().secret])
    assert archive.publish().generation == 2
    apt.update()
    archive.signer = Keys([new.secret])
    assert archive.publish().generation == 3
    both = Apt(tmp_path / "both", f"file:{archive.directory}", "bookworm")
    (tmp_path / "both/key.asc").write_text(keyring([key().certificate, new.certificate]))
    both.update()
    with pytest.raises(AssertionError, match="NO_PUBKEY"):
        apt.update()


def test_components_and_architectures_come_and_go(archive: Archive, tmp_path: Path) -> None:
    """A suite has the indices that it is said to have."""
    archive.add("hello")
    archive.publish(architectures=("amd64", "arm64"), components=("main", "main/debug"))
    archive.publish(put(IndexName("main/debug", IndexKind.PACKAGES, "amd64"), [package("hello-dbgsym")[0]]))
    apt = Apt(tmp_path / "apt", f"file:{archive.directory}", "bookworm", "main main/debug")
    apt.update()
    assert apt.packages() == ["hello", "hello-dbgsym"]
    archive.publish(components=("main",), architectures=("amd64",))
    assert not (archive.dists / "main/debug").exists()
    with pytest.raises(ValueError, match="no index main/debug"):
        archive.publish(put(IndexName("main/debug", IndexKind.PACKAGES, "amd64"), [package("hello-dbgsym")[0]]))


def test_indices_that_are_equal(tmp_path: Path) -> None:
    """Packages of all architectures are in the index of each: the same pieces, written at the same time."""
    architectures = ("amd64", "arm64", "armhf", "i386", "riscv64", "s390x")
    archive = Archive(tmp_path, replace(FACTS, architectures=architectures))
    indices = [IndexName("main", IndexKind.PACKAGES, each) for each in architectures]
    for number in range(30):
        record = package(f"package{number}")[0]
        archive.publish(edit for index in indices for edit in put(index, [record]))
    client = Client(archive.dists)
    (only,) = {client.index(index.path) for index in indices}
    assert only.count(b"Package: ") == 30
    client.check()


def test_two_at_the_same_time(tmp_path: Path) -> None:
    """Who publishes while somebody else does waits for his turn: nothing is lost."""
    archives = [Archive(tmp_path) for _ in range(3)]

    def publish(place: int) -> None:
        for number in range(10):
            archives[place].add(f"package{place}-{number}")

    threads = [threading.Thread(target=publish, args=[place]) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(archives[0].names()) == 30
    current = archives[0].tree.current()
    assert current is not None and current.generation == 30


def test_contents(archive: Archive) -> None:
    """Contents say which packages have a file."""
    archive.publish(put(CONTENTS, contents_records([b"./usr/bin/hello"], "devel", "hello")))
    assert Client(archive.dists).index("main/Contents-amd64").split() == [b"usr/bin/hello", b"devel/hello"]


def test_what_is_no_record_is_refused(archive: Archive) -> None:
    """A record that would be read as another, or as two, changes nothing."""
    archive.add("hello")
    for text in (b"Package: bash\nVersion: 1\nArchitecture: amd64", b"Package: a\n\nPackage: b"):
        with pytest.raises(ValueError, match="not a"):
            archive.publish([Edit(PACKAGES, b"hello 1 amd64", text)])
    assert archive.names() == ["hello"]


@pytest.mark.parametrize("suite", ["", "..", ".x", "a/b", "a b"])
def test_names_of_suites(suite: str, tmp_path: Path) -> None:
    """No suite's name leads elsewhere."""
    with pytest.raises(ValueError, match="suite"):
        SuiteTree(tmp_path, suite)


# What is damaged


@pytest.mark.parametrize("what", ["manifest", "manifest gone", "piece", "piece gone", "index gone", "all"])
def test_what_was_kept_is_damaged(archive: Archive, what: str) -> None:
    """When what was kept of a suite is lost or damaged, that is said, apt's view stays, and a full rebuild helps."""
    archive.add("hello", "bash")
    older = Client(archive.dists)
    state = archive.directory / ".state/suites/bookworm"
    (piece,) = (state / "pieces").iterdir()
    match what:
        case "manifest":
            (state / "1.manifest").write_bytes((state / "1.manifest").read_bytes().replace(b"mine", b"dine"))
        case "manifest gone":
            (state / "1.manifest").unlink()
        case "piece":
            piece.write_bytes(piece.read_bytes()[:-1] + b"x")
        case "piece gone":
            piece.unlink()
        case "index gone":
            (archive.dists / "main/source/Sources.gz").unlink()
        case _:
            shutil.rmtree(state / "pieces")
            (state / "1.manifest").write_bytes(b"")
    with pytest.raises(TreeDamaged):
        archive.add("coreutils")
    assert what == "index gone" or archive.names() == ["bash", "hello"]
    records = [(PACKAGES, package(name)[0]) for name in ("hello", "coreutils", "bash")]
    published = archive.tree.rebuild(iter(records), FACTS, archive.signer, archive.now)
    assert published.generation == 2
    assert archive.names() == ["bash", "coreutils", "hello"]
    older.check()  # By digest, everything can still be had.
    archive.add("more")
    assert archive.names() == ["bash", "coreutils", "hello", "more"]


@pytest.mark.parametrize("had", [False, True])
def test_who_died_while_he_linked_a_file(archive: Archive, *, had: bool) -> None:
    """What he left is in nobody's way, be the suite new or its manifest lost, and is removed."""
    state = archive.directory / ".state/suites/bookworm"
    if had:
        archive.add("bash")
        (state / "1.manifest").unlink()
    left = state / "by-hash/SHA256" / f".{'0' * 64}"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"")
    archive.tree.rebuild(iter([(PACKAGES, package("hello")[0])]), FACTS, archive.signer, archive.now)
    archive.add("more")
    assert archive.names() == ["hello", "more"]
    assert not left.exists()


def test_records_are_told(archive: Archive) -> None:
    """What an index says can be asked for, to compare."""
    assert list(archive.tree.records(PACKAGES)) == []
    archive.add("hello", "bash")
    assert list(archive.tree.records(PACKAGES)) == [package("bash")[0], package("hello")[0]]
    assert list(archive.tree.records(IndexName("other", IndexKind.PACKAGES, "amd64"))) == []


def test_a_rebuild_holds_little(archive: Archive) -> None:
    """A suite is made anew without all that it says being in memory at the same time."""

    def records() -> Iterator[tuple[IndexName, Record]]:
        for number in range(400):
            paths = [b"usr/share/doc/%d/%d" % (number, each) for each in range(600)]
            yield from ((CONTENTS, each) for each in contents_records(paths, "doc", f"package{number}"))

    tracemalloc.start()
    try:
        archive.tree.rebuild(records(), FACTS, archive.signer, archive.now)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    text = Client(archive.dists).index("main/Contents-amd64")
    assert text.count(b"\n") == 240_000 and len(text) > 16_000_000 and peak < 6_000_000


def test_a_large_suite_is_rebuilt_as_it_grew(archive: Archive) -> None:
    """All at once or little by little, a suite says the same."""
    records = [package(f"package{number}", more=f"Depends: {'x' * 900}{number}\n")[0] for number in range(1200)]
    archive.publish(put(PACKAGES, records[::2]))
    archive.publish(put(PACKAGES, records[1::2]))
    grown = Client(archive.dists).index("main/binary-amd64/Packages")
    archive.tree.rebuild(((PACKAGES, each) for each in records), FACTS, archive.signer, archive.now)
    rebuilt = Client(archive.dists).index("main/binary-amd64/Packages")
    assert rebuilt != grown and sorted(rebuilt.split(b"\n\n")) == sorted(grown.split(b"\n\n"))
    assert len(list((archive.directory / ".state/suites/bookworm/pieces").iterdir())) > 4
