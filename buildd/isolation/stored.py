"""What is on the disk of a layer, and what that says."""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NewType

from buildd.isolation.locks import take
from buildd.isolation.seal import Seal

LayerKey = NewType("LayerKey", str)  # 64 hex digits.

# To be another one when the same is made in another way, so that nothing that an older daemon has made is taken for it.
_MAKING = "1"
_TIME_MAX = 1 << 37  # Seconds since the epoch: thousands of years.
_PLACE = re.compile(r"([0-9a-f]{64})-([1-9][0-9]{0,8})", re.ASCII)


def layer_key(*made_from: str) -> LayerKey:
    """The key of a layer made from these, in this order."""
    digest = hashlib.sha256()
    for part in (_MAKING, *made_from):
        digest.update(f"{len(part)}:{part}".encode())
    return LayerKey(digest.hexdigest())


def layer_note(kind: str, state: str, description: str) -> str:
    """A note as `debfarm-buildd cache` reads it.

    :param state: of the world when it was made; who finds the layer decides whether that still holds.
    """
    return json.dumps({"kind": kind, "state": state, "description": description})


@dataclass(frozen=True)
class Stored:
    """What there is to know of a layer that is there."""

    place: Path
    key: LayerKey
    note: str
    made: float  # Seconds since the epoch, and so is:
    used: float
    seal: Seal | None  # None: it was not looked over yet.
    content: str | None  # A digest; None: it was not read yet.
    durable: bool
    of_this_boot: bool

    @property
    def bytes(self) -> int:
        """On the disk, as far as that is known."""
        return self.seal["bytes"] if self.seal else 0


def stored_in(directory: Path) -> list[Stored]:
    """All layers below a directory, those of which there is a newer one included."""
    found = []
    for place in directory.iterdir():
        if _PLACE.fullmatch(place.name):
            try:
                found.append(look_at(place))
            except FileNotFoundError:  # It went meanwhile.
                continue
    return found


def in_use(stored: Stored) -> bool:
    """Whether a build uses it now, or somebody is about to remove it."""
    lock = take(stored.place / "about")
    if lock is None:
        return (stored.place / "about").exists()  # Without, nobody can use it.
    lock.close()
    return False


def places_of(directory: Path, key: LayerKey) -> list[Path]:
    """Where layers with this key are, the newest first."""
    places = [place for place in directory.glob(f"{key}-*") if _PLACE.fullmatch(place.name)]
    return sorted(places, key=lambda place: number_of(place.name), reverse=True)


def look_at(place: Path) -> Stored:
    """What there is in one place.

    :raises FileNotFoundError: it is gone.
    """
    used = (place / "about").stat().st_mtime if (place / "about").exists() else place.stat().st_mtime
    about, seal, content = (read(place / name) for name in ("about", "seal", "content"))
    made = about.get("made")
    return Stored(
        place=place,
        key=LayerKey(place.name.partition("-")[0]),
        note=str(about.get("note", "")),
        made=float(made) if isinstance(made, int | float) and 0 <= made < _TIME_MAX else 0.0,
        used=used,
        seal=_seal_of(seal),
        content=content["content"] if isinstance(content.get("content"), str) else None,
        durable=(place / "durable").exists(),
        of_this_boot=about.get("boot") == boot_id(),
    )


def _seal_of(found: Mapping[str, Any]) -> Seal | None:
    match found:
        case {"digest": str(digest), "bytes": int(size), "inodes": int(inodes)} if size >= 0:
            return Seal(digest=digest, bytes=size, inodes=inodes)
        case _:
            return None


def number_of(name: str) -> int:
    """The number of a place, by its name."""
    return int(name.rpartition("-")[2])


def read(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; one without anything where there is none."""
    try:
        return parsed(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return {}


def parsed(text: str) -> Mapping[str, Any]:
    """A JSON object; one without anything for what is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; not where its directory is gone."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except FileNotFoundError:
        return


def boot_id() -> str:
    """Another one each time that the machine is booted (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
