"""A whole farm copied and restored: on every kind of database and store, all of it or nothing."""

import gzip
import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Connection, Double, Float, Integer, String, Text, select, text

from buildd.protocol import Cause, FileName
from buildmaster import backup, backup_places, builders, builds, database, distributions, dump, inventory, masters
from buildmaster.backup import BackupRefused
from buildmaster.backup_manifest import BackupBusy, NoBackup
from buildmaster.database import CommitUncertain, Database, NotEmpty, UnknownRevision
from buildmaster.farm import Farm, FarmBusy, MasterRuns, NoFarm, Places, only_maker, only_master
from buildmaster.inventory import How
from buildmaster.lifecycle import Event
from buildmaster.store import NotStored, Sha256
from buildmaster.store.writing import DigestingWriter
from buildmaster.tables import metadata
from buildmaster.tests import databases, stores
from buildmaster.tests.factories import make_build, make_builder, make_busy, make_series

FORMS = ("folder", "backup.tar")


@pytest.fixture
def full(farm: Farm) -> Farm:
    """A farm with something of everything: builds in several states, a log, results, text in all alphabets."""
    make_series(farm)
    make_series(farm, "ubuntu", "hoary", "i386", chroot=None)
    done, running = make_build(farm), make_build(farm, "other", "1:2.0~rc1-3")
    make_build(farm, "third")
    make_builder(farm)
    make_builder(farm, "y86", "http://y86:8221/")
    make_busy(farm, "x86", done)
    result, log = farm.store.add([b"a package" * 100_000]), farm.store.add([b"a log"])
    with farm.transaction() as connection:
        distributions.set_apt_lines(connection, "debian", "primary", "deb http://user:pass@host/ SERIES main")
        builds.record(connection, done, Event.SUCCEEDED, 1.5)
        builds.keep_results(connection, done, {FileName("hello.deb"): result}, 2.5)
        builds.keep_log(connection, done, builds.log_of(connection, done, log), 3.25)
        builds.record(connection, done, Event.GATHERED, 1e9 / 3)
    make_busy(farm, "y86", running)
    with farm.transaction() as connection:
        reason, error = "\u00fc\u4e2d \U0001f600", 'quotes " and \\ and\nlines\t'
        cause = next(iter(Cause))
        builds.record(connection, running, Event.PACKAGE_FAILED, 4.0, reason=reason, cause=cause, error=error)
    return farm


def everything(farm: Farm) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    with farm.reading() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(table.select())), key=repr)
            for table in metadata.sorted_tables
        }


def contents(farm: Farm) -> dict[Sha256, bytes]:
    """Every file."""
    found = {}
    for listed in farm.store.files():
        with farm.store.open(listed.sha256) as stream:
            found[listed.sha256] = stream.read()
    return found


def save(farm: Farm, path: Path) -> backup.Made:
    with backup_places.writing(path) as writer:
        return backup.back_up(farm, writer)


def bring_back(places: Places, path: Path) -> Farm:
    with backup_places.reading(path) as reader:
        backup.restore(places, reader)
    return Farm.open(places)


def new_places(directory: Path, on: str = "sqlite", kind: str = "local") -> Places:
    """A place for another farm, of these kinds of database and store."""
    directory.mkdir(exist_ok=True)
    url = databases.new_database(empty=True) if on == "postgresql" else ""
    if kind != "local":
        stores.write_secrets(directory / "secrets")
    bucket = stores.bucket(kind) if kind != "local" else None
    return Places(directory / "new", url, "", directory / "secrets", bucket)


