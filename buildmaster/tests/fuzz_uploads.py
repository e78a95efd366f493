"""A program that looks for input on which the parsers of uploads fail, guided by coverage: for as long as one likes.

    python -m pip install atheris
    python -m buildmaster.tests.fuzz_uploads PARSER -max_total_time=600 [FOLDER]

PARSER is one of those below, or `all`; FOLDER is where interesting inputs are kept. What an uploader, or a builder, may
send is either read, or refused by the one exception that each parser has for that; anything else ends the program, with
the input in a file. No test needs this.
"""

import contextlib
import gzip
import io
import lzma
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import atheris
from debian.debian_support import Version

with atheris.instrument_imports(include=["buildd", "buildmaster"]):
    from buildd.control import ControlError, parse_buildinfo, parse_changes, parse_dsc
    from buildmaster import deb_reader, debs, peers
    from buildmaster.tests import gpg
    from buildmaster.tests.uploading import Upload, tarball
    from buildmaster.uploading import openpgp, rules, sessions, signatures, spool, tarballs
    from buildmaster.uploading.rules import Came, Target
    from buildmaster.uploading.rules import Upload as Read

_TARGET = Target("debian/mine", frozenset({"bookworm"}), True)
_SUFFIXES = ("gz", "bz2", "xz", "lzma")
_CHANGES = PurePath("hello_2.0_source.changes")
_UPLOAD = Upload(version="2.0")
_CERTIFICATE = gpg.shared().certificate("uploader")
_CONTROL = b"Package: hello\nVersion: 2.0\nArchitecture: any\nMaintainer: x <x@example.org>\nDescription: x\n y\n"


def _changes(data: bytes) -> None:
    if rules.unreadable(_CHANGES.name, data):
        return
    try:
        changes = parse_changes(_CHANGES, data)
    except ControlError:
        return
    Version(changes.version)
    came = {str(each.name): Came(each.size, each.sha256) for each in changes.files}
    for fault in rules.faults(Read(_CHANGES.name, changes, came), _TARGET):
        assert rules.words(fault).isprintable()


def _dsc(data: bytes) -> None:
    if rules.unreadable("hello_2.0.dsc", data):
        return
    with contextlib.suppress(ControlError):
        Version(parse_dsc(PurePath("hello_2.0.dsc"), data).version)


def _buildinfo(data: bytes) -> None:
    with contextlib.suppress(ControlError):
        Version(parse_buildinfo(PurePath("hello_2.0_amd64.buildinfo"), data).version)


def _packets(data: bytes) -> None:
    for look in (openpgp.signatures, openpgp.keys):
        with contextlib.suppress(openpgp.Unreadable):
            look(openpgp.dearmour(data))


def _signed(data: bytes) -> None:
    signatures.unsigned(data)
    try:
        found = signatures.check("x.changes", data, [_CERTIFICATE.decode()], 2e9, "debian/mine")
        assert found.payload in (_UPLOAD.dsc(), _UPLOAD.dsc().rstrip(b"\n"))  # Nobody can have signed another one.
    except signatures.SignatureRefused as refused:
        assert str(refused)


def _certificate(data: bytes) -> None:
    try:
        signatures.read_certificate(data, 1e9)
    except signatures.CertificateRefused as refused:
        assert str(refused)


def _tarball(data: bytes) -> None:
    suffix = _SUFFIXES[data[0] % len(_SUFFIXES)] if data else "gz"
    content = data[1:]
    if data[:1] > b"\x80":  # What is in it is looked for, too.
        content, suffix = gzip.compress(content, 0), "gz"
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            tarballs.look_over(Path(file.name), f"x.tar.{suffix}", 1 << 20)
        except tarballs.BadTarball as refused:
            assert str(refused)


def _deb_control(data: bytes) -> None:
    with contextlib.suppress(ValueError):  # BadDeb is one, too.
        debs._parse(data.decode("utf-8", "replace"))


def _deb_members(data: bytes) -> None:
    @contextlib.contextmanager
    def members(what: str, descriptor: int) -> Iterator[tarfile.TarFile]:
        stream = io.BytesIO(data)
        with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
            yield archive

    deb_reader._members = members
    held = deb_reader._held(0, deb_reader._Room(), io.BytesIO())
    assert "fault" in held or "control" in held


def _names(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(spool.SpoolRefused):
        name = spool.check_name(text)
        assert name.isprintable() and "/" not in name and not name.startswith(".")
    assert ".." not in sessions.words_of([text]) or ".." in text
    peers.who(text)


PARSERS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "changes": (_changes, lambda: [_UPLOAD.changes(_UPLOAD.dsc())]),
    "dsc": (_dsc, lambda: [_UPLOAD.dsc()]),
    "buildinfo": (_buildinfo, lambda: [_UPLOAD.dsc() + b'Build-Architecture: amd64\nEnvironment:\n A="b"\n']),
    "packets": (_packets, lambda: [openpgp.dearmour(_CERTIFICATE)]),
    "signed": (_signed, lambda: [_UPLOAD.sign(_UPLOAD.dsc())]),
    "certificate": (_certificate, lambda: [_CERTIFICATE]),
    "tarball": (_tarball, lambda: [b"\x02" + tarball(("a/b", b"x")), b"\xff" + lzma.decompress(tarball(("a", b"x")))]),
    "deb-control": (_deb_control, lambda: [_CONTROL]),
    "deb-members": (_deb_members, lambda: [lzma.decompress(tarball(("./control", _CONTROL), ("./usr/x", b"x")))]),
    "names": (_names, lambda: [b"hello_1.0.dsc", b"2001:db8::1%eth0"]),
}


def _all(data: bytes) -> None:
    which = data[0] if data else 0
    [*PARSERS.values()][which % len(PARSERS)][0](data[1:])


if __name__ == "__main__":
    word = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as seeds:
        for number, seed in enumerate(PARSERS[word][1]() if word in PARSERS else []):
            (Path(seeds) / str(number)).write_bytes(seed)
        folders = [each for each in sys.argv[1:] if not each.startswith("-")] or [tempfile.mkdtemp()]
        options = [each for each in sys.argv[1:] if each.startswith("-")]
        atheris.Setup([sys.argv[0], *options, *folders, seeds], PARSERS[word][0] if word in PARSERS else _all)
        atheris.Fuzz()
