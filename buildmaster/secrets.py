"""Secrets: one file each, all in one directory, and nowhere else: not in buildmaster.conf, no URL, no environment.

A file that others may read is refused rather than used: whoever could read it has to be told of a new one first.
"""

import os
import re
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from buildmaster.store.writing import sync_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_MOST_BYTES = 1 << 16


class SecretRefused(Exception):
    """A secret is missing, empty, no single line of text, or not secret; the message names the file and the remedy."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"secret {path}: {why}")
        self.path = path


@dataclass(frozen=True)
class Secrets:
    """The secrets in a directory, each read when it is asked for."""

    directory: Path

    def read(self, name: str) -> str:
        """The secret of this name, without the end of its line.

        :raises SecretRefused: it cannot be used.
        """
        if not is_secret_name(name):
            raise ValueError(f"not the name of a secret: {name!r}")
        path = self.directory / name
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
                _must_be_secret(path, os.fstat(stream.fileno()))
                content = stream.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            raise SecretRefused(path, "is not there; write it as the master's user, with mode 0600") from None
        except OSError as error:
            raise SecretRefused(path, f"cannot be read: {error.strerror}") from error
        return parse(path, content)

    def keep(self, name: str, secret: str) -> str:
        """Write a secret, for the owner only, unless there is one of this name. Returns the one there is.

        :raises SecretRefused: what is there cannot be used, or nothing can be written.
        """
        if not is_secret_name(name):
            raise ValueError(f"not the name of a secret: {name!r}")
        path = self.directory / name
        if path.exists():  # Perhaps where we cannot write.
            return self.read(name)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.directory, prefix=".new-", encoding="utf-8") as stream:
                stream.write(secret + "\n")
                stream.flush()
                os.fsync(stream.fileno())
                with suppress(FileExistsError):
                    os.link(stream.name, path)
            sync_folder(self.directory)
        except OSError as error:
            raise SecretRefused(path, f"cannot be written: {error.strerror}") from error
        return self.read(name)

    def names(self) -> list[str]:
        """What the secrets are called that are there."""
        there = self.directory.iterdir() if self.directory.is_dir() else ()
        return sorted(each.name for each in there if is_secret_name(each.name))


def is_secret_name(name: str) -> bool:
    """Whether a secret can be called so."""
    return _NAME.fullmatch(name) is not None


def _must_be_secret(path: Path, status: os.stat_result) -> None:
    """Refuse what anybody but the reader and root may read or change.

    A file of root's may be readable for its group too, where the reader is not root: so Debian hands secrets to a
    service, and systemd's credentials look like that.
    """
    if not stat.S_ISREG(status.st_mode):
        raise SecretRefused(path, "is not a regular file")
    me = os.geteuid()
    if status.st_uid not in (0, me):
        raise SecretRefused(path, f"belongs to user {status.st_uid}, who is neither root nor this one ({me})")
    allowed = 0o740 if status.st_uid == 0 != me else 0o700
    if stat.S_IMODE(status.st_mode) & 0o777 & ~allowed:
        mode = stat.S_IMODE(status.st_mode)
        raise SecretRefused(path, f"others may read or change it (mode {mode:04o}): chmod 0600, and change the secret")


def parse(path: Path, content: bytes) -> str:
    """A secret, without the end of its line.

    :raises SecretRefused: it is no single line of text.
    """
    if len(content) > _MOST_BYTES:
        raise SecretRefused(path, f"is longer than {_MOST_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise SecretRefused(path, "is not text in UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise SecretRefused(path, "is empty")
    if not text.isprintable() or text != text.strip():
        raise SecretRefused(path, "must be one line, without blanks around it or control characters")
    return text
