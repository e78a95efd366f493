"""Tarballs of source packages, looked over: what builders could not unpack is refused, and bombs do not go off."""

import bz2
import gzip
import io
import lzma
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildmaster.uploading.tarballs import BadTarball, look_over

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
COMPRESS["lzma"] = lambda data: lzma.compress(data, lzma.FORMAT_ALONE)
MOST = 64 << 20


def tar(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, how: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed tarball."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=how) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def links(*members: tuple[str, str, bytes]) -> bytes:
    """An uncompressed tarball of links and empty files: names, targets and types."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, target, kind in members:
            member = tarfile.TarInfo(name)
            member.linkname, member.type = target, kind
            archive.addfile(member)
    return made.getvalue()


def refused(path: Path, content: bytes, most: int = MOST) -> str:
    path.write_bytes(content)
    with pytest.raises(BadTarball) as found:
        look_over(path, path.name, most)
    return str(found.value)


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("how", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_good_ones(suffix: str, how: int, tmp_path: Path) -> None:
    """Of every compression and format, with long names and several streams."""
    path = tmp_path / f"hello_1.0.tar.{suffix}"
    inner = links(("hello/l", "../../anywhere", b"2"), ("hello/h", "hello/a", b"1"), ("hello/x", "", b"0"))
    path.write_bytes(COMPRESS[suffix](inner))
    look_over(path, path.name, MOST)
    long_name = "hello/" + "long/" * (30 if how != tarfile.USTAR_FORMAT else 10) + "ä"
    data = tar(("hello/a", b"x" * 100_000), (long_name, b"b"), ("hello/empty", b""), how=how)
    path.write_bytes(COMPRESS[suffix](data))
    look_over(path, path.name, MOST)
    half = len(data) // 2
    if suffix != "lzma":
        path.write_bytes(COMPRESS[suffix](data[:half]) + COMPRESS[suffix](data[half:]))
        look_over(path, path.name, MOST)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_bad_ones(suffix: str, tmp_path: Path) -> None:
    """Each in a sentence of its own."""
    path, pack = tmp_path / f"hello_1.0.tar.{suffix}", COMPRESS[suffix]
    good = pack(tar(("hello/a", bytes(range(256)) * 4000)))
    assert "breaks off" in refused(path, good[: len(good) // 2])
    assert "breaks off" in refused(path, pack(tar(("hello/a", b"x" * 5000))[:1024]))
    assert "is broken" in refused(path, b"this is no compressed file at all, whatever its name")
    assert "is no tarball" in refused(path, pack(b"this is no tarball" * 100))
    assert "leads elsewhere" in refused(path, pack(tar(("../../etc/passwd", b""))))
    assert "leads elsewhere" in refused(path, pack(tar(("/etc/passwd", b""))))
    assert "leads elsewhere" in refused(path, pack(tar(("a/" * 200 + "../../x", b""))))
    assert "leads elsewhere" in refused(path, pack(tar(("a/" * 200 + "../x", b""), how=tarfile.GNU_FORMAT)))
    assert "leads through a link" in refused(path, pack(links(("a", "/etc", b"2"), ("a/passwd", "", b"0"))))
    assert "leads elsewhere" in refused(path, pack(links(("a", "../../etc/passwd", b"1"))))
    assert "leads elsewhere" in refused(path, pack(links(("a", "/etc/" + "x" * 200, b"1"))))
    assert "no file, directory or link" in refused(path, pack(tar(("dev/sda", b""), kind=tarfile.BLKTYPE)))
    assert "no file, directory or link" in refused(path, pack(tar(("fifo", b""), kind=tarfile.FIFOTYPE)))
    assert "is empty" in refused(path, pack(b""))
    assert "is empty" in refused(path, pack(bytes(10240)))
    assert "unpacks to more than" in refused(path, pack(tar(("bomb", bytes(4 << 20)))), 1 << 20)
    path.write_bytes(b"")
    with pytest.raises(BadTarball):
        look_over(path, path.name, MOST)


def pax(*records: bytes, name: str = "good", kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A pax header of these records, and an empty member."""
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, sum(map(len, records))
    content = b"".join(records)
    return header.tobuf() + content + bytes(-len(content) % 512) + tarfile.TarInfo(name).tobuf() + bytes(1024)


def record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    while len(b"%d %s=%s\n" % (size, key, value)) != size:
        size += 1
    return b"%d %s=%s\n" % (size, key, value)


def test_what_reads_otherwise_than_it_looks(tmp_path: Path) -> None:
    """pax headers are read by their lengths, as tar does; what changes how much of a member there is, is refused."""
    path = tmp_path / "x.tar.xz"

    def said(content: bytes) -> str:
        return refused(path, lzma.compress(content))

    for header in (record(b"size", b"0"), record(b"GNU.sparse.major", b"1"), record(b"hdrcharset", b"BINARY")):
        assert "reads otherwise than it looks" in said(pax(header))
        assert "reads otherwise than it looks" in said(pax(header, kind=tarfile.XGLTYPE))
    hidden = record(b"path", b"../../evil") + record(b"comment", b"x\n13 path=good")
    assert "leads elsewhere" in said(pax(hidden))
    for broken in (b"path=x\n", b"99 path=x\n", b"9 path=x", b"0 path=x\n", b"-1 a=b\n", b"7 path\n"):
        assert "cannot be read" in said(pax(broken))
    assert "more than 4096 bytes" in said(pax(record(b"path", b"a/" * 20_000)))
    path.write_bytes(lzma.compress(pax(record(b"path", b"a/" * 100), record(b"mtime", b"1.5"))))
    look_over(path, path.name, MOST)


def header(
    name: bytes, kind: bytes, size: int = 0, *, link: bytes = b"", prefix: bytes = b"", magic: bytes = b"ustar\x0000"
) -> bytes:
    """What stands before a member, as it could be written by hand."""
    made = tarfile.TarInfo("")
    made.type, made.size = kind, size
    block = bytearray(made.tobuf(tarfile.USTAR_FORMAT))
    block[: len(name)], block[157 : 157 + len(link)], block[148:156] = name, link, b" " * 8
    block[257:265], block[345 : 345 + len(prefix)] = magic, prefix
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def long_name(name: bytes) -> bytes:
    return header(b"././@LongLink", tarfile.GNUTYPE_LONGNAME, len(name) + 1) + name.ljust(512, b"\0")


def test_files_that_are_directories(tmp_path: Path) -> None:
    """To tar, a file whose name ends in a slash is a directory, whatever size it has; what comes then is a member."""
    path, hidden = tmp_path / "x.tar.xz", header(b"evil", tarfile.SYMTYPE, link=b"/etc")
    for kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
        assert "to others a file" in refused(path, lzma.compress(header(b"a/", kind, 512) + hidden + bytes(1024)))
        content = long_name(b"a/") + header(b"a", kind, 512) + hidden + bytes(1024)
        assert "to others a file" in refused(path, lzma.compress(content))
    content = long_name(b"a") + header(b"a/", tarfile.AREGTYPE, 512) + hidden + bytes(1024)
    assert "to others a file" in refused(path, lzma.compress(content))
    path.write_bytes(lzma.compress(header(b"a/", tarfile.REGTYPE) + header(b"a/b", tarfile.REGTYPE) + bytes(1024)))
    look_over(path, path.name, MOST)


def test_names_for_all_members(tmp_path: Path) -> None:
    """A global header of pax that names members names all that are to come."""
    path = tmp_path / "x.tar.xz"
    for key in (b"path", b"linkpath"):
        said = refused(path, lzma.compress(pax(record(key, b"s/evil"), kind=tarfile.XGLTYPE)))
        assert "reads otherwise than it looks" in said
    path.write_bytes(lzma.compress(pax(record(b"comment", b"a commit"), kind=tarfile.XGLTYPE)))
    look_over(path, path.name, MOST)


def test_names_before_names(tmp_path: Path) -> None:
    """Headers of POSIX have room for the beginning of a name, where older ones have none."""
    path, through = tmp_path / "x.tar.xz", header(b"s/evil", tarfile.REGTYPE) + bytes(1024)
    for magic in (b"ustar  \0", bytes(8)):
        link = header(b"s", tarfile.SYMTYPE, link=b"/etc", prefix=b"junk", magic=magic)
        assert "leads through a link" in refused(path, lzma.compress(link + through))
    link = header(b"evil", tarfile.SYMTYPE, link=b"/etc", prefix=b"s")
    beyond = header(b"evil/x", tarfile.REGTYPE, prefix=b"s") + bytes(1024)
    assert "leads through a link" in refused(path, lzma.compress(link + beyond))
    path.write_bytes(lzma.compress(header(b"s", tarfile.SYMTYPE, link=b"x", prefix=b"junk") + through))
    look_over(path, path.name, MOST)


def test_long_names(tmp_path: Path) -> None:
    """To tar, one goes on to its NUL, whatever length it is said to have; and one of nothing is one."""
    path, link = tmp_path / "x.tar.xz", header(b"s", tarfile.SYMTYPE, link=b"/etc")
    member = header(b"x", tarfile.REGTYPE) + bytes(1024)
    for size, data in ((1, b"s/evil"), (0, b""), (1, b"")):
        long = header(b"././@LongLink", tarfile.GNUTYPE_LONGNAME, size) + (data.ljust(512, b"\0") if size else b"")
        assert "a name that tar reads otherwise" in refused(path, lzma.compress(link + long + member))
    assert "a name that tar reads otherwise" in refused(path, lzma.compress(link + pax(record(b"path", b""))))
    unended = header(b"././@LongLink", tarfile.GNUTYPE_LONGNAME, 4) + b"long".ljust(512, b"\0")
    path.write_bytes(lzma.compress(link + long_name(b"a/" * 200 + b"b") + member[:512] + unended + member))
    look_over(path, path.name, MOST)


def test_a_name_in_no_encoding(tmp_path: Path) -> None:
    """It is the same one, wherever it stands."""
    path, link = tmp_path / "x.tar.xz", header(b"\xff", tarfile.SYMTYPE, link=b"/etc")
    through = long_name(b"\xff/evil") + header(b"x", tarfile.REGTYPE) + bytes(1024)
    assert "leads through a link" in refused(path, lzma.compress(link + through))
    assert "leads through a link" in refused(path, lzma.compress(link + pax(record(b"path", b"\xff/evil"))))


def test_a_bomb_in_a_header(tmp_path: Path) -> None:
    """A name that is said to have gigabytes is not read into memory."""
    member = tarfile.TarInfo("bomb")
    member.type, member.size = tarfile.XHDTYPE, 7 << 30  # More needs another way to write it.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = refused(tmp_path / "x.tar.xz", lzma.compress(member.tobuf() + bytes(64 << 20)))
    assert "no path is so long" in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; what compressed it is in there.


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_comes(data: st.DataObject) -> None:
    """Any change to a tarball, before or after it is compressed, is taken or refused."""
    import tempfile  # noqa: PLC0415

    suffix = data.draw(st.sampled_from(list(COMPRESS)))
    raw = bytearray(tar(("hello/a", b"abc"), ("long/" * 40, b"d")))
    inside = data.draw(st.booleans())
    packed = raw if inside else bytearray(COMPRESS[suffix](bytes(raw)))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at : at + data.draw(st.integers(0, 600))] = data.draw(st.binary(max_size=20))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.tar.{suffix}"
        path.write_bytes(COMPRESS[suffix](bytes(packed)) if inside else bytes(packed))
        try:
            look_over(path, path.name, MOST)
        except BadTarball as error:
            assert str(error).isprintable()
