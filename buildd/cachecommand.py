"""`debfarm-buildd cache`: the layers that are kept for later builds, for people; also while daemons use them."""

import argparse
import json
import os
import pwd
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from buildd.config import BuilddConfig
from buildd.isolation.choose import KINDS, layers_directory
from buildd.isolation.layers import Budget, Layers
from buildd.isolation.namespaces import Namespaces
from buildd.isolation.stored import Stored, in_use, parsed, stored_in
from buildd.settings import parse_duration

_KEY_SHOWN = 12  # Of 64 digits.

Work = Coroutine[Deferred[Any], Any, int]  # Its result is the exit status.


class NoSuchLayer(Exception):
    """A key that somebody gave names no layer, or more than one; the message says so."""


def add_arguments(parser: argparse.ArgumentParser, add_common: Callable[[argparse.ArgumentParser], None]) -> None:
    """What may stand after `cache`.

    :param add_common: adds what every command has.
    """
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    what = "which layer: its key, or as much of its beginning as no other has"

    def add(name: str, help: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = actions.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}."
        )
        add_common(added)
        return added

    listing = add("list", "list the layers, those used last first")
    showing = add("show", "show all that is known of a layer")
    for action in (listing, showing):
        action.add_argument("--json", action="store_true", help="write JSON, for programs")
    showing.add_argument("key", metavar="KEY", help=what)
    dropping = add("drop", "remove layers that no build uses")
    chosen = dropping.add_mutually_exclusive_group(required=True)
    chosen.add_argument("keys", metavar="KEY", nargs="*", default=[], help=what)
    chosen.add_argument(
        "--unused-for", metavar="DURATION", type=_duration, help="those not used for that long: 7d, 12h"
    )
    chosen.add_argument("--all", action="store_true", help="all of them")
    verifying = add("verify", "read layers, and see whether they are as they were made; 1 when one is not")
    verifying.add_argument("keys", metavar="KEY", nargs="*", help=f"{what} (default: all)")


def run(arguments: argparse.Namespace, config: BuilddConfig) -> int:
    """Do what the command line says; the exit status."""
    directory, namespace = layers_directory(config), KINDS[config.isolation].way.namespace
    try:
        stored = sorted(stored_in(directory), key=lambda layer: layer.used, reverse=True) if directory.exists() else []
        match arguments.action:
            case "list":
                _print(stored, directory, as_json=arguments.json)
            case "show":
                _show(_named(stored, [arguments.key])[0], as_json=arguments.json)
            case "drop":
                chosen = _chosen(stored, arguments, time.time())
                return _with_layers(directory, namespace, lambda layers: drop(layers, chosen)) if chosen else 0
            case _:
                chosen = _named(stored, arguments.keys) if arguments.keys else stored
                return _with_layers(directory, namespace, lambda layers: verify(layers, chosen)) if chosen else 0
    except BrokenPipeError:
        raise  # No layer's business.
    except (NoSuchLayer, OSError) as exc:
        print(f"debfarm-buildd cache: {exc}", file=sys.stderr)
        return 1
    return 0


async def drop(layers: Layers, chosen: Sequence[Stored]) -> int:
    """Remove these layers; 1 when one is in use."""
    status = 0
    for stored in chosen:
        if await layers.drop(stored):
            print(f"{_short(stored)}  dropped  {_size(stored)}  {_kind(stored)}  {_description(stored)}")
        elif stored.place.exists():
            print(f"{_short(stored)}  in use   {_size(stored)}  {_kind(stored)}  {_description(stored)}")
            status = 1
    return status


async def verify(layers: Layers, chosen: Sequence[Stored]) -> int:
    """Read these layers; 1 when one is not as it was made. It may stay a while, since builds may be on it."""
    changed: list[Stored] = []
    for stored in chosen:
        try:
            good = await layers.verify(stored, content=True)
        except OSError as exc:
            good, words = False, f"cannot be read ({exc})"
        else:
            words = _verdict(stored) if good else "CHANGED"
        if not good:
            if not stored.place.exists():
                continue  # It was dropped meanwhile.
            changed.append(stored)
        print(f"{_short(stored)}  {words}  {_kind(stored)}  {_description(stored)}", flush=True)
    if changed:
        keys = " ".join(_short(stored) for stored in changed)
        print(f"What has changed is made anew by the next build; `cache drop {keys}` removes it now.", file=sys.stderr)
    return 1 if changed else 0


def _verdict(stored: Stored) -> str:
    """On a layer in which nothing was found wrong."""
    if stored.seal is None:
        return "not looked over yet"
    return "good" if stored.content is not None else "good (content not read yet: compared without it)"


