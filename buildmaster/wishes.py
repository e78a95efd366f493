"""How builds are to be done, as far as whoever submitted them has said so: checked once, kept as JSON. Pure.

Our own daemon goes by all of it; a stock one ignores what it does not know (docs/protocol.md).
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from buildd.protocol import BinNmu, ProtocolError, parse_binarypackage_arguments
from buildd.settings import parse_count, parse_duration, parse_limit


class WishesRefused(ValueError):
    """A build cannot be done so; the message says why."""


def _seconds(text: str) -> int:
    return math.ceil(parse_duration(text))


# What a build may use, by the names that the daemon knows (docs/limits.md): how a person writes it.
LIMITS: dict[str, Callable[[str], int]] = {
    "memory": parse_limit,
    "disk": parse_limit,
    "log_size": parse_limit,
    "processes": parse_count,
    "open_files": parse_count,
    "timeout": _seconds,
    "silence": _seconds,
}


_TUPLES = ("profiles", "options", "archive_lines", "versions")


@dataclass(frozen=True)
class Wishes:
    """What was said of a build."""

    package_builder: str = ""  # A protocol.PackageBuilderName; "": the daemon's own choice.
    profiles: tuple[str, ...] = ()  # Build profiles.
    options: tuple[str, ...] = ()  # Words of DEB_BUILD_OPTIONS.
    limits: Mapping[str, int] = field(default_factory=dict)  # By LIMITS; bytes, seconds.
    # For builds that repeat others: the time that they are to have; None: what the changelog says.
    source_date_epoch: int | None = None
    # Where packages come from: lines of sources.list in place of the usual; or archives of ours as they are in
    # snapshots, whose names these are by DISTRIBUTION/NAME.
    archive_lines: tuple[str, ...] = ()
    snapshots: Mapping[str, str] = field(default_factory=dict)
    versions: tuple[str, ...] = ()  # Of packages, NAME=VERSION each, where they are to be had.

    # A binary rebuild: packages of the same source, under versions that end in +bNUMBER. 0: it is none.
    rebuild: int = 0
    rebuild_reason: str = ""  # What the changelog says of it, and
    rebuild_maintainer: str = ""  # who says so: NAME <ADDRESS>.

    @property
    def binnmu(self) -> BinNmu | None:
        """What a builder is told of a binary rebuild."""
        if not self.rebuild:
            return None
        return BinNmu(self.rebuild, self.rebuild_reason, self.rebuild_maintainer)

    def version_of(self, source_version: str) -> str:
        """What a build of a source makes: another version than the source's, when it is a binary rebuild."""
        return f"{source_version}+b{self.rebuild}" if self.rebuild else source_version

    def to_text(self) -> str:
        """As it is kept; "" when nothing was said."""
        said = {name: value for name, value in vars(self).items() if value}
        return json.dumps(said, sort_keys=True) if said else ""

    @classmethod
    def from_text(cls, text: str) -> "Wishes":
        """What to_text() gave."""
        said = json.loads(text) if text else {}
        words = {name: tuple(said[name]) for name in _TUPLES if name in said}
        return cls(**said | words)

    def in_words(self) -> list[tuple[str, str]]:
        """Name and value of each thing that was said."""
        then = (f"{name} as it was at {snapshot}" for name, snapshot in self.snapshots.items())
        versions = [f"{len(self.versions)} packages in the versions of then, as far as they are there"]
        lines = "\n".join((*self.archive_lines, *then, *(versions if self.versions else [])))
        limits = ", ".join(f"{name} {value}" for name, value in self.limits.items())
        facts = [("Built by", self.package_builder), ("Profiles", " ".join(self.profiles))]
        facts += [("Options", " ".join(self.options)), ("Limits", limits), ("Archives", lines)]
        facts += [("Rebuild", f"+b{self.rebuild}: {self.rebuild_reason}" if self.rebuild else "")]
        return [(name, value) for name, value in facts if value]


NONE = Wishes()


def parse(
    package_builder: str = "", profiles: Iterable[str] = (), options: Iterable[str] = (), limits: Iterable[str] = ()
) -> Wishes:
    """Take what a person says.

    :param limits: each NAME=VALUE, as memory=2G or timeout=90m.
    :raises WishesRefused: one of them is not what a daemon takes.
    """
    wire = {"series": "x", "suite": "x", "package_builder": package_builder}
    wire_words = {"build_profiles": list(profiles), "build_options": list(options)}
    try:
        known = parse_binarypackage_arguments(wire | wire_words, "any")
    except ProtocolError as error:
        raise WishesRefused(str(error)) from error
    return Wishes(package_builder, known.build_profiles, known.build_options, dict(map(_limit, limits)))


def rebuilt(wishes: Wishes, number: int, reason: str, maintainer: str) -> Wishes:
    """The same, as a binary rebuild.

    :param maintainer: NAME <ADDRESS>.
    :raises WishesRefused: a daemon does not take it so.
    """
    reason = " ".join(reason.split())
    wire = {"series": "x", "suite": "x"} | {"binnmu": asdict(BinNmu(number, reason, maintainer))}
    try:
        parse_binarypackage_arguments(wire, "any")
    except ProtocolError as error:
        raise WishesRefused(str(error).removeprefix("binnmu: ")) from error
    return replace(wishes, rebuild=number, rebuild_reason=reason, rebuild_maintainer=maintainer)


def _limit(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if name not in LIMITS:
        raise WishesRefused(f"there is no limit {name!r}; there are {', '.join(LIMITS)}")
    try:
        return name, LIMITS[name](value)
    except ValueError as error:
        raise WishesRefused(f"limit {name}: {value!r} {error}") from error
