"""An archive of our own on disk, and its clients: apt in a root of its own, and one that checks every digest."""

import gzip
import hashlib
import lzma
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from buildmaster.indices.records import Edit, IndexKind, IndexName, Record, put
from buildmaster.indices.release import Facts
from buildmaster.indices.stanzas import File, packages_record
from buildmaster.publishing.pool import Pool, PoolFile
from buildmaster.publishing.signing import Keys, NewKey, keyring, make_key
from buildmaster.publishing.tree import Keep, Published, SuiteTree

FACTS = Facts(
    origin="debian mine",
    label="mine",
    suite="bookworm",
    codename="bookworm",
    components=("main",),
    architectures=("amd64",),
    description="A test's archive",
)
PACKAGES = IndexName("main", IndexKind.PACKAGES, "amd64")
CONTENTS = IndexName("main", IndexKind.CONTENTS, "amd64")
SOURCES = IndexName("main", IndexKind.SOURCES)
START = 1_790_000_000.0  # A time in the past.


@cache
def key() -> NewKey:
    """The key of all archives of tests: making one takes a moment."""
    return make_key("Archive mine of debian")


def package(name: str, version: str = "1", more: str = "", content: bytes = b"") -> tuple[Record, PoolFile]:
    """A package that nobody installs: what Packages says of it, and the file, which needs a source yet."""
    path = f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb"
    sha256 = hashlib.sha256(content).hexdigest()
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: A <a@example.org>\n{more}"
        f"Description: the package {name}\n It is {name}.\n"
    )
    return packages_record(control, File(path, len(content), sha256)), PoolFile(path, len(content), sha256, Path())


def write_source(folder: Path, fields: str = "") -> Path:
    """A real source package, hello 1.0, of a package for each architecture and one for all; its .dsc.

    :param fields: more lines of what debian/control says of the source.
    """
    tree = folder / "hello-1.0"
    (tree / "debian/source").mkdir(parents=True)
    (tree / "debian/source/format").write_text("3.0 (native)\n")
    (tree / "debian/changelog").write_text(
        "hello (1.0) unstable; urgency=low\n\n  * First.\n\n -- A <a@example.org>  Sun, 22 Nov 2026 12:00:00 +0000\n"
    )
    (tree / "debian/control").write_text(
        f"Source: hello\nSection: devel\nPriority: optional\nMaintainer: A <a@example.org>\n{fields}"
        "Build-Depends: debhelper-compat (= 13)\nStandards-Version: 4.6.2\n\n"
        "Package: hello\nArchitecture: any\nDescription: says hello\n\nPackage: hello-doc\nArchitecture: all\n"
        "Section: doc\nDescription: tells how\n"
    )
    subprocess.run(["dpkg-source", "--build", tree.name], cwd=folder, check=True, capture_output=True)
    shutil.rmtree(tree)
    return folder / "hello_1.0.dsc"


class Archive:
    """A suite of an archive in a folder, with a clock that goes on by a second with each publication."""

    def __init__(self, directory: Path, facts: Facts = FACTS, keep: Keep | None = None) -> None:
        self.directory = directory
        self.facts = facts
        self.tree = SuiteTree(directory, facts.suite, keep or Keep())
        self.pool = Pool(directory)
        self.signer = Keys([key().secret])
        self.now = START

    @property
    def dists(self) -> Path:
        return self.directory / "dists" / self.facts.suite

    def publish(self, edits: Iterable[Edit] = (), **facts: object) -> Published:
        self.now += 1
        self.facts = replace(self.facts, **facts)  # type: ignore[arg-type]
        return self.tree.publish(edits, self.facts, self.signer, self.now)

    def add(self, *names: str, version: str = "1") -> Published:
        """Publish packages with no file in the pool."""
        return self.publish(put(PACKAGES, [package(name, version)[0] for name in names]))

    def names(self) -> list[str]:
        """The packages that the suite has, as a client finds them: checked from InRelease on."""
        text = Client(self.dists).index("main/binary-amd64/Packages")
        lines = text.decode().splitlines()
        return sorted(line.removeprefix("Package: ") for line in lines if line.startswith("Package: "))


class Mismatch(AssertionError):
    """What a client read is not what InRelease says."""


class Client:
    """Reads a suite as apt does: InRelease once, then what it names by its digest."""

    def __init__(self, dists: Path) -> None:
        self._dists = dists
        text = (dists / "InRelease").read_text()
        rows = [line.split() for line in text.splitlines() if line.startswith(" ")]
        self.sums = {path: (digest, int(size)) for digest, size, path in rows}

    def check_in(self, dists: Path) -> None:
        """Read all there is, where the same suite is now."""
        self._dists = dists
        self.check()

    def check(self) -> None:
        """Read all there is, in each form."""
        for path in self.sums:
            if not path.endswith((".xz", ".gz")):
                self.index(path)

    def index(self, path: str) -> bytes:
        """An index, equal in each form that it has.

        :raises Mismatch: it is not what InRelease says.
        """
        found = {b""} & set()
        for suffix, decompress in ((".xz", lzma.decompress), (".gz", gzip.decompress)):
            if path + suffix in self.sums:
                found.add(decompress(self._file(path + suffix)))
        (plain,) = found
        self._compare(path, plain)
        return plain

    def _file(self, path: str) -> bytes:
        digest, _ = self.sums[path]
        content = (self._dists / path).with_name("by-hash").joinpath("SHA256", digest).read_bytes()
        self._compare(path, content)
        return content

    def _compare(self, path: str, content: bytes) -> None:
        if (hashlib.sha256(content).hexdigest(), len(content)) != self.sums[path]:
            raise Mismatch(path)


class Apt:
    """apt, in a root of its own."""

    def __init__(self, root: Path, uri: str, suite: str, components: str = "main", arch: str = "amd64") -> None:
        self._root = root
        for folder in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"):
            (root / folder).mkdir(parents=True)
        (root / "status").touch()
        (root / "key.asc").write_text(keyring([key().certificate]))
        source = f"[signed-by={root}/key.asc arch={arch}] {uri} {suite} {components}\n"
        (root / "etc/sources.list").write_text(f"deb {source}deb-src {source}")
        settings = {
            "Dir::State": root / "state",
            "Dir::State::status": root / "status",
            "Dir::Cache": root / "cache",
            "Dir::Etc": root / "etc",
            "Dir::Etc::trusted": "/dev/null",
            "Dir::Etc::trustedparts": "/dev/null",
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Sandbox::User": "root",
            "APT::Get::List-Cleanup": "false",
            "Debug::NoLocking": "1",
        }
        (root / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))

    def run(self, program: str, *words: str) -> str:
        """What a program of apt's says; nothing of it is a warning.

        :raises AssertionError: it failed, or warned.
        """
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "APT_CONFIG": f"{self._root}/apt.conf",
        }
        command = [program, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self._root, check=False)
        told = done.stdout + done.stderr
        assert done.returncode == 0, told
        assert not any(line.startswith(("W:", "E:", "N:")) for line in told.splitlines()), told
        return done.stdout

    def update(self, *words: str) -> str:
        return self.run("apt-get", "update", *words)

    def packages(self) -> list[str]:
        """All packages that it knows."""
        return sorted(self.run("apt-cache", "pkgnames").split())


def tree_of(folder: Path) -> Iterator[str]:
    """All that is in a folder, folders apart."""
    return (str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if not path.is_dir())
