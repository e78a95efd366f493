"""What .deb files say, whoever made them."""

import gzip
import io
import os
import tarfile
import time
import tracemalloc
from pathlib import Path

import pytest

from buildd.protocol import FileName
from buildmaster import debs
from buildmaster.deb_reader import _held, _Room
from buildmaster.debs import BadDeb, Said
from buildmaster.farm import Farm
from buildmaster.tests.factories import write_deb

CONTROL = (
    "Package: hello\nVersion: 1.0\nArchitecture: amd64\nMaintainer: Somebody <s@example.org>\nDescription: says hello\n"
)
NAME = "hello_1.0_amd64.deb"


def examine(path: Path) -> Said:
    with path.open("rb") as stream:
        (found,) = debs.examine({FileName(path.name): stream})
    return found


def paths(farm: Farm, path: Path) -> list[bytes]:
    """Of the files in a .deb, as the store has them."""
    (found,) = debs.read(farm.store, {FileName(path.name): farm.add_file(path)})
    if found.contents is None:
        return []
    with farm.store.open(found.contents.sha256) as stream:
        return gzip.decompress(stream.read()).splitlines()


def tar(members: dict[str, bytes], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A compressed tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def ar(*members: tuple[str, bytes]) -> bytes:
    """What a .deb is outside."""
    parts = [b"!<arch>\n"]
    for name, content in members:
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb(control: bytes | str = CONTROL, data: bytes | None = None) -> bytes:
    """A .deb with this control file, and this tar archive of files."""
    content = control.encode() if isinstance(control, str) else control
    parts = tar({"./control": content}), tar({"./usr/bin/hello": b"x"}) if data is None else data
    return ar(("debian-binary", b"2.0\n"), ("control.tar.gz", parts[0]), ("data.tar.gz", parts[1]))


def refusal(folder: Path, content: bytes, name: str = NAME) -> str:
    path = folder / name
    path.write_bytes(content)
    with pytest.raises(BadDeb) as told:
        examine(path)
    assert told.value.name == name
    return told.value.why


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd", "none"])
def test_a_deb(farm: Farm, tmp_path: Path, compression: str) -> None:
    """Its control file as it is, and the paths of its files, whatever it is compressed with."""
    files = {"usr/share/doc/hello/copyright": b"", "usr/bin/hello": b"hello"}
    path = write_deb(tmp_path, version="1:1.0-2+b1", fields="Source: greet (1:1.0-2)\nSection: net", files=files,
                     compression=compression)  # fmt: skip
    found = examine(path)
    assert (found.name, found.version, found.architecture) == ("hello", "1:1.0-2+b1", "amd64")
    assert (found.source, found.source_version, found.section) == ("greet", "1:1.0-2", "net")
    assert found.control.startswith("Package: hello\n") and found.control.endswith("\n to whoever is there\n")
    assert paths(farm, path) == [b"usr/bin/hello", b"usr/share/doc/hello/copyright"]
    assert not found.debug


def test_debug_symbols(tmp_path: Path) -> None:
    """By their field, or by their name."""
    assert examine(write_deb(tmp_path, "hello-dbgsym")).debug
    assert examine(write_deb(tmp_path, "symbols", fields="Auto-Built-Package: debug-symbols")).debug


def test_in_the_store(farm: Farm, tmp_path: Path) -> None:
    """Several of one build, in their order; with a list of files for those that have any."""
    files = [write_deb(tmp_path), write_deb(tmp_path, "empty", architecture="all", files={})]
    stored = {FileName(path.name): farm.add_file(path) for path in files}
    one, empty = debs.read(farm.store, stored)
    assert (one.name, one.file, empty.architecture) == ("hello", stored[FileName(NAME)], "all")
    assert one.contents is not None and empty.contents is None
    assert paths(farm, files[0]) == [b"usr/bin/hello"]
    debs.check([one], "hello", "1.0", "amd64")
    with pytest.raises(BadDeb, match=r"source empty 1\.0, not of hello 1\.0"):
        debs.check([one, empty], "hello", "1.0", "amd64")
    with pytest.raises(BadDeb, match="is for amd64, and was built on armhf"):
        debs.check([one], "hello", "1.0", "armhf")
    assert debs.read(farm.store, {}) == []


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("", "an empty line"),
        ("X-A: b\n", "lacks Package"),
        (CONTROL.replace("Maintainer", "X-Other"), "lacks Maintainer"),
        (CONTROL + "\nPackage: second\n", "an empty line"),
        (CONTROL + "package: hello\n", "package twice"),
        (" continued\n" + CONTROL, "in the middle of a field"),
        (CONTROL + "no field\n", "this is no field"),
        (CONTROL + "Filename: pool/x.deb\n", "must not have Filename"),
        (CONTROL + "X-A: a\u0085Filename: pool/x.deb\n", "control characters"),
        (CONTROL + "X-A: a\u2028Filename: pool/x.deb\n", "control characters"),
        (CONTROL + "X-A: a\x00b\n", "control characters"),
        (CONTROL.encode() + b"X-A: caf\xe9\n", "not in UTF-8"),
        (CONTROL.replace("Package: hello", "Package: ../hello"), "Package: '../hello'"),
        (CONTROL.replace("1.0", "1.0/2"), "Version: '1.0/2'"),
        (CONTROL.replace("amd64", "a b"), "not an architecture"),
        (CONTROL + "Source: hello (../1)\n", "is no version"),
        (CONTROL + "Source: hello; rm\n", "Source: 'hello; rm'"),
        (CONTROL + "Section: a b\n", "Section: 'a b'"),
        (CONTROL.replace("hello", "other", 1), "must be called other_1.0_amd64.deb"),
        (CONTROL + "X-A: " + "a" * (1 << 20), "one plain file"),
        (CONTROL + "X-A: " + "\x01" * ((1 << 20) - 200), "control characters"),  # The longest line that is printed.
    ],
)
def test_bad_control_files(tmp_path: Path, control: str | bytes, words: str) -> None:
    """Each is refused with what is wrong with it."""
    assert words in refusal(tmp_path, deb(control))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "unexpected end of file"),
        (b"no ar archive at all, but long enough to be one" * 10, "is not a Debian format archive"),
        (deb()[:-30], "unexpected end of file"),
        (deb(data=b"no tar"), "truncated"),
        (ar(("debian-binary", b"2.0\n")), "unexpected end of file"),
        (ar(("debian-binary", b"9.0\n"), ("control.tar.gz", tar({}))), "version 9.0"),
        (ar(("debian-binary", b"2.0\n"), ("control.tar.gz", tar({"a": b""})), ("data.tar.gz", tar({}))), "no control"),
        (
            ar(("debian-binary", b"2.0\n"), ("control.tar.gz", tar({"control": b"", "./control": b""})),
               ("data.tar.gz", tar({}))),
            "one plain file",
        ),
        (
            ar(("debian-binary", b"2.0\n"), ("control.tar.gz", tar({"control": b""}, kind=tarfile.SYMTYPE)),
               ("data.tar.gz", tar({}))),
            "one plain file",
        ),
        (deb(data=tar({"../../etc/passwd": b""})), "bad name"),
        (deb(data=tar({"/etc/passwd": b""})), "bad name"),
        (deb(data=tar({"./a\nb": b""})), "bad name"),
        (deb().replace(b"`\n", b"!!", 1), ""),
    ],
)  # fmt: skip
def test_bad_archives(tmp_path: Path, content: bytes, words: str) -> None:
    """Each is refused in words; none of them makes the reader fail."""
    assert words in refusal(tmp_path, content)


