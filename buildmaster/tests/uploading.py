"""Uploads for tests, as dpkg-buildpackage and debsign make them, but in milliseconds."""

import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildmaster import archives, repositories, uploaders, uploads
from buildmaster.farm import Farm
from buildmaster.scoring import ArchivePurpose
from buildmaster.tests import gpg
from buildmaster.tests.factories import make_series
from buildmaster.uploading.signatures import read_certificate
from buildmaster.uploads import Place

ARCHIVE = ("debian", "mine")


def make_archive(farm: Farm, *signers: str, binaries: bool = False) -> Place:
    """debian/mine, which we publish, and to which the signers may upload; for bookworm on amd64."""
    make_series(farm)
    keys = gpg.shared()
    with farm.transaction() as connection:
        archive_id = archives.add(connection, *ARCHIVE, ArchivePurpose.PPA)
        repositories.add(connection, archive_id, 100.0)
        repositories.change(connection, archive_id, repositories.Settings(binaries=binaries))
        for name in signers or ("uploader",):
            certificate = read_certificate(keys.certificate(name), 1_700_000_000.0)
            uploaders.add(connection, archive_id, certificate, 100.0)
        found = uploads.find_place(connection, *ARCHIVE)
    assert found is not None
    return found


def tarball(*members: tuple[str, bytes]) -> bytes:
    """A tarball, compressed by xz."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in members or (("hello/debian/control", b"Source: hello\n"),):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return lzma.compress(made.getvalue(), preset=0)


@dataclass
class Upload:
    """What is to be uploaded; what it says can be changed before it is written."""

    name: str = "hello"
    version: str = "1.0"
    distribution: str = "bookworm"
    architectures: str = "any"
    format: str = "3.0 (native)"
    signer: str = "uploader"
    section: str = "misc"
    urgency: str = "medium"
    sign_with: Sequence[str] = ()
    files: dict[str, bytes] = field(default_factory=dict)  # Of the source package, without the .dsc.
    unsent: Sequence[str] = ()  # Which of these are in the .dsc alone.
    more: dict[str, bytes] = field(default_factory=dict)  # What the .changes names beside.
    dsc_fields: Mapping[str, str] = field(default_factory=dict)  # In place of what would stand there; "": left out.
    changes_fields: Mapping[str, str] = field(default_factory=dict)  # Likewise.
    edit_dsc: Callable[[bytes], bytes] = bytes  # The whole of it, before it is signed.
    edit_changes: Callable[[bytes], bytes] = bytes  # Likewise.

    def __post_init__(self) -> None:
        if not self.files:
            self.files = {f"{self.stem}.tar.xz": tarball((f"{self.name}/version", self.version.encode()))}

    @property
    def stem(self) -> str:
        return f"{self.name}_{self.version.partition(':')[2] or self.version}"

    def dsc(self) -> bytes:
        """The .dsc, not signed."""
        fields = {
            "Format": self.format,
            "Source": self.name,
            "Binary": self.name,
            "Architecture": self.architectures,
            "Version": self.version,
            "Maintainer": "Somebody <somebody@example.org>",
            "Standards-Version": "4.6.2",
            **sums(self.files),
        }
        return paragraph({**fields, **self.dsc_fields})

    def changes(self, dsc: bytes) -> bytes:
        """The .changes of a .dsc, not signed."""
        sent = {name: content for name, content in self.files.items() if name not in self.unsent}
        sent = {f"{self.stem}.dsc": dsc, **sent, **self.more}
        fields = {
            "Format": "1.8",
            "Date": "Sun, 22 Nov 2026 12:00:00 +0000",
            "Source": self.name,
            "Architecture": "source",
            "Version": self.version,
            "Distribution": self.distribution,
            "Urgency": self.urgency,
            "Maintainer": "Somebody <somebody@example.org>",
            "Changed-By": "Somebody <somebody@example.org>",
            "Changes": f"\n {self.name} ({self.version}) {self.distribution}; urgency={self.urgency}\n .\n   * New.",
            **sums(sent, self.section),
        }
        return paragraph({**fields, **self.changes_fields})

    def sign(self, content: bytes) -> bytes:
        return gpg.shared().sign(self.signer, content, *self.sign_with) if self.signer else content

    def write(self, folder: Path) -> Path:
        """Write all files into a folder. Returns the .changes."""
        folder.mkdir(parents=True, exist_ok=True)
        dsc = self.sign(self.edit_dsc(self.dsc()))
        for name, content in {**self.files, **self.more, f"{self.stem}.dsc": dsc}.items():
            if name not in self.unsent:
                (folder / name).write_bytes(content)
        path = folder / f"{self.stem}_source.changes"
        path.write_bytes(self.sign(self.edit_changes(self.changes(dsc))))
        return path


def sums(files: Mapping[str, bytes], section: str = "") -> dict[str, str]:
    """The fields with digests of files; those of a .changes have a section."""

    def lines(digest: str, between: str = "") -> str:
        words = ((hashlib.new(digest, content).hexdigest(), len(content), name) for name, content in files.items())
        return "".join(f"\n {each} {size} {between}{name}" for each, size, name in words)

    of_files = lines("md5", f"{section} optional " if section else "")
    return {"Checksums-Sha1": lines("sha1"), "Checksums-Sha256": lines("sha256"), "Files": of_files}


def paragraph(fields: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\n".replace(": \n", ":\n", 1) for name, value in fields.items() if value).encode()
