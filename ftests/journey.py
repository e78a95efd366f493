"""From a source package to an installed one: uploaded as people do it, and used as they use archives."""

import gzip
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import requests

from buildmaster.tests.gpg import Keys
from harness import LOOK_EVERY_S, WAIT_S, FarmTestSetup, own_architecture

UPLOADER = "uploader"
_DPUT = """\
[farm]
fqdn = 127.0.0.1:{port}
method = http
incoming = /upload/{archive}
allow_unsigned_uploads = 0
"""


def free_port() -> int:
    """A TCP port of the loopback that nobody has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class PublishingFarm(FarmTestSetup):
    """A farm with an archive of its own, debian/mine, and somebody who may upload to it."""

    def __init__(self, suite: str = "bookworm") -> None:
        self.port = free_port()
        super().__init__(suite, settings={("archives", "port"): str(self.port)})
        self.keys = Keys()
        self.archive = "debian/mine"

    @property
    def url(self) -> str:
        """Of the archive."""
        return f"http://127.0.0.1:{self.port}/{self.archive}"

    def setUp(self) -> None:
        """Start the farm, and publish the archive."""
        super().setUp()
        assert self._folder is not None
        self.master.run("archive", "create", self.archive)
        certificate = self._folder / "uploader.asc"
        certificate.write_bytes(self.keys.make(UPLOADER))
        self.master.run("archive", "uploader", "add", self.archive, certificate)
        (self._folder / "dput.cf").write_text(_DPUT.format(port=self.port, archive=self.archive))

    def upload(self, dsc: Path) -> int:
        """Upload a source package by dput, and return the id of its build once there is one."""
        self.dput(self.sign(dsc))
        name, version = dsc.stem.split("_")
        deadline = time.monotonic() + WAIT_S
        while True:
            found = self.master.ask("builds")["builds"]
            ids = [int(each["id"]) for each in found if (each["source"], each["version"]) == (name, version)]
            if ids:
                return max(ids)
            assert time.monotonic() < deadline, self.log()[-4000:]
            time.sleep(LOOK_EVERY_S)

    def wait_for_package(self, name: str, version: str, url: str = "", timeout_s: float = WAIT_S) -> None:
        """Wait until apt would see a package.

        :param url: of the archive, where it asks for a password.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            index = f"{url or self.url}/dists/{self.suite}/main/binary-{own_architecture()}/Packages.gz"
            answer = requests.get(index, timeout=10)
            answer.raise_for_status()
            for paragraph in gzip.decompress(answer.content).decode().split("\n\n"):
                if paragraph.startswith(f"Package: {name}\n") and f"\nVersion: {version}\n" in paragraph:
                    return
            assert time.monotonic() < deadline, self.log()[-4000:]
            time.sleep(LOOK_EVERY_S)

    def sign(self, dsc: Path, distribution: str | None = None) -> Path:
        """Sign a source package, and make its .changes, as `dpkg-buildpackage -S` and debsign do. Returns that.

        :param dsc: the files that it names are beside it.
        """
        folder = Path(tempfile.mkdtemp(prefix="source-"))
        try:
            unpacked = folder / "unpacked"
            run = ["dpkg-source", "--no-check", "-q", "-x", str(dsc), str(unpacked)]
            subprocess.run(run, check=True, capture_output=True)
            self._clearsign(dsc)
            genchanges = ["dpkg-genchanges", "-q", "-S", "-sa", f"-u{dsc.parent}"]
            name = f"{dsc.stem}_source.changes"
            (folder / "files").touch()
            made = subprocess.run(
                [*genchanges, f"-DDistribution={distribution or self.suite}", f"-O{dsc.parent / name}"],
                cwd=unpacked, check=False, capture_output=True, text=True,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
        finally:
            shutil.rmtree(folder)
        self._clearsign(dsc.parent / name)
        return dsc.parent / name

    def _clearsign(self, path: Path) -> None:
        text = path.read_bytes()
        if b"BEGIN PGP SIGNED MESSAGE" in text:  # Its maintainer's, in Debian.
            text = self.keys.gpg("--decrypt", "--skip-verify", data=text)
        path.write_bytes(self.keys.gpg("--clearsign", "--local-user", f"{UPLOADER}@example.org", data=text))

    def dput(self, changes: Path) -> str:
        """Upload by dput, as Debian ships it. Returns what it says."""
        assert self._folder is not None
        done = subprocess.run(
            ["dput", "--unchecked", "-c", str(self._folder / "dput.cf"), "farm", str(changes)],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


class Client:
    """A Debian system of its own, made of a chroot tarball: who uses an archive."""

    def __init__(self, tarball: Path) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="client-"))
        self.root.chmod(0o755)  # apt downloads as a user of its own.
        unpack = ["tar", "-xf", str(tarball), "-C", str(self.root), "--strip-components=1"]  # chroot-autobuild/
        subprocess.run(unpack, check=True)
        (self.root / "etc/apt/keyrings").mkdir(exist_ok=True)

    def use(self, url: str, suite: str = "bookworm") -> None:
        """Use an archive, by its key, and no others; sources as well.

        :param url: perhaps with user and password.
        """
        key = "/etc/apt/keyrings/farm.asc"
        answer = requests.get(f"{url}/key.asc", timeout=10)
        answer.raise_for_status()
        (self.root / key.removeprefix("/")).write_bytes(answer.content)
        lines = [f"{kind} [signed-by={key}] {url} {suite} main" for kind in ("deb", "deb-src")]
        (self.root / "etc/apt/sources.list").write_text("\n".join([*lines, ""]))

    def run(self, *command: str) -> str:
        """Run a command in it, as on a machine of its own. Returns all that it prints."""
        mounts = 'mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && exec chroot "$@"'
        environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mounts, "sh", str(self.root), *environment, *command],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def close(self) -> None:
        """Have it no more."""
        shutil.rmtree(self.root)
