"""Debian's packages by name and control file, with nothing in them: .debs by the ten thousand."""

import gzip
import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

LISTS = Path("/var/lib/apt/lists")
_NOT_CONTROL = re.compile(r"^(?:Filename|Size|MD5sum|SHA1|SHA256|Description-md5):.*\n?", re.MULTILINE)
_NOTHING = gzip.compress(bytes(10240), mtime=0)  # A tar of no files.


def controls(number: int) -> Iterator[str]:
    """So many packages' control files: those of Debian's lists on this machine, then the same under other names.

    :raises SystemExit: there are none.
    """
    lists = sorted(LISTS.glob("*_main_binary-*_Packages*"), key=lambda path: path.stat().st_size)
    if not lists:
        raise SystemExit(f"{LISTS} has no lists of packages: run apt-get update")
    text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", lists[-1]], capture_output=True, check=True).stdout
    stanzas = [_NOT_CONTROL.sub("", each).strip("\n") + "\n" for each in text.decode().split("\n\n") if each.strip()]
    for place in range(number):
        again, of = divmod(place, len(stanzas))
        yield renamed(stanzas[of], f"-again{again}") if again else stanzas[of]


def renamed(control: str, ending: str) -> str:
    """The same package, called otherwise."""
    return re.sub(r"^Package: (\S+)$", rf"Package: \1{ending}", control, count=1, flags=re.MULTILINE)


def field(control: str, name: str) -> str:
    """A field's line."""
    found = re.search(rf"^{name}: (.*)$", control, re.MULTILINE)
    return found[1] if found else ""


def control_of(deb: Path) -> str:
    """The control file of a .deb written here, without a program to be started for it."""
    content = deb.read_bytes()
    at = 8 + 60 + 4  # Behind what says that it is an archive, and its first member.
    size = int(content[at + 48 : at + 58])
    with tarfile.open(fileobj=io.BytesIO(content[at + 60 : at + 60 + size])) as tar:
        member = tar.extractfile("./control")
        assert member is not None
        return member.read().decode()


def write_deb(folder: Path, control: str) -> Path:
    """A .deb of no files."""
    version = field(control, "Version").partition(":")[2] or field(control, "Version")
    path = folder / f"{field(control, 'Package')}_{version}_{field(control, 'Architecture')}.deb"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("./control")
        member.size = len(control.encode())
        tar.addfile(member, io.BytesIO(control.encode()))
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": gzip.compress(data.getvalue(), 1, mtime=0),
        "data.tar.gz": _NOTHING,
    }
    with path.open("wb") as stream:
        stream.write(b"!<arch>\n")
        for name, content in members.items():
            stream.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            stream.write(content + b"\n" * (len(content) % 2))
    return path
