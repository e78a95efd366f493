"""A catalogue of uploads that must be refused, each with the words that it is refused with.

All of it is generated: the upload of hello 2.0 to debian/mine, which has hello 1.0, is spoilt in one way each.
"""

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from buildmaster.tests import gpg
from buildmaster.tests.uploading import Upload, tarball

DSC, TAR, CHANGES = "hello_2.0.dsc", "hello_2.0.tar.xz", "hello_2.0_source.changes"
BYTES = 1 << 20  # What a tarball may unpack to, in the catalogue.
Edit = Callable[[bytes], bytes]
_PADDING = b"X-Padding: x\n" + b" xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n" * (1 << 17)


@dataclass(frozen=True)
class Bad:
    """A way in which an upload is bad."""

    says: str  # In one of the faults.
    fields: dict[str, Any] = field(default_factory=dict)  # Of the Upload.
    after: Callable[[Path], None] = lambda folder: None  # What is done to its files then.

    def write(self, folder: Path) -> Path:
        """The .changes."""
        path = Upload(**{"version": "2.0", **self.fields}).write(folder)
        self.after(folder)
        return path


def catalogue() -> dict[str, Bad]:
    """All of them, by name."""
    parts = (_signatures(), _files(), _changes_data(), _changes_text(), _dsc_data(), _what_it_is(), _tarballs())
    return {name: bad for part in parts for name, bad in part}


