"""Where a build's log is, and how long it took: for every command that ends with a report."""

from pathlib import Path

from buildmaster.cli.text import elapsed
from buildmaster.farm import Farm
from buildmaster.lifecycle import ACTIVE
from buildmaster.listings import Build
from buildmaster.store import Sha256


def took(build: Build) -> str:
    """How long the last attempt took; "" when it has none that ended."""
    if build.started_at is None or build.finished_at is None or build.finished_at < build.started_at:
        return ""
    return elapsed(build.finished_at - build.started_at)


def log_place(farm: Farm, build: Build) -> Path | None:
    """The file that holds a build's log: growing, or gzipped in the store; None when there is neither."""
    growing = farm.log_path(build.id)
    if build.state in ACTIVE and growing.exists():
        return growing
    path = getattr(farm.store, "path", None)  # Only a store on this machine's disk has places.
    if build.log_sha256 is not None and path is not None:
        return Path(path(Sha256(build.log_sha256)))
    return growing if growing.exists() else None
