"""A farm that takes uploads for debian/mine, by every way that there is; and Debian's own clients."""

import http.client
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from buildmaster import uploads
from buildmaster.secrets import Secrets
from buildmaster.tables import publication, source, stored_file
from buildmaster.tests.factories import make_farm
from buildmaster.tests.uploading import make_archive
from buildmaster.uploading.http import take_uploads
from buildmaster.uploading.reception import Reception
from buildmaster.uploading.terms import Terms


class UploadCase(TestCase):
    terms = Terms(file_bytes=1 << 20, upload_bytes=4 << 20, spool_bytes=8 << 20, unpacked_bytes=8 << 20)
    binaries = False

    def setUp(self) -> Any:
        self.directory = Path(tempfile.mkdtemp())
        self.farm = make_farm(self.directory)
        self.place = make_archive(self.farm, binaries=self.binaries)
        self.farm.start(reactor)  # type: ignore[arg-type]
        self.clock: Any = time.time
        self.reception = Reception(self.farm, reactor, self.terms, self.now)  # type: ignore[arg-type]
        self.ports: list[Any] = []
        self.http = self.listen(self._site())

    def now(self) -> float:
        return float(self.clock())

    def _site(self) -> Site:
        site = Site(Resource())  # type: ignore[no-untyped-call]
        site.displayTracebacks = False
        take_uploads(site, self.reception)
        return site

    def listen(self, factory: Any) -> int:
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.ports.append(port)
        return int(port.getHost().port)

    def put_now(self, url: str, content: bytes) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=20)
        with closing(connection):
            connection.request("PUT", url, body=content)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    async def put(self, name: str, content: bytes, archive: str = "debian/mine") -> tuple[int, str]:
        return await deferToThread(self.put_now, f"/upload/{archive}/{name}", content)

    def ftp(self, passive_ports: range = range(0), address: str = "") -> int:
        """Takes uploads by FTP, at this port."""
        from buildmaster.uploading.ftp import ftp_factory  # noqa: PLC0415

        return self.listen(ftp_factory(self.reception, reactor, passive_ports, address))  # type: ignore[arg-type]

    def sftp(self) -> int:
        """Takes uploads by SFTP, at this port."""
        from buildmaster.uploading.ssh import sftp_factory  # noqa: PLC0415

        secrets = Secrets(self.directory / "secrets")
        return self.listen(sftp_factory(self.reception, secrets))

    async def until(self, happened: Callable[[], bool]) -> None:
        for _ in range(200):
            if happened():
                return
            await deferLater(reactor, 0.02)
        raise AssertionError(self.spooled())

    async def tearDown(self) -> None:  # type: ignore[override]
        self.reception.stop()
        for port in self.ports:
            await port.stopListening()
        self.farm.close()
        shutil.rmtree(self.directory)

    async def call(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program beside the reactor."""

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command, env={**os.environ, **environment}, text=True, capture_output=True, timeout=60, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip

        return await deferToThread(run)

    def uploads(self) -> list[uploads.Uploaded]:
        """What is recorded, the oldest first."""
        with self.farm.reading() as connection:
            return uploads.every(connection, 1000)[::-1]

    def sources(self) -> list[str]:
        with self.farm.reading() as connection:
            return [f"{row.name} {row.version}" for row in connection.execute(select(source).order_by(source.c.id))]

    def spooled(self) -> list[str]:
        """What is in the spool, but for empty folders."""
        folder = self.reception.spool.directory
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())

    def left_behind(self) -> list[str]:
        """What is there beside the records of uploads."""
        with self.farm.reading() as connection:
            found = [f"row of {each}" for each in (source, publication) if connection.execute(select(each)).first()]
            known = set(connection.execute(select(stored_file.c.sha256)).scalars())
        return [
            *found,
            *(f"file {each.sha256}" for each in self.farm.store.files() if each.sha256 not in known),
            *self.spooled(),
        ]

    def http_profile(self) -> dict[str, str]:
        return {"method": "http", "fqdn": f"127.0.0.1:{self.http}", "incoming": "/upload/debian/mine"}

    async def dput(self, profile: dict[str, str], changes: Path, *more: str) -> subprocess.CompletedProcess[str]:
        """Debian's dput."""
        config = self.directory / "dput.cf"
        config.write_text("[farm]\n" + "".join(f"{name} = {value}\n" for name, value in profile.items()))
        command = ["/usr/bin/dput", "--config", str(config), "--unchecked", "--force", *more, "farm", str(changes)]
        return await self.call(*command, HOME=str(self.directory))

    async def dput_ng(self, profile: dict[str, str], changes: Path, *more: str) -> subprocess.CompletedProcess[str]:
        """Debian's dput-ng, which cannot be installed beside dput."""
        place = dput_ng()
        config = self.directory / "dput.cf"
        lines = {**profile, "allow_unsigned_uploads": "1"}
        config.write_text("[farm]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
        command = ["/usr/bin/python3", str(place / "run.py"), "--config", str(config), "--unchecked", "--force"]
        paths = f"{place}/usr/lib/python3/dist-packages"
        return await self.call(*command, *more, "farm", str(changes), HOME=str(self.directory), PYTHONPATH=paths)


@cache
def dput_ng() -> Path:
    """dput-ng, unpacked, with a program that runs it from there."""
    folder = Path(tempfile.mkdtemp(prefix="dput-ng-"))
    folder.chmod(0o755)
    fetched = subprocess.run(
        ["apt-get", "download", "-q", "dput-ng", "python3-dput"], cwd=folder, capture_output=True, check=False
    )
    if fetched.returncode:
        pytest.skip(f"dput-ng cannot be fetched: {fetched.stderr.decode()[-300:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    there = {f"{folder}/usr/share/dput-ng/": 30, f"{folder}/etc/dput.d/": 20}
    (folder / "run.py").write_text(
        "import runpy, dput.core\n"
        f"dput.core.CONFIG_LOCATIONS.clear()\ndput.core.CONFIG_LOCATIONS.update({there})\n"
        f"dput.core.SCHEMA_DIRS[:] = ['{folder}/usr/share/dput-ng/schemas']\n"
        f"runpy.run_path('{folder}/usr/bin/dput', run_name='__main__')\n"
    )
    return folder
