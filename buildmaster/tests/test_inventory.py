"""What is wrong with the store; and that nothing is deleted that somebody refers to, whoever is first."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from buildd.protocol import Sha1
from buildmaster import builders, builds, distributions, files, inventory
from buildmaster.farm import Farm
from buildmaster.files import DeletedMeanwhile
from buildmaster.inventory import Finding, How, Wrong
from buildmaster.store import Sha256, StoredFile
from buildmaster.tables import build_file
from buildmaster.tests.factories import make_build, make_farm, make_series, open_farm, set_chroot
from buildmaster.tests.stores import STORE, UNCONDITIONAL, spoil

DAY_S = 86400.0


def later() -> float:
    """A moment when all that the test did is old."""
    return time.time() + DAY_S


def check(farm: Farm, how: How | None = None, now: Callable[[], float] = later) -> list[Finding]:
    return inventory.check(farm, how or How(), now).findings


def shelve(farm: Farm, content: bytes) -> StoredFile:
    """A file with a row to which nothing refers."""
    stored = farm.store.add([content])
    with farm.transaction() as connection:
        files.keep(connection, stored, time.time())
    return stored


@pytest.fixture(params=sorted({STORE, UNCONDITIONAL}))
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Farm]:
    """An empty farm; on a store that ignores conditional writes, too."""
    farm = make_farm(tmp_path, request.param)
    yield farm
    farm.close()


@pytest.fixture
def full(farm: Farm) -> Farm:
    """A farm with a chroot and a source."""
    make_series(farm)
    make_build(farm)
    return farm


def test_nothing_is_wrong(full: Farm) -> None:
    """A farm as it should be has no findings, and all of its files are looked at."""
    told: list[tuple[float, int]] = []
    report = inventory.check(full, How(), later, lambda part, so_far: told.append((part, so_far.files)))
    assert report.findings == [] and report.files == 3 and report.size > 100
    assert told[-1] == (1.0, 3) and [part for part, _ in told] == sorted(part for part, _ in told)


def test_a_large_farm(full: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A farm with many files is looked at in parts, and each file once."""
    for number in range(60):
        shelve(full, b"%d" % number)
    bare = full.store.add([b"bare"])
    monkeypatch.setattr(inventory, "_AT_ONCE", 10)
    parts: list[float] = []
    report = inventory.check(full, How(quick=True), later, lambda part, so_far: parts.append(part))
    assert report.files == 63 and len(report.of(Wrong.UNREFERENCED)) == len(report.findings) == 61
    assert bare.sha256 in {each.sha256 for each in report.findings}
    assert parts == sorted(parts) and len(set(parts)) == 64


def test_missing(full: Farm) -> None:
    """A file that is recorded and not there is told, with all that needs it."""
    with full.reading() as connection:
        (row,) = (
            row for row in files.recorded(connection, "") if "hello_1.0.dsc" in str(files.users(connection, row.id))
        )
    full.store.delete(row.file.sha256)
    for how in (How(), How(quick=True)):
        assert check(full, how) == [
            Finding(Wrong.MISSING, row.file.sha256, row.file.size, used_by=("source hello 1.0: hello_1.0.dsc",))
        ]


def test_users(full: Farm) -> None:
    """What needs a file is told in words: sources, results, logs, chroots."""
    stored = full.store.add([b"in many places"])
    place = make_series(full)
    build_id = make_build(full, "other")
    with full.transaction() as connection:
        builder_id = builders.add(connection, "b", "http://b/", "amd64", 1.0)
        builds.claim(connection, build_id, builder_id, 1.0)
        distributions.set_chroot(connection, place, stored, "chroot.tar", 1.0)
        builds.keep_log(connection, build_id, builds.log_of(connection, build_id, stored), 1.0)
        words = files.users(connection, files.keep(connection, stored, 1.0))
    assert words == [f"the log of build {build_id}", "a chroot of bookworm amd64"]


def test_damaged(full: Farm) -> None:
    """A file of another size, or with another content, is told; --quick does not read contents."""
    stored = set_chroot(full, make_series(full), b"a chroot")
    used_by = ("a chroot of bookworm amd64",)
    spoil(full.store, stored.sha256, b"short")
    size = Finding(Wrong.DAMAGED, stored.sha256, 8, "it has 5 bytes instead of 8", used_by)
    assert [each for each in check(full) if each.wrong is Wrong.DAMAGED] == [size]
    assert [each for each in check(full, How(quick=True)) if each.wrong is Wrong.DAMAGED] == [size]
    spoil(full.store, stored.sha256, b"A CHROOT")
    (found,) = (each for each in check(full) if each.wrong is Wrong.DAMAGED)
    assert found.why.startswith("its content has the SHA-256 ") and found.used_by == used_by
    assert [each for each in check(full, How(quick=True)) if each.wrong is Wrong.DAMAGED] == []


