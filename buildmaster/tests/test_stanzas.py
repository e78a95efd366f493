"""What Packages and Sources say of a package: what apt-ftparchive says of it, in its order."""

import hashlib
import re
import subprocess
from pathlib import Path

import apt_pkg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildmaster.indices.records import IndexKind, checked, sources_key
from buildmaster.indices.release import Facts, ReleaseError, Sum, indices_of, release_text
from buildmaster.indices.stanzas import (
    PACKAGE_ORDER,
    SOURCE_ORDER,
    File,
    StanzaError,
    packages_record,
    sources_record,
    translations,
)
from buildmaster.tests.archive_case import FACTS, write_source
from buildmaster.tests.factories import write_deb


def described(archive: Path, path: Path) -> File:
    """A file of an archive, with all its digests."""
    content = path.read_bytes()
    digests = [hashlib.new(name, content).hexdigest() for name in ("sha256", "sha1", "md5")]
    return File(str(path.relative_to(archive)), len(content), *digests)


def ftparchive(archive: Path, command: str) -> bytes:
    """What apt-ftparchive says of a pool."""
    options = [f"-oAPT::FTPArchive::{name}=true" for name in ("MD5", "SHA1", "SHA256")]
    options.append("-oAPT::FTPArchive::SHA512=false")
    done = subprocess.run(["apt-ftparchive", *options, command, "pool"], cwd=archive, capture_output=True, check=True)
    return done.stdout


FIELDS = """\
Priority: optional
Tag: role::program
Section: devel
Source: hello-source (1.0)
Homepage: https://example.org/
X-Own: one
Depends: libc6 (>= 2.36),
 other
Installed-Size: 12
Multi-Arch: foreign
Built-Using: gcc-12 (= 12.2)
Provides: greeter"""


@pytest.mark.parametrize("fields", ["", FIELDS], ids=["few", "many"])
@pytest.mark.parametrize("version", ["1.0", "2:1.0~rc1-3+b1"])
def test_a_package(tmp_path: Path, fields: str, version: str) -> None:
    """The stanza of a .deb is apt-ftparchive's, byte for byte."""
    deb = write_deb(tmp_path / "pool/main/h/hello", version=version, fields=fields)
    control = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True).stdout
    record = checked(IndexKind.PACKAGES, packages_record(control, described(tmp_path, deb)))
    assert record.text + b"\n\n" == ftparchive(tmp_path, "packages")


@pytest.mark.parametrize(
    "fields", ["", "Uploaders: B <b@example.org>,\n C <c@example.org>\nHomepage: https://example.org/\n"]
)
def test_a_source(tmp_path: Path, fields: str) -> None:
    """The stanza of a source package is apt-ftparchive's, byte for byte; but for section and priority, which it
    takes from elsewhere."""
    dsc = write_source(tmp_path / "pool/main/h/hello", fields)
    record = checked(IndexKind.SOURCES, sources_record(dsc.read_bytes(), described(tmp_path, dsc), section="devel"))
    assert b"\nPriority: optional\nSection: devel\n" in record.text
    without = record.text.replace(b"\nPriority: optional\nSection: devel\n", b"\n")
    assert without + b"\n\n" == ftparchive(tmp_path, "sources")
    assert record.key == sources_key("hello", "1.0")


def test_the_order_is_apts() -> None:
    """Fields come in the order that apt knows; some are not an archive's."""
    packages, sources = (getattr(apt_pkg, f"REWRITE_{kind}_ORDER") for kind in ("PACKAGE", "SOURCE"))
    assert [each for each in packages if each in PACKAGE_ORDER] == list(PACKAGE_ORDER)
    assert [each for each in sources if each in SOURCE_ORDER] == list(SOURCE_ORDER)
    assert set(sources) - set(SOURCE_ORDER) == {"Source"}


DSC = """\
Format: 3.0 (native)
Source: hello
Binary: hello
Architecture: any
Version: 1.0
Maintainer: A <a@example.org>
Checksums-Sha1:
 1111111111111111111111111111111111111111 5 hello_1.0.tar.xz
Checksums-Sha256:
 2222222222222222222222222222222222222222222222222222222222222222 5 hello_1.0.tar.xz
Files:
 33333333333333333333333333333333 5 hello_1.0.tar.xz
"""
FILE = File("pool/main/h/hello/hello_1.0.dsc", 7, "4" * 64)


