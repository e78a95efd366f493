"""Several masters on one farm, in one process: they share its builders, and none acts for what is another's."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from buildd.protocol import BuilderStatus
from buildmaster import builds, leases, leasing, masters
from buildmaster.builder_client import Timeouts
from buildmaster.builders import Cleanliness
from buildmaster.database import CommitUncertain, DatabaseLost
from buildmaster.farm import Farm
from buildmaster.fleet import Fleet
from buildmaster.leases import Leases
from buildmaster.lifecycle import BuildState, Event
from buildmaster.masters import LeaseLost
from buildmaster.pacing import Pace, Progress
from buildmaster.scanner import Scanner
from buildmaster.snapshot import Snapshot
from buildmaster.tests.factories import make_build, make_builder
from buildmaster.tests.fakes import FakeBuilder
from buildmaster.tests.farm_case import FarmCase
from buildmaster.workshop import make_work

S = BuildState
LEASE_S = 1.0


class OneOfMany:
    """A master among others: what service.py puts together, on the reactor of the test."""

    def __init__(self, case: "ManyCase", name: str) -> None:
        self.reactor: Any = case.fake.reactor
        self.farm = Farm.open(case.farm.places)
        self.farm.start(self.reactor)
        self.snapshot = Snapshot(self.farm, self.reactor, 0.02)
        self.late_s = 0.0  # What the clock of its leases is ahead: as if it had stood still for so long.
        self.leases = Leases(self.farm, self.snapshot, self.reactor, self.clock, name=name, lease_s=case.lease_s)
        url = f"http://127.0.0.1:{case.files.getHost().port}"  # type: ignore[attr-defined]
        self.work = make_work(
            self.farm, self.reactor, self.snapshot, case.http, self.leases, files_url=url, settings=case.settings
        )
        self.fleet = Fleet(self.work, self.reactor, Pace(0.02, 0.1))

    def clock(self) -> float:
        return float(self.reactor.seconds()) + self.late_s

    async def start(self) -> None:
        await self.snapshot.start()
        await self.fleet.start()

    @property
    def scanned(self) -> set[int]:
        """The builders that it scans."""
        return set(self.fleet._patrols)

    def hang(self) -> Callable[[], None]:
        """Let nothing of it go on in the database, until what is returned is called."""
        resumed: list[Deferred[None]] = []
        ways: tuple[tuple[Any, str], ...] = ((self.farm.database, "_transact"), (self.leases, "_write"))
        real = [getattr(*way) for way in ways]

        def paused(write: Any) -> Any:
            async def wait(*arguments: Any, **more: Any) -> Any:
                pause: Deferred[None] = Deferred()
                resumed.append(pause)
                await pause
                return await write(*arguments, **more)

            return wait

        for (place, name), write in zip(ways, real, strict=True):
            setattr(place, name, paused(write))

        def go_on() -> None:
            for (place, name), write in zip(ways, real, strict=True):
                setattr(place, name, write)
            for pause in resumed:
                pause.callback(None)

        return go_on

    async def stop(self) -> None:
        self.snapshot.stop()
        await self.fleet.stop()
        self.farm.close()


class ManyCase(FarmCase):
    # All masters and builders are in this process: on a machine that is busy, no answer comes soon.
    settings = dataclasses.replace(FarmCase.settings, timeouts=Timeouts(rpc_s=30.0, fetch_s=60.0, silence_s=30.0))
    lease_s = LEASE_S

    def setUp(self) -> None:
        super().setUp()
        self.fakes: list[FakeBuilder] = [self.fake]
        self.masters: list[OneOfMany] = []

    async def tearDown(self) -> None:  # type: ignore[override]
        for master in self.masters:
            await master.stop()
        for fake in self.fakes[1:]:
            await fake.stop()
        await super().tearDown()

    def add_builders(self, count: int) -> None:
        for number in range(count):
            fake = self.make_fake(self.fake.reactor)
            make_builder(self.farm, f"other{number}", fake.listen())
            self.fakes.append(fake)

    async def master(self, name: str = "one:1") -> OneOfMany:
        master = OneOfMany(self, name)
        await master.start()
        self.masters.append(master)
        return master

    async def until(self, true: Callable[[], bool], seconds: float = 40.0) -> float:
        began = self.fake.reactor.seconds()
        while not true():
            assert self.fake.reactor.seconds() - began < seconds, [len(each.scanned) for each in self.masters]
            await self.sleep(0.01)
        return float(self.fake.reactor.seconds() - began)

    def shares(self) -> list[int]:
        """How many builders each scans; nothing while one is scanned by two, as when a master goes on that hung."""
        scanned = [each for master in self.masters for each in master.scanned]
        return [len(master.scanned) for master in self.masters] if len(scanned) == len(set(scanned)) else []


class TestSharing(ManyCase):
    async def test_a_fair_share(self) -> None:
        """A master that comes gets its share within seconds; what one leaves behind that ends, others have at once."""
        self.add_builders(7)
        first = await self.master()
        await self.until(lambda: self.shares() == [8])
        await self.master("two:2")
        await self.until(lambda: self.shares() == [4, 4])
        await self.master("three:3")
        await self.until(lambda: self.shares() == [3, 3, 2])
        self.masters.remove(first)
        await first.stop()
        assert await self.until(lambda: self.shares() == [4, 4]) < LEASE_S

    async def test_one_that_comes_to_others(self) -> None:
        """A master that comes does not take what is free without a look at how many others there are: it would hand
        over at once what is more than its share."""
        self.add_builders(3)
        with self.farm.transaction() as connection:
            for number in range(2):
                masters.join(connection, f"other:{number}", 60.0)
        released: list[object] = []
        self.patch(masters, "release", lambda _, *what: released.append(what))  # type: ignore[no-untyped-call]
        await self.master()
        await self.until(lambda: self.shares() == [1])
        await self.sleep(LEASE_S)
        assert self.shares() == [1] and not released

    async def test_builders_that_never_rest(self) -> None:
        """A master that comes has its share while every scan of the others finds something to do."""
        self.add_builders(3)
        for fake in self.fakes:
            fake.duration_s = 0.0
        one = await self.master()
        await self.until(lambda: self.shares() == [4])
        for name in range(40):
            make_build(self.farm, f"source{name}")
        await self.until(lambda: all(fake.started for fake in self.fakes))
        two = await self.master("two:2")
        await self.until(lambda: self.shares() == [2, 2])
        assert one.snapshot.waiting and two.snapshot.waiting  # They are not done yet.
        await self.until(lambda: not one.snapshot.waiting, 60.0)

    async def test_handed_over_nobody_knows_whether(self) -> None:
        """The connection is lost just as builders are handed over, which they were: they are not scanned once more
        before it is known."""
        self.add_builders(3)
        one = await self.master()
        await self.until(lambda: self.shares() == [4])
        write, scanned_after = one.leases._write, list[int]()

        async def lost(function: Any, *arguments: Any) -> Any:
            result = await write(function, *arguments)
            if function is masters.release:
                released = set(arguments[1])
                one.reactor.callLater(0, lambda: scanned_after.append(len(released & one.scanned)))
                raise CommitUncertain("the server went")
            return result

        self.patch(one.leases, "_write", lost)  # type: ignore[no-untyped-call]
        await self.master("two:2")
        await self.until(lambda: self.shares() == [2, 2])
        assert scanned_after and not any(scanned_after)

    async def test_handed_over_in_vain(self) -> None:
        """What could not be handed over is scanned again, and handed over the next time."""
        self.add_builders(3)
        one = await self.master()
        await self.until(lambda: self.shares() == [4])
        write, tried = one.leases._write, list[Any]()

        async def away(function: Any, *arguments: Any) -> Any:
            if function is masters.release and len(tried) < 2:
                tried.append(arguments)
                raise DatabaseLost("the server went")
            return await write(function, *arguments)

        self.patch(one.leases, "_write", away)  # type: ignore[no-untyped-call]
        await self.master("two:2")
        await self.until(lambda: self.shares() == [2, 2])
        assert len(tried) == 2

    async def test_builds_while_they_come_and_go(self) -> None:
        """Every build is done, and begun once, whichever masters its builder had meanwhile: none is lost, and none ends
        while a call is under way, as on a machine that has stood still (docs/masters.md tells what is left then)."""
        self.lease_s = 60.0
        self.patch(leasing, "beat_every_s", lambda _: LEASE_S / leasing.BEATS_A_LEASE)  # type: ignore[no-untyped-call]
        self.patch(leases, "_ACTS_END_S", 60.0)  # type: ignore[no-untyped-call]
        self.add_builders(4)
        for fake in self.fakes:
            fake.duration_s = 0.3
        ids = [make_build(self.farm, f"source{number}") for number in range(25)]
        await self.master()
        for name in ("two:2", "three:3"):
            await self.sleep(0.4)
            await self.master(name)
        await self.sleep(0.4)
        await self.masters.pop(0).stop()
        await self.until(lambda: all(self.state(each) is S.BUILT for each in ids), 60.0)
        started = [each for fake in self.fakes for each in fake.started]
        assert sorted(started) == sorted(builds.cookie(each) for each in ids)

    async def test_one_that_hangs(self) -> None:
        """A master that is not heard any more loses its builders when its lease is over; when it goes on it writes
        nothing for them, and is one of the masters again."""
        self.add_builders(3)
        for fake in self.fakes:
            fake.duration_s = None
        one, _ = await self.master(), await self.master("two:2")
        await self.until(lambda: self.shares() == [2, 2])
        ids = [make_build(self.farm, f"source{number}") for number in range(4)]
        await self.until(lambda: all(fake.started for fake in self.fakes))
        go_on = one.hang()
        number = one.leases.me
        for fake in self.fakes:
            fake.end()
        await self.until(lambda: all(self.state(each) is S.BUILT for each in ids), 60.0)
        go_on()
        await self.until(lambda: self.shares() == [2, 2])
        assert one.leases.me != number
        assert [len(fake.started) for fake in self.fakes] == [1] * 4
        assert all(self.build(each).failures == 0 for each in ids)

    async def test_two_that_hang_at_once(self) -> None:
        """Whoever is left has all."""
        self.add_builders(2)
        one, two, _ = await self.master(), await self.master("two:2"), await self.master("three:3")
        await self.until(lambda: self.shares() == [1, 1, 1])
        resumed = [one.hang(), two.hang()]
        await self.until(lambda: len(self.masters[2].scanned) == 3)
        for go_on in resumed:
            go_on()
        await self.until(lambda: self.shares() == [1, 1, 1])


class TestFencing(ManyCase):
    """What a master does that has lost a builder, and does not know it yet."""

    async def lose(self) -> OneOfMany:
        """A master that has lost its builder to another just now."""
        master = await self.master()
        await self.until(lambda: self.shares() == [1])
        await master.fleet.end([self.builder_id])  # The scans below are our own.
        with self.farm.transaction() as connection:
            other = masters.join(connection, "other:9", 60.0)
            masters.release(connection, master.leases.me or 0, [self.builder_id])
            assert masters.take(connection, other, 1)
        return master

    async def test_nothing_is_written(self) -> None:
        """A transaction for a builder that is another's is refused whole."""
        master = await self.lose()
        build_id = make_build(self.farm)

        def write(connection: Connection) -> None:
            builds.record(connection, build_id, Event.CANCEL, 1.0)

        await self.assertFailure(Deferred.fromCoroutine(master.leases.transact(self.builder_id, write)), LeaseLost)
        assert self.state(build_id) is S.NEEDS_BUILD

    async def test_nothing_is_claimed(self) -> None:
        """Its scan gives the builder no build."""
        master = await self.lose()
        build_id = make_build(self.farm)
        scanner = Scanner(self.builder_id, master.work, Logger(namespace="test"))
        await self.assertFailure(Deferred.fromCoroutine(scanner.scan()), LeaseLost)
        assert self.state(build_id) is S.NEEDS_BUILD and self.fake.started == []

    async def test_nothing_is_called_late(self) -> None:
        """A master that has stood still for longer than its lease calls nothing that has an effect."""
        master = await self.master()
        client = master.work.client(self.fake.url)
        await client.status()
        master.late_s = LEASE_S
        for call in (client.abort, client.clean):
            await self.assertFailure(Deferred.fromCoroutine(call()), LeaseLost)
        await client.status()
        assert not {"abort", "clean"} & set(self.fake.calls)

    async def test_nothing_is_sent_late(self) -> None:
        """Nor does it send the call that was under way to a builder when it stood still."""
        master = await self.master()
        asked: list[bool] = []
        client = master.work.client(self.fake.url)
        allowed = client.allowed

        def first_yes_then_as_it_is() -> None:
            if asked:
                master.late_s = LEASE_S
                allowed()
            asked.append(True)

        client.allowed = first_yes_then_as_it_is
        await self.assertFailure(Deferred.fromCoroutine(client.clean()), LeaseLost)
        await self.sleep(0.05)
        assert asked and "clean" not in self.fake.calls

    async def test_what_was_sent_earlier(self) -> None:
        """What a dead master had sent, and arrives late, is cleaned away; nobody is taken out of service for it."""
        scanner = Scanner(self.builder_id, self.work, Logger(namespace="test"), inherited=True)
        self.fake.status, self.fake.build_id = BuilderStatus.BUILDING, "PACKAGEBUILD-7"
        assert await self.scan(scanner) is Progress.CHANGED
        assert self.vitals().cleanliness is Cleanliness.DIRTY and self.vitals().enabled
        for _ in range(50):
            await self.scan(scanner)
            await self.sleep(0.01)
        assert self.vitals().cleanliness is Cleanliness.CLEAN and self.fake.status is BuilderStatus.IDLE

    async def test_long_after(self) -> None:
        """Long after that, it is as with any other builder."""
        scanner = Scanner(self.builder_id, self.work, Logger(namespace="test"), inherited=True)
        self.fake.status, self.fake.build_id = BuilderStatus.BUILDING, "PACKAGEBUILD-7"
        self.now += 3600
        await self.scan(scanner)
        assert not self.vitals().enabled

    async def test_it_ends_with_a_call_under_way(self) -> None:
        """A master that ends lets a call that it has made arrive, before another can have the builder."""
        answered: list[bool] = []
        real = self.fake.begin

        def slow(*arguments: Any) -> Any:
            wait: Deferred[Any] = Deferred()

            def answer() -> None:
                answered.append(True)
                wait.callback(real(*arguments))

            self.fake.reactor.callLater(0.3, answer)
            return wait

        self.fake.begin = slow  # type: ignore
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        master = await self.master()
        await self.until(lambda: self.fake.calls.count("build") == 2)  # The second time it has the files.
        await self.masters.pop().stop()
        assert len(answered) == 2 and master.leases.me is None
        await self.master("two:2")
        await self.sleep(0.2)
        self.fake.end()
        await self.until(lambda: self.state(build_id) is S.BUILT)
        assert len(self.fake.started) == 1


