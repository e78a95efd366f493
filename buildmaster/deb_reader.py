"""What .deb files hold, read by a program of its own: `python -m buildmaster.deb_reader FD...`.

A .deb comes from a builder, or from who uploads it. It is taken apart by dpkg-deb, as on the machines that will install
it, and what comes out of that is looked through as it comes, not kept and not unpacked. All of this is one process and
its children, with limits on memory and time that a file which is made to exceed them cannot get around; whoever runs it
loses nothing by its end.

For each file descriptor a line is printed, a JSON document: `control`, the text of its control file, and `paths`, those
of its files without its directories; or `fault`.
"""

import json
import os
import posixpath
import resource
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

CONTROL_MAX_BYTES = 1 << 20  # The largest in Debian has some 60 kB.
PATHS_MAX_BYTES = 64 << 20  # The longest list in Debian has some 8 MB.
_MEMORY_MAX_BYTES = 1 << 30
_PROCESSOR_MAX_S = 900  # Of a file of some GB; they are read one after the other, each by processes of its own.
_COMPLAINT_MAX = 300


class Held(TypedDict, total=False):
    """What is printed of a file."""

    control: str  # Bytes that are no UTF-8 as surrogates.
    paths: list[str]  # Likewise; without "./".
    fault: str  # Why there is neither.


class Unreadable(Exception):
    """A file is no .deb, or none that anybody should install."""


def main() -> None:
    """Read the files that are given as descriptors."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX_BYTES, _MEMORY_MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_MAX_S, _PROCESSOR_MAX_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for descriptor in map(int, sys.argv[1:]):
        print(json.dumps(_held(descriptor)), flush=True)


def _held(descriptor: int) -> Held:
    try:
        return {"control": _control(descriptor), "paths": _paths(descriptor)}
    except (Unreadable, tarfile.TarError, UnicodeError) as error:
        return {"fault": str(error)}
    except (MemoryError, OverflowError, ValueError) as error:  # Of tarfile, by numbers that make no sense.
        return {"fault": f"its tar archive makes no sense: {error or type(error).__name__}"}


def _control(descriptor: int) -> str:
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
    return found[0].decode("utf-8", "surrogateescape")


def _paths(descriptor: int) -> list[str]:
    """The paths of its files, sorted."""
    found, length = set(), 0
    with _members("--fsys-tarfile", descriptor) as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if path.startswith("/") or ".." in path.split("/") or "\n" in path:
                raise Unreadable(f"it has a file of a bad name: {path[:100]!r}")
            if member.isdir():
                continue
            length += len(path) + 1
            if length > PATHS_MAX_BYTES:
                raise Unreadable(f"the names of its files have more than {PATHS_MAX_BYTES} bytes together")
            found.add(path)
    return sorted(found)


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
            with tarfile.open(fileobj=child.stdout, mode="r|", errors="surrogateescape") as archive:
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