def test_wrong_sha1(farm: Farm) -> None:
    """A row whose SHA-1 is not the file's would have builders refuse the file."""
    stored = farm.store.add([b"x"])
    with farm.transaction() as connection:
        files.keep(connection, StoredFile(stored.sha256, Sha1("0" * 40), 1), 1.0)
    assert ["its SHA-1 is" in each.why for each in check(farm) if each.wrong is Wrong.DAMAGED] == [True]


def test_unreferenced(full: Farm) -> None:
    """Files without a row, rows that nothing refers to, and both together are told, and deleted only when asked."""
    bare = full.store.add([b"refused results"])
    shelved = shelve(full, b"no longer used")
    gone = shelve(full, b"already gone")
    full.store.delete(gone.sha256)
    expected = {each.sha256: each.size for each in (bare, shelved, gone)}
    found = [each for each in check(full) if each.wrong is Wrong.UNREFERENCED]
    assert {each.sha256: each.size for each in found} == expected and not any(each.deleted for each in found)
    assert full.store.has(bare.sha256) and full.store.has(shelved.sha256)
    found = [each for each in check(full, How(delete_unreferenced=True)) if each.wrong is Wrong.UNREFERENCED]
    assert {each.sha256 for each in found if each.deleted} == expected.keys()
    assert not any(full.store.has(sha256) for sha256 in expected) and check(full) == []


def test_what_is_young_is_left_alone(full: Farm) -> None:
    """A file or a row younger than an hour may be about to be used; so may one younger than the operator says."""
    full.store.add([b"just come"])
    shelve(full, b"just recorded")
    hour = lambda: time.time() + 3500  # noqa: E731
    everything = How(delete_unreferenced=True)
    assert check(full, everything, time.time) == check(full, everything, hour) == []
    assert check(full, How(delete_unreferenced=True, older_than_s=0.0), hour) == []
    assert check(full, How(delete_unreferenced=True, older_than_s=2 * DAY_S), later) == []
    assert len(check(full, everything, lambda: time.time() + 3700)) == 2


def test_an_old_file_with_a_young_row(full: Farm) -> None:
    """A file that was stored long ago and recorded just now is in use; so is one the other way round."""
    stored = full.store.add([b"x"])
    with full.transaction() as connection:
        files.keep(connection, stored, time.time() + DAY_S - 60)
    assert check(full, How(delete_unreferenced=True)) == []


def test_a_writer_is_left_alone(full: Farm) -> None:
    """A file that is being written is not told, however long it takes."""
    writer = full.store.writer()
    writer.write(b"x")
    assert check(full, How(delete_unreferenced=True)) == []
    assert full.store.has(writer.commit().sha256)


