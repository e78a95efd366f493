"""kill -9 at every step of an upload: the archive has it whole or not at all, and has it once when it is sent again."""

import http.client
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from buildmaster import publications, repositories, uploads
from buildmaster.farm import Farm
from buildmaster.tables import binary, build, publication, source, upload
from buildmaster.tests import dying
from buildmaster.tests.factories import CONFIG, make_farm, open_farm, write_deb
from buildmaster.tests.ports import free_port
from buildmaster.tests.test_crash_commands import die_at
from buildmaster.tests.uploading import ARCHIVE, Upload, make_archive
from buildmaster.uploading.acceptance import Verdict, process
from buildmaster.uploading.arrivals import Folder, Received
from buildmaster.uploading.reception import Reception
from buildmaster.uploading.spool import Spool
from buildmaster.uploading.terms import Terms

TERMS = Terms(tells=True)


def send(farm: Farm, changes: Path) -> Verdict:
    """Judge an upload, and accept it or refuse it."""
    with farm.reading() as connection:
        place = uploads.find_place(connection, *ARCHIVE)
    assert place is not None
    received = Received(changes.name, changes.read_bytes(), Folder(changes.parent))
    return process(farm, received, place, TERMS, time.time())


def rows(farm: Farm) -> dict[str, int]:
    """How many there are of what an upload makes."""
    with farm.reading() as connection:

        def count(table: Any, *where: Any) -> int:
            return len(connection.execute(select(table).where(*where)).all())

        accepted = count(upload, upload.c.faults == "")
        found = {"accepted": accepted, "refused": count(upload, upload.c.faults != "")}
        for name, table in {"source": source, "binary": binary, "publication": publication, "build": build}.items():
            found[name] = count(table)
    return found


def source_alone(folder: Path) -> Upload:
    return Upload()


def with_packages(folder: Path) -> Upload:
    deb = write_deb(folder / "debs", "hello", "1.0", "amd64")
    return Upload(more={deb.name: deb.read_bytes()}, changes_fields={"Architecture": "source amd64"})


def refused(folder: Path) -> Upload:
    return Upload(distribution="sid")


NOTHING = {"accepted": 0, "refused": 0, "source": 0, "binary": 0, "publication": 0, "build": 0}
SOURCE = {"accepted": 1, "refused": 0, "source": 1, "binary": 0, "publication": 1, "build": 1}
WHOLE = [
    (source_alone, SOURCE),
    (with_packages, SOURCE | {"binary": 1, "publication": 2}),
    (refused, NOTHING | {"refused": 1}),
]


@pytest.mark.parametrize(("make", "whole"), WHOLE, ids=["source", "packages", "refused"])
def test_every_point(make: Callable[[Path], Upload], whole: dict[str, int], tmp_path: Path) -> None:
    """Before and after each transaction, commit and file in the store."""
    places: list[str] = []
    while True:
        directory = tmp_path / str(len(places))
        directory.mkdir()
        farm = make_farm(directory)
        place = make_archive(farm)
        with farm.transaction() as connection:
            repositories.change(connection, place.archive_id, repositories.Settings(binaries=True))
        changes = make(directory).write(directory / "upload")
        farm.close()
        where = die_at(len(places) + 1, farm.directory, lambda farm, changes=changes: send(farm, changes))  # type: ignore[misc]
        farm = open_farm(farm.directory)
        left = rows(farm)
        assert left in (NOTHING, whole), where
        again = send(farm, changes)
        if make is refused:
            assert again.faults and rows(farm)["accepted"] == 0
        else:
            assert again.accepted or again.faults[0].endswith("was accepted before, as it is: there is nothing to do")
            assert rows(farm) | {"refused": 0} == whole, where
            with farm.reading() as connection:
                assert publications.named(connection, place.archive_id, "hello")
        Spool(farm.directory / "uploads", TERMS).sweep(time.time() + 86401)
        assert list((farm.directory / "uploads").rglob("*.dsc")) == []
        farm.close()
        if not where:
            break
        places.append(where)
    print(f"died at {len(places)} points")
    assert len(places) >= (3 if make is refused else 7)


class _Now(Clock):
    """A reactor whose threads are done at once."""

    def getThreadPool(self) -> "_Now":
        return self

    def callInThreadWithCallback(self, told: Callable[..., Any], function: Callable[..., Any], *args: Any) -> None:
        try:
            told(True, function(*args))
        except Exception:
            told(False, Failure())  # type: ignore[no-untyped-call]

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)


def reception_of(farm: Farm) -> Reception:
    """What takes uploads for a farm, all in this thread."""

    async def read(function: Callable[..., Any], *args: Any) -> Any:
        with farm.reading() as connection:
            return function(connection, *args)

    farm.read = read  # type: ignore[method-assign, assignment]
    reactor: Any = _Now()
    return Reception(farm, reactor, TERMS, time.time)


def now(coroutine: Any) -> Any:
    """What a coroutine returns that waits for nothing."""
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def bring(reception: Reception, changes: Path) -> None:
    """All files, the .changes last, as HTTP, FTP and SFTP do it."""
    for path in sorted(changes.parent.iterdir(), key=lambda path: path == changes):
        incoming = reception.begin(path.name, "192.0.2.1")
        incoming.write(path.read_bytes())
        now(reception.finish(incoming, *ARCHIVE))


