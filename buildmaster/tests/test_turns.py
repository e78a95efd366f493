"""Turns: they come again, soon when somebody calls, and whatever goes wrong in one."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger
from twisted.trial.unittest import SynchronousTestCase

from buildmaster.database import DatabaseLost
from buildmaster.turns import DATABASE_AGAIN_S, Turns

LEAST_S, MOST_S, AFTER_ERROR_S = 0.25, 1.0, 8.0


class TestTurns(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[LogEvent] = []
        self.began: list[float] = []
        self.goes_wrong: Exception | None = None
        self.lasts: Deferred[None] | None = None
        log = Logger(observer=self.events.append)  # type: ignore[arg-type]
        times = {"least_s": LEAST_S, "most_s": MOST_S, "after_error_s": AFTER_ERROR_S}
        self.turns = Turns(self.clock, log, "looking", self.turn, **times)
        self.turns.start()

    async def turn(self) -> None:
        self.began.append(self.clock.seconds())
        if self.lasts is not None:
            await self.lasts
        if self.goes_wrong is not None:
            raise self.goes_wrong

    def pass_by(self, seconds: float) -> None:
        self.clock.pump([LEAST_S / 4] * round(seconds / (LEAST_S / 4)))

    def stop(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.turns.stop()))

    def test_nobody_calls(self) -> None:
        self.pass_by(2.5)
        assert self.began == [0.0, 1.0, 2.0]

    def test_called_while_it_rests(self) -> None:
        self.pass_by(0.5)
        self.turns.call()
        assert self.began == [0.0, 0.5]

    def test_called_again_and_again(self) -> None:
        for _ in range(16):
            self.turns.call()
            self.pass_by(LEAST_S / 4)
        assert self.began == [0.0, 0.25, 0.5, 0.75, 1.0]

    def test_called_during_a_turn(self) -> None:
        """What was called for then may have come too late for it."""
        self.lasts = Deferred()
        self.pass_by(1.0)
        self.turns.call()
        lasts, self.lasts = self.lasts, None
        lasts.callback(None)
        self.pass_by(0.5)
        assert self.began == [0.0, 1.0, 1.25]

    def test_an_error_is_told_and_ends_nothing(self) -> None:
        self.goes_wrong = ZeroDivisionError()
        self.pass_by(1.0)
        self.goes_wrong = None
        self.pass_by(AFTER_ERROR_S)
        assert self.began == [0.0, 1.0, 1.0 + AFTER_ERROR_S]
        (told,) = self.events
        assert told["what"] == "looking"
        assert told["log_failure"].check(ZeroDivisionError)

    def test_a_lost_database_is_waited_for(self) -> None:
        self.goes_wrong = DatabaseLost("away")
        self.pass_by(1.0)
        self.turns.call()
        self.pass_by(DATABASE_AGAIN_S)
        assert self.began == [0.0, 1.0, 1.0 + DATABASE_AGAIN_S]
        assert self.events == []

    def test_stop_while_it_rests(self) -> None:
        self.pass_by(0.5)
        self.stop()
        self.pass_by(5.0)
        assert self.began == [0.0]
        assert self.clock.getDelayedCalls() == []

    def test_stop_in_the_middle_of_a_turn(self) -> None:
        self.lasts = Deferred()
        self.pass_by(1.0)
        self.stop()
        self.pass_by(5.0)
        assert self.began == [0.0, 1.0]
        assert self.events == []
