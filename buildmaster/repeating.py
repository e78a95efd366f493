"""Whether a build that repeats another one made the same of it, and what was not the same to begin with. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from buildd.control import Buildinfo

_MOST_INSTALLED = 5000  # Ten times what large builds have; builders are sent them.

# They tell of the build itself: its time, its machine, its environment.
_OF_THE_BUILD = (".changes", ".buildinfo")


@dataclass(frozen=True)
class Differs:
    """A file that is another than it was; "" where there is none."""

    name: str
    was: str  # SHA-256.
    now: str


@dataclass(frozen=True)
class Circumstances:
    """In what a build happened."""

    builder: str
    chroot: str  # SHA-256; "": nobody has recorded that.
    buildinfo: Buildinfo | None


def compare(was: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[str], list[Differs]]:
    """The files that are the same in both, and the others.

    :param was: SHA-256 by name, as is `now`.
    """
    names = sorted(name for name in {*was, *now} if not name.endswith(_OF_THE_BUILD))
    same = [name for name in names if was.get(name) == now.get(name)]
    return same, [Differs(name, was.get(name, ""), now.get(name, "")) for name in names if name not in same]


def otherwise(was: Circumstances, now: Circumstances) -> Iterator[str]:
    """What is to be known of a build and its repetition before they are compared: what was not the same, though it
    should have been, and the builder, if it was. Each in a few words."""
    if was.builder == now.builder:
        yield f"both on builder {now.builder}"
    if not was.chroot:
        yield "which chroot the first had is not recorded"
    elif was.chroot != now.chroot:
        yield f"another chroot: {now.chroot}, not {was.chroot}"
    if was.buildinfo is None or now.buildinfo is None:
        yield "what was installed is not known of both"
        return
    if was.buildinfo.build_path != now.buildinfo.build_path:
        yield f"built in {now.buildinfo.build_path or '?'}, not {was.buildinfo.build_path or '?'}"
    yield from _of_mappings(was.buildinfo.environment, now.buildinfo.environment, "environment: ")
    yield from _of_mappings(_versions(was.buildinfo), _versions(now.buildinfo))


def versions(buildinfo: Buildinfo) -> tuple[str, ...]:
    """What was installed, each NAME=VERSION or NAME:ARCHITECTURE=VERSION; nothing, where that is more than can be."""
    if len(buildinfo.installed) > _MOST_INSTALLED:
        return ()
    return tuple(f"{name}={version}" for name, version in _versions(buildinfo).items())


def _versions(buildinfo: Buildinfo) -> dict[str, str]:
    return {f"{each.name}:{each.architecture}".rstrip(":"): each.version for each in buildinfo.installed}


def _of_mappings(was: Mapping[str, str], now: Mapping[str, str], kind: str = "") -> Iterator[str]:
    for name in sorted({*was, *now}):
        if was.get(name) != now.get(name):
            yield f"{kind}{name} {now.get(name, '(none)')}, not {was.get(name, '(none)')}"