def commits(farm: Farm, point: Callable[[str], None]) -> None:
    """Let commits of a farm be points."""
    database: Any = farm.database
    transaction = database._transaction

    @contextmanager
    def committing(*args: Any) -> Iterator[Any]:
        with transaction(*args) as connection:
            yield connection
            point("commit")
        point("committed")

    database._transaction = committing


# What an upload changes on its way from the network into the archive, in its order: patterns of points.
STEPS = (
    "open .*/uploads/new/.*part", "os.rename .*/uploads/new/", "os.mkdir .*/judged-", "fsync", "os.rename .*/store/",
    "commit", "committed", "os.remove .*/uploads/[0-9]+/.*[.]dsc/", "os.remove .*/uploads/[0-9]+/.*[.]changes/",
)  # fmt: skip


@pytest.mark.parametrize(("make", "whole"), WHOLE, ids=["source", "packages", "refused"])
def test_every_change(make: Callable[[Path], Upload], whole: dict[str, int], tmp_path: Path) -> None:
    """The master dies before each change of the disk and each commit, from the first byte of a file to the end; another
    goes on, and the client sends all of it again."""
    changes = make(tmp_path).write(tmp_path / "upload")
    places: list[str] = []
    for nth in itertools.count(1, 6 if make is with_packages else 1):  # Packages take long, and most is as without.
        directory = tmp_path / str(nth)
        directory.mkdir()
        farm = make_farm(directory)
        place = make_archive(farm)
        with farm.transaction() as connection:
            repositories.change(connection, place.archive_id, repositories.Settings(binaries=True))
        farm.close()
        opened: list[Farm] = []

        def arm(point: Callable[[str], None], opened: list[Farm] = opened, farm: Farm = farm) -> None:
            opened.append(open_farm(farm.directory))
            commits(opened[0], point)

        where = dying.die_at(
            nth,
            lambda opened=opened: bring(reception_of(opened[0]), changes),  # type: ignore[misc]
            arm,
        )
        farm = open_farm(farm.directory)
        assert rows(farm) in (NOTHING, whole), where
        farm.store.sweep()
        reception = reception_of(farm)
        now(reception._resume())
        now(reception._look())
        assert rows(farm) in (NOTHING, whole), where
        bring(reception, changes)
        assert rows(farm) | {"refused": 0} == whole | {"refused": 0}, where
        reception.spool.sweep(time.time() + 86401)
        assert [path for path in reception.spool.directory.rglob("*") if not path.is_dir()] == [], where
        farm.close()
        shutil.rmtree(directory)
        if not where:
            break
        places.append(where)
    print(f"died before {len(places)} changes")
    if make is source_alone:
        left = iter(places)
        assert all(any(re.match(step, place) for place in left) for step in STEPS), places


class Master:
    """A master in a process of its own, whose archives are at a port."""

    def __init__(self, farm: Farm, port: int) -> None:
        self.port = port
        command = [sys.executable, "-c", "from buildmaster.cli import main; main()"]
        self.log = farm.directory.parent / "master.log"
        place = ["--config", str(farm.directory / CONFIG), "--dir", str(farm.directory), "--log-file", str(self.log)]
        self.running = subprocess.Popen([*command, *place, "run"], env=os.environ)
        self.until(self.answers)

    def until(self, happened: Callable[[], bool]) -> None:
        for _ in range(1200):
            if happened():
                return
            assert self.running.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def answers(self) -> bool:
        try:
            return self.put("nothing.txt", b"") == 400
        except OSError:
            return False

    def put(self, name: str, content: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("PUT", f"/upload/debian/mine/{name}", body=content)
            return connection.getresponse().status
        finally:
            connection.close()

    def kill(self) -> None:
        self.running.send_signal(signal.SIGKILL)
        self.running.wait()


def test_the_server_is_killed(tmp_path: Path) -> None:
    """At some moment of an upload by HTTP, a different one each time; sent again, it is there, once."""
    farm = make_farm(tmp_path)
    make_archive(farm)
    port = free_port()
    with (farm.directory / CONFIG).open("a") as file:
        file.write(f"[files]\nport = 0\n[archives]\nport = {port}\n[uploads]\nftp_port =\n[dependencies]\nlook = no\n")
    for number, after_s in enumerate((0.0, 0.01, 0.03, 0.08, 0.2)):
        changes = Upload(version=f"1.{number}").write(tmp_path / f"upload-{number}")
        master = Master(farm, port)
        for path in sorted(changes.parent.iterdir(), key=lambda path: path == changes):
            if path != changes:
                assert master.put(path.name, path.read_bytes()) == 201
        content = changes.read_bytes()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("PUT", f"/upload/debian/mine/{changes.name}", body=content)
        time.sleep(after_s)
        master.kill()
        connection.close()
        whole = dict.fromkeys(("accepted", "source", "publication", "build"), number + 1)
        none = dict.fromkeys(whole, number)
        left = {name: count for name, count in rows(farm).items() if name in whole}
        assert left in (none, whole)
        again = Master(farm, port)  # Which goes on with what had come.
        with suppress(OSError):
            for path in sorted(changes.parent.iterdir(), key=lambda path: path == changes):
                again.put(path.name, path.read_bytes())
        again.until(lambda whole=whole: {name: rows(farm)[name] for name in whole} == whole)  # type: ignore[misc]
        again.running.terminate()
        assert again.running.wait(30) == 0, again.log.read_text()
    farm.close()
