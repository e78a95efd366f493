"""How urgent a build is: a number, the higher the sooner; among equals the older one goes first. Pure.

The figures are Launchpad's, so that people who know it find the order that they know; Debian's components beside them.
There are builds of packages only here. Launchpad gives every other type of build 2510, and CI builds 2600.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Band(IntEnum):
    """A range of scores. A higher one goes before a lower one whatever else waits; within one, archives take turns."""

    SPARE = 0  # Below 0: copies of archives for test rebuilds, when nothing else is to do.
    USUAL = 1  # Most of it, release, updates and proposed updates.
    URGENT = 2  # Security fixes, and whatever has as much.
    FIRST = 3  # Private archives: mostly fixes that are not to be known yet.


class ArchivePurpose(StrEnum):
    """What an archive is for."""

    PRIMARY = "PRIMARY"  # The distribution's own.
    PARTNER = "PARTNER"  # Beside it, by others.
    PPA = "PPA"  # Somebody's own.
    COPY = "COPY"  # A copy for a test rebuild: whenever nothing else is to do.


class Pocket(StrEnum):
    """The part of a series that a source is uploaded to."""

    RELEASE = "RELEASE"  # Before the release.
    SECURITY = "SECURITY"  # Security fixes after it.
    UPDATES = "UPDATES"  # Other fixes after it.
    PROPOSED = "PROPOSED"  # Fixes that are still tried.
    BACKPORTS = "BACKPORTS"  # New versions for who wants them.


PRIVATE_ARCHIVE = 10_000
COPY_ARCHIVE = -2_600

URGENCY = {"low": 5, "medium": 10, "high": 15, "emergency": 20, "critical": 20}  # Debian Policy 5.6.17.
POCKET = {
    Pocket.BACKPORTS: 0,
    Pocket.RELEASE: 1_500,
    Pocket.PROPOSED: 3_000,
    Pocket.UPDATES: 3_000,
    Pocket.SECURITY: 4_500,
}
COMPONENT = {
    "multiverse": 0,
    "universe": 250,
    "restricted": 750,
    "main": 1_000,
    "partner": 1_250,
    "contrib": 250,
    "non-free": 0,
    "non-free-firmware": 0,
}


@dataclass(frozen=True)
class Urgency:
    """What the score of a package build is made of."""

    private: bool
    purpose: ArchivePurpose
    relative_score: int  # The archive's own.
    urgency: str  # The .changes' or changelog's word; an unknown one counts nothing.
    pocket: Pocket
    component: str  # An unknown one counts nothing.


def score(job: Urgency) -> int:
    """How urgent a package build is."""
    return (
        archive_points(job.private, job.purpose, job.relative_score)
        + URGENCY.get(job.urgency.lower(), 0)
        + POCKET[job.pocket]
        + COMPONENT.get(job.component, 0)
    )


def archive_points(private: bool, purpose: ArchivePurpose, relative_score: int) -> int:
    """What a score has of its archive."""
    return (
        (PRIVATE_ARCHIVE if private else 0) + (COPY_ARCHIVE if purpose is ArchivePurpose.COPY else 0) + relative_score
    )


# From which score on; what is below all of them is SPARE.
BANDS = ((PRIVATE_ARCHIVE, Band.FIRST), (POCKET[Pocket.SECURITY], Band.URGENT), (0, Band.USUAL))


def band(score: int) -> Band:
    """The band that a score is in."""
    return next((found for least, found in BANDS if score >= least), Band.SPARE)
