"""Snapshots of an archive, on disk and in the database: taken by hand or when they are due, and dropped."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from buildmaster import repositories, snapshots
from buildmaster.farm import Farm
from buildmaster.publishing.publication import Press
from buildmaster.publishing.snapshots import name_at, on_disk, remove_snapshot, take_snapshot


@dataclass(frozen=True)
class Kept:
    """What was done."""

    taken: str | None  # The snapshot's name.
    dropped: tuple[str, ...]
    found: tuple[str, ...] = ()  # Taken by somebody who died before he could write that down.

    @property
    def words(self) -> str:
        """What that was."""
        taken = [f"snapshot {self.taken} taken"] if self.taken else []
        more = (("dropped", self.dropped), ("found on the disk", self.found))
        return "; ".join([*taken, *(f"{act}: {', '.join(names)}" for act, names in more if names)])


def due(press: Press) -> list[int]:
    """The archives for which keep() has something to do, by their ids. Blocks."""
    with press.farm.reading() as connection:
        return [
            each.archive_id
            for each in repositories.every(connection)
            if snapshots.is_due(connection, each, press.now())
            or snapshots.surplus(connection, each)
            or _unknown(connection, each.archive_id, press.directory / each.words)
        ]


def keep(press: Press, archive_id: int) -> Kept:
    """Take a snapshot, if one is due, and drop those that are more than are kept. One that is on disk and nobody knows
    of is written down, as if it were taken by hand: who does not want it drops it. Blocks.

    :raises Busy: the archive is being published.
    :raises TreeDamaged: what was kept of a suite is.
    :raises OSError: the disk is full or broken.
    """
    with press.turn(archive_id) as folder:
        with press.farm.reading() as connection:
            where = repositories.get(connection, archive_id)
            found = _unknown(connection, archive_id, folder)
            is_due = snapshots.is_due(connection, where, press.now())
        for name, taken_at in found.items():
            press.farm.write(snapshots.add, archive_id, name, taken_at)
        taken = take(press, archive_id, folder, was_due=True) if is_due else None
        with press.farm.reading() as connection:
            surplus = snapshots.surplus(connection, where)
        for each in surplus:
            drop(press, archive_id, folder, each)
    return Kept(taken, tuple(surplus), tuple(found))


def _unknown(connection: Connection, archive_id: int, folder: Path) -> dict[str, float]:
    """The snapshots of an archive that are on disk and not written down, and when they were taken."""
    known = {each.name for each in snapshots.of(connection, archive_id)}
    return {name: taken_at for name, taken_at in on_disk(folder).items() if name not in known}


def drop_lost(farm: Farm, directory: Path) -> list[str]:
    """Forget the snapshots that are not on the disk, since a backup has none of them; say which. Blocks.

    :param directory: of all archives.
    """
    with farm.reading() as connection:
        lost = [
            (where, each.name)
            for where in repositories.every(connection)
            for each in snapshots.of(connection, where.archive_id)
            if not (directory / where.words / "snapshot" / each.name).is_dir()
        ]
    for where, name in lost:
        farm.write(snapshots.remove, where.archive_id, name)
    return [f"{name} of {where.words}" for where, name in lost]


def take(press: Press, archive_id: int, folder: Path, *, was_due: bool = False) -> str:
    """Keep an archive as it is now, and return what that is called. Blocks.

    :raises TreeDamaged: as keep() does.
    :raises OSError: likewise.
    """
    now = press.now()
    name = name_at(now)
    take_snapshot(folder, name)
    press.farm.write(lambda connection: snapshots.add(connection, archive_id, name, now, was_due=was_due))
    return name


def drop(press: Press, archive_id: int, folder: Path, name: str) -> None:
    """Remove a snapshot. Blocks.

    :raises OSError: the disk is broken.
    """
    remove_snapshot(folder, name)
    press.farm.write(snapshots.remove, archive_id, name)