def _signatures() -> Iterator[tuple[str, Bad]]:
    keys = gpg.shared()
    keys.make("stranger")
    yield "not signed", Bad("is not signed", {"signer": ""})
    yield "signed by a stranger", Bad("no uploader's of debian/mine", {"signer": "stranger"})
    yield "signed by SHA-1", Bad("signed with SHA-1", {"sign_with": ("--digest-algo", "SHA1")})
    yield "signed in the future", Bad("in the future", {"sign_with": ("--faked-system-time", "20990101T000000")})
    yield "text before", Bad("text outside", after=_edit(CHANGES, lambda text: b"X: y\n" + text))
    yield "text behind", Bad("text outside", after=_edit(CHANGES, lambda text: text + b"X: y\n"))
    yield "twice in a file", Bad("text outside", after=_edit(CHANGES, lambda text: text + text))
    yield "changed", Bad("changed after", after=_edit(CHANGES, lambda text: text.replace(b"misc", b"libs")))
    yield "unterminated", Bad("has no end", after=_edit(CHANGES, lambda text: text.partition(b"-----END")[0]))
    yield "cut off", Bad("has no end", after=_edit(CHANGES, lambda text: text[: len(text) // 2]))
    yield "half a signature", Bad("has no end", after=_edit(CHANGES, lambda text: text[:-90]))
    yield "headers that say more", Bad("between its heading", after=_edit(CHANGES, _more_headers))
    yield "an empty signature", Bad("no signature", after=_edit(CHANGES, _emptied))
    yield "a broken signature", Bad("cannot be read", after=_edit(CHANGES, _broken))
    yield (
        "a detached signature",
        Bad("is not signed", {"signer": ""}, _edit(CHANGES, partial(_by_gpg, "--detach-sign"))),
    )
    yield "an inline signature", Bad("is not signed", {"signer": ""}, _edit(CHANGES, partial(_by_gpg, "--sign")))
    yield "a certificate", Bad("is not signed", after=_edit(CHANGES, lambda _: keys.certificate("uploader")))
    yield "an unsigned .dsc", Bad(f"{DSC} is not signed", after=_resigned(_edit(DSC, _unsigned)))
    yield "a .dsc by a stranger", Bad(f"{DSC} is signed by", after=_resigned(_edit(DSC, _by_stranger)))
    yield (
        "a .dsc with text behind",
        Bad("text outside", after=_resigned(_edit(DSC, lambda text: text + b"Source: x\n"))),
    )
    yield "a .dsc that was changed", Bad("changed after", after=_resigned(_edit(DSC, _other_maintainer)))


def _files() -> Iterator[tuple[str, Bad]]:
    for name in (DSC, TAR):
        short = name.rpartition("2.0")[2]
        yield f"no {short}", Bad(f"{name} did not come", after=_remove(name))
        yield f"an empty {short}", Bad(f"{name} has 0 bytes", after=_edit(name, lambda _: b""))
        yield f"half a {short}", Bad("send it again, whole", after=_edit(name, lambda text: text[: len(text) // 2]))
        yield f"a longer {short}", Bad("send it again, whole", after=_edit(name, lambda text: text + b"\n"))
        yield f"one bit of {short}", Bad("does not have the SHA-256", after=_edit(name, _flipped))
        yield f"a folder for {short}", Bad(f"{name} did not come", after=_folder(name))
    yield "files swapped", Bad("send it again", after=_swap)
    yield "an empty .changes", Bad("is not signed", after=_edit(CHANGES, lambda _: b""))
    yield "zeros for .changes", Bad("is not signed", after=_edit(CHANGES, lambda text: bytes(len(text))))
    yield "the .dsc as .changes", Bad("hello_2.0_source.changes", after=_copy(DSC, CHANGES))
    yield "the tarball as .changes", Bad("is not signed", after=_copy(TAR, CHANGES))
    yield (
        "another .changes' name",
        Bad("is not what it must be called", {"name": "other", "files": {}}, _rename_changes),
    )


def _changes_data() -> Iterator[tuple[str, Bad]]:
    def said(words: str, **fields: str) -> Bad:
        return Bad(words, {"changes_fields": {name.replace("_", "-"): value for name, value in fields.items()}})

    def edited(words: str, edit: Edit) -> Bad:
        return Bad(words, {"edit_changes": edit})

    yield "nothing in it", edited("more than one paragraph", lambda _: b"\n")
    yield "no source", said("Source is missing", Source="")
    yield "no version", said("Version is missing", Version="")
    yield "no distribution", said("has no suite", Distribution="")
    yield "no digests", said("has no Checksums-Sha256", Checksums_Sha256="")
    yield "no files", said("do not name the same files", Files="")
    yield "no architecture", said("which is not what it names", Architecture="")
    yield "a source with a slash", said("Source is not valid", Source="../hello")
    yield "a source in capitals", said("Source is not valid", Source="Hello")
    yield "a source of one letter", said("Source is not valid", Source="h")
    yield "a long source", said("Source is not valid", Source="h" * 300)
    yield "a source with a space", said("is not what it must be called", Source="hello world".partition(" ")[2])
    yield "a version with a slash", said("Version is not valid", Version="2.0/../3")
    yield "a version with a blank", said("Version is not valid", Version="2.0 3")
    yield "a version of a letter", said("is not what it must be called", Version="x")
    yield "an epoch that is none", said("Version is not valid", Version="a:2.0")
    yield "another source", said("is of hello 2.0, but", Source="other")
    yield "another version", said("is of hello 2.0, but", Version="3.0")
    yield "a suite of elsewhere", said("has no suite 'sid'", Distribution="sid")
    yield "two suites", said("has no suite", Distribution="bookworm sid")
    yield "a pocket that is none", said("has no suite", Distribution="bookworm-nothing")
    yield "a path as suite", said("has no suite", Distribution="../../bookworm")
    yield "a section of no component", Bad("in no component", {"section": "nowhere/misc"})
    yield "binary by its word", said("which is not what it names", Architecture="source amd64".partition(" ")[2])


def _changes_text() -> Iterator[tuple[str, Bad]]:
    def said(words: str, **fields: str) -> Bad:
        return Bad(words, {"changes_fields": {name.replace("_", "-"): value for name, value in fields.items()}})

    def edited(words: str, edit: Edit) -> Bad:
        return Bad(words, {"edit_changes": edit})

    yield "a path among digests", edited("must be one plain path segment", _replaced(TAR, f"../../{TAR}"))
    yield "an absolute path", edited("must be one plain path segment", _replaced(TAR, f"/etc/{TAR}"))
    yield "a hidden file", edited("must be one plain path segment", _replaced(TAR, f".{TAR}"))
    yield "a backslash", edited("must be one plain path segment", _replaced(TAR, f"a\\{TAR}"))
    yield "a negative size", edited("is not 'digest size name'", _in_sums(r"\1 -\2"))
    yield "a size in hex", edited("is not 'digest size name'", _in_sums(r"\1 0x\2"))
    yield "another MD5", edited("does not have the MD5 that", _other_digest(b"Files:", 32))
    yield "another SHA-1", edited("does not have the SHA-1 that", _other_digest(b"Checksums-Sha1:", 40))
    yield "another file by SHA-1", edited("Checksums-Sha1 does not name the same", _other_name(b"Checksums-Sha1:"))
    yield "a size without end", edited("no file is as large", _in_sums(r"\1 " + "9" * 40))
    yield "a size in other digits", edited("is not 'digest size name'", _in_sums("\\1 \u0661\u0662"))
    yield "a digest that is too short", edited("is not 'digest size name'", _in_sums(r"abc \2"))
    yield "a line without a name", edited("is not 'digest size name'", _in_sums(r"\1"))
    yield "a file twice", edited("twice", _a_line_twice)
    yield "a file in one list alone", edited("do not name the same files", _one_list)
    yield "sizes that differ", edited("different sizes", _other_size)
    yield "itself", edited("names itself", _itself)
    yield "no date", said("has no Date", Date="")
    yield "nobody who maintains it", said("has no Maintainer", Maintainer="")
    yield "no changes", said("has no Changes", Changes="")
    yield "a comment", edited("that is no field", lambda text: b"# Source: evil\n" + text)
    yield "a field twice", edited("has the field Source twice", lambda text: text + b"Source: hello\n")
    yield "a field twice, in capitals", edited("has the field Version twice", lambda text: text + b"VERSION: 3\n")
    yield "a second paragraph", edited("more than one paragraph", lambda text: text + b"\nSource: evil\n")
    yield "a NUL", edited("control character", lambda text: text.replace(b"New.", b"New\0."))
    yield "an escape", edited("control character", lambda text: text.replace(b"New.", b"\x1b[2J"))
    yield "a form feed", edited("control character", lambda text: text.replace(b"New.", b"\x0cSource: evil"))
    yield "a bare CR", edited("control character", lambda text: text.replace(b"New.", b"x\rSource: evil"))
    yield (
        "a line separator",
        edited("control character", lambda text: text.replace(b"New.", "\u2028Source: x".encode())),
    )
    yield "Latin-1", edited("is not in UTF-8", lambda text: text.replace(b"New.", "Büro".encode("latin-1")))
    yield "UTF-16", edited("is not in UTF-8", lambda text: text.decode().encode("utf-16"))
    yield "a surrogate", edited("is not in UTF-8", lambda text: text.replace(b"New.", b"\xed\xa0\x80"))
    yield "a byte order mark", edited("that is no field", lambda text: b"\xef\xbb\xbf" + text)
    yield "no fields at all", edited("that is no field", lambda _: b"this is not control data\nat all\n")
    yield "HTML", edited("that is no field", lambda _: b"<html>\n<body>403 Forbidden</body>\n</html>\n")
    yield "JSON", edited("Source is missing", lambda _: b'{"Source": "hello"}\n')
    yield "many megabytes", Bad("larger than", {"edit_changes": lambda text: text + _PADDING})
    yield "many fields", edited("more than 200 fields", _many_fields)
    yield "many files", edited("names 1000 files or more", _many_files)


def _dsc_data() -> Iterator[tuple[str, Bad]]:
    def said(words: str, **fields: str) -> Bad:
        return Bad(words, {"dsc_fields": {name.replace("_", "-"): value for name, value in fields.items()}})

    def edited(words: str, edit: Edit) -> Bad:
        return Bad(words, {"edit_dsc": edit})

    yield "a .dsc of another source", said("names a file that is not of source other", Source="other")
    yield "a .dsc of another version", said("is of hello 3.0, but", Version="3.0")
    yield "a .dsc without a source", said(f"{DSC}: Source is missing", Source="")
    yield "a .dsc without digests", said("has no Checksums-Sha256", Checksums_Sha256="")
    yield "a .dsc without an architecture", said("builds on nothing", Architecture="")
    yield "a .dsc for nobody here", said("builds on s390x", Architecture="s390x")
    yield "a .dsc of format 4", said("has the format '4.0'", Format="4.0")
    yield "a .dsc of format git", said("has the format '3.0 (git)'", Format="3.0 (git)")
    yield "a .dsc that is said to be quilt", said("that a source package of format", Format="3.0 (quilt)")
    yield "a .dsc with another's file", edited("names a file that is not of source", _replaced(TAR, "other_2.0.tar.xz"))
    yield "a .dsc with a path", edited("must be one plain path segment", _replaced(TAR, f"../{TAR}"))
    yield "a .dsc with another digest", edited("do not say the same of", _in_sums(r"f00d00000000000000\1 \2", strip=18))
    yield "build-dependencies that are none", said("Build-Depends of hello_2.0.dsc is not a", Build_Depends="((( <<< |")
    yield "a conflict with no version", said("Build-Conflicts-Indep of", Build_Conflicts_Indep="x (= 1a:2)")
    yield "build-dependencies without end", said("is too long", Build_Depends="aa,\n " * (1 << 15) + "aa")
    yield "a .dsc with another MD5", edited("does not have the MD5 that", _other_digest(b"Files:", 32))
    yield "a .dsc with another SHA-1", edited("does not have the SHA-1 that", _other_digest(b"Checksums-Sha1:", 40))
    yield "a .dsc without files", said("Files does not name the same files", Files="")
    yield "a .dsc that lists another file", edited("Files does not name the same files", _other_name(b"Files:"))
    yield "a .dsc with a NUL", edited("control character", lambda text: text.replace(b"Somebody", b"Some\0body"))
    yield "a .dsc with a field twice", edited("has the field Binary twice", lambda text: text + b"Binary: evil\n")
    yield "a .dsc with two paragraphs", edited("more than one paragraph", lambda text: text + b"\nPackage: evil\n")
    yield "a .dsc in Latin-1", edited("is not in UTF-8", lambda text: text.replace(b"Somebody", b"B\xfcro"))
    yield "a large .dsc", edited("larger than", lambda text: text + _PADDING)
    yield "a .dsc that is no control data", edited("that is no field", lambda _: b"nothing\n")
    yield "a file that the .dsc alone names", Bad("is not in debian/mine yet", {"unsent": (TAR,)})


def _what_it_is() -> Iterator[tuple[str, Bad]]:
    yield "an older version", Bad("is not newer than 1.0", {"version": "0.9"})
    yield "a version before it", Bad("is not newer than 1.0", {"version": "1.0~rc1"})
    yield "the same version", Bad("another hello 1.0 is in debian/mine", {"version": "1.0"})
    yield "a binary package", Bad("takes sources only", {"more": {"hello_2.0_amd64.deb": b"!<arch>\n"}})
    yield "an installer package", Bad("takes sources only", {"more": {"hello-udeb_2.0_amd64.udeb": b"!<arch>\n"}})
    yield "a file that belongs to nothing", Bad("belongs to no package", {"more": {"README.txt": b"hi\n"}})
    yield "a second .dsc", Bad("names 2 source packages", {"more": {"hello_2.1.dsc": b"Source: hello\n"}})
    yield "a .buildinfo of another", Bad("is not of hello 2.0", {"more": {"other_1_amd64.buildinfo": b"x\n"}})
    yield "no source at all", Bad("names no source package", {"edit_changes": _no_dsc})


def _tarballs() -> Iterator[tuple[str, Bad]]:
    def of(words: str, content: bytes, name: str = TAR) -> Bad:
        return Bad(words, {"files": {name: content}})

    yield "no tarball", of("is broken", b"this is none")
    yield "an empty tarball", of("", b"")
    yield "half a tarball", of("breaks off", tarball(("a", bytes(range(256)) * 400))[:-200])
    yield "a tarball of nothing", of("is empty", lzma.compress(bytes(10240)))
    yield "a tarball with garbage behind", of("is broken", tarball() + b"garbage" * 100)
    yield "no tar in it", of("is no tarball", lzma.compress(b"garbage" * 100))
    yield "a zip", of("is broken", _zip())
    yield "gzip called xz", of("is broken", gzip.compress(_tar("a")))
    yield "xz called gzip", of("is broken", tarball(), "hello_2.0.tar.gz")
    yield "an xz bomb", of("unpacks to more than", lzma.compress(_tar("bomb", 64 << 20), preset=0))
    yield "a gzip bomb", of("unpacks to more than", gzip.compress(_tar("bomb", 64 << 20)), "hello_2.0.tar.gz")
    yield "a bzip2 bomb", of("unpacks to more than", bz2.compress(_tar("bomb", 16 << 20)), "hello_2.0.tar.bz2")
    yield "a bomb behind the end", of("unpacks to more than", lzma.compress(_tar("a") + bytes(16 << 20), preset=0))
    yield (
        "a bomb in a name",
        of("no path is so long", lzma.compress(_header(tarfile.XHDTYPE) + bytes(16 << 20), preset=0)),
    )
    yield "a path upwards", of("leads elsewhere", tarball(("../../etc/passwd", b"x")))
    yield "an absolute path in it", of("leads elsewhere", tarball(("/etc/passwd", b"x")))
    yield "a long path upwards", of("leads elsewhere", tarball(("a/" * 100 + "../" * 110 + "x", b"x")))
    yield "a way through a link", of("leads through a link", lzma.compress(_through_a_link()))
    yield "a way through a link to a link", of("leads through a link", lzma.compress(_through_a_link(hard=True)))
    yield "a device", of("no file, directory or link", lzma.compress(_header(tarfile.BLKTYPE, 0) + bytes(1024)))
    yield "a fifo", of("no file, directory or link", lzma.compress(_header(tarfile.FIFOTYPE, 0) + bytes(1024)))
    yield "a checksum that is wrong", of("is no tarball", lzma.compress(_tar("a").replace(b"a\0", b"b\0", 1)))
    yield "zstd", of("is nothing that a source package", b"\x28\xb5\x2f\xfd", "hello_2.0.tar.zst")
    diff = {"hello_2.0.orig.tar.gz": gzip.compress(_tar("a")), "hello_2.0.diff.gz": gzip.compress(bytes(8 << 20))}
    yield "a bomb in a diff", Bad("unpacks to more than", {"format": "1.0", "files": diff})


# Edits of files that were written.


def _edit(name: str, edit: Edit) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(edit((folder / name).read_bytes()))

    return change


def _resigned(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """Change a .dsc, and let the .changes say what it is now."""

    def both(folder: Path) -> None:
        change(folder)
        upload = Upload(version="2.0")
        upload.files = {TAR: (folder / TAR).read_bytes()}
        (folder / CHANGES).write_bytes(upload.sign(upload.changes((folder / DSC).read_bytes())))

    return both


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _folder(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def _copy(source: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / target).write_bytes((folder / source).read_bytes())

    return change


def _swap(folder: Path) -> None:
    one, other = (folder / DSC).read_bytes(), (folder / TAR).read_bytes()
    (folder / DSC).write_bytes(other)
    (folder / TAR).write_bytes(one)


def _rename_changes(folder: Path) -> None:
    (folder / "other_2.0_source.changes").write_bytes(Upload(version="2.0").write(folder).read_bytes())


def _flipped(content: bytes) -> bytes:
    return bytes([*content[:50], content[50] ^ 1, *content[51:]])


def _more_headers(text: bytes) -> bytes:
    head, _, rest = text.partition(b"\n")
    return head + b"\nComment: Source evil\n" + rest


def _emptied(text: bytes) -> bytes:
    head, begin, _ = text.partition(b"-----BEGIN PGP SIGNATURE-----\n")
    return head + begin + b"\n-----END PGP SIGNATURE-----\n"


def _broken(text: bytes) -> bytes:
    head, begin, rest = text.partition(b"-----BEGIN PGP SIGNATURE-----\n\n")
    return head + begin + b"!!!!" + rest


def _by_gpg(way: str, text: bytes) -> bytes:
    return gpg.shared().gpg("--armor", "--local-user", "uploader@example.org", way, data=text)


def _unsigned(_: bytes) -> bytes:
    return Upload(version="2.0").dsc()


def _by_stranger(_: bytes) -> bytes:
    return gpg.shared().sign("stranger", Upload(version="2.0").dsc())


def _other_maintainer(text: bytes) -> bytes:
    return text.replace(b"Somebody", b"Somebodx")


# Edits of control data, before it is signed.


def _replaced(old: str, new: str) -> Edit:
    return lambda text: text.replace(old.encode(), new.encode())


def _in_sums(new: str, strip: int = 0) -> Edit:
    """Change the lines of Checksums-Sha256 that are about the tarball: digest and size."""

    def change(text: bytes) -> bytes:
        pattern = rf"^ [0-9a-f]{{{strip}}}([0-9a-f]{{{64 - strip}}}) ([0-9]+) (hello_2.0.tar.xz)$"
        line = rf" {new} \3" if new != r"\1" else r" \1"
        return re.sub(pattern, line, text.decode(), flags=re.MULTILINE).encode()

    return change


def _many_fields(_: bytes) -> bytes:
    return b"".join(b"F%d: x\n" % number for number in range(100_000))


def _many_files(text: bytes) -> bytes:
    line = next(line for line in _lines_about(text, TAR) if len(line.split()[0]) == 64)
    more = (line.replace(TAR.encode(), b"hello_2.0.%d.tar.xz" % number) for number in range(30_000))
    return text.replace(line, b"\n".join([line, *more]))


def _lines_about(text: bytes, name: str) -> list[bytes]:
    return [line for line in text.splitlines() if line.endswith(name.encode())]


def _a_line_twice(text: bytes) -> bytes:
    line = next(line for line in _lines_about(text, TAR) if len(line.split()[0]) == 64)
    return text.replace(line, line + b"\n" + line)


def _one_list(text: bytes) -> bytes:
    line = _lines_about(text, TAR)[-1]  # Of Files.
    return text.replace(line + b"\n", b"")


def _other_size(text: bytes) -> bytes:
    line = _lines_about(text, TAR)[-1]
    digest, _, *rest = line.split()
    return text.replace(line, b" " + b" ".join([digest, b"1", *rest]))


def _itself(text: bytes) -> bytes:
    for line in _lines_about(text, TAR):
        text = text.replace(line, line + b"\n" + line.replace(TAR.encode(), CHANGES.encode()))
    return text


def _no_dsc(text: bytes) -> bytes:
    for line in _lines_about(text, DSC):
        text = text.replace(line + b"\n", b"")
    return text


# Tarballs, not compressed.


def _tar(name: str, size: int = 10) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = size
        archive.addfile(member, io.BytesIO(bytes(size)))
    return made.getvalue()


def _header(kind: bytes, size: int = 7 << 30) -> bytes:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, size
    return member.tobuf()


def _through_a_link(*, hard: bool = False) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        link = tarfile.TarInfo("a/b")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
        other = tarfile.TarInfo("c")
        other.type, other.linkname = tarfile.LNKTYPE, "a/b"
        archive.addfile(other)
        archive.addfile(tarfile.TarInfo("./c/passwd" if hard else "./a//b/passwd"))
    return made.getvalue()


def _zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1 << 20))
    return made.getvalue()


def _other_digest(field: bytes, length: int) -> Edit:
    """The first digest of a field is another."""

    def edit(text: bytes) -> bytes:
        before, name, behind = text.partition(field)
        return before + name + re.sub(rb"[0-9a-f]{%d} " % length, b"0" * length + b" ", behind, count=1)

    return edit


def _other_name(field: bytes) -> Edit:
    """The first file of a field is called otherwise."""

    def edit(text: bytes) -> bytes:
        before, name, behind = text.partition(field)
        return before + name + re.sub(rb"hello_2\.0", b"hello_2.00", behind, count=1)

    return edit