def test_what_changes_meanwhile_is_not_told(full: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is stored, or deleted with its row, between two looks is neither missing nor unreferenced."""
    shelved = shelve(full, b"goes")
    real = full.store.files

    def as_it_goes(prefix: str = "") -> object:
        if shelved.sha256.startswith(prefix):
            with full.transaction() as connection:
                assert files.give_up(connection, shelved.sha256, later(), later())
            full.store.delete(shelved.sha256)
        return real(prefix)

    monkeypatch.setattr(full.store, "files", as_it_goes)
    assert check(full, now=time.time) == []
    assert not full.store.has(shelved.sha256)


def test_a_reference_before_the_deletion_wins(full: Farm) -> None:
    """A file that got a reference since it was looked at is not deleted."""
    stored = shelve(full, b"wanted after all")
    place = make_series(full)
    with full.transaction() as connection:
        distributions.set_chroot(connection, place, stored, "chroot.tar", 1.0)
    assert not inventory._delete(full, stored.sha256, later, later())
    assert full.store.has(stored.sha256)


def give_up(farm: Farm, stored: StoredFile, now: float) -> float | None:
    with farm.transaction() as connection:
        return files.give_up(connection, stored.sha256, now, now)


def keep(farm: Farm, stored: StoredFile, stored_at: float) -> None:
    """Record a file by who has it from this moment in the store."""
    with farm.transaction() as connection:
        files.keep(connection, replace(stored, stored_at=stored_at), stored_at)


def test_nobody_records_what_is_being_deleted(full: Farm) -> None:
    """Who stores a file while it is deleted, however long a server takes, or within a minute of that, is refused."""
    stored, began = shelve(full, b"wanted after all"), later()
    until = give_up(full, stored, began)
    assert until is not None
    for moment in (began + 1, began + 300, until):
        with pytest.raises(DeletedMeanwhile):
            keep(full, stored, moment)
    with full.transaction() as connection:
        files.gave_up(connection, stored.sha256, until, began + 300)
    with pytest.raises(DeletedMeanwhile):
        keep(full, stored, began + 359)
    keep(full, stored, began + 361)


def test_one_deletes_a_file_at_a_time(full: Farm) -> None:
    """Of two that delete a file at once the second lets it be, until the first has ended, or must have."""
    stored, now = full.store.add([b"x"]), later()
    until = give_up(full, stored, now)
    assert until is not None and give_up(full, stored, now + 100) is None
    assert give_up(full, stored, until + 1)
    with full.transaction() as connection:
        files.gave_up(connection, stored.sha256, until, until + 2)  # The first, very late.
    with pytest.raises(DeletedMeanwhile):
        keep(full, stored, until + 100)


def test_a_deletion_that_was_held_up_is_given_up(full: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was stopped between the two steps does not delete what may have been stored again since. If he was killed
    there, the file can be recorded when he must have ended."""
    stored, times = shelve(full, b"x"), iter([later(), later() + 61])
    assert not inventory._delete(full, stored.sha256, lambda: next(times), later())
    assert full.store.has(stored.sha256)
    with pytest.raises(DeletedMeanwhile):
        keep(full, stored, later() + 62)
    keep(full, stored, later() + 1000)


def test_a_server_that_takes_long_to_delete(full: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store deletes, no transaction waits for it: the database would end that, and others would wait."""
    stored, delete, other = shelve(full, b"x"), full.store.delete, open_farm(full.directory)
    connections: list[int] = []

    def slowly(sha256: Sha256) -> None:
        connections.append(full.database.engine.pool.checkedout())  # type: ignore[attr-defined]
        with pytest.raises(DeletedMeanwhile):  # At once.
            keep(other, stored, later() + 1)
        make_series(other, "debian", "trixie")
        delete(sha256)

    monkeypatch.setattr(full.store, "delete", slowly)
    assert inventory._delete(full, stored.sha256, later, later())
    assert connections == [0] and not full.store.has(stored.sha256)
    other.close()


def test_a_reference_after_the_deletion_is_refused(full: Farm) -> None:
    """Who found a file in the store just before it was deleted is told so, records nothing, and may do it again."""
    stored = full.store.add([b"refused once, and built again"])
    found = [each for each in check(full, How(delete_unreferenced=True)) if each.deleted]
    assert [each.sha256 for each in found] == [stored.sha256]
    seen_before = StoredFile(stored.sha256, stored.sha1, stored.size, stored_at=later() - 1)
    with pytest.raises(DeletedMeanwhile, match="do the same again"), full.transaction() as connection:
        files.keep(connection, seen_before, later())
    with full.reading() as connection:
        assert not files.is_recorded(connection, stored.sha256)
    again = StoredFile(stored.sha256, stored.sha1, stored.size, stored_at=later() + 120)
    full.store.add([b"refused once, and built again"])
    with full.transaction() as connection:
        files.keep(connection, again, later())


def test_many_at_once(full: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """While unreferenced files are deleted over and over, two others store and record the same ones: what is recorded
    in the end is there. Who deletes rests the longer the more often one of them was refused, so that both end."""
    monkeypatch.setattr(inventory, "YOUNG_S", 0.0)
    monkeypatch.setattr(files, "_DOUBT_S", 0.05)
    build_id = make_build(full, "other")
    ends: list[str] = []
    refused = {"a": 0, "b": 0}  # In a row.
    deleting = threading.Event()  # Where nobody waits for a disk, the writers would be done before anybody deletes.

    def record(farm: Farm, content: bytes, name: str) -> int:
        stored = farm.store.add([content])
        with farm.transaction() as connection:
            file_id = files.keep(connection, stored, 0.0)
            connection.execute(build_file.insert().values(build_id=build_id, name=name, stored_file_id=file_id))
        return file_id

    def record_all(who: str) -> None:
        farm = open_farm(full.directory)
        try:
            for number in range(15):
                farm.store.add([b"%d" % number])  # Old, and needed by nobody, as far as the check knows.
            assert deleting.wait(60)
            for number in range(15):
                recorded = refused[who] = 0
                while not recorded:
                    try:
                        recorded = record(farm, b"%d" % number, f"{who}{number}")
                    except DeletedMeanwhile:
                        refused[who] += 1
                        assert refused[who] < 300
                        time.sleep(0.06)
            ends.append("well")
        finally:
            farm.close()

    threads = [threading.Thread(target=record_all, args=(who,)) for who in "ab"]
    for thread in threads:
        thread.start()
    deleted = 0
    while any(thread.is_alive() for thread in threads):
        findings = check(full, How(quick=True, delete_unreferenced=True, older_than_s=0.0), time.time)
        deleted += sum(each.deleted for each in findings)
        if deleted:
            deleting.set()
        time.sleep(0.01 * max(refused.values()))
    assert ends == ["well", "well"] and deleted
    with full.reading() as connection:
        assert connection.execute(select(func.count()).select_from(build_file)).scalar() == 30
    assert check(full) == []
