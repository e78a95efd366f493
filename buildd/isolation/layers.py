"""Layers: what was changed on top of a chroot, set aside under a key and put under later builds.

A layer is whole or absent: it comes into being by one rename, after every process that wrote to it has ended, and goes
by another. Its note says in what state of the world it was made; who finds it decides whether that still holds.
"""

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

LayerKey = NewType("LayerKey", str)  # 64 hex digits.

_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)


def layer_key(*made_from: str) -> LayerKey:
    """The key of a layer made from these, in this order."""
    digest = hashlib.sha256()
    for part in made_from:
        digest.update(f"{len(part)}:{part}".encode())
    return LayerKey(digest.hexdigest())


@dataclass(frozen=True)
class Layer:
    """A layer that is there."""

    tree: Path
    note: str


class Layers:
    """The layers below one directory: KEY/tree, and KEY/note beside it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o755, exist_ok=True)

    def find(self, key: LayerKey) -> Layer | None:
        """The layer with this key, if it is there; it counts as used now."""
        place = self._directory / key
        try:
            note = (place / "note").read_text(encoding="utf-8")
            os.utime(place)
        except FileNotFoundError:
            return None
        return Layer(place / "tree", note)

    def keep(self, key: LayerKey, changes: Path, note: str) -> Layer:
        """Set aside a directory of changes, which moves; there must be no layer with this key.

        :raises OSError: it cannot be moved; no layer is there, but perhaps debris.
        """
        making = Path(tempfile.mkdtemp(prefix="making-", dir=self._directory))
        making.chmod(0o755)
        (making / "note").write_text(note, encoding="utf-8")
        changes.rename(making / "tree")
        place = making.rename(self._directory / key)
        return Layer(place / "tree", note)

    def retire(self, key: LayerKey) -> Path | None:
        """Take a layer away; what is left of it, to be removed, or None when there was none."""
        place = self._directory / key
        if not place.is_dir():
            return None
        return place.rename(Path(tempfile.mkdtemp(prefix="retired-", dir=self._directory)))

    def least_used(self, beyond: int) -> list[LayerKey]:
        """The keys of the layers beyond this number, those used longest ago."""
        places = [place for place in self._directory.iterdir() if _KEY.fullmatch(place.name)]
        places.sort(key=lambda place: place.stat().st_mtime, reverse=True)
        return [LayerKey(place.name) for place in places[beyond:]]

    def debris(self) -> list[Path]:
        """What was left half-made or half-removed: by a crash, a full disk, a build that was aborted."""
        return [place for place in self._directory.iterdir() if not _KEY.fullmatch(place.name)]
