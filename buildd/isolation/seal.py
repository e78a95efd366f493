"""Look a layer over: `python3 seal.py TREE`, a program of its own, as its files belong to subordinate ids.

Prints a JSON object: `digest`, over everything that a build can see of the files but their content (which would take
seconds); `bytes` on the disk; `inodes`. With `--content`, instead, `content`: a digest over the content of all files.
When the tree is not there, or the disk fails, `unreadable` says why instead.

Builds make trees: any name, and paths longer than the kernel takes at once. So it goes down one directory at a time,
and knows names as bytes. Standard library only.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from typing import TypedDict

_PIECE_BYTES = 1 << 20
_UP = b"/\0"  # No name has a slash in it.


class Seal(TypedDict):
    """What is known of a tree whose metadata was looked over."""

    digest: str  # 64 hex digits.
    bytes: int  # On the disk; a file of several names counts once.
    inodes: int


def main() -> None:
    """Print what is asked for of the tree that the command line names."""
    print(json.dumps(look_over(sys.argv[-1], content=sys.argv[1] == "--content")))


def look_over(tree: str, *, content: bool) -> Mapping[str, object]:
    """What is asked for of a tree, which becomes the working directory."""
    try:
        os.chdir(tree)
        return {"content": content_of_tree()} if content else seal_of_tree()
    except OSError as exc:
        return {"unreadable": str(exc)}


def seal_of_tree() -> Seal:
    """The seal of the tree at the working directory, which is changed."""
    digest = hashlib.sha256()
    blocks, inodes, several = 0, 0, set()

    def look(name: bytes, status: os.stat_result) -> None:
        nonlocal blocks, inodes
        digest.update(_described(name, status))
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if status.st_ino in several:
                return
            several.add(status.st_ino)
        blocks += status.st_blocks
        inodes += 1

    _walk(look, lambda: digest.update(_UP))
    return Seal(digest=digest.hexdigest(), bytes=blocks * 512, inodes=inodes)


def content_of_tree() -> str:
    """A digest over the content of the files in the tree at the working directory, which is changed."""
    digest = hashlib.sha256()

    def look(name: bytes, status: os.stat_result) -> None:
        digest.update(name + b"\0")
        if stat.S_ISREG(status.st_mode):
            digest.update(_content(name))

    _walk(look, lambda: digest.update(_UP))
    return digest.hexdigest()


def _walk(look: Callable[[bytes, os.stat_result], None], leave: Callable[[], None]) -> None:
    """Look at everything below the working directory, in an order that depends on names alone.

    :param look: is called in the directory that has the name.
    :param leave: is called when all below a directory was looked at.
    """
    look(b".", os.lstat(b"."))
    below = [_look_at_directory(look)]  # What is still to be entered, of each directory on the way down.
    while below:
        if below[-1]:
            os.chdir(below[-1].pop())
            below.append(_look_at_directory(look))
        else:
            below.pop()
            leave()
            if below:
                os.chdir(b"..")


def _look_at_directory(look: Callable[[bytes, os.stat_result], None]) -> list[bytes]:
    """Look at what is in the working directory; the names of directories, the last first."""
    directories = []
    with os.scandir(b".") as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            status = entry.stat(follow_symlinks=False)
            look(entry.name, status)
            if stat.S_ISDIR(status.st_mode):
                directories.append(entry.name)
    return directories[::-1]


def _described(name: bytes, status: os.stat_result) -> bytes:
    """All that matters of a file, so that no two different ones are described alike.

    Not the size of a directory, which is the file system's business; nor how many names it has.
    """
    mode = status.st_mode
    words = [mode, status.st_uid, status.st_gid, status.st_mtime_ns]
    if not stat.S_ISDIR(mode):
        words += [status.st_size, status.st_nlink, status.st_rdev]
    target = os.readlink(name) if stat.S_ISLNK(mode) else b""  # noqa: PTH115  A name, and not a path.
    return b"%s\0%s\0%s\0%s\n" % (name, " ".join(map(str, words)).encode(), target, _attributes(name))


def _attributes(name: bytes) -> bytes:
    """The extended attributes: overlayfs keeps there what a layer hides, the kernel what a program may do."""
    try:
        names = os.listxattr(name, follow_symlinks=False)
    except OSError as exc:
        if exc.errno == errno.ENOTSUP:
            return b""
        raise
    if not names:
        return b""
    found = []
    for attribute in sorted(names):
        with contextlib.suppress(OSError):  # Listed, and not for us to read.
            found.append((attribute, os.getxattr(name, attribute, follow_symlinks=False)))
    return repr(found).encode(errors="surrogateescape")


def _content(name: bytes) -> bytes:
    digest = hashlib.sha256()
    with open(name, "rb") as file:  # noqa: PTH123  A name, and not a path.
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.digest()


if __name__ == "__main__":
    main()
