"""Who of several masters is alive, and how many builders each is to have. Pure.

A master counts its beats in its row. Whoever watches notes by its own clock when it first saw a count: one that stands
still for the length of that master's lease belongs to a master that is dead, or hangs. No clock is compared with that
of another machine, so none has to be right, and one that is set does no harm.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

BEATS_A_LEASE = 3.5  # A beat may be late, or fail, twice before the lease is over.
_MARGIN = 0.2  # Of a lease: what is begun later than this before its end could arrive after it.


@dataclass(frozen=True)
class Beat:
    """What the row of a master says."""

    master_id: int
    beats: int
    lease_s: float


class Watch:
    """What one master has noticed of the others."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[int, float]] = {}  # By master: its last beat, and when we first saw that.
        self._over: list[float] = []  # When leases are over, of those that are not yet.

    def silent(self, beats: Iterable[Beat], now: float) -> list[Beat]:
        """Those whose lease is over, when these are the rows as they are now.

        :param now: by a clock that nobody can set, after the rows were read.
        """
        known, self._since, self._over = self._since, {}, []
        silent = []
        for beat in beats:
            seen, since = known.get(beat.master_id, (-1, now))
            if seen != beat.beats:
                since = now
            self._since[beat.master_id] = (beat.beats, since)
            if now - since > beat.lease_s:
                silent.append(beat)
            else:
                self._over.append(since + beat.lease_s)
        return silent

    def next_over(self) -> float:
        """When the first of the leases is over that were not the last time, by the same clock; inf: never."""
        return min(self._over, default=math.inf)


def beat_every_s(lease_s: float) -> float:
    """How often a master with such a lease is to be heard."""
    return lease_s / BEATS_A_LEASE


def acts_until(asked: float, lease_s: float) -> float:
    """How long a master may do what has an effect: to well before others can take its builders.

    :param asked: when it asked for its last beat, by its own clock; others have seen that beat later.
    """
    return asked + lease_s * (1 - _MARGIN)


def share(me: int, masters: Collection[int], builders: int) -> int:
    """How many builders a master is to have: all the same number, but the oldest one more where it does not come out.

    :param masters: all that live, itself among them or not.
    """
    everyone = sorted({*masters, me})
    even, left = divmod(builders, len(everyone))
    return even + (everyone.index(me) < left)
