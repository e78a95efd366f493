"""Fair share, simulated: nobody is delayed by how much another has waiting, and nobody starves."""

import heapq
import itertools
import random

import pytest

from buildmaster.scoring import Band, band
from buildmaster.sharing import LONGEST_S, Account, Waits, charge, correction_s, in_turn

BULK, OTHER, THIRD = 1, 2, 3


def waiting(archive_id: int, costs: list[float], first: int = 1, score: int = 0) -> list[Waits]:
    return [Waits(-score, number, number, archive_id, cost) for number, cost in enumerate(costs, first)]


def order(*queues: list[Waits], accounts: dict[int, Account] | None = None, level_s: float = 0.0) -> list[Waits]:
    heads = {queue[0].archive_id: iter(queue) for queue in queues}
    known = {archive_id: (accounts or {}).get(archive_id, Account()) for archive_id in heads}
    return list(in_turn(known, level_s, heads))


def test_within_an_archive() -> None:
    """One archive alone has what waits in its own order."""
    queue = waiting(BULK, [5.0, 1.0, 3.0])
    assert order(queue) == queue


def test_a_newcomer_is_next() -> None:
    """However much an archive has waiting, and has used, the first build of another is the next to begin."""
    bulk, other = waiting(BULK, [300.0] * 10_000), waiting(OTHER, [300.0], first=20_000)
    used = {BULK: Account(used_s=900_300.0, level_s=900_000.0)}
    assert order(bulk, other, accounts=used, level_s=900_000.0)[0].archive_id == OTHER


def test_little_is_saved_up() -> None:
    """An archive that did not build for long has an hour of builder time first, and then takes turns."""
    bulk, other = waiting(BULK, [600.0] * 50), waiting(OTHER, [600.0] * 50, first=100)
    used = {BULK: Account(used_s=1e6, level_s=1e6 - 600), OTHER: Account(used_s=10.0)}
    begun = [each.archive_id for each in order(bulk, other, accounts=used, level_s=1e6 - 600)]
    assert begun[:6] == [OTHER] * 6
    assert abs(begun[6:26].count(OTHER) - 10) <= 1


def test_what_was_used_alone_is_no_debt() -> None:
    """An archive that had all builders for a night, as nobody else wanted them, gets its turns in the morning."""
    account, level_s = Account(), 0.0
    for each in order(waiting(BULK, [60.0] * 1000)):
        account = charge(account, level_s, each.expected_s)
        level_s = max(level_s, account.level_s)
    queues = waiting(BULK, [60.0] * 200), waiting(OTHER, [60.0] * 200, 1000)
    morning = [each.archive_id for each in order(*queues, accounts={BULK: account}, level_s=level_s)]
    assert abs(morning[60:100].count(BULK) - 20) <= 1


def test_short_builds_are_more() -> None:
    """It is builder time that is shared, not turns: of short builds there are more for one long one."""
    long, short = waiting(BULK, [600.0] * 10), waiting(OTHER, [60.0] * 100, first=100)
    begun = order(long, short)[:55]
    assert [each.archive_id for each in begun].count(OTHER) in range(48, 52)


@pytest.mark.parametrize("seed", range(100))
def test_the_bound(seed: int) -> None:
    """As long as two archives have something waiting, what they were given by weight differs by no more than their
    longest build each."""
    rolled = random.Random(seed)
    one, two, three = ([rolled.paretovariate(0.7) for _ in range(30)] for _ in range(3))
    weight = rolled.choice([0.5, 1.0, 2.0, 3.0])
    queues = [waiting(BULK, one), waiting(OTHER, two, 100), waiting(THIRD, three, 200)]
    given_s = {BULK: 0.0, OTHER: 0.0, THIRD: 0.0}
    weights = {BULK: weight, OTHER: 1.0, THIRD: 1.0}
    left = {queue[0].archive_id: len(queue) for queue in queues}
    longest = {queue[0].archive_id: max(each.expected_s for each in queue) for queue in queues}
    for taken in order(*queues, accounts={key: Account(weight=value) for key, value in weights.items()}):
        given_s[taken.archive_id] += taken.expected_s / weights[taken.archive_id]
        left[taken.archive_id] -= 1
        if min(left.values()) == 0:
            break
        for a, b in itertools.combinations(given_s, 2):
            allowed = longest[a] / weights[a] + longest[b] / weights[b] + 1e-6
            assert abs(given_s[a] - given_s[b]) <= allowed


