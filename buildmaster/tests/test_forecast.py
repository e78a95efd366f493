"""When a build begins and ends: ranges that hold, in a simulated farm whose estimates are wrong."""

import random
from dataclasses import dataclass

import pytest

from buildmaster.forecast import (
    USUAL,
    Forecast,
    Running,
    Situation,
    Span,
    forecast,
    forecast_end,
    inflow,
    known,
)
from buildmaster.sharing import Account, in_turn
from buildmaster.tests.test_sharing import Farm

WINDOW_S = 3600.0
EXACT = (1.0,)


def told(situation: Situation, ratios: tuple[float, ...] = EXACT) -> Forecast:
    found = forecast(situation, ratios, random.Random(1).random)
    assert found is not None
    return found


def test_an_idle_builder() -> None:
    """A build that is next begins at once, and takes as long as expected, within what that was wrong by."""
    assert told(Situation(own_s=100.0, idle=1)) == Forecast(Span(0.0, 0.0), Span(100.0, 100.0))
    ends = told(Situation(own_s=100.0, idle=1), (0.5, 1.0, 2.0)).ends
    assert (ends.earliest_s, ends.latest_s) == (50.0, 200.0)


def test_what_goes_before_it() -> None:
    """What runs and what goes before it is spread over the builders."""
    running = (Running(elapsed_s=40.0, expected_s=100.0), Running(elapsed_s=10.0, expected_s=100.0))
    found = told(Situation(own_s=10.0, idle=0, running=running, ahead=[100.0, 100.0, 100.0]))
    assert found.begins == Span(93.0 + 103.0, 93.0 + 103.0)  # The second builder's second build ends later.


def test_a_build_that_takes_longer_than_any() -> None:
    """A running build that has outlived every expectation may take as long again, and never less than nothing."""
    left = forecast_end(Running(elapsed_s=1000.0, expected_s=10.0), EXACT, random.Random(1).random)
    assert 0.0 <= left.earliest_s < left.latest_s <= 1000.0


def test_a_pause() -> None:
    """A build that is left alone does not begin before that is over."""
    assert told(Situation(own_s=1.0, idle=3, pause_s=60.0)).begins == Span(60.0, 60.0)


def test_no_builder() -> None:
    """Without a builder there is no range."""
    assert forecast(Situation(own_s=1.0, idle=0), EXACT, random.Random(1).random) is None


def test_a_new_farm_is_not_sure() -> None:
    """What few builds tell is not taken for all that can happen."""
    assert set(known([1.0])) > set(USUAL) - {1.0}
    assert known([1.0] * 100) == [1.0] * 100


def test_inflow() -> None:
    """What came lately needs a share of the builders, which is never all."""
    assert inflow(1800.0, 3600.0, 2) == 0.25
    assert inflow(1e9, 3600.0, 2) < 1.0
    assert inflow(1.0, 3600.0, 0) == 0.0


@dataclass
class Answer:
    """What was told of a build at a moment."""

    asked_at: float
    archive_id: int
    expected_s: float
    span: Span


class AskedFarm(Farm):
    """A farm that is asked when builds begin, and keeps the answers."""

    def __init__(self, seed: int, builders: int) -> None:
        super().__init__(seed, builders)
        self.builders = builders
        self.took: list[tuple[float, float]] = []
        self.begun: dict[int, tuple[float, float]] = {}  # When, and what was expected.
        self.answers: dict[int, Answer] = {}
        self.arrivals: list[tuple[float, int, float]] = []

    def arrive(self, archive_id: int, count: int, expected_s: float) -> None:
        self.submit(archive_id, count, expected_s)
        self.arrivals.append((self.now, archive_id, count * expected_s))

    def ask(self) -> None:
        """Ask about one of those that wait."""
        waiting = {key: queue for key, queue in self.queues.items() if queue}
        if not waiting:
            return
        accounts = {key: self.accounts.get(key, Account()) for key in waiting}
        order = list(in_turn(accounts, self.level_s, {key: iter(queue) for key, queue in waiting.items()}))
        place = self.random.randrange(len(order))
        asked = order[place]
        recent = [work for at, key, work in self.arrivals if at > self.now - WINDOW_S and key != asked.archive_id]
        window_s = min(WINDOW_S, max(self.now, 1.0))
        situation = Situation(
            own_s=asked.expected_s,
            idle=self.idle,
            running=tuple(Running(self.now - self.begun[one.id][0], one.expected_s) for _, _, one, _ in self.running),
            ahead=[each.expected_s for each in order[:place]],
            inflow=inflow(sum(recent) if len(waiting) > 1 or recent else 0.0, window_s, self.builders),
        )
        found = forecast(situation, known(self.seen()), self.random.random)
        assert found is not None
        self.answers[asked.id] = Answer(self.now, asked.archive_id, asked.expected_s, found.begins)

    def dispatch(self) -> None:
        before = {one.id for _, _, one, _ in self.running}
        super().dispatch()
        for _, _, one, took_s in self.running:
            if one.id not in before:
                self.begun[one.id] = (self.now, one.expected_s)
                self.took.append((self.now + took_s, took_s / one.expected_s))

    def seen(self) -> list[float]:
        """How wrong expectations were, of the last builds that have ended."""
        return [ratio for ended_at, ratio in self.took[-300:] if ended_at <= self.now][-200:]


def play(seed: int, load: float) -> AskedFarm:
    """Ten hours of a farm with five archives that send builds of all sizes, in bursts."""
    farm = AskedFarm(seed, builders=6)
    rolled = farm.random
    while farm.now < 36_000.0:
        expected_s = 20.0 * rolled.paretovariate(1.3)
        count = 1 + int(rolled.paretovariate(1.2))
        farm.arrive(10 + rolled.randrange(5), min(count, 60), min(expected_s, 2_000.0))
        if rolled.random() < 0.25:
            farm.ask()
        work_s = min(count, 60) * min(expected_s, 2_000.0)
        farm.run(farm.now + rolled.expovariate(1.0) * work_s * 1.13 / (6 * load))
    farm.run(farm.now + 10**6)
    return farm


@pytest.mark.parametrize("load", [0.7, 0.95])
def test_past_answers(load: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Of what was told when builds were waiting, at least four fifths came true; and what was told says something: the
    ranges are not much wider than the waits are long."""
    inside, widths, waits = [], [], []
    for seed in range(2):
        farm = play(seed, load)
        for number, answer in farm.answers.items():
            waited_s = farm.begun[number][0] - answer.asked_at
            slack_s = 10.0
            inside.append(answer.span.earliest_s - slack_s <= waited_s <= answer.span.latest_s + slack_s)
            widths.append(answer.span.latest_s - answer.span.earliest_s)
            waits.append(waited_s)
    share = sum(inside) / len(inside)
    middle_width, middle_wait = sorted(widths)[len(widths) // 2], sorted(waits)[len(waits) // 2]
    mean_width, mean_wait = sum(widths) / len(widths), sum(waits) / len(waits)
    with capsys.disabled():
        print(
            f"\nload {load:.0%}: {len(inside)} answers, {share:.0%} came true; wait: median {middle_wait:.0f} s, mean "
            f"{mean_wait:.0f} s; width of the range: median {middle_width:.0f} s, mean {mean_width:.0f} s"
        )
    assert len(inside) > 150
    assert share >= 0.8
    assert mean_width <= 2.5 * mean_wait
