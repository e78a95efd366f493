"""When will a build begin, and when end? A range, from what builds are expected to take and how wrong that was. Pure.

The farm is played forward, often, with durations that differ from what is expected as they did lately; what comes out
in four fifths of these plays is told. What is not in the queue yet and will go before the build takes a share of the
builders, as it did lately; or none, or up to three times that: builds come in bursts.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

GAP_S = 3.0  # A builder's pause between two builds: it is cleaned, and given files.
MARGIN = 0.1  # So much of the plays is left out at each end.
# What builds took of what was expected, while too little is known of a farm.
USUAL = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.8, 2.2, 3.0)
ENOUGH = 100  # So many builds tell how wrong the farm's expectations are.
_INFLOW_MAX = 0.75
_BURST = 3.0  # With this, somewhat more than four of five answers come true where builds come in bursts.
_STEPS = 200_000  # Of all plays together; a long queue is played less often, and each play tells more.
_PLAYS = (12, 200)


@dataclass(frozen=True)
class Running:
    """A build on one of the builders."""

    elapsed_s: float
    expected_s: float


@dataclass(frozen=True)
class Situation:
    """What the builders that can take a build have before it."""

    own_s: float  # What it is expected to take.
    idle: int  # Builders without a build.
    running: tuple[Running, ...] = ()  # What the others have.
    ahead: Sequence[float] = ()  # What is expected of each build that goes before it, in order.
    pause_s: float = 0.0  # It is left alone so long.
    inflow: float = 0.0  # The share of builder time that went to what came later and went first; see inflow().


@dataclass(frozen=True)
class Span:
    """Seconds from now."""

    earliest_s: float
    latest_s: float


@dataclass(frozen=True)
class Forecast:
    """When a build begins and ends, in all likelihood."""

    begins: Span
    ends: Span


def known(ratios: Sequence[float]) -> Sequence[float]:
    """How wrong expectations are: what builds took, divided by what was expected, and while that is of few, the usual
    as well."""
    return ratios if len(ratios) >= ENOUGH else (*ratios, *USUAL)


def inflow(came_s: float, window_s: float, builders: int) -> float:
    """The share of builder time that what came lately needs.

    :param came_s: what is expected of the builds that came in the window and go before the one asked about.
    """
    return min(_INFLOW_MAX, came_s / (window_s * builders)) if builders else 0.0


def forecast(situation: Situation, ratios: Sequence[float], draw: Callable[[], float]) -> Forecast | None:
    """When a build that waits begins and ends; None: no builder can take it.

    :param ratios: as known() gives them.
    :param draw: a number from 0 to 1, another one each time.
    """
    if not situation.idle and not situation.running:
        return None
    plays = max(_PLAYS[0], min(_PLAYS[1], _STEPS // (len(situation.ahead) + len(situation.running) + 1)))
    played = [_play(situation, ratios, draw) for _ in range(plays)]
    return Forecast(_span([begins for begins, _ in played]), _span([ends for _, ends in played]))


def forecast_end(running: Running, ratios: Sequence[float], draw: Callable[[], float]) -> Span:
    """When a build that runs ends."""
    return _span([_left_s(running, ratios, draw) for _ in range(_PLAYS[1])])


def _play(situation: Situation, ratios: Sequence[float], draw: Callable[[], float]) -> tuple[float, float]:
    """When it begins and ends, if all takes as long as it did some other time."""
    count = len(ratios)
    free = [0.0] * situation.idle + [_left_s(each, ratios, draw) + GAP_S for each in situation.running]
    heapq.heapify(free)
    for expected_s in situation.ahead:
        heapq.heapreplace(free, free[0] + expected_s * ratios[int(draw() * count)] + GAP_S)
    share = min(_INFLOW_MAX, situation.inflow * _BURST * draw() ** 2)
    begins = max(free[0] / (1 - share), situation.pause_s)
    return begins, begins + situation.own_s * ratios[int(draw() * count)]


def _left_s(running: Running, ratios: Sequence[float], draw: Callable[[], float]) -> float:
    """How long a build may yet take, of those durations that it has not outlived."""
    whole_s = [each for ratio in ratios if (each := running.expected_s * ratio) > running.elapsed_s]
    if not whole_s:
        return running.elapsed_s * draw()
    return whole_s[int(draw() * len(whole_s))] - running.elapsed_s


def _span(seconds: list[float]) -> Span:
    seconds.sort()
    last = len(seconds) - 1
    return Span(seconds[int(last * MARGIN)], seconds[last - int(last * MARGIN)])
