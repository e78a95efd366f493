"""The real apt behind the daemon's proxy, and archives that do what archives do."""

import functools
import hashlib
import socket
import threading
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from buildd import apt
from buildd.proxy import ArchiveProxy, Serving
from buildd.reach import Reach
from buildd.tests.small_archive import OwnApt, SmallArchive


def in_thread(test: Callable[["AptTests"], None]) -> Callable[["AptTests"], Deferred[None]]:
    """A test that blocks, as apt does."""

    @functools.wraps(test)
    def run(self: "AptTests") -> Deferred[None]:
        return deferToThread(test, self)

    return run


class AptTests(TestCase):
    """What apt is to do, it does by the proxy alone."""

    timeout = 60

    def setUp(self) -> None:
        self.said: list[str] = []
        self.serving: Serving | None = None

    def tearDown(self) -> "Deferred[None]":  # type: ignore[override]
        if self.serving is not None:
            self.serving.stop()
        return deferLater(reactor, 0.05)

    def proxy(self, *urls: str) -> str:
        """The URL of a proxy by which these archives are reached."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        done = threading.Event()

        def serve() -> None:
            self.serving = ArchiveProxy(reactor).serve(listening, Reach.of(urls), self.said.append)
            done.set()

        reactor.callFromThread(serve)  # type: ignore[attr-defined]
        assert done.wait(5)
        return url

    def archive(self, *, tls: bool = False, version: str = "1.0") -> SmallArchive:
        archive = SmallArchive(tls=tls)
        self.addCleanup(archive.close)
        for name in ("one", "two", "three", "four"):
            archive.add(name, version, size=200_000)
        archive.publish()
        return archive

    def apt(self, line: str, proxy: str, *options: str) -> OwnApt:
        own = OwnApt(line, proxy=proxy, options=options)
        self.addCleanup(own.close)
        return own

    def check_downloads(self, own: OwnApt, archive: SmallArchive, version: str = "1.0") -> None:
        """See that apt gets lists and packages, whole."""
        assert own.update(), own
        assert not own.update(), own
        ended = own.run("apt-get", "download", "one", "two", "three", "four")
        assert ended.returncode == 0, ended.stderr
        for name in ("one", "two", "three", "four"):
            there = (archive.folder / f"files/pool/{name}_{version}_all.deb").read_bytes()
            assert (own.root / f"{name}_{version}_all.deb").read_bytes() == there
        assert self.said == []

    @in_thread
    def test_an_archive(self) -> None:
        """apt gets its lists and packages, and hears that lists are not modified."""
        archive = self.archive()
        self.check_downloads(self.apt(archive.line, self.proxy(archive.url)), archive)
        assert ("/dists/stable/InRelease", 304) in archive.requests

    @in_thread
    def test_pipelining(self) -> None:
        """apt may ask for many things at once."""
        archive = self.archive()
        own = self.apt(archive.line, self.proxy(archive.url), 'Acquire::http::Pipeline-Depth "10";')
        self.check_downloads(own, archive)

    @in_thread
    def test_https(self) -> None:
        """apt has TLS with the archive itself, through a tunnel."""
        archive = self.archive(tls=True)
        own = self.apt(archive.line, self.proxy(archive.url), f'Acquire::https::CAInfo "{archive.certificate}";')
        self.check_downloads(own, archive)

    @in_thread
    def test_a_password(self) -> None:
        """apt's credentials for an archive get there."""
        archive = self.archive()
        archive.password = "me:secret"
        own = self.apt(archive.line, self.proxy(archive.url))
        (own.root / "etc/apt/auth.conf").write_text(f"machine {archive.url} login me password secret\n")
        self.check_downloads(own, archive)

    @in_thread
    def test_redirected_packages(self) -> None:
        """An archive may send apt elsewhere for a package, however its name is to be written in a URL."""
        version = "1.0~a+b"
        archive = self.archive(version=version)
        (archive.folder / "files/sub").symlink_to(".")
        for name in ("one", "two"):
            file = f"pool/{name}_{version}_all.deb"
            for written in (file, file.replace("~", "%7e").replace("+", "%2b")):
                archive.locations[f"sub/{written}"] = f"/{file}"
        own = self.apt(archive.line.replace(archive.url, f"{archive.url}sub/"), self.proxy(f"{archive.url}sub/"))
        self.check_downloads(own, archive, version)
        assert [status for path, status in archive.requests if "pool/one" in path] == [302, 200]

    @in_thread
    def test_another_archive(self) -> None:
        """An archive that is not the build's is not reached, and apt fails with what is no passing fault."""
        one, other = self.archive(), self.archive()
        own = self.apt(other.line, self.proxy(one.url))
        ended = own.run("apt-get", "update")
        assert ended.returncode == 100
        assert "Forbidden by the builder" in ended.stderr
        assert not apt.did_not_answer(ended.stderr)
        assert other.requests == []
        assert self.serving is not None
        assert any(f"{other.url}dists/stable/InRelease" in refused for refused in self.serving.refused)

    @in_thread
    def test_an_archive_that_is_gone(self) -> None:
        """An archive that cannot be reached is one that did not answer, by http and by https."""
        for scheme in ("http", "https"):
            url = f"{scheme}://localhost:1/"
            ended = self.apt(f"deb {url} stable main", self.proxy(url)).run("apt-get", "update")
            assert ended.returncode == 100
            assert apt.did_not_answer(ended.stderr), ended.stderr
            assert self.serving is not None
            reactor.callFromThread(self.serving.stop)  # type: ignore[attr-defined]

    @in_thread
    def test_a_large_file(self) -> None:
        """A large package is whole, and no memory is taken for it."""
        archive = self.archive()
        archive.add("large", size=40_000_000)
        archive.publish()
        own = self.apt(archive.line, self.proxy(archive.url))
        assert own.update()
        before = _peak_bytes()
        assert own.run("apt-get", "download", "large").returncode == 0
        digests = []
        for folder in (own.root, archive.folder / "files/pool"):
            with (folder / "large_1.0_all.deb").open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        assert digests[0] == digests[1]
        assert _peak_bytes() - before < 20_000_000


def _peak_bytes() -> int:
    """The most memory that this process has had."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
