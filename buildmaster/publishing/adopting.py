"""What an archive had before it was published, taken in: sources that were accepted, and what was built of them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from buildmaster import debs, entering, holding
from buildmaster.binaries import Deb
from buildmaster.debs import BadDeb
from buildmaster.entering import Ended
from buildmaster.farm import Farm
from buildmaster.store import NotStored


@dataclass(frozen=True)
class Adopted:
    """What was taken in."""

    sources: int
    packages: int
    left: tuple[str, ...]  # What was not, and why.


def adopt(
    farm: Farm, archive_id: int, now: float, progress: Callable[[int, int], None] = lambda done, all: None
) -> Adopted:
    """Let all be published that an archive has and that is not, but for what is superseded. Blocks, and may be done
    again: then what was left is tried once more.

    The sources come first: of what ends meanwhile, the packages come as they always do.

    :param progress: is told how many builds are done, of how many.
    :raises RepositoryRefused: the archive is not published.
    :raises OSError: the store cannot be used.
    """
    sources, left = farm.write(entering.add_earlier_sources, archive_id, now)
    with farm.reading() as connection:
        every = entering.ended(connection, archive_id)
    packages = 0
    for number, each in enumerate(every):
        progress(number, len(every))
        try:
            found = debs.of_build(farm.store, each.results, each.source, each.version, each.architecture)
        except (BadDeb, NotStored) as error:
            left.append(f"build {each.build_id} ({each.source} {each.version}, {each.architecture}): {error}")
            continue
        added, taken = farm.write(_add, archive_id, each, found, now)
        packages += added
        left += [f"{name} of build {each.build_id}: another file is there by that name" for name in taken]
    for source_id in {each.source_id for each in every}:
        farm.write(holding.look, source_id, now)
    return Adopted(sources, packages, tuple(left))


def _add(
    connection: Connection, archive_id: int, build: Ended, found: Collection[Deb], now: float
) -> tuple[int, list[str]]:
    """How many packages are new, and whose names are taken."""
    names: dict[str, str] = {each.file_name: each.file.sha256 for each in found}
    taken = entering.conflicts(connection, archive_id, names)
    fresh = [each for each in found if each.file_name not in taken]
    entering.add_binaries(connection, build.source_id, build.build_id, fresh, now)
    return len(fresh), taken
