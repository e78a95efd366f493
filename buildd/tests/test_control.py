"""Control data from strangers: what is taken, and what is refused with a sentence."""

import hashlib
from pathlib import Path

import pytest

from buildd.control import (
    CONTROL_MAX_BYTES,
    ControlError,
    ListedFile,
    check_file,
    check_source,
    parse_changes,
    parse_dsc,
)
from buildd.protocol import FileName

SUM256 = hashlib.sha256(b"data").hexdigest()
SUM1 = hashlib.sha1(b"data").hexdigest()
DSC = f"""Format: 3.0 (quilt)
Source: hello
Binary: hello, hello-doc
Architecture: any all
Version: 1:2.10-3
Maintainer: A Person <person@example.org>
Build-Depends: debhelper-compat (= 13),
 help2man
Checksums-Sha1:
 {SUM1} 4 hello_2.10.orig.tar.gz
Checksums-Sha256:
 {SUM256} 4 hello_2.10.orig.tar.gz
Files:
 8d777f385d3dfec8815d20f7496026dc 4 hello_2.10.orig.tar.gz
"""
SIGNED = f"""-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA512

{DSC}
-----BEGIN PGP SIGNATURE-----

iQ==
-----END PGP SIGNATURE-----
"""


def dsc_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hello_2.10-3.dsc"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", [DSC, SIGNED])
def test_a_dsc_is_read_signed_or_not(tmp_path: Path, text: str) -> None:
    """Names, version, architectures and files come out of a .dsc, whether it is signed or not."""
    dsc = parse_dsc(dsc_file(tmp_path, text))
    assert (dsc.source, dsc.version, dsc.upstream_version) == ("hello", "1:2.10-3", "2.10-3")
    assert dsc.architectures == ("any", "all")
    assert dsc.binaries == ("hello", "hello-doc")
    assert dsc.files == (ListedFile(FileName("hello_2.10.orig.tar.gz"), 4, SUM256, SUM1),)
    assert " ".join(dsc.field("Build-Depends").split()) == "debhelper-compat (= 13), help2man"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Source: hello", "Source: ../hello", "Source is not valid"),
        ("Source: hello\n", "", "Source is missing"),
        ("Version: 1:2.10-3", "Version: 1 2", "Version is not valid"),
        ("Version: 1:2.10-3", "Version: 1/../2", "Version is not valid"),
        (f"{SUM256} 4 hello_2.10.orig.tar.gz", f"{SUM256} 4 hello_../../x", "plain path segment"),
        (f"{SUM256} 4 hello_2.10.orig.tar.gz", f"{SUM256} 4 /etc/passwd", "plain path segment"),
        (f"{SUM256} 4 hello_2.10.orig.tar.gz", f"{SUM256} 4 other_1.tar.gz", "not of source hello"),
        (f"{SUM256} 4 ", f"{SUM256} -4 ", "not 'digest size name'"),
        (f"{SUM256} 4 ", f"{SUM256} {'9' * 40} ", "no file is as large"),
        (f"{SUM256} 4 ", f"{SUM256[1:]} 4 ", "not 'digest size name'"),
        ("Checksums-Sha256", "Checksums-Sha999", "no Checksums-Sha256"),
        ("Files:", f"Checksums-Sha256:\n {SUM256} 4 hello_x\nFiles:", ""),
    ],
)
def test_a_bad_dsc_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """A .dsc that names what it may not is refused, and the message says what is wrong."""
    assert old in DSC
    if not complaint:
        parse_dsc(dsc_file(tmp_path, DSC.replace(old, new)))  # The later of two fields of a name counts.
        return
    with pytest.raises(ControlError, match=complaint):
        parse_dsc(dsc_file(tmp_path, DSC.replace(old, new)))


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"\xff\xfe\xfd", b"not: \xff utf-8", b"Source: x" * 1000, SIGNED[:60].encode()]
)
def test_what_is_no_control_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """Binary rubbish, nothing at all and half a signature are one clear error."""
    path = tmp_path / "x.dsc"
    path.write_bytes(content)
    with pytest.raises(ControlError):
        parse_dsc(path)


def test_a_huge_control_file_is_not_read(tmp_path: Path) -> None:
    """A .dsc of gigabytes is refused after its first megabytes."""
    path = tmp_path / "x.dsc"
    with path.open("wb") as stream:
        stream.truncate(CONTROL_MAX_BYTES * 100)
    with pytest.raises(ControlError, match="larger than"):
        parse_dsc(path)


def test_a_changes_of_a_binary_rebuild_is_read(tmp_path: Path) -> None:
    """Its Source names the source version in parentheses."""
    path = tmp_path / "x.changes"
    path.write_text(DSC.replace("Source: hello", "Source: hello (1:2.10-2)") + "Distribution: trixie\n")
    changes = parse_changes(path)
    assert (changes.source, changes.distribution) == ("hello", "trixie")


def test_a_source_package_is_complete_and_as_promised(tmp_path: Path) -> None:
    """Files missing, files extra, and content other than promised are each an error."""
    dsc = parse_dsc(dsc_file(tmp_path, DSC))
    orig = tmp_path / "blob"
    orig.write_bytes(b"data")
    name, dsc_name = FileName("hello_2.10.orig.tar.gz"), FileName("hello_2.10-3.dsc")
    check_source(dsc_name, dsc, {dsc_name: tmp_path, name: orig})
    with pytest.raises(ControlError, match="not sent: hello_"):
        check_source(dsc_name, dsc, {dsc_name: tmp_path})
    with pytest.raises(ControlError, match="does not name these files: extra"):
        check_source(dsc_name, dsc, {dsc_name: tmp_path, name: orig, FileName("extra"): orig})
    orig.write_bytes(b"dat4")
    with pytest.raises(ControlError, match="digest"):
        check_source(dsc_name, dsc, {dsc_name: tmp_path, name: orig})
    orig.write_bytes(b"data and more")
    with pytest.raises(ControlError, match="more than 4 bytes"):
        check_source(dsc_name, dsc, {dsc_name: tmp_path, name: orig})


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A result that is a symbolic link is not read through."""
    (tmp_path / "real").write_bytes(b"data")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError):
        check_file(tmp_path / "link", ListedFile(FileName("link"), 4, SUM256, SUM1))
