"""Archives that one package is published into: by the farm, by reprepro, by aptly; each in the way it is fastest."""

import hashlib
import json
import os
import shutil
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from debian.debfile import DebFile

from benchmarks.debs import control_of, field
from buildmaster.indices.records import Edit, IndexKind, IndexName, Record
from buildmaster.indices.release import Facts
from buildmaster.indices.stanzas import File, contents_records, packages_record
from buildmaster.publishing.pool import Pool, PoolFile
from buildmaster.publishing.signing import Keys, make_key
from buildmaster.publishing.tree import SuiteTree

SUITE = "bookworm"
ARCHITECTURE = "amd64"
_KINDS = (IndexKind.PACKAGES, IndexKind.CONTENTS)
_INSTALLED = Path("/var/lib/dpkg/info")
_AT_ONCE = 2000  # Packages that a command is given, so that it fits on a command line.


class Repository(Protocol):
    """An archive, in a folder."""

    def fill(self, debs: Sequence[Path]) -> None:
        """Put so many packages in, and publish them."""

    def publish(self, deb: Path) -> None:
        """Put one package in, and publish it: what is measured."""

    @property
    def packages(self) -> Path:
        """The compressed list of packages that clients read."""


class Ours:
    """The farm's: Packages by xz and gzip, Sources, Contents; signed, by hash; synced to the disk."""

    contents = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tree = SuiteTree(folder, SUITE)
        self._pool = Pool(folder)
        self._facts = Facts("debian", "debian", SUITE, SUITE, ("main",), (ARCHITECTURE,))
        self._signer = Keys([make_key("A benchmark").secret])
        self._packages, self._contents = (IndexName("main", kind, ARCHITECTURE) for kind in _KINDS)
        self._files = installed_files() if self.contents else []

    @property
    def packages(self) -> Path:
        return self._folder / "dists" / SUITE / "main" / f"binary-{ARCHITECTURE}" / "Packages.xz"

    def fill(self, debs: Sequence[Path]) -> None:
        read = [_described(deb, control_of(deb)) for deb in debs]
        self._pool.place(file for file, _ in read)
        records = (each for _, record in read for each in self._records(record))
        self._tree.rebuild(records, self._facts, self._signer, time.time())

    def publish(self, deb: Path) -> None:
        with DebFile(deb) as opened:  # As the others do: by a library.
            control = str(opened.control.get_content("control", encoding="utf-8"))
        file, record = _described(deb, control)
        self._pool.place([file])
        edits = [Edit(index, each.key, each.text) for index, each in self._records(record)]
        self._tree.publish(edits, self._facts, self._signer, time.time())

    def _records(self, record: Record) -> Iterator[tuple[IndexName, Record]]:
        """What the indices say of a package. (Their .debs have no files: these have those of one that is installed.)"""
        yield self._packages, record
        if self._files:
            name = field(record.text.decode(), "Package")
            paths = self._files[zlib.crc32(name.encode()) % len(self._files)]
            yield from ((self._contents, each) for each in contents_records(paths, "misc", name))


class OursWithContents(Ours):
    """The same with files in its packages."""

    contents = True


def installed_files() -> list[list[bytes]]:
    """The paths of the files of each package that is installed here."""
    lists = [each.read_bytes().split() for each in sorted(_INSTALLED.glob("*.list"))]
    return [[path for path in paths if not Path(os.fsdecode(path)).is_dir()] for paths in lists]


def _described(deb: Path, control: str) -> tuple[PoolFile, Record]:
    content = deb.read_bytes()
    name = (field(control, "Source") or field(control, "Package")).partition(" ")[0]
    prefix = name[:4] if name.startswith("lib") else name[:1]
    sha256 = hashlib.sha256(content).hexdigest()
    file = PoolFile(f"pool/main/{prefix}/{name}/{deb.name}", len(content), sha256, deb)
    return file, packages_record(control, File(file.path, file.size, sha256))


class Reprepro:
    """reprepro, with gzip alone, unsigned, no contents."""

    indices = ".gz"
    signed = False
    _environment: Mapping[str, str] | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "conf").mkdir(parents=True)
        lines = [f"Codename: {SUITE}", "Components: main", f"Architectures: {ARCHITECTURE}"]
        lines.append(f"DebIndices: Packages {self.indices}")
        if self.signed:
            self._environment = {**os.environ, "GNUPGHOME": str(folder / "gnupg")}
            (folder / "gnupg").mkdir(mode=0o700)
            command = ["gpg", "--batch", "--passphrase", "", "--quick-gen-key", "A benchmark", "ed25519", "sign"]
            subprocess.run(command, env=self._environment, check=True, capture_output=True)
            lines.append("SignWith: yes")
        (folder / "conf/distributions").write_text("\n".join([*lines, ""]))

    @property
    def packages(self) -> Path:
        suffix = self.indices.split()[-1]
        return self._folder / "dists" / SUITE / "main" / f"binary-{ARCHITECTURE}" / f"Packages{suffix}"

    def fill(self, debs: Sequence[Path]) -> None:
        for at in range(0, len(debs), _AT_ONCE):
            self._run("--export=never", "includedeb", SUITE, *debs[at : at + _AT_ONCE])
        self._run("export", SUITE)

    def publish(self, deb: Path) -> None:
        self._run("includedeb", SUITE, deb)

    def _run(self, *words: str | Path) -> None:
        command = ["reprepro", "--silent", "--silent", "-b", self._folder, *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self._environment)


class SignedReprepro(Reprepro):
    """reprepro, with what the farm has as well: xz and gzip, signed."""

    indices = ".gz .xz"
    signed = True

    def fill(self, debs: Sequence[Path]) -> None:
        """Take over what reprepro has beside this one, if it does: that takes it minutes."""
        other = self._folder.with_name("reprepro")
        if not other.exists():
            super().fill(debs)
            return
        shutil.copytree(other / "db", self._folder / "db")
        shutil.copytree(other / "pool", self._folder / "pool", copy_function=os.link)
        self._run("export", SUITE)


class Aptly:
    """aptly, unsigned, no contents, no bzip2."""

    _PUBLISHING = ("-skip-signing", "-skip-contents", "-skip-bz2")

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        (folder / "conf").write_text(json.dumps({"rootDir": str(folder), "architectures": [ARCHITECTURE]}))
        self._run("repo", "create", f"-distribution={SUITE}", "-component=main", "mine")

    @property
    def packages(self) -> Path:
        return self._folder / "public/dists" / SUITE / "main" / f"binary-{ARCHITECTURE}" / "Packages.gz"

    def fill(self, debs: Sequence[Path]) -> None:
        (folder,) = {deb.parent for deb in debs}
        self._run("repo", "add", "mine", folder)
        self._run("publish", "repo", *self._PUBLISHING, "mine")

    def publish(self, deb: Path) -> None:
        self._run("repo", "add", "mine", deb)
        self._run("publish", "update", *self._PUBLISHING, SUITE)

    def _run(self, *words: str | Path) -> None:
        command = ["aptly", f"-config={self._folder}/conf", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