class Farm:
    """Builders of one kind, archives that keep sending builds, and a clock. Durations are told wrongly beforehand."""

    def __init__(self, seed: int, builders: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.idle = builders
        self.running: list[tuple[float, int, Waits, float]] = []
        self.queues: dict[int, list[Waits]] = {}
        self.accounts: dict[int, Account] = {}
        self.level_s = 0.0
        self.numbers = itertools.count(1)
        self.came: dict[int, float] = {}
        self.waited: dict[int, list[float]] = {}
        self.given_s: dict[int, float] = {}
        self.factor: dict[int, float] = {}  # How wrong it is, for an archive.

    def submit(self, archive_id: int, count: int, expected_s: float) -> None:
        for number in itertools.islice(self.numbers, count):
            self.queues.setdefault(archive_id, []).append(Waits(0, number, number, archive_id, expected_s))
            self.came[number] = self.now

    def dispatch(self) -> None:
        while self.idle:
            accounts = {key: self.accounts.get(key, Account()) for key, queue in self.queues.items() if queue}
            heads = {key: iter(self.queues[key]) for key in accounts}
            taken = next(in_turn(dict(accounts), self.level_s, heads), None)
            if taken is None:
                return
            key = taken.archive_id
            self.queues[key].remove(taken)
            self.accounts[key] = charge(accounts[key], self.level_s, taken.expected_s)
            self.level_s = max(self.level_s, self.accounts[key].level_s)
            took_s = taken.expected_s * self.random.lognormvariate(0.0, 0.5) * self.factor.get(key, 1.0)
            heapq.heappush(self.running, (self.now + took_s, taken.id, taken, took_s))
            self.waited.setdefault(key, []).append(self.now - self.came[taken.id])
            self.idle -= 1

    def run(self, until: float) -> None:
        self.dispatch()
        while self.running and self.running[0][0] <= until:
            self.now, _, ended, took_s = heapq.heappop(self.running)
            key = ended.archive_id
            account = self.accounts[key]
            used_s = account.used_s + correction_s(ended.expected_s, took_s, account.weight)
            self.accounts[key] = Account(used_s, account.level_s, account.weight)
            self.given_s[key] = self.given_s.get(key, 0.0) + took_s
            self.idle += 1
            self.dispatch()
        self.now = until


@pytest.mark.parametrize("seed", range(5))
def test_ten_thousand_builds_of_another(seed: int) -> None:
    """Beside 10,000 bulk builds, an archive that sends a build now and then has it begun as soon as a builder is free;
    and in the order of scores and age it would have waited for all of them."""
    farm = Farm(seed, builders=10)
    farm.submit(BULK, 10_000, 300.0)
    for _ in range(50):
        farm.run(farm.now + 600.0)
        farm.submit(OTHER, 1, 120.0)
    farm.run(farm.now + 3_600.0)
    assert len(farm.waited[OTHER]) == 50
    assert max(farm.waited[OTHER]) < 300.0  # One of ten builders becomes free each half minute or so.
    assert len(farm.queues[BULK]) > 5_000


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_wrong_estimates_gain_nothing(seed: int, factor: float) -> None:
    """Archives that always have something waiting get the same builder time, though one's builds take ten times as
    long as expected, or a tenth."""
    farm = Farm(seed, builders=8)
    farm.submit(BULK, 3_000, 300.0)
    farm.submit(OTHER, int(3_000 / factor), 300.0)
    farm.factor[OTHER] = factor
    farm.run(100_000.0)
    assert all(farm.queues.values())
    share = farm.given_s[OTHER] / sum(farm.given_s.values())
    assert 0.45 < share < 0.55


@pytest.mark.parametrize("seed", range(5))
def test_nobody_starves(seed: int) -> None:
    """With 40 archives that send in bursts, more than the farm can do, what an archive sends alone begins soon."""
    farm = Farm(seed, builders=5)
    for step in range(300):
        archive_id = 10 + farm.random.randrange(40)
        farm.submit(archive_id, 1 + int(farm.random.paretovariate(1.0)) % 200, 60.0)
        if step % 50 == 0:
            farm.submit(OTHER, 1, 60.0)
        farm.run(farm.now + 60.0)
    # At worst each of the 40 has one build before it.
    assert max(farm.waited[OTHER]) <= 41 * 60.0 * 3 / 5


@pytest.mark.parametrize("seconds", [-5.0, float("inf")])
def test_clocks_that_were_set(seconds: float) -> None:
    """No clock makes an account run away, or run backwards."""
    charged = charge(Account(), 0.0, seconds)
    assert 0.0 <= charged.used_s <= LONGEST_S
    assert -LONGEST_S <= correction_s(0.0, seconds, 1.0) <= LONGEST_S


@pytest.mark.parametrize(
    ("score", "found"),
    [(-1, Band.SPARE), (0, Band.USUAL), (4_499, Band.USUAL), (4_500, Band.URGENT), (10_000, Band.FIRST)],
)
def test_bands(score: int, found: Band) -> None:
    """Security fixes are urgent, private archives first, copies of archives last."""
    assert band(score) is found