def test_names_that_are_no_text(farm: Farm, tmp_path: Path) -> None:
    """Files may have them; they are kept as they are."""
    path = tmp_path / NAME
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        archive.addfile(tarfile.TarInfo(os.fsdecode(b"./usr/caf\xe9")))
    path.write_bytes(deb(data=stream.getvalue()))
    assert paths(farm, path) == [b"usr/caf\xe9"]


def test_a_bomb_of_memory(tmp_path: Path) -> None:
    """A name of 2 GB in the tar archive is refused, and costs neither us that memory nor minutes."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2 << 30
    began = time.monotonic()
    zeros = gzip.compress(
        header.tobuf(tarfile.GNU_FORMAT) + b"a" * (64 << 20), 1
    )  # dpkg-deb itself goes on to the end.
    assert refusal(tmp_path, deb(data=zeros))
    assert time.monotonic() - began < 30


def test_too_many_names(tmp_path: Path) -> None:
    """A list of files has an end, however little there is in the file."""
    names = {f"{number:060000d}": b"" for number in range(1200)}
    assert "more than 67108864 bytes" in refusal(tmp_path, deb(data=tar(names)))


def long_names(folder: Path, name: str, count: int) -> Path:
    """A small .deb with a list of files of 4,000 bytes each that are no UTF-8."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        for number in range(count):
            archive.addfile(tarfile.TarInfo("\udcff" * 4000 + f"{number:06}"))
    path = folder / f"{name}_1.0_amd64.deb"
    control = tar({"./control": CONTROL.replace("hello", name, 1).encode()})
    members = ("debian-binary", b"2.0\n"), ("control.tar.gz", control), ("data.tar.gz", stream.getvalue())
    path.write_bytes(ar(*members))
    return path


def test_lists_of_files_are_not_held_in_memory(farm: Farm, tmp_path: Path) -> None:
    """Small files with long lists cost whoever has them read next to nothing, and their lists are there."""
    files = [long_names(tmp_path, f"p{number}", 1000) for number in range(3)]
    stored = {FileName(path.name): farm.add_file(path) for path in files}
    tracemalloc.start()
    try:
        found = debs.read(farm.store, stored)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(path.stat().st_size < 30_000 for path in files)
    assert peak < 3 << 20  # The lists have 4 MB each.
    assert [each.name for each in found] == ["p0", "p1", "p2"]
    for path in files[0], files[2]:
        assert paths(farm, path) == [b"\xff" * 4000 + b"%06d" % number for number in range(1000)]


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (_Room(paths_bytes=8_030), "names of more than 268435456 bytes"),
        (_Room(paths=5), "more than 4000000 files"),
        (_Room(controls_bytes=200), "control file, with those before it"),
    ],
)
def test_too_much_of_a_build(tmp_path: Path, room: _Room, words: str) -> None:
    """What is read at once has bounds as well as each file of it: the first that is too much is named."""
    one, two = long_names(tmp_path, "one", 2), write_deb(tmp_path, "two", files={f"usr/{each}": b"" for each in "abcd"})
    with one.open("rb") as first, two.open("rb") as second, (tmp_path / "paths").open("wb") as out:
        assert "fault" not in _held(first.fileno(), room, out)
        assert words in _held(second.fileno(), room, out)["fault"]
