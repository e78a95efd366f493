"""The Release file of a suite."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What a suite's Release file says, beside its indices' digests and its date."""

    origin: str
    label: str
    suite: str
    codename: str
    components: tuple[str, ...]  # main, main/debug: all have indices, be they empty.
    architectures: tuple[str, ...]  # amd64, arm64: without all, which is there always.
    description: str = ""
    valid_s: float = 0.0  # It expires after so many seconds. 0: never.
