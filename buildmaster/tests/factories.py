"""Farms for tests: legal worlds, made in a line or two.

    farm = make_farm(path)                                  # empty
    make_series(farm, "ubuntu", "hoary", "i386")            # with a bogus chroot, or none
    build_id = make_build(farm, "mozilla-firefox", "0.9")   # a source, in the queue
    make_builder(farm, "x86", "http://localhost:8221/", "i386")
    make_busy(farm, "x86", build_id)                        # as if the builder had it

``make_seed_world()`` is that of the seed's doctest.
"""

import atexit
import dataclasses
import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from buildd.settings import read
from buildmaster import archives, builders, builds, distributions, packages, repositories
from buildmaster.builders import Cleanliness
from buildmaster.config import MasterConfig
from buildmaster.farm import Farm
from buildmaster.scoring import ArchivePurpose, Pocket
from buildmaster.store import StoredFile
from buildmaster.tests import databases, stores
from buildmaster.wishes import NONE, Wishes

CONFIG = "buildmaster.conf"  # In the farm's directory.
BOGUS_CHROOT = b"This is no chroot.\n"


def make_farm(directory: Path, store: str = stores.STORE) -> Farm:
    """An empty farm below a directory.

    :param store: of which kind that is.
    """
    farm = directory / "farm"
    make_tables(farm)
    write_config(farm / CONFIG, store=store)
    return open_farm(farm)


def make_tables(directory: Path) -> None:
    """Make the directory of a farm, with the database of an empty one where it has its database in there."""
    directory.mkdir(mode=0o700)
    if not databases.on_postgresql():
        shutil.copy(_empty_farm() / "farm.sqlite", directory)


def write_config(path: Path, *, empty: bool = False, store: str = stores.STORE) -> None:
    """A buildmaster.conf for a new farm, with its database and its store where the tests are told to have them.

    :param empty: the database has no tables yet.
    """
    url = databases.new_database(empty=empty) if databases.on_postgresql() else ""
    path.write_text((f"[database]\nurl = {url}\n" if url else "") + stores.configuration(path.parent, store))


def open_farm(directory: Path) -> Farm:
    """The farm that make_farm() made in a directory, once more: as another process has it."""
    return Farm.open(config_of(directory).places)


def config_of(directory: Path, **settings: Any) -> MasterConfig:
    """A master's configuration for the farm that make_farm() made in a directory."""
    path = directory / CONFIG
    found = read(MasterConfig, path if path.exists() else None)
    return dataclasses.replace(found, directory=directory, **({"archives_port": 0, "ftp_port": None} | settings))


@cache
def _empty_farm() -> Path:
    """A farm to copy: making its tables takes 50 times as long."""
    directory = Path(tempfile.mkdtemp(prefix="empty-farm-"))
    atexit.register(shutil.rmtree, directory)
    Farm.create(directory).close()
    return directory


def make_series(
    farm: Farm,
    distribution: str = "debian",
    series: str = "bookworm",
    architecture: str = "amd64",
    chroot: bytes | None = BOGUS_CHROOT,
) -> int:
    """An architecture of a series; without a chroot when that is None. Returns its id."""
    with farm.transaction() as connection:
        place = distributions.ensure(connection, distribution, series, architecture)
    if chroot is not None:
        set_chroot(farm, place, chroot)
    return place


def set_chroot(farm: Farm, place: int, chroot: bytes = BOGUS_CHROOT) -> StoredFile:
    """Give an architecture of a series a chroot."""
    stored = farm.store.add([chroot])
    with farm.transaction() as connection:
        distributions.set_chroot(connection, place, stored, "chroot.tar", time.time())
    return stored


