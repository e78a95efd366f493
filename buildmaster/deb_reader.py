"""What .deb files hold, read by a program of its own: `python -m buildmaster.deb_reader PATHS FD...`.

A .deb comes from a builder, or from who uploads it. It is taken apart by dpkg-deb, as on the machines that will install
it, and what comes out of that is looked through as it comes, not kept and not unpacked. All of this is one process and
its children, with limits on memory and time that a file which is made to exceed them cannot get around; whoever runs it
loses nothing by its end.

For each file descriptor a line is printed, a JSON document: `control`, the text of its control file, and
`paths_bytes`; or `fault`. The paths of its files, without its directories, go to the descriptor PATHS, one .deb's after
the other's, as they are to be kept: whoever runs this has neither to understand them nor to hold them.
"""

import gzip
import json
import os
import posixpath
import resource
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TypedDict

CONTROL_MAX_BYTES = 1 << 20  # The largest in Debian has some 60 kB.
LINE_MAX_BYTES = 6 * CONTROL_MAX_BYTES + (1 << 10)  # JSON has six bytes for a control character.
PATHS_MAX_BYTES = 64 << 20  # The longest list in Debian has some 8 MB.
# Of all files that are read at once, which are those of one build:
CONTROLS_MAX_BYTES = 16 << 20
ALL_PATHS_MAX_BYTES = 256 << 20
ALL_PATHS_MAX = 4_000_000  # Who publishes them has more of each than its bytes. All of TeX Live has 300,000.
_MEMORY_MAX_BYTES = 1 << 30
_PROCESSOR_MAX_S = 900  # Of a file of some GB; they are read one after the other, each by processes of its own.
_COMPLAINT_MAX = 300


class Held(TypedDict, total=False):
    """What is printed of a file."""

    control: str
    paths_bytes: int  # So much of PATHS is this file's: its paths without "./", sorted, one a line, gzipped. 0: none.
    fault: str  # Why there is neither.


@dataclass
class _Room:
    """What the files that are still to be read may hold, all together."""

    controls_bytes: int = CONTROLS_MAX_BYTES
    paths_bytes: int = ALL_PATHS_MAX_BYTES
    paths: int = ALL_PATHS_MAX


class Unreadable(Exception):
    """A file is no .deb, or none that anybody should install."""


def main() -> None:
    """Read the files that are given as descriptors."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX_BYTES, _MEMORY_MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_MAX_S, _PROCESSOR_MAX_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out, *descriptors = map(int, sys.argv[1:])
    room = _Room()
    with os.fdopen(out, "wb") as stream:
        for descriptor in descriptors:
            held = _held(descriptor, room, stream)
            stream.flush()
            print(json.dumps(held), flush=True)


def _held(descriptor: int, room: _Room, out: IO[bytes]) -> Held:
    try:
        control, paths = _control(descriptor, room), _paths(descriptor, room)
        return {"control": control, "paths_bytes": _keep(paths, out)}
    except (Unreadable, tarfile.TarError, UnicodeError) as error:
        return {"fault": str(error)}
    except (MemoryError, OverflowError, ValueError) as error:  # Of tarfile, by numbers that make no sense.
        return {"fault": f"its tar archive makes no sense: {error or type(error).__name__}"}


def _control(descriptor: int, room: _Room) -> str:
    """The text of its control file."""
    found: list[bytes] = []
    with _members("--ctrl-tarfile", descriptor) as archive:
        for member in archive:
            if posixpath.normpath(member.name) != "control":
                continue
            if not member.isreg() or member.size > CONTROL_MAX_BYTES or found:
                raise Unreadable(f"its control file must be one plain file of {CONTROL_MAX_BYTES} bytes at most")
            stream = archive.extractfile(member)
            found.append(stream.read() if stream is not None else b"")
    if not found:
        raise Unreadable("it has no control file")
    room.controls_bytes -= len(found[0])
    if room.controls_bytes < 0:
        raise Unreadable(f"its control file, with those before it, has more than {CONTROLS_MAX_BYTES} bytes")
    try:
        return found[0].decode()
    except UnicodeDecodeError:
        raise Unreadable("its control file: it is not in UTF-8") from None


def _paths(descriptor: int, room: _Room) -> list[bytes]:
    """The paths of its files, sorted."""
    found, length = set(), 0
    with _members("--fsys-tarfile", descriptor) as archive:
        for member in archive:
            path = member.name.encode("utf-8", "surrogateescape").removeprefix(b"./")
            if path.startswith(b"/") or b".." in path.split(b"/") or b"\n" in path:
                raise Unreadable(f"it has a file of a bad name: {member.name[:100]!r}")
            if member.isdir():
                continue
            length += len(path) + 1
            if length > PATHS_MAX_BYTES:
                raise Unreadable(f"the names of its files have more than {PATHS_MAX_BYTES} bytes together")
            room.paths_bytes -= len(path) + 1
            room.paths -= 1
            if min(room.paths_bytes, room.paths) < 0:
                raise Unreadable(
                    f"with the packages before it, it has more than {ALL_PATHS_MAX} files, or these have names of more "
                    f"than {ALL_PATHS_MAX_BYTES} bytes together"
                )
            found.add(path)
    return sorted(found)


def _keep(paths: Sequence[bytes], out: IO[bytes]) -> int:
    """Write paths, the same bytes for the same ones. Returns how many bytes they are; nothing for none."""
    before = out.tell()
    if paths:
        with gzip.GzipFile("", "wb", fileobj=out, mtime=0) as packed:
            packed.writelines(path + b"\n" for path in paths)
    return out.tell() - before


@contextmanager
def _members(what: str, descriptor: int) -> Iterator[tarfile.TarFile]:
    """One of its two tar archives, which is read to its end; dpkg-deb must be content with all of it."""
    command = ["dpkg-deb", what, f"/proc/self/fd/{descriptor}"]
    one = {**os.environ, "DPKG_DEB_THREADS_MAX": "1"}  # Several threads may need more memory than there is.
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, stdout=pipe, stderr=pipe, pass_fds=[descriptor], env=one)
    assert child.stdout is not None and child.stderr is not None  # As asked for.
    try:
        try:
            with tarfile.open(fileobj=child.stdout, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
                yield archive
        except tarfile.ReadError:
            if complaint := _complaint(child):  # It says more than the end of a stream.
                raise Unreadable(complaint) from None
            raise
        while child.stdout.read(1 << 20):
            pass
        if complaint := _complaint(child):
            raise Unreadable(complaint)
    finally:
        child.kill()
        child.communicate()


def _complaint(child: "subprocess.Popen[bytes]") -> str:
    """What dpkg-deb says, if it failed."""
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    said = child.stderr.read(1 << 16).decode(errors="replace")
    if child.wait() == 0:
        return ""
    words = " ".join(said.replace("dpkg-deb: error: ", "").split())
    return words[:_COMPLAINT_MAX] or f"dpkg-deb ended with {child.returncode}"


if __name__ == "__main__":
    main()