class TestOneLog(FarmCase):
    """The copy of a running build's log, which masters of one machine share."""

    def follow(self) -> tuple[int, Any]:
        """A build, its copy and somebody who has it followed."""
        self.fake.log = b"one line\n" * 1000
        build_id = make_build(self.farm)
        return build_id, self.client()

    async def test_two_write_the_same(self) -> None:
        """What a master writes late goes to where it belongs, and changes nothing."""
        build_id, client = self.follow()
        first = self.work.logs.follow(build_id, client)
        late = Deferred.fromCoroutine(self.work.logs.follow(build_id, self.client()))
        await first
        await late
        assert self.farm.log_path(build_id).read_bytes() == self.fake.log

    async def test_nothing_is_written_late(self) -> None:
        """A master that has lost the builder writes nothing at all."""
        build_id, client = self.follow()

        def lost() -> None:
            raise LeaseLost("another master has it")

        client.allowed = lost
        await self.assertFailure(Deferred.fromCoroutine(self.work.logs.follow(build_id, client)), LeaseLost)
        assert not self.farm.log_path(build_id).exists()

    async def test_what_is_swept(self) -> None:
        """A master that starts leaves the log of a build that another has just begun."""
        old, new, running = (self.farm.log_path(number) for number in (7, 8, 9))
        for path in (old, new, running):
            path.write_bytes(b"some lines")
        for path in (old, running):
            os.utime(path, (1.0, 1.0))
        self.work.logs.sweep(frozenset({9}))
        assert (old.exists(), new.exists(), running.exists()) == (False, True, True)
