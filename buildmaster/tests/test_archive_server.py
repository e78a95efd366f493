"""Archives over HTTP."""

import base64
import http.client
import json
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import update
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from buildmaster import archives, credentials, distributions, packages, sending
from buildmaster.apt_sources import Login
from buildmaster.archive_server import archive_site
from buildmaster.scoring import ArchivePurpose
from buildmaster.tables import archive, repository, suite
from buildmaster.tests.factories import make_builder, make_farm, make_series, write_source
from buildmaster.tests.test_attested import finish

SECRET = "of the farm's"
CONTENT = bytes(range(256)) * 3000  # More than goes out at once.


def fetch(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class TestArchives(TestCase):
    """A farm that publishes debian/mine and debian/secret, and builds for debian/primary, which it does not publish."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.farm = make_farm(self.directory)
        make_series(self.farm)
        self.tree = self.directory / "archives"
        self.mine, self.secret = self.add("mine"), self.add("secret")
        with self.farm.transaction() as connection:
            connection.execute(update(archive).where(archive.c.id == self.secret).values(private=True))
        self.farm.start(reactor)  # type: ignore[arg-type]
        site = archive_site(self.farm, reactor, self.tree, SECRET, "http://archives.example:{}".format)  # type: ignore
        any_reactor: Any = reactor
        self.port: Any = any_reactor.listenTCP(0, site, interface="127.0.0.1")
        self.number: int = self.port.getHost().port

    def add(self, name: str) -> int:
        """Publish an archive with one suite."""
        with self.farm.transaction() as connection:
            added = archives.add(connection, "debian", name, ArchivePurpose.PPA)
            connection.execute(repository.insert().values(archive_id=added, created_at=1.0))
            of = distributions.find_series(connection, "debian", "bookworm")
            values = {"archive_id": added, "series_id": of, "pocket": "RELEASE", "generation": 1}
            connection.execute(suite.insert().values(components="main main/debug", **values))
        folder = self.tree / "debian" / name
        (folder / ".state/one/main/binary-amd64/by-hash/SHA256").mkdir(parents=True)
        (folder / ".state/one/InRelease").write_text(f"of {name}")
        (folder / ".state/one/main/binary-amd64/by-hash/SHA256/abc").write_bytes(b"packages")
        (folder / "dists").mkdir()
        (folder / "dists/bookworm").symlink_to("../.state/one")
        (folder / "pool").mkdir()
        (folder / "pool/hello.deb").write_bytes(CONTENT)
        (folder / "key.asc").write_text("a key")
        return added

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.port.stopListening()
        self.farm.close()
        shutil.rmtree(self.directory)

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        return await deferToThread(fetch, self.number, path, method, **headers)

    async def test_files(self) -> None:
        """Files are served whole, with what to ask by the next time; what never changes is said to."""
        code, headers, body = await self.get("/debian/mine/dists/bookworm/InRelease")
        assert (code, body, headers["content-type"]) == (200, b"of mine", "text/plain; charset=utf-8")
        assert headers["cache-control"] == "public, no-cache" and headers["accept-ranges"] == "bytes"
        for header, value in (("If_None_Match", headers["etag"]), ("If_Modified_Since", headers["last-modified"])):
            code, again, body = await self.get("/debian/mine/dists/bookworm/InRelease", **{header: value})
            assert (code, body) == (304, b"") and again["etag"] == headers["etag"]
        code, headers, body = await self.get("/debian/mine/pool/hello.deb")
        assert (code, body) == (200, CONTENT) and "immutable" in headers["cache-control"]
        assert headers["content-type"] == "application/vnd.debian.binary-package"
        code, headers, _ = await self.get("/debian/mine/dists/bookworm/main/binary-amd64/by-hash/SHA256/abc")
        assert code == 200 and "immutable" in headers["cache-control"]

    async def test_parts(self) -> None:
        """A download is gone on with where it broke off."""
        code, headers, body = await self.get("/debian/mine/pool/hello.deb", Range="bytes=300000-")
        assert (code, body) == (206, CONTENT[300000:])
        assert headers["content-range"] == f"bytes 300000-{len(CONTENT) - 1}/{len(CONTENT)}"
        code, _, body = await self.get("/debian/mine/pool/hello.deb", Range="bytes=5-7", If_Range=headers["etag"])
        assert (code, body) == (206, CONTENT[5:8])
        code, headers, body = await self.get("/debian/mine/pool/hello.deb", Range=f"bytes={len(CONTENT)}-")
        assert (code, headers["content-range"], body) == (416, f"bytes */{len(CONTENT)}", b"")

    async def test_head(self) -> None:
        """HEAD says what GET would, and sends nothing."""
        code, headers, body = await self.get("/debian/mine/pool/hello.deb", "HEAD")
        assert (code, headers["content-length"], body) == (200, str(len(CONTENT)), b"")
        code, headers, body = await self.get("/debian/mine/", "HEAD")
        assert code == 200 and int(headers["content-length"]) > 0 and body == b""

    async def test_nothing_else(self) -> None:
        """There is no listing, no other archive, and no way out."""
        for path in (
            "/", "/debian", "/debian/mine/dists", "/debian/mine/pool/", "/debian/mine/dists/bookworm",
            "/debian/primary/", "/debian/none/key.asc", "/debian/mine/.state/one/InRelease",
            "/debian/mine/../secret/dists/bookworm/InRelease", "/debian/mine/%2e%2e/secret/pool/hello.deb",
            "/debian/mine/pool/%2e%2e%2f%2e%2e%2fsecret%2fpool%2fhello.deb", "/debian/mine/%ff", "/debian/mine/a%00b",
            "/debian/mine/snapshot/20261122", "/debian/mine/snapshot/20261122/dists/bookworm/InRelease",
        ):  # fmt: skip
            code, _, body = await self.get(path)
            assert (code, body) == (404, b"There is no such file.\n"), path
        for method in ("POST", "DELETE", "PUT"):
            code, _, _ = await self.get("/debian/mine/key.asc", method)
            assert code in (405, 501)

    async def test_what_to_write(self) -> None:
        """An archive tells the lines for sources.list."""
        _, _, body = await self.get("/debian/mine/")
        url = f"http://archives.example:{self.number}/debian/mine"
        assert body.decode().splitlines() == [
            f"# wget -O /etc/apt/keyrings/debian-mine.asc {url}/key.asc",
            f"deb [signed-by=/etc/apt/keyrings/debian-mine.asc] {url} bookworm main",
        ]

    def built(self, name: str) -> str:
        """Build a package for an archive; the path of the statement about that."""
        dsc = write_source(self.directory / name)
        place: Any = {"distribution": "debian", "series_name": "bookworm", "archive_name": name}
        accepted = packages.accept(self.farm, dsc, 1.0, **place)
        return f"/debian/{name}/provenance/{finish(self.farm, accepted.build_ids[0], name.encode()).sha256}.json"

    async def test_where_packages_come_from(self) -> None:
        """Statements and .buildinfo files are beside the archive that has the packages, as private as that is."""
        make_builder(self.farm)
        mine, secret = self.built("mine"), self.built("secret")
        code, headers, body = await self.get(mine)
        assert (code, headers["cache-control"]) == (200, "public, no-cache")
        assert json.loads(body)["payloadType"] == "application/vnd.in-toto+json"
        assert (await self.get(mine, "HEAD"))[1]["content-length"] == str(len(body))
        code, headers, body = await self.get("/debian/mine/buildinfo/h/hello/hello_1.0_amd64.buildinfo")
        assert (code, headers["content-type"], body) == (200, "text/plain; charset=utf-8", b"Source: hello\n")
        assert b"BEGIN PUBLIC KEY" in (await self.get("/debian/mine/provenance/key.pem"))[2]
        for path in (
            secret.replace("/secret/", "/mine/"),
            f"{mine}x",
            "/debian/mine/buildinfo",
            "/debian/mine/provenance/",
        ):
            assert (await self.get(path))[0] == 404, path
        assert (await self.get(secret))[0] == 401
        with self.farm.transaction() as connection:
            token = credentials.add(connection, self.secret, "alice", 1.0)
        for key in (self.farm.directory / "secrets").iterdir():
            key.unlink()
        code, headers, _ = await self.get(secret, Authorization=basic("alice", token))
        assert (code, headers["retry-after"]) == (503, "60")
        assert (await self.get(mine))[0] == 200  # It is there already.

    async def test_private(self) -> None:
        """A private archive is for who has a token for it, but for its key."""
        with self.farm.transaction() as connection:
            token = credentials.add(connection, self.secret, "alice", 1.0)
            other = credentials.add(connection, self.mine, "alice", 1.0)
        path = "/debian/secret/dists/bookworm/InRelease"
        for header in ("", "Basic", "Basic !", "Basic YQ==", "Bearer x", basic("alice", other), basic("bob", token)):
            code, headers, body = await self.get(path, **({"Authorization": header} if header else {}))
            assert code == 401 and b"of secret" not in body, header
            assert headers["www-authenticate"] == 'Basic realm="debian/secret", charset="UTF-8"'
        code, headers, body = await self.get(path, Authorization=basic("alice", token))
        assert (code, body, headers["cache-control"]) == (200, b"of secret", "private, no-cache")
        assert (await self.get(path, Authorization=basic(*login_of_farm())))[0] == 200
        assert (await self.get("/debian/secret/key.asc"))[2] == b"a key"
        assert (await self.get("/debian/secret/"))[0] == 401
        with self.farm.transaction() as connection:
            credentials.remove(connection, self.secret, "alice")
        assert (await self.get(path, Authorization=basic("alice", token)))[0] == 401

    async def test_one_after_another(self) -> None:
        """Requests that are sent before the last was answered are answered in turn, as apt has it."""

        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", self.number), timeout=5) as connection:
                paths = ["dists/bookworm/InRelease", "pool/hello.deb", "none", "key.asc"]
                requests = "".join(f"GET /debian/mine/{path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths[:-1])
                last = f"GET /debian/mine/{paths[-1]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                connection.sendall((requests + last).encode())
                found = b""
                while data := connection.recv(1 << 16):
                    found += data
                return found

        found = await deferToThread(ask)
        order = [found.index(each) for each in (b"of mine", CONTENT, b"404 Not Found", b"a key")]
        assert order == sorted(order) and found.count(b"HTTP/1.1 ") == 4

    async def test_who_reads_nothing(self) -> None:
        """Whoever asks for a file and takes nothing of it has no connection for ever."""
        (self.tree / "debian/mine/pool/large").write_bytes(CONTENT * 20)

        def ask_and_sleep() -> bytes:
            with socket.create_connection(("127.0.0.1", self.number), timeout=20) as connection:
                connection.sendall(b"GET /debian/mine/pool/large HTTP/1.1\r\nHost: x\r\n\r\n")
                time.sleep(1.5)
                found = b""
                try:
                    while data := connection.recv(1 << 16):
                        found += data
                except ConnectionResetError:
                    pass
                return found

        with mock.patch.object(sending, "_PATIENCE_S", 0.3):
            found = await deferToThread(ask_and_sleep)
        assert len(found) < len(CONTENT) * 20
        assert (await self.get("/debian/mine/key.asc"))[0] == 200

    async def test_too_many_connections(self) -> None:
        """Nobody has all connections: one too many is closed at once, and one that has ended counts no more."""
        site: Any = self.port.factory
        site._clients._most = 3

        def ask() -> list[bytes]:
            opened, answers = [], []
            for _ in range(5):
                connection = socket.create_connection(("127.0.0.1", self.number), timeout=5)
                opened.append(connection)
                try:
                    connection.sendall(b"GET /debian/mine/key.asc HTTP/1.1\r\nHost: x\r\n\r\n")
                    answers.append(connection.recv(12))
                except ConnectionError:
                    answers.append(b"")
            for connection in opened:
                connection.close()
            return answers

        assert await deferToThread(ask) == [b"HTTP/1.1 200"] * 3 + [b""] * 2
        for _ in range(100):
            if not site._clients.total():
                break
            await deferLater(reactor, 0.02)
        assert await deferToThread(ask) == [b"HTTP/1.1 200"] * 3 + [b""] * 2

    def test_connections_of_one_address(self) -> None:
        """One address has fewer than all; this machine may be a proxy, and has all."""
        site: Any = self.port.factory
        site._clients._of_one = 2

        def take(host: str) -> bool:
            kind = IPv6Address if ":" in host else IPv4Address
            return site.buildProtocol(kind("TCP", host, 1)) is not None

        assert [take("192.0.2.1") for _ in range(3)] == [True, True, False]
        assert take("192.0.2.2") and all(take("127.0.0.1") for _ in range(5))
        assert [take(f"2001:db8::{number}") for number in range(3)] == [True, True, False]  # One network.
        assert take("2001:db8:0:1::1") and all(take("::ffff:127.0.0.1") and take("::1") for _ in range(5))

    async def test_a_suite_that_is_published_meanwhile(self) -> None:
        """What goes out is of one publication, be it the old one."""
        folder = self.tree / "debian/mine"
        (folder / ".state/two").mkdir()
        (folder / ".state/one/large").write_bytes(CONTENT * 20)
        (folder / ".state/two/large").write_bytes(CONTENT[::-1] * 20)

        def ask_slowly() -> bytes:
            with socket.create_connection(("127.0.0.1", self.number), timeout=5) as connection:
                request = "GET /debian/mine/dists/bookworm/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                connection.sendall(request.encode())
                found = connection.recv(1000)
                (folder / "dists/new").symlink_to("../.state/two")
                (folder / "dists/new").replace(folder / "dists/bookworm")
                while data := connection.recv(1 << 16):
                    found += data
                return found

        assert (await deferToThread(ask_slowly)).endswith(CONTENT * 20)
        assert (await self.get("/debian/mine/dists/bookworm/large"))[2] == CONTENT[::-1] * 20


def login_of_farm() -> tuple[str, str]:
    login: Login = credentials.of_farm(SECRET)
    return login.user, login.password
