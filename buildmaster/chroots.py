"""The chroots that builds happen in, as queries: one an architecture of a series, and others for its pockets on top.

A build is given the first that is set on the path from its pocket down to RELEASE; see pockets.py.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    literal,
    or_,
    select,
    union_all,
    update,
)

from buildmaster import files
from buildmaster.pockets import nearest, path, served_by
from buildmaster.scoring import Pocket
from buildmaster.store import StoredFile
from buildmaster.tables import distribution, pocket_chroot, series, series_architecture, source, stored_file

_NAME = "chroot.tar"  # Of one that was added without a name.


@dataclass(frozen=True)
class Chroot:
    """A chroot in the store."""

    file: StoredFile
    name: str


@dataclass(frozen=True)
class Set:
    """A chroot where it is set, for people to look at."""

    distribution: str
    series: str
    architecture: str
    pocket: Pocket  # RELEASE: for all pockets that have no other.
    name: str  # Of the file when it was added.
    size: int  # Bytes.
    sha256: str
    set_at: float  # Unix time.


# Whether there is one for a row with series_architecture and source.
IS_THERE: ColumnElement[bool] = or_(
    series_architecture.c.chroot_file_id.is_not(None),
    exists()
    .where(pocket_chroot.c.series_architecture_id == series_architecture.c.id)
    .where(or_(*(and_(source.c.pocket == each, pocket_chroot.c.pocket.in_(path(each))) for each in Pocket))),
)


def find(connection: Connection, series_architecture_id: int, pocket: Pocket) -> Chroot | None:
    """What a build of this pocket is given; None: there is none."""
    known = _known(connection, series_architecture_id)
    found = nearest(pocket, known)
    return None if found is None else known[found]


def _known(connection: Connection, series_architecture_id: int) -> dict[Pocket, Chroot]:
    """Those of an architecture of a series by pocket."""
    rows = connection.execute(_KNOWN, {"this": series_architecture_id})
    return {Pocket(row.set_for): Chroot(files.of_row(row), row.chroot_name or _NAME) for row in rows}


_THIS = series_architecture.c.id == bindparam("this")
_HOLD = select(series_architecture.c.id).where(_THIS).with_for_update(read=True)


def _set_in(table: Table, pocket: ColumnElement[str], this: ColumnElement[bool]) -> Select[Any]:
    joined = table.join(stored_file, stored_file.c.id == table.c.chroot_file_id)
    return select(pocket.label("set_for"), table.c.chroot_name, stored_file).select_from(joined).where(this)


_KNOWN = union_all(
    _set_in(series_architecture, literal(str(Pocket.RELEASE)), _THIS),
    _set_in(pocket_chroot, pocket_chroot.c.pocket, pocket_chroot.c.series_architecture_id == bindparam("this")),
)


def hold(connection: Connection, series_architecture_id: int) -> None:
    """Let nobody put another chroot there before this transaction ends."""
    connection.execute(_HOLD, {"this": series_architecture_id})


def put(
    connection: Connection, series_architecture_id: int, file: StoredFile, name: str, now: float, *, pocket: Pocket
) -> list[Pocket]:
    """Set the chroot of a pocket; the file is in the store already. Returns the pockets whose builds
    use it from now on."""
    here = select(series_architecture.c.id).where(series_architecture.c.id == series_architecture_id)
    connection.execute(here.with_for_update(key_share=True))  # Who holds it may record that a build waits for this one.
    values = {"chroot_file_id": files.keep(connection, file, now), "chroot_name": name, "chroot_set_at": now}
    if pocket is Pocket.RELEASE:
        place = series_architecture.c.id == series_architecture_id
        connection.execute(update(series_architecture).where(place).values(**values))
    else:
        remove(connection, series_architecture_id, pocket)
        row = {"series_architecture_id": series_architecture_id, "pocket": pocket, **values}
        connection.execute(pocket_chroot.insert().values(**row))
    return served_by(pocket, _known(connection, series_architecture_id))


def remove(connection: Connection, series_architecture_id: int, pocket: Pocket) -> bool:
    """Let a pocket, other than RELEASE, have no chroot of its own. False: it had none."""
    own = (pocket_chroot.c.series_architecture_id == series_architecture_id) & (pocket_chroot.c.pocket == pocket)
    return connection.execute(delete(pocket_chroot).where(own)).rowcount > 0


def every(connection: Connection) -> list[Set]:
    """All that are set, by place and pocket."""
    names = (distribution.c.name.label("distribution"), series.c.name.label("series"))
    place = series_architecture.join(series, series.c.id == series_architecture.c.series_id)
    place = place.join(distribution, distribution.c.id == series.c.distribution_id)
    of_pockets = place.join(pocket_chroot, pocket_chroot.c.series_architecture_id == series_architecture.c.id)
    rows: list[Any] = []
    for tables, chroot, pocket in (
        (place, series_architecture.c, literal(str(Pocket.RELEASE))),
        (of_pockets, pocket_chroot.c, pocket_chroot.c.pocket),
    ):
        joined = tables.join(stored_file, stored_file.c.id == chroot.chroot_file_id)
        columns = (pocket.label("pocket"), chroot.chroot_name.label("name"), chroot.chroot_set_at.label("set_at"))
        query = select(*names, series_architecture.c.architecture, *columns, stored_file.c.size, stored_file.c.sha256)
        rows += connection.execute(query.select_from(joined))
    found = [Set(**dict(row._mapping) | {"pocket": Pocket(row.pocket)}) for row in rows]
    order = list(Pocket)
    return sorted(found, key=lambda each: (each.distribution, each.series, each.architecture, order.index(each.pocket)))
