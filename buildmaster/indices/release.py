"""The Release file of a suite."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate

from buildmaster.indices.records import IndexKind, IndexName


class ReleaseError(ValueError):
    """A Release file cannot say this; the message says what."""


@dataclass(frozen=True)
class Facts:
    """What a suite's Release file says, beside its indices' digests and its date.

    :raises ReleaseError: one of them is more than a line, or there is no component or architecture.
    """

    origin: str
    label: str
    suite: str
    codename: str
    components: tuple[str, ...]  # main, main/debug: all have indices, be they empty.
    architectures: tuple[str, ...]  # amd64, arm64: without all, which is there always.
    description: str = ""
    valid_s: float = 0.0  # It expires after so many seconds. 0: never.

    def __post_init__(self) -> None:
        texts = (self.origin, self.label, self.suite, self.codename, self.description)
        for text in texts:
            if not text.isprintable():
                raise ReleaseError(f"not one line of text: {text[:80]!r}")
        if not self.components or not self.architectures or "all" in self.architectures:
            raise ReleaseError(f"not components and architectures: {self.components}, {self.architectures}")


@dataclass(frozen=True, slots=True)
class Sum:
    """A file as Release names it."""

    size: int  # Bytes.
    sha256: str


def indices_of(facts: Facts) -> list[IndexName]:
    """All indices of a suite, in order."""
    found = []
    for component in facts.components:
        found.append(IndexName(component, IndexKind.SOURCES))
        found += [IndexName(component, IndexKind.PACKAGES, each) for each in facts.architectures]
        found += [IndexName(component, IndexKind.CONTENTS, each) for each in ("all", *facts.architectures)]
    return sorted(found)


def release_text(facts: Facts, sums: Mapping[str, Sum], now: float) -> bytes:
    """The Release file.

    Packages of architecture all are in the Packages of each other one: there is no binary-all, which is what
    No-Support-for-Architecture-all says, as in Debian's own archive. Contents have theirs.

    :param sums: by path in the suite.
    :param now: Unix time, rounded down to a second.
    """
    fields = {
        "Origin": facts.origin,
        "Label": facts.label,
        "Suite": facts.suite,
        "Codename": facts.codename,
        "Date": _date(now),
        "Valid-Until": _date(now + facts.valid_s) if facts.valid_s else "",
        "Acquire-By-Hash": "yes",
        "No-Support-for-Architecture-all": "Packages",
        "Architectures": " ".join(("all", *facts.architectures)),
        "Components": " ".join(facts.components),
        "Description": facts.description,
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    width = max((len(str(each.size)) for each in sums.values()), default=1)
    lines.append("SHA256:")
    lines += [f" {each.sha256} {each.size:>{width}} {path}" for path, each in sorted(sums.items())]
    return "\n".join([*lines, ""]).encode()


def _date(when: float) -> str:
    """A time as RFC 2822 has it, in UTC by the name that apt knows."""
    return formatdate(int(when)).replace("-0000", "UTC")
