"""The masters of a farm, as queries: join, beat, take builders and leave them, bury who has fallen silent.

A builder is held by the master whose id it has, as long as that master has a row; ids are never used again. So who
takes the row of a silent master away frees its builders by that, and waits for none of its locks.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, exists, func, or_, select, update

from buildmaster.clocks import database_now
from buildmaster.leasing import Beat
from buildmaster.tables import builder, master


class LeaseLost(Exception):
    """This master does not hold the builder any more: nothing may be written or done for it."""


@dataclass(frozen=True)
class Taken:
    """A builder that a master has taken."""

    builder_id: int
    inherited: bool  # From a master that was not heard any more, so that something may still be under way to it.


@dataclass(frozen=True)
class Master:
    """A master, as people ask for it."""

    id: int
    name: str  # HOST:PID.
    since: float
    heard_at: float
    unheard_s: float  # Since then, by the database's clock.
    lease_s: float
    builders: int  # So many it holds.

    @property
    def is_silent(self) -> bool:
        """Whether it was not heard for longer than its lease."""
        return self.unheard_s > self.lease_s


def everyone(connection: Connection) -> list[Master]:
    """All masters that have a row, the oldest first."""
    held = select(func.count()).where(builder.c.master_id == master.c.id).scalar_subquery()
    unheard = database_now() - master.c.heard_at
    columns = (master.c.id, master.c.name, master.c.since, master.c.heard_at, unheard, master.c.lease_s, held)
    return [Master(*row) for row in connection.execute(select(*columns).order_by(master.c.id))]


def is_anyone_heard(connection: Connection) -> bool:
    """Whether a master runs, on whichever machine, as far as the database knows."""
    return any(not each.is_silent for each in everyone(connection))


def join(connection: Connection, name: str, lease_s: float, alone: bool = False) -> int:
    """Add a master. Returns its id.

    :param alone: no other can be running: what rows there are, are those of dead ones.
    """
    if alone:
        connection.execute(delete(master))
    values = {"name": name, "lease_s": lease_s, "beats": 0}
    times = {"since": database_now(), "heard_at": database_now()}
    return int(connection.execute(master.insert().values(**values, **times).returning(master.c.id)).scalar_one())


def beat(connection: Connection, me: int) -> list[Beat]:
    """Let a master be heard. Returns all that have a row.

    :raises LeaseLost: it was buried.
    """
    values = {"beats": master.c.beats + 1, "heard_at": database_now()}
    if connection.execute(update(master).where(master.c.id == me).values(**values)).rowcount != 1:
        raise LeaseLost("this master was not heard for too long: others have taken its builders")
    return [Beat(*row) for row in connection.execute(select(master.c.id, master.c.beats, master.c.lease_s))]


def bury(connection: Connection, silent: Beat) -> bool:
    """Take a master's row away, unless it was heard again meanwhile. Says whether it did.

    One that hangs while it is about to be heard has its row locked: nobody waits for that, since all would wait.
    """
    same = (master.c.id == silent.master_id, master.c.beats == silent.beats)
    if connection.execute(select(master.c.id).where(*same).with_for_update(skip_locked=True)).first() is None:
        return False
    connection.execute(delete(master).where(master.c.id == silent.master_id))
    return True


def take(connection: Connection, me: int, limit: int) -> list[Taken]:
    """Give a master builders that nobody holds, up to so many.

    One whose row is locked is left for the next time: a master that hangs in the middle of a transaction has it locked.
    """
    free = or_(builder.c.master_id.is_(None), builder.c.master_id.in_(_gone(connection)))
    query = select(builder.c.id, builder.c.master_id).where(free).order_by(builder.c.id).limit(limit)
    rows = connection.execute(query.with_for_update(skip_locked=True)).all()
    taken = [Taken(row.id, row.master_id is not None) for row in rows]
    if taken:
        mine = builder.c.id.in_([each.builder_id for each in taken])
        connection.execute(update(builder).where(mine).values(master_id=me))
    return taken


def _gone(connection: Connection) -> list[int]:
    """The masters without a row that builders still name.

    Asked beforehand, since who is gone stays gone, while "has no row" is not true for ever: in the query that locks
    the builders it would be looked up as of that query's beginning, also for a builder that a master, who has just
    joined, took after that. PostgreSQL looks anew, as it locks, at the builder only.
    """
    query = select(builder.c.master_id).where(~exists().where(master.c.id == builder.c.master_id))
    return [each for each in connection.execute(query.distinct()).scalars() if each is not None]


def release(connection: Connection, me: int, builder_ids: Collection[int]) -> None:
    """Let others have some of a master's builders."""
    mine = (builder.c.id.in_(list(builder_ids)), builder.c.master_id == me)
    connection.execute(update(builder).where(*mine).values(master_id=None))


def leave(connection: Connection, me: int) -> None:
    """Take a master's own row away, and let others have all of its builders."""
    connection.execute(update(builder).where(builder.c.master_id == me).values(master_id=None))
    connection.execute(delete(master).where(master.c.id == me))


def confirm(connection: Connection, me: int, builder_id: int) -> None:
    """See to it that nobody takes a builder from this master before the transaction ends.

    :raises LeaseLost: somebody has.
    """
    if connection.execute(_HOLDER, {"this": builder_id}).scalar() != me:
        raise LeaseLost("another master has this builder now")


_HOLDER = select(builder.c.master_id).where(builder.c.id == bindparam("this")).with_for_update()