def test_weak_digests_are_left_out() -> None:
    """Lists of MD5 and SHA-1 are told when there is one of the .dsc to tell, and not by halves."""
    text = sources_record(DSC.encode(), FILE).text.decode()
    assert "Files:" not in text and "Checksums-Sha1:" not in text
    assert f"Checksums-Sha256:\n {'4' * 64} 7 hello_1.0.dsc\n {'2' * 64} 5 hello_1.0.tar.xz" in text


def test_a_signed_dsc() -> None:
    """A signature is taken off."""
    begin, end = (f"-----{word} PGP SIGNATURE-----" for word in ("BEGIN", "END"))
    signed = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{DSC}\n{begin}\n\nabc\n{end}\n"
    assert sources_record(signed.encode(), FILE) == sources_record(DSC.encode(), FILE)


CONTROL = "Package: hello\nVersion: 1.0\nArchitecture: amd64\nDescription: hello\n"


def test_a_package_does_not_describe_its_file() -> None:
    """What a package says of its own file, or of what dpkg knows of it, is not told."""
    said = "Filename: /etc/passwd\nsize: 5\nSHA256: 0\nStatus: install ok installed\n"
    record = packages_record(CONTROL + said, FILE)
    assert record.text == packages_record(CONTROL, FILE).text
    assert b"\nFilename: pool/main/h/hello/hello_1.0.dsc\nSize: 7\n" in record.text


@pytest.mark.parametrize(
    "control",
    [
        "",
        "Package: hello\n",
        CONTROL + "\nPackage: other\n",
        CONTROL + " \nPackage: other\n",
        CONTROL + " \t\n",
        CONTROL + "Package: other\n",
        CONTROL + "package: other\n",
        CONTROL + "no field\n",
        CONTROL + "#comment: yes\n",
        CONTROL + "X: a\rPackage: b\n",
        CONTROL + "X: a\0b\n",
        CONTROL + "X: \udc80\n",
        CONTROL.replace("hello", "Hello", 1),
        CONTROL.replace("hello", "hello there", 1),
        CONTROL.replace("1.0", "1.0 2.0"),
        CONTROL.replace("1.0", "../1"),
        CONTROL.replace("amd64", "amd64 i386"),
        CONTROL.replace("Architecture: amd64", "Architecture:\n amd64"),
        " " + CONTROL,
    ],
)
def test_what_is_no_control_data(control: str) -> None:
    """What could be read in two ways, or breaks an index, is refused."""
    with pytest.raises(StanzaError):
        packages_record(control, FILE)


@pytest.mark.parametrize(
    "dsc",
    [
        b"",
        b"\xff",
        DSC.replace("Checksums-Sha256", "Checksums-Sha255").encode(),
        DSC.replace(" 5 hello_1.0.tar.xz", " 5").encode(),
        DSC.replace("Source: hello", "Source: ").encode(),
        b"-----BEGIN PGP SIGNED MESSAGE-----\n" + DSC.encode(),
    ],
)
def test_what_is_no_dsc(dsc: bytes) -> None:
    """So is what is no .dsc."""
    with pytest.raises(StanzaError):
        sources_record(dsc, FILE)


@pytest.mark.parametrize("path", ["", "/pool/x", "pool/../x", "pool/a b", "pool/a\nb", "pool//x", "pool/./x"])
def test_paths_that_are_none(path: str) -> None:
    """A file's path is a plain one."""
    with pytest.raises(StanzaError):
        File(path, 1, "4" * 64)


@given(st.text(alphabet=st.sampled_from("AaPp: \n\t\r\0#.-é:x"), max_size=60))
def test_any_text(text: str) -> None:
    """Whatever follows, there is one stanza that says the same under the same key, or an error."""
    try:
        record = packages_record(CONTROL + text, FILE)
    except StanzaError:
        return
    assert checked(IndexKind.PACKAGES, record).key == b"hello 1.0 amd64"
    section = apt_pkg.TagSection(record.text.decode() + "\n\n")
    assert section["Package"] == "hello" and section["SHA256"] == "4" * 64


