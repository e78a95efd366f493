"""What was found out, to be remembered: small JSON objects by key, in files that several daemons may share.

What is forgotten is found out again, so nothing here has to last; and what does not look as it should was never there.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from buildd.isolation.layers import LayerKey

_MEMOS_MAX = 10_000  # A few kB each.
_LOOK_EVERY = 500  # Memos kept between two looks at how many there are.


class Memos:
    """The memos in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept = 0
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)

    def find(self, key: LayerKey) -> Mapping[str, object] | None:
        """What was remembered under this key; it counts as used now."""
        path = self._directory / key
        try:
            value = json.loads(path.read_bytes())
            os.utime(path)
        except (OSError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def keep(self, key: LayerKey, value: Mapping[str, object]) -> None:
        """Remember this, in place of what was remembered; readers see the one or the other.

        :raises OSError: it cannot be written; what was there stays.
        """
        descriptor, name = tempfile.mkstemp(prefix=".", dir=self._directory)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(value, file)
            Path(name).replace(self._directory / key)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
        if self._kept % _LOOK_EVERY == 0:
            self._forget_the_oldest()
        self._kept += 1

    def _forget_the_oldest(self) -> None:
        """When there are too many: those used longest ago go, and what killed daemons have left half-written."""
        with os.scandir(self._directory) as entries:
            aged = sorted((entry.stat().st_mtime, entry.path) for entry in entries)
        for _, path in aged[: -_MEMOS_MAX or None]:
            with contextlib.suppress(FileNotFoundError):  # Another daemon was faster.
                Path(path).unlink()