def _chosen(stored: Sequence[Stored], arguments: argparse.Namespace, now: float) -> Sequence[Stored]:
    """What to drop."""
    if arguments.all:
        return stored
    if arguments.unused_for is not None:
        return [layer for layer in stored if now - layer.used >= arguments.unused_for and not in_use(layer)]
    return _named(stored, arguments.keys)


def _named(stored: Sequence[Stored], keys: Sequence[str]) -> list[Stored]:
    """The layers of these keys, or beginnings of keys, and older ones with the same key.

    :raises NoSuchLayer: one of them names none, or more than one.
    """
    found: list[Stored] = []
    for key in keys:
        matching = [layer for layer in stored if layer.key.startswith(key)]
        if not matching:
            raise NoSuchLayer(f"no layer has a key that begins with {key!r}; `debfarm-buildd cache list` lists them")
        if len({layer.key for layer in matching}) > 1:
            raise NoSuchLayer(f"{len(matching)} layers have keys that begin with {key!r}; give more of it")
        found += [layer for layer in matching if layer not in found]
    return found


def _with_layers(directory: Path, namespace: Sequence[str], work: Callable[[Layers], Work]) -> int:
    """Do something that needs the ids that builds have; the exit status.

    :raises OSError: this user has not made the layers.
    """
    owner = directory.stat().st_uid
    if os.geteuid() != owner:
        name = pwd.getpwuid(owner).pw_name
        again = shlex.join(["runuser", "-u", name, "--", *sys.argv])
        raise PermissionError(f"{directory} is the business of the user {name}: {again}")
    status = 1

    async def main(reactor: Any) -> None:
        nonlocal status
        with tempfile.TemporaryDirectory(prefix="debfarm-buildd-") as scratch:
            status = await work(Layers(directory, Namespaces(Path(scratch), reactor, namespace), reactor, Budget()))

    try:
        react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
    except SystemExit as exc:
        return status if not exc.code else 1
    return status


def _print(stored: Sequence[Stored], directory: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_as_json(layer) for layer in stored], indent=1))
        return
    if not stored:
        print(f"no layers in {directory}", file=sys.stderr)
        return
    heading = ("KEY", "KIND", "SIZE", "INODES", "MADE", "USED", "NOW", "MADE FROM")
    rows = [heading, *map(_row, stored)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading) - 1)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip())
    print(f"{len(stored)} layers, {_human(sum(layer.bytes for layer in stored))}")


def _row(stored: Stored) -> tuple[str, ...]:
    inodes = str(stored.seal["inodes"]) if stored.seal else "?"
    now = "in use" if in_use(stored) else ""
    times = _local(stored.made), _local(stored.used)
    return (_short(stored), _kind(stored), _size(stored), inodes, *times, now, _description(stored))


def _show(stored: Stored, *, as_json: bool) -> None:
    known = _as_json(stored)
    if as_json:
        print(json.dumps(known, indent=1))
        return
    for name, value in known.items():
        for line_name, line in value.items() if isinstance(value, Mapping) else ((name, value),):
            words = line if isinstance(line, str) else json.dumps(line)
            print(f"{line_name}: {_printable(words)}")


def _as_json(stored: Stored) -> dict[str, Any]:
    """What programs get of a layer. What its note has besides kind, state and description is its maker's business."""
    return {
        "key": stored.key,
        "path": str(stored.place / "tree"),
        "note": parsed(stored.note) or {"note": stored.note},
        "bytes": stored.seal["bytes"] if stored.seal else None,
        "inodes": stored.seal["inodes"] if stored.seal else None,
        "made": datetime.fromtimestamp(stored.made, UTC).isoformat(timespec="seconds"),
        "used": datetime.fromtimestamp(stored.used, UTC).isoformat(timespec="seconds"),
        "in_use": in_use(stored),
        "durable": stored.durable,
        "content_known": stored.content is not None,
    }


def _short(stored: Stored) -> str:
    return stored.key[:_KEY_SHOWN]


def _kind(stored: Stored) -> str:
    return _printable(str(parsed(stored.note).get("kind", "?")))


def _description(stored: Stored) -> str:
    return _printable(str(parsed(stored.note).get("description", "?")))


def _size(stored: Stored) -> str:
    return _human(stored.bytes) if stored.seal else "?"


def _human(size: float) -> str:
    for unit in ("B", "K", "M"):
        if size < 1024:
            return f"{size:.0f}{unit}"
        size /= 1024
    return f"{size:.1f}G"


def _local(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _printable(text: str) -> str:
    """Names of packages are in it, and packages are strangers'."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} {exc}") from None
