"""Pockets of a series, and which of them build on which. Pure."""

from collections.abc import Collection

from buildmaster.scoring import Pocket

# From a pocket to the one that it is an addition to: what is built for it may use what that one has.
_BELOW = {
    Pocket.SECURITY: Pocket.RELEASE,
    Pocket.UPDATES: Pocket.SECURITY,
    Pocket.PROPOSED: Pocket.UPDATES,
    Pocket.BACKPORTS: Pocket.UPDATES,
}


def path(pocket: Pocket) -> list[Pocket]:
    """A pocket, and those below it, down to RELEASE."""
    found = [pocket]
    while found[-1] in _BELOW:
        found.append(_BELOW[found[-1]])
    return found


def nearest(pocket: Pocket, having: Collection[Pocket]) -> Pocket | None:
    """The first on the path of a pocket that has something; None: none has."""
    return next((each for each in path(pocket) if each in having), None)


def served_by(pocket: Pocket, having: Collection[Pocket]) -> list[Pocket]:
    """The pockets whose nearest one that has something is this one."""
    return [each for each in Pocket if nearest(each, having) is pocket]


def suite_name(series_name: str, pocket: Pocket) -> str:
    """What apt calls a pocket of a series: bookworm, bookworm-updates."""
    return series_name if pocket is Pocket.RELEASE else f"{series_name}-{pocket.lower()}"