# Release


def test_release() -> None:
    """Release says what it must; Debian's archive has no Packages of all alone either."""
    text = release_text(FACTS, {"main/source/Sources": Sum(5, "4" * 64)}, 1_790_000_000.7).decode()
    section = apt_pkg.TagSection(text)
    assert section["Date"] == "Mon, 21 Sep 2026 14:13:20 UTC"
    assert section["Architectures"] == "all amd64" and section["Acquire-By-Hash"] == "yes"
    assert "Valid-Until" not in section
    assert section["SHA256"].strip() == f"{'4' * 64} 5 main/source/Sources"


def test_all_indices() -> None:
    """Each component has Packages of each architecture, Sources, and Contents, those of all apart."""
    paths = [name.path for name in indices_of(FACTS)]
    assert sorted(paths) == [
        "main/Contents-all",
        "main/Contents-amd64",
        "main/binary-amd64/Packages",
        "main/source/Sources",
    ]


@pytest.mark.parametrize("origin", ["a\nDate: never", "a\0", "\u2028"])
def test_facts_are_lines(origin: str) -> None:
    """Nothing that an archive is called adds a field to Release."""
    with pytest.raises(ReleaseError):
        Facts(origin, "mine", "bookworm", "bookworm", ("main",), ("amd64",))


TRANSLATED = "Description-de: sagt hallo\n jedem, der da ist\n .\n Wirklich.\nDescription-pt_BR:\n diz ola"


def test_descriptions_in_other_languages(tmp_path: Path) -> None:
    """They are not in Packages, but in Translation, under the MD5 of what they translate that apt-ftparchive finds."""
    deb = write_deb(tmp_path / "pool/main/h/hello", fields=TRANSLATED)
    control = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True).stdout
    plain = CONTROL.replace("Description: hello", "Description: says hello\n to whoever is there")
    told = packages_record(control, FILE).text.decode()
    found = translations(control)
    assert found.keys() == {"de", "pt_BR"} and translations(plain) == {}
    command = ["apt-ftparchive", "-oAPT::FTPArchive::LongDescription=false", "packages", "pool"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    md5 = next(line.split()[1] for line in said.splitlines() if line.startswith("Description-md5: "))
    assert re.findall(r"^Description-.*", told, re.MULTILINE) == [f"Description-md5: {md5}"]
    assert "Description-md5" not in packages_record(plain, FILE).text.decode()
    for record in found.values():
        assert checked(IndexKind.TRANSLATION, record).key == f"hello {md5}".encode()
    assert (
        found["de"].text.decode()
        == f"Package: hello\nDescription-md5: {md5}\n" + TRANSLATED.partition("\nDescription-pt")[0]
    )
    assert found["pt_BR"].text.endswith(b"\nDescription-pt_BR:\n diz ola")


def test_too_many_languages() -> None:
    """What would make hundreds of indices is in none."""
    languages = [f"{one}{other}" for one in "abcdefghijk" for other in "abcdefghij"]
    more = "".join(f"Description-{each}: x\n" for each in languages)
    with pytest.raises(StanzaError, match="more than 100 languages"):
        packages_record(CONTROL + more, FILE)


def test_languages_as_dpkg_writes_them() -> None:
    """dpkg-gencontrol begins each word of a field's name with a capital letter, and has no others."""
    found = translations(f"{CONTROL}Description-De: hallo\nDescription-Pt_br: ola\n")
    assert found["de"].text.endswith(b"\nDescription-de: hallo")
    assert found["pt_BR"].text.endswith(b"\nDescription-pt_BR: ola")


@pytest.mark.parametrize("name", ["Description-md5", "Description-../../x", "Description-d", "Description-de_DE_x"])
def test_what_is_no_language(name: str) -> None:
    """Such a field is one like others."""
    assert translations(f"{CONTROL}{name}: x\n") == {}