def write_source(
    folder: Path, name: str = "hello", version: str = "1.0", architectures: str = "any", relations: str = ""
) -> Path:
    """The files of a tiny native source package, in a folder. Returns the .dsc.

    :param relations: lines such as `Build-Depends: foo`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tar = f"not really the source of {name} {version}\n".encode()
    tar_name = f"{name}_{version.partition(':')[2] or version}.tar.xz"
    (folder / tar_name).write_bytes(tar)
    dsc = folder / tar_name.replace(".tar.xz", ".dsc")
    more = f"{relations}\n" if relations else ""
    dsc.write_text(
        f"Format: 3.0 (native)\nSource: {name}\nBinary: {name}\nArchitecture: {architectures}\nVersion: {version}\n"
        f"Maintainer: Somebody <somebody@example.org>\n{more}Checksums-Sha1:\n "
        f"{hashlib.sha1(tar).hexdigest()} {len(tar)} "
        f"{tar_name}\nChecksums-Sha256:\n {hashlib.sha256(tar).hexdigest()} {len(tar)} {tar_name}\n"
    )
    return dsc


def make_repository(farm: Farm, name: str = distributions.PRIMARY, distribution: str = "debian") -> int:
    """An archive that the farm publishes: one that is there, or a new one. Without a key. Returns its id."""

    def make(connection: Connection) -> int:
        try:
            archive_id = distributions.find_archive(connection, distribution, name)
        except distributions.NoSuchSeries:
            archive_id = archives.add(connection, distribution, name, ArchivePurpose.PPA)
        repositories.add(connection, archive_id, time.time())
        return archive_id

    return farm.write(make)


def write_deb(
    folder: Path,
    name: str = "hello",
    version: str = "1.0",
    architecture: str = "amd64",
    *,
    fields: str = "",
    files: Mapping[str, bytes] = MappingProxyType({"usr/bin/hello": b"hello"}),
    compression: str = "gzip",
    suffix: str = ".deb",
) -> Path:
    """A real .deb, in a folder.

    :param fields: more lines of its control file, such as `Source: other`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{version.partition(':')[2] or version}_{architecture}{suffix}"
    with tempfile.TemporaryDirectory(dir=folder) as root:
        for each, content in {"DEBIAN/control": b"", **files}.items():
            (Path(root) / each).parent.mkdir(parents=True, exist_ok=True)
            (Path(root) / each).write_bytes(content)
        Path(root).chmod(0o755)
        (Path(root) / "DEBIAN" / "control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n{fields}{fields and chr(10)}"
            "Maintainer: Somebody <somebody@example.org>\nDescription: says hello\n to whoever is there\n"
        )
        command = ["dpkg-deb", "--root-owner-group", "--build", f"-Z{compression}", root, str(path)]
        subprocess.run(command, check=True, capture_output=True)
    return path


def make_build(
    farm: Farm,
    name: str = "hello",
    version: str = "1.0",
    place: tuple[str, str] = ("debian", "bookworm"),
    architectures: str = "any",
    *,
    needs: str = "",
    pocket: Pocket = Pocket.RELEASE,
    wishes: Wishes = NONE,
    relations: str = "",
) -> int:
    """A source package in a series that exists, and one build of it. Returns the build's id."""
    dsc = write_source(farm.directory / "sources", name, version, architectures, relations)
    accepted = packages.accept(
        farm, dsc, time.time(), distribution=place[0], series_name=place[1], needs=needs, pocket=pocket, wishes=wishes
    )
    return accepted.build_ids[0]


def make_builder(
    farm: Farm,
    name: str = "x86",
    url: str = "http://localhost:8221/",
    architecture: str = "amd64",
    cleanliness: Cleanliness = Cleanliness.CLEAN,
) -> int:
    """A builder in service. Returns its id."""
    with farm.transaction() as connection:
        builder_id = builders.add(connection, name, url, architecture, time.time())
        builders.set_cleanliness(connection, builder_id, cleanliness)
    return builder_id


def make_busy(farm: Farm, builder: str, build_id: int) -> None:
    """Record that a builder has a build, as dispatch does; the builder itself hears nothing of it."""
    with farm.transaction() as connection:
        builder_id = builders.find(connection, builder).id
        assert builds.claim(connection, build_id, builder_id, time.time())
        builders.set_cleanliness(connection, builder_id, Cleanliness.DIRTY)


def make_seed_world(directory: Path, url: str = "http://localhost:8221/") -> tuple[Farm, StoredFile]:
    """The world of the seed's doctest: i386 of ubuntu's hoary and warty, and a builder at that URL that is recorded as
    busy with mozilla-firefox 0.9. Returns the farm, and a file in its store to use as a bogus chroot."""
    farm = make_farm(directory)
    for series in ("hoary", "warty"):
        make_series(farm, "ubuntu", series, "i386")
    make_builder(farm, "x86", url, "i386")
    make_busy(farm, "x86", make_build(farm, "mozilla-firefox", "0.9", ("ubuntu", "hoary")))
    return farm, farm.store.add([b"a totally bogus chroot\n"])