def has_postgresql() -> bool:
    return bool(shutil.which("pg_ctl") or list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("on", ["sqlite", "postgresql"])
@pytest.mark.parametrize("kind", stores.KINDS)
def test_everything_comes_back(full: Farm, tmp_path: Path, form: str, on: str, kind: str) -> None:
    """A farm is restored on either database and every store, whatever it was on: each row and each file, and nothing
    is wrong with it."""
    if on == "postgresql" and not has_postgresql():
        pytest.skip("PostgreSQL is not installed")
    before, files = everything(full), contents(full)
    made = save(full, tmp_path / form)
    assert made.files == made.copied == len(files) and made.size == sum(map(len, files.values())) and not made.lacking
    told: list[tuple[float, int]] = []
    places = new_places(tmp_path / "there", on, kind)
    with backup_places.reading(tmp_path / form) as reader:
        backup.restore(places, reader, lambda part, left: told.append((part, left)))
    assert [left for _, left in told] == list(range(len(files), 0, -1))
    farm = Farm.open(places)
    try:
        assert everything(farm) == before and contents(farm) == files
        assert inventory.check(farm, How(), time.time).findings == []
        with farm.transaction() as connection:  # New rows are numbered after the old ones.
            builders.add(connection, "z", "http://z/", "amd64", 1.0)
    finally:
        farm.close()


@pytest.mark.parametrize("on", ["sqlite", "postgresql"])
def test_masters_do_not_come_with_it(full: Farm, tmp_path: Path, on: str) -> None:
    """No master runs on a farm that was just restored. A new one has the builders at once, and as an heir: what the old
    farm's builders are doing may be news to it."""
    if on == "postgresql" and not has_postgresql():
        pytest.skip("PostgreSQL is not installed")
    with full.transaction() as connection:
        old = masters.join(connection, "host:1", 5.0)
        assert len(masters.take(connection, old, 9)) == 2
    save(full, tmp_path / "backup")
    farm = bring_back(new_places(tmp_path / "there", on), tmp_path / "backup")
    try:
        with farm.transaction() as connection:
            assert masters.everyone(connection) == []
            new = masters.join(connection, "host:2", 5.0)
            assert new > old
            assert [each.inherited for each in masters.take(connection, new, 9)] == [True, True]
    finally:
        farm.close()


def test_and_back_again(full: Farm, tmp_path: Path) -> None:
    """A farm that went from one kind to the other and back is what it was."""
    if not has_postgresql():
        pytest.skip("PostgreSQL is not installed")
    before, files = everything(full), contents(full)
    save(full, tmp_path / "one")
    away = bring_back(new_places(tmp_path / "away", "postgresql", "seaweedfs"), tmp_path / "one")
    save(away, tmp_path / "two")
    away.close()
    back = bring_back(new_places(tmp_path / "back"), tmp_path / "two")
    assert everything(back) == before and contents(back) == files
    back.close()


def test_a_folder_is_brought_up_to_date(full: Farm, tmp_path: Path) -> None:
    """What a folder has already is not copied again; what is restored is the newer state, and nothing older."""
    path = tmp_path / "backup"
    first = save(full, path)
    inodes = {each: each.stat().st_ino for each in (path / "files").rglob("*") if each.is_file()}
    make_build(full, "new")
    second = save(full, path)
    assert (second.files, second.copied) == (first.files + 2, 2)
    assert all(each.stat().st_ino == inode for each, inode in inodes.items())
    assert len(list(path.glob("database-*"))) == 1
    unwanted = full.store.add([b"not of the farm any more"])
    (path / "files" / unwanted.sha256[:2]).mkdir(exist_ok=True)
    (path / "files" / unwanted.sha256[:2] / unwanted.sha256[2:]).write_bytes(b"not of the farm any more")
    farm = bring_back(new_places(tmp_path / "there"), path)
    assert everything(farm) == everything(full) and not farm.store.has(unwanted.sha256)
    farm.close()


def test_an_unfinished_one_is_the_earlier_one(full: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that breaks off leaves the one that was there, as it was."""
    for form in FORMS:
        path = tmp_path / form
        before = everything(full)
        save(full, path)
        make_build(full, f"new-{form[:3]}")
        with monkeypatch.context() as patch:
            patch.setattr(full.store, "open", lambda sha256: (_ for _ in ()).throw(OSError("the disk is gone")))
            with pytest.raises(OSError, match="the disk is gone"):
                save(full, path)
        farm = bring_back(new_places(tmp_path / f"of-{form}"), path)
        assert everything(farm) == before
        farm.close()
        assert list(tmp_path.glob(".*")) == []


def test_a_master_goes_on_meanwhile(full: Farm, tmp_path: Path) -> None:
    """A backup is of one moment, whatever is written while it is made."""
    stop = threading.Event()
    numbers: list[int] = []

    def write() -> None:
        other = Farm.open(full.places)
        while not stop.is_set():
            numbers.append(make_build(other, "many", f"1.{len(numbers)}"))
        other.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            while len(numbers) < 3 * number + 2:
                time.sleep(0.01)
            save(full, tmp_path / f"{number}.tar")
    finally:
        stop.set()
        thread.join()
    for number in range(3):
        farm = bring_back(new_places(tmp_path / f"there-{number}"), tmp_path / f"{number}.tar")
        rows = everything(farm)
        assert inventory.check(farm, How(), time.time).findings == []
        assert {row[1] for row in rows["source_file"]} == {row[0] for row in rows["source"]}
        farm.close()


def damage_database(path: Path) -> None:
    (found,) = path.glob("database-*.gz")
    content = bytearray(found.read_bytes())
    content[len(content) // 2] ^= 1
    found.write_bytes(content)


def first_file(path: Path) -> Path:
    return min((each for each in (path / "files").glob("??/*")), key=lambda each: each.stat().st_size)


def damage_file(path: Path) -> None:
    found = first_file(path)
    found.chmod(0o600)
    found.write_bytes(found.read_bytes()[:-1] + b"X")


def cut_file(path: Path) -> None:
    found = first_file(path)
    found.chmod(0o600)
    found.write_bytes(found.read_bytes()[:-1])


@pytest.mark.parametrize(
    "damage",
    [
        damage_database, damage_file, cut_file,
        lambda path: first_file(path).unlink(),
        lambda path: (path / "backup.json").unlink(),
        lambda path: (path / "backup.json").write_text("{}"),
        lambda path: (path / "backup.json").write_text((path / "backup.json").read_text()[:-5]),
        lambda path: next(path.glob("database-*.gz")).unlink(),
        lambda path: next(path.glob("database-*.gz")).write_bytes(b""),
        lambda path: shutil.rmtree(path / "files"),
    ],
)  # fmt: skip
def test_a_damaged_folder(full: Farm, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A folder that lacks or has changed anything is refused whole: no farm, and no file, is left."""
    path = tmp_path / "backup"
    save(full, path)
    damage(path)
    refused(new_places(tmp_path / "there"), path)


def refused(places: Places, path: Path) -> None:
    """A backup must be refused, and leave nothing."""
    with pytest.raises((BackupRefused, NoBackup)):
        bring_back(places, path).close()
    assert not places.directory.exists() and list(places.store().files()) == []
    with pytest.raises(NoFarm):
        Farm.open(places)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_file(full: Farm, tmp_path: Path, part: float) -> None:
    """A file that was cut off anywhere is refused whole."""
    path = tmp_path / "backup.tar"
    save(full, path)
    content = path.read_bytes()
    end = content.rindex(b"debfarm_backup")
    path.write_bytes(content[: int(end * part)])
    refused(new_places(tmp_path / "there"), path)


def test_every_byte_of_a_file_counts(full: Farm, tmp_path: Path) -> None:
    """A file with one wrong byte, wherever, is refused whole, or the byte meant nothing."""
    path = tmp_path / "backup.tar"
    save(full, path)
    content, before = path.read_bytes(), everything(full)
    for number in range(40):
        at = len(content) * number // 40 + number
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        places = new_places(tmp_path / f"there-{number}")
        try:
            farm = bring_back(places, path)
        except (BackupRefused, NoBackup):
            assert not places.directory.exists()
            continue
        assert everything(farm) == before  # A time or an owner in a header, or the padding.
        farm.close()


def test_a_refused_one_leaves_no_file_on_a_server(full: Farm, tmp_path: Path) -> None:
    """What was put into a bucket is taken out again when the backup turns out damaged; what was there stays."""
    path = tmp_path / "backup"
    save(full, path)
    damage_file(path)
    places = new_places(tmp_path / "there", kind="rclone")
    stays = places.store().add([b"a log"])
    with pytest.raises(BackupRefused):
        bring_back(places, path)
    assert [each.sha256 for each in places.store().files()] == [stays.sha256]


def test_nobody_knows_whether_it_was_committed(full: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost just as the restored database is committed, which it was: its files are there as well."""
    if not has_postgresql():
        pytest.skip("PostgreSQL is not installed")
    files = contents(full)
    save(full, tmp_path / "backup")
    places = new_places(tmp_path / "there", "postgresql")
    filling = Database.filling

    @contextmanager
    def and_lost(self: Database, revision: str) -> Iterator[Connection]:
        with filling(self, revision) as connection:
            yield connection
        raise CommitUncertain("the server went")

    monkeypatch.setattr(Database, "filling", and_lost)
    with pytest.raises(CommitUncertain):
        bring_back(places, tmp_path / "backup")
    farm = Farm.open(places)
    assert contents(farm) == files and inventory.check(farm, How(), time.time).findings == []
    farm.close()


@pytest.mark.parametrize(("on", "kind"), [("sqlite", "local"), ("sqlite", "rclone"), ("postgresql", "rclone")])
def test_two_restores_at_once(full: Farm, tmp_path: Path, on: str, kind: str) -> None:
    """Of two restores to one place at once, be it from two machines, the second is refused; the first one's farm is
    whole, though the second would have taken back what it finds unused."""
    if on == "postgresql" and not has_postgresql():
        pytest.skip("PostgreSQL is not installed")
    before, files = everything(full), contents(full)
    save(full, tmp_path / "backup")
    places = new_places(tmp_path / "there", on, kind)
    elsewhere = places if places.file else replace(places, directory=tmp_path / "elsewhere")
    tried: list[float] = []

    def another(part: float, left: int) -> None:
        with pytest.raises(FarmBusy, match="wait for its end"):
            bring_back(elsewhere, tmp_path / "backup")
        assert elsewhere is places or not elsewhere.directory.exists()
        tried.append(part)

    with backup_places.reading(tmp_path / "backup") as reader:
        backup.restore(places, reader, another)
    assert len(tried) == len(files)
    farm = Farm.open(places)
    assert everything(farm) == before and contents(farm) == files
    with pytest.raises(NotEmpty):  # And not busy any more.
        bring_back(places, tmp_path / "backup")
    assert contents(farm) == files
    farm.close()


def test_no_restore_below_a_master(full: Farm, tmp_path: Path) -> None:
    """Nothing is restored to where a master runs, though its farm is empty; nor does a master start meanwhile."""
    save(full, tmp_path / "backup")
    places = new_places(tmp_path / "there")
    Farm.create(places).close()
    with only_master(places), pytest.raises(FarmBusy, match="or a master"):
        bring_back(places, tmp_path / "backup")
    with only_maker(places), pytest.raises(MasterRuns), only_master(places):
        pass
    bring_back(places, tmp_path / "backup").close()


def test_not_over_a_farm(full: Farm, tmp_path: Path) -> None:
    """Nothing is restored over a farm that has anything in it; an empty one may be filled."""
    save(full, tmp_path / "backup.tar")
    before = everything(full)
    with pytest.raises(NotEmpty):
        bring_back(full.places, tmp_path / "backup.tar")
    assert everything(full) == before and full.directory.exists()
    places = new_places(tmp_path / "there")
    Farm.create(places).close()
    farm = bring_back(places, tmp_path / "backup.tar")
    assert everything(farm) == before
    farm.close()


def test_a_restore_that_is_killed(full: Farm, tmp_path: Path) -> None:
    """A restore that ends in the middle leaves no farm, or an empty one; it is simply done again."""
    path = tmp_path / "backup"
    save(full, path)
    script = f"""if True:
        import os
        from pathlib import Path
        from buildmaster import backup, backup_places, dump
        from buildmaster.farm import Places
        real = dump._values
        def die(connection, columns, row):
            if "score" in columns:
                os._exit(9)
            return real(connection, columns, row)
        dump._values = die
        with backup_places.reading(Path({str(path)!r})) as reader:
            backup.restore(Places(Path({str(tmp_path / "there" / "new")!r})), reader)
    """
    places = new_places(tmp_path / "there")
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    farm = bring_back(places, path)
    assert everything(farm) == everything(full)
    farm.close()


def test_what_the_farm_lacks(full: Farm, tmp_path: Path) -> None:
    """A farm that lacks a file is copied all the same, and what it lacks is told; so it is restored."""
    for number, form in enumerate(FORMS):
        stored = full.store.add([b"lost %d" % number])
        with full.transaction() as connection:
            distributions.set_chroot(connection, 1, stored, "chroot.tar", 1.0)
        full.store.delete(stored.sha256)
        made = save(full, tmp_path / form)
        assert stored.sha256 in made.lacking and len(made.lacking) == number + 1
        farm = bring_back(new_places(tmp_path / f"of-{form}"), tmp_path / form)
        assert everything(farm) == everything(full) and not farm.store.has(stored.sha256)
        farm.close()


def test_an_older_version(tmp_path: Path) -> None:
    """What an older version wrote is brought up to date; what a newer one wrote is refused."""
    stream = io.BytesIO()
    old = new_places(tmp_path / "old")
    old.directory.mkdir()
    farm = Farm(old)
    with farm.database.transaction() as connection:
        database._upgrade(connection, "0003")
        row = "INSERT INTO distribution (id, name) VALUES (7, 'debian')"
        connection.execute(text(row))
    farm.close()
    lines = [{"debfarm": 1, "revision": "0003"}, {"table": "distribution", "columns": ["id", "name"]}]
    written = [*lines, [7, "debian"], {"end": 1}]
    restored = Farm(new_places(tmp_path / "there"))
    restored.directory.mkdir()
    pack(stream, written)
    with restored.database.filling(dump.revision(stream)) as connection:
        dump.load(connection, dump.parts(stream))
    with restored.reading() as connection:
        assert connection.execute(select(metadata.tables["distribution"])).all() == [(7, "debian")]
    restored.close()
    with pytest.raises(UnknownRevision, match="newer"), restored.database.filling("9999"):
        pass
    restored.close()


def pack(stream: io.BytesIO, lines: list[Any]) -> None:
    stream.write(gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))


HEAD = {"debfarm": 1, "revision": "0003"}
TABLE = {"table": "distribution", "columns": ["id", "name"]}


@pytest.mark.parametrize(
    "lines",
    [
        [], [TABLE], [{"debfarm": 2, "revision": "0003"}], [HEAD], [HEAD, TABLE, [1, "x"]],
        [HEAD, TABLE, [1], {"end": 1}],
        [HEAD, TABLE, [1, {"a": 1}], {"end": 1}], [HEAD, TABLE, [1, "x"], {"end": 2}], [HEAD, {"end": 0}, TABLE],
        [HEAD, [1, "x"], {"end": 1}], [HEAD, {"table": 5, "columns": []}, {"end": 0}], [HEAD, "x", {"end": 0}],
        [HEAD, {"table": "nothing", "columns": ["id"]}, [1], {"end": 1}],
        [HEAD, {"table": "distribution", "columns": ["id", "colour"]}, [1, "x"], {"end": 1}],
        [HEAD, TABLE, [1, "x"], [1, "y"], {"end": 2}], [HEAD, TABLE, [1 << 70, "x"], {"end": 1}],
        [HEAD, TABLE, [1, "\ud800"], {"end": 1}], [HEAD, TABLE, [1, None], {"end": 1}],
    ],
)  # fmt: skip
def test_what_is_no_database(tmp_path: Path, lines: list[Any]) -> None:
    """Lines that are not a farm's database, or not all of it, are refused, and change nothing."""
    stream = io.BytesIO()
    pack(stream, lines)
    places = new_places(tmp_path / "there")
    places.directory.mkdir()
    farm = Farm(places)
    with pytest.raises(dump.BadDump), farm.database.filling(dump.revision(stream)) as connection:
        dump.load(connection, dump.parts(stream))
    assert farm.database.is_empty() and not farm.database.is_made()
    farm.close()


def hostile(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../evil", tarfile.REGTYPE), ("/etc/evil", tarfile.REGTYPE), ("files/ab/../../evil", tarfile.REGTYPE),
        ("files/ab/" + "c" * 62, tarfile.SYMTYPE), ("database.gz", tarfile.LNKTYPE), ("backup.json", tarfile.FIFOTYPE),
        ("files", tarfile.DIRTYPE),
    ],
)  # fmt: skip
def test_what_does_not_belong_into_a_tar(full: Farm, tmp_path: Path, name: str, kind: bytes) -> None:
    """A tar with anything but what we write is refused, and nothing of it is unpacked."""
    path = tmp_path / "backup.tar"
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    hostile(path, [(member, b"")])
    refused(new_places(tmp_path / "there"), path)


def test_what_is_no_backup(full: Farm, tmp_path: Path) -> None:
    """Neither another file, nor an empty one, nor a folder of something else, is taken for one, or written into."""
    (tmp_path / "text").write_text("Hello\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("Dear")
    for name in ("text", "home", "nothing"):
        with pytest.raises((NoBackup, BackupRefused)):
            bring_back(new_places(tmp_path / f"there-{name}"), tmp_path / name)
    with pytest.raises(NoBackup, match="'letter'"):
        save(full, tmp_path / "home")
    assert (tmp_path / "home" / "letter").read_text() == "Dear"


def test_only_the_owner_reads_it(full: Farm, tmp_path: Path) -> None:
    """A backup holds what private archives hold: nobody else may read it."""
    save(full, tmp_path / "backup.tar")
    save(full, tmp_path / "backup")
    assert (tmp_path / "backup.tar").stat().st_mode & 0o077 == 0
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0


def test_the_database_is_the_owners_alone(full: Farm, tmp_path: Path) -> None:
    """Nor in a folder that others can read: archives' passwords are in the database."""
    (tmp_path / "backup").mkdir(mode=0o755)
    save(full, tmp_path / "backup")
    (database,) = (tmp_path / "backup").glob("database-*")
    assert database.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("form", FORMS)
def test_two_at_once(full: Farm, tmp_path: Path, form: str) -> None:
    """Of two that are written to one place at once, the second is refused, and the first is whole."""
    path = tmp_path / form
    with backup_places.writing(path) as writer:
        with pytest.raises(BackupBusy, match="wait for its end"):
            save(full, path)
        backup.back_up(full, writer)
    bring_back(new_places(tmp_path / "there"), path).close()
    save(full, path)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_deleted_while_it_is_copied(
    full: Farm, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is lacking, and all else is in the backup, as it should be."""
    gone = next(file for file in contents(full))
    before = {sha256: content for sha256, content in contents(full).items() if sha256 != gone}
    opened = full.store.open

    class Going(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            raise NotStored(gone)

    monkeypatch.setattr(full.store, "open", lambda sha256: Going() if sha256 == gone else opened(sha256))
    assert save(full, tmp_path / form).lacking == [gone]
    restored = bring_back(new_places(tmp_path / "there"), tmp_path / form)
    assert contents(restored) == before
    restored.close()


def test_a_store_that_has_damaged_files(full: Farm, tmp_path: Path) -> None:
    """What a store had before, and is damaged, is good after a restore, like all else."""
    save(full, tmp_path / "backup")
    good = contents(full)
    places = new_places(tmp_path / "there", kind=stores.STORE)
    for sha256, content in good.items():
        places.store().add([content])
        stores.spoil(places.store(), sha256, bytes(len(content)))
    restored = bring_back(places, tmp_path / "backup")
    assert contents(restored) == good
    restored.close()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("database", "../../secrets"), ("database", "\0"), ("made_at", 1e300), ("made_at", float("inf")),
        ("made_at", -1), ("lacking", ["x"]), ("files", "many"),
    ],
)  # fmt: skip
def test_a_hostile_manifest(full: Farm, tmp_path: Path, key: str, value: object) -> None:
    """What says what a backup is, is looked at before it is believed."""
    save(full, tmp_path / "backup")
    manifest = tmp_path / "backup" / "backup.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {key: value}))
    with pytest.raises(NoBackup, match=r"backup\.json is not"):
        bring_back(new_places(tmp_path / "there"), tmp_path / "backup")


def test_json_that_is_too_deep(full: Farm, tmp_path: Path) -> None:
    """It is refused like any other that is not ours."""
    deep = b"[" * 200_000
    with pytest.raises(dump.BadDump):
        list(dump.parts(io.BytesIO(gzip.compress(json.dumps(HEAD).encode() + b"\n" + deep))))
    save(full, tmp_path / "backup")
    (tmp_path / "backup" / "backup.json").write_bytes(deep)
    refused(new_places(tmp_path / "there"), tmp_path / "backup")


def test_a_tar_with_holes(tmp_path: Path) -> None:
    """A sparse member, of which a few bytes are a petabyte, fills no disk."""
    member = tarfile.TarInfo("database.gz")
    member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(1 << 26),
                          "GNU.sparse.map": f"{(1 << 26) - 1},1", "GNU.sparse.name": "database.gz"}  # fmt: skip
    hostile(tmp_path / "backup.tar", [(member, b"x")])
    with pytest.raises(NoBackup, match="does not belong"):
        bring_back(new_places(tmp_path / "there"), tmp_path / "backup.tar")


def test_a_file_that_is_too_long(full: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of it is written than it should have."""
    save(full, tmp_path / "backup")
    path = first_file(tmp_path / "backup")
    path.chmod(0o600)
    with path.open("ab") as stream:
        stream.truncate(20 << 20)
    written: list[int] = []
    write = DigestingWriter.write

    def counted(self: DigestingWriter, data: bytes) -> None:
        written.append(len(data))
        write(self, data)

    monkeypatch.setattr(DigestingWriter, "write", counted)
    refused(new_places(tmp_path / "there"), tmp_path / "backup")
    assert sum(written) < 5 << 20


def test_every_column_can_be_written() -> None:
    """Whoever adds a column of another type has to say how it is written."""
    for table in metadata.sorted_tables:
        for column in table.columns:
            assert isinstance(column.type, Integer | String | Text | Boolean | Double | Float), column
