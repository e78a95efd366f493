"""Fair share: which archive's turn it is. Pure; docs/queue.md tells it to operators.

Of what waits for one kind of builder, a higher band (scoring.Band) goes first. Within a band archives take turns. Each
has an account for each kind of builder, in seconds of builder time divided by its weight; the archive whose account is
lowest is next, and what its build is expected to take is put on its account, which is set right when the build ends.
Within an archive the higher score goes first, then the older build.

An archive that did not build for a while has saved up an hour at most: before its build is put on its account, that is
raised to an hour below the *level*, which is where accounts stand from which builds begin. Nor is it punished for what
it used while nobody else wanted it, since the level rises with it. (It is start-time fair queueing, with builders for a
network link.)
"""

import heapq
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import NamedTuple

CREDIT_S = 3600.0  # So much an archive may save up.
LONGEST_S = 30 * 86400.0  # No build is counted for more, whatever the clocks say.


@dataclass(frozen=True)
class Account:
    """What an archive has used of one kind of builder."""

    used_s: float = 0.0  # Builder time over weight, from a beginning that all accounts of this kind share.
    level_s: float = 0.0  # Where it stood when its last build began.
    weight: float = 1.0  # An archive of weight 2 gets twice the builder time of one of weight 1.


class Waits(NamedTuple):
    """A build that waits, as far as its turn goes. The first of two in one archive and band is the lesser one."""

    minus_score: int
    id: int  # Of its row in the queue: the lower, the older.
    build_id: int
    archive_id: int
    expected_s: float


def charge(account: Account, level_s: float, seconds: float) -> Account:
    """The account after a build began that is expected to take so long.

    :param level_s: the highest level of any account of this kind whose last build was of this band.
    """
    begun_s = max(account.used_s, level_s - CREDIT_S)
    return Account(begun_s + bounded(seconds) / account.weight, begun_s, account.weight)


def correction_s(expected_s: float, took_s: float, weight: float) -> float:
    """What is added to an account when a build has ended that was expected to take another time."""
    return (bounded(took_s) - bounded(expected_s)) / weight


def bounded(seconds: float) -> float:
    """A build's time as it counts; clocks are set, and say anything."""
    return min(max(seconds, 0.0), LONGEST_S)


def in_turn(
    accounts: MutableMapping[int, Account], level_s: float, heads: Mapping[int, Iterator[Waits]]
) -> Iterator[Waits]:
    """What waits of one band for one kind of builder, in the order in which it is taken if no more comes. Lazy: of
    each archive no more is read than is given, and one.

    :param accounts: of each archive that has something there, by its id; charged for what is given.
    :param heads: what waits of each of these archives, in its order.
    """
    turns: list[tuple[float, Waits]] = []

    def line_up(archive_id: int) -> None:
        if (first := next(heads[archive_id], None)) is not None:
            heapq.heappush(turns, (accounts[archive_id].used_s, first))

    for archive_id in heads:
        line_up(archive_id)
    while turns:
        _, taken = heapq.heappop(turns)
        yield taken
        charged = charge(accounts[taken.archive_id], level_s, taken.expected_s)
        accounts[taken.archive_id], level_s = charged, max(level_s, charged.level_s)
        line_up(taken.archive_id)
