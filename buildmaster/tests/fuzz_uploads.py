"""A program that looks for input on which the parsers of uploads fail, guided by coverage: for as long as one likes.

    python -m pip install atheris
    python -m buildmaster.tests.fuzz_uploads -max_total_time=600 [FOLDER]

FOLDER is where interesting inputs are kept. What an uploader may send is either read, or refused by the one exception
that each parser has for that; anything else ends the program, with the input in a file. No test needs this.
"""

import sys
import tempfile
from pathlib import Path, PurePath

import atheris
from debian.debian_support import Version

with atheris.instrument_imports(include=["buildd", "buildmaster"]):
    from buildd.control import ControlError, parse_changes, parse_dsc
    from buildmaster.uploading import openpgp, rules, signatures, tarballs
    from buildmaster.uploading.rules import Came, Target, Upload

_TARGET = Target("debian/mine", frozenset({"bookworm"}), True)
_SUFFIXES = ("gz", "bz2", "xz", "lzma")
_CHANGES = PurePath("hello_2.0_source.changes")


def one_input(data: bytes) -> None:
    """Have one of the parsers read it; the first byte says which."""
    which, rest = (data[0], data[1:]) if data else (0, b"")
    match which % 5:
        case 0:
            _read_changes(rest)
        case 1:
            _read_dsc(rest)
        case 2:
            _read_packets(rest)
        case 3:
            _read_signed(rest)
        case _:
            _read_tarball(rest, _SUFFIXES[which // 5 % len(_SUFFIXES)])


def _read_changes(data: bytes) -> None:
    if rules.unreadable(_CHANGES.name, data):
        return
    try:
        changes = parse_changes(_CHANGES, data)
    except ControlError:
        return
    Version(changes.version)
    came = {str(each.name): Came(each.size, each.sha256) for each in changes.files}
    for fault in rules.faults(Upload(_CHANGES.name, changes, came), _TARGET):
        assert rules.words(fault).isprintable()


def _read_dsc(data: bytes) -> None:
    if rules.unreadable("hello_2.0.dsc", data):
        return
    try:
        Version(parse_dsc(PurePath("hello_2.0.dsc"), data).version)
    except ControlError:
        return


def _read_packets(data: bytes) -> None:
    for look in (openpgp.signatures, openpgp.keys):
        try:
            look(openpgp.dearmour(data))
        except openpgp.Unreadable:
            continue


def _read_signed(data: bytes) -> None:
    signatures.unsigned(data)
    try:
        signatures.check("x.changes", data, [], 1e9, "debian/mine")
    except signatures.SignatureRefused as refused:
        assert str(refused)
    try:
        signatures.read_certificate(data, 1e9)
    except signatures.CertificateRefused as refused:
        assert str(refused)


def _read_tarball(data: bytes, suffix: str) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            tarballs.look_over(Path(file.name), f"x.tar.{suffix}", 1 << 20)
        except tarballs.BadTarball as refused:
            assert str(refused)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
