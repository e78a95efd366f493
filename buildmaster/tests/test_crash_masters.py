"""Masters, processes of their own, that end at each point where they commit or talk, by os._exit, before and after it:
nothing is lost, and nothing done twice.

One dies before a point, the next after it, and a third goes on to the end. The points are read from the code, see
points.py; each class is a situation in which a master comes by some of them, and has a test for each.
"""

import ast
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar

from sqlalchemy import func, select, update

from buildd.protocol import BuilderStatus, BuildStatus
from buildd.tests.small_archive import SmallArchive
from buildmaster import builders, builds, distributions
from buildmaster.builders import Cleanliness
from buildmaster.lifecycle import BuildState
from buildmaster.tables import archive, build_queue, builder, notification
from buildmaster.tests import points, processes
from buildmaster.tests.factories import make_build, set_chroot
from buildmaster.tests.fakes import WaitingBuilder
from buildmaster.tests.farm_case import FarmCase
from buildmaster.tests.test_examiner import make_chroot
from buildmaster.tests.test_layers import LAYERS

S = BuildState
POINTS = points.work_points(LAYERS["work"])
ELSEWHERE = {
    "leases.Leases.seize: masters.take": "of who is alone, and scans once: as _take",
    "leases.Leases._beat: masters.bury": "takes several masters: test_many_masters",
    "leases.Leases._hand_over: masters.release": "takes several masters: test_many_masters",
    "examiner.Examiner.stop: pool.stop": "ends threads, and nothing else",
    "examiner.Examiner._fetch: fetch #2": "as the first, where an archive publishes twice in a second: test_examiner",
    "notifying.Notifier._settle: notifications.went #2": "as the first, five days later",
}
# Modules that do not talk by builder_http alone.
TALKERS = {
    "builder_http": "is the door",
    "external": "is the door",
    "notifying": "letters: that one is sent twice is said there, and that it has the same Message-ID",
    "looking": "libsolv, for the examiner, whose _in is the door",
    "package_lists": "archives and apt, likewise",
    "programs": "other programs, likewise",
    "chroot_system": "is such a program",
    "debs": "such a program as well, before anything is recorded",
    "deb_reader": "is that program",
    "diffoscope": "is run by a command, never by a master",
    "master": "serves files; what it commits is a scan's",
}
TALKING = {"connectTCP", "spawnProcess", "Agent", "Popen", "subprocess", "requests", "urlopen", "socket"}


class Situation(FarmCase):
    """A farm whose masters are processes; what is to be built, and what happens meanwhile."""

    timeout = 300
    comes_by: ClassVar[tuple[str, ...]] = ()  # The points, of which each is a test of its own.
    settings_of_masters: ClassVar[dict[str, Any]] = {}
    end: ClassVar[BuildState] = S.BUILT  # Of all builds.

    def __init_subclass__(cls) -> None:
        for name in [each for each in dir(cls) if each.startswith("test_")]:  # A parent's are its own.
            setattr(cls, name, None)
        for point in cls.comes_by:
            name = "".join(each if each.isalnum() else "_" for each in point)
            setattr(cls, f"test_{name}", _dying_at(point))

    def setUp(self) -> None:
        super().setUp()
        self.fake.duration_s = 0.2
        self.ids: list[int] = []
        self.dying = True  # There is a point that no master has died at yet.
        self.master: BaseProcess | None = None
        self.log = self.directory / "log"

    async def tearDown(self) -> None:  # type: ignore[override]
        if self.master is not None:
            self.master.kill()
            self.master.join()
        await super().tearDown()

    async def prepare(self) -> None:
        """Make the situation; no master runs."""

    def stir(self) -> None:
        """Called again and again while masters run."""
        if self.dying:
            self.keep_waiting(1)

    def keep_waiting(self, count: int) -> None:
        """See to it that so many builds wait."""
        with self.farm.reading() as connection:
            states = [builds.state(connection, each) for each in self.ids]
        for _ in range(count - states.count(S.NEEDS_BUILD)):
            self.submit()

    def submit(self, **more: Any) -> int:
        self.ids.append(make_build(self.farm, f"source{len(self.ids)}", **more))
        return self.ids[-1]

    def start(self, point: str = "", side: str = "") -> BaseProcess:
        where = self.farm.directory, self.log, point, side
        self.master = processes.start_master(*where, looks=False, **self.settings_of_masters)
        return self.master

    async def until(self, true: Callable[[], object], seconds: float = 90.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.log.read_text()[-4000:]
            self.stir()
            await self.sleep(0.03)

    async def die(self, point: str, side: str) -> None:
        mortal = self.start(point, side)
        await self.until(lambda: mortal.exitcode is not None)
        assert mortal.exitcode == points.DIED, self.log.read_text()[-4000:]
        self.bury(mortal.pid)

    def joined(self) -> int:
        """How many masters have come so far that a signal ends them well."""
        return self.log.read_text().count(" is master ")

    def is_over(self) -> bool:
        over = {self.state(each) for each in self.ids} <= {self.end}
        vitals = self.vitals()
        return over and vitals.cleanliness is Cleanliness.CLEAN and self.fake.status is BuilderStatus.IDLE

    def check(self) -> None:
        """Every build was begun once, and is whole; the builder is not to blame for what masters did."""
        assert sorted(self.fake.started) == sorted(builds.cookie(each) for each in self.ids)
        with self.farm.reading() as connection:
            blamed = connection.execute(select(builder.c.losses + builder.c.failures)).scalar_one()
        assert blamed == 0 and self.vitals().enabled

    def check_builds(self) -> None:
        with self.farm.reading() as connection:
            assert connection.execute(select(func.count()).select_from(build_queue)).scalar_one() == 0
        for each in self.ids:
            assert self.build(each).log_file_id
            assert len(self.results(each)) == (2 if self.end is S.BUILT else 0)

    async def go_through(self, point: str) -> None:
        await self.prepare()
        for side in points.SIDES:
            await self.die(point, side)
        self.dying = False
        joined = self.joined()
        last = self.start()
        await self.until(lambda: self.joined() > joined and self.is_over())
        last.terminate()
        await self.until(lambda: last.exitcode is not None)
        assert last.exitcode == 0, self.log.read_text()[-4000:]
        self.check()
        self.check_builds()


def _dying_at(point: str) -> Callable[[Situation], Any]:
    async def test(self: Situation) -> None:
        await self.go_through(point)

    test.__doc__ = f"Masters die before and after {point}."
    return test


class Succeeds(Situation):
    """Builds succeed, with more waiting."""

    make_fake = WaitingBuilder
    comes_by = (
        "leases.Leases._join: masters.join",
        "leases.Leases._beat: masters.beat",
        "leases.Leases._take: masters.take",
        "dispatch.Dispatcher.dispatch: take",
        "dispatch.Dispatcher._send: client.build",
        "scanner.Scanner._step: client.status",
        "fleet.Patrol._listen: client.wait",
        "sending_ahead.SendingAhead._send: client.ensure_present",
        "gathering.Gatherer._begin: _begin",
        "gathering.Gatherer._succeeded: self._record",
        "fetching.Fetcher.file: client.file",
        "fetching.Fetcher.log_of: client.log",
        "fetching.Fetcher._fetch: commit",
        "fetching.Fetcher._read: client.read",
        "scanner.Scanner._clean: client.clean",
    )

    async def prepare(self) -> None:
        self.fake.log = b"a line\n"

    def stir(self) -> None:
        if self.dying:
            self.keep_waiting(2)


class IsSentNothingAhead(Situation):
    """A builder lacks a build's files when that begins."""

    settings_of_masters: ClassVar[dict[str, Any]] = {"send_ahead_bytes": 0}
    comes_by = ("dispatch.Dispatcher._send: client.ensure_present", "dispatch.Dispatcher._send: client.build #2")


class Lasts(Situation):
    """Builds last for so long that somebody looks how they get on."""

    make_fake = WaitingBuilder
    comes_by = (
        "scanner.Scanner._running: builds.set_stage",
        "running_log.RunningLogs.follow: client.log",
        "running_log.RunningLogs.follow: client.read",
    )

    async def prepare(self) -> None:
        self.fake.extra_status = {"stage": "building"}
        self.fake.log = b"a line\n"
        self.fake.duration_s = 1.5


class CannotWait(Situation):
    """A builder is one that does not say when it is done."""

    comes_by = ("scanner.Scanner._step_with_job: client.status",)


class AnswersAnew(Situation):
    """A builder says that it is of another version."""

    comes_by = ("scanner.Scanner._step_when_clean: builders.set_cleanliness",)

    async def prepare(self) -> None:
        self.fake.extra_status = {"builder_version": "2"}


class Ends(Situation):
    """A master is told to end."""

    comes_by = ("leases.Leases.stop: masters.leave",)

    told: BaseProcess | None = None

    def start(self, point: str = "", side: str = "") -> BaseProcess:
        self.fake.calls.clear()
        return super().start(point, side)

    def stir(self) -> None:
        super().stir()
        if self.dying and self.fake.calls and self.told is not self.master is not None:
            self.master.terminate()
            self.told = self.master


class Fails(Situation):
    """Builds fail, and somebody is told."""

    end = S.FAILED
    comes_by: ClassVar[tuple[str, ...]] = (
        "gathering.Gatherer.finish: self._record",
        "notifying.Notifier.send_due: notifications.claim",
        "notifying.Notifier._call: external.run",
        "notifying.Notifier._settle: notifications.went",
    )

    async def prepare(self) -> None:
        self.fake.outcome = BuildStatus.PACKAGEFAIL
        self.told = self.directory / "told"
        command = ("sh", "-c", f"echo $(cat) >> {self.told}")
        self.settings_of_masters = {"notify_command": command, "notify_timeout_s": 0.4}  # type: ignore[misc]
        with self.farm.transaction() as connection:
            connection.execute(update(archive).values(notify="somebody@example.org"))

    def left(self) -> int:
        with self.farm.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(notification)).scalar_one())

    def joined(self) -> int:
        """How many masters have come so far that a signal ends them well."""
        return self.log.read_text().count(" is master ")

    def is_over(self) -> bool:
        return super().is_over() and not self.left()

    def check(self) -> None:
        super().check()
        told = self.told.read_text().splitlines()
        assert len(self.ids) <= len(told) <= len(self.ids) + len(points.SIDES)


class NobodyHears(Fails):
    """The command that is to tell somebody fails."""

    comes_by = ("notifying.Notifier._settle: notifications.postpone",)

    async def prepare(self) -> None:
        await super().prepare()
        self.settings_of_masters = {"notify_command": ("false",), "notify_timeout_s": 0.4}  # type: ignore[misc]

    def joined(self) -> int:
        """How many masters have come so far that a signal ends them well."""
        return self.log.read_text().count(" is master ")

    def is_over(self) -> bool:
        return Situation.is_over(self)

    def check(self) -> None:
        Situation.check(self)
        assert self.left() == len(self.ids)


class IsCancelled(Situation):
    """A build is cancelled while it runs."""

    end = S.CANCELLED
    comes_by = ("scanner.Scanner._go_on: client.abort",)

    async def prepare(self) -> None:
        self.fake.duration_s = None
        self.submit()

    def stir(self) -> None:
        super().stir()
        for each in self.ids:
            begun = self.state(each) is S.BUILDING and self.fake.build_id == builds.cookie(each)
            if begun or (not self.dying and self.state(each) is S.NEEDS_BUILD):
                with self.farm.transaction() as connection:
                    builds.cancel(connection, each, time.time())

    def check(self) -> None:
        """Those that were cancelled before they began were not begun."""
        assert len(set(self.fake.started)) == len(self.fake.started) > 0
        assert self.vitals().enabled

    def check_builds(self) -> None:
        begun = [each for each in self.ids if builds.cookie(each) in self.fake.started]
        assert all(self.build(each).log_file_id for each in begun)


class DoesNotStop(IsCancelled):
    """A builder does not stop a build that is cancelled."""

    settings_of_masters: ClassVar[dict[str, Any]] = {"cancel_timeout_s": 0.3}
    comes_by = ("scanner.Scanner._give_up_cancelling: give_up",)

    async def prepare(self) -> None:
        await super().prepare()
        self.fake.abort_s = None

    def stir(self) -> None:
        super().stir()
        if self.fake.status is BuilderStatus.ABORTING and self.state(self.ids[0]) is S.CANCELLED:
            self.fake.stopped()

    def check_builds(self) -> None:
        """What did not stop has no log."""


class Breaks(Situation):
    """A builder says that it is broken; later on, it is not."""

    comes_by = ("gathering.Gatherer._builder_failed: recovery.punish_builder",)

    def stir(self) -> None:
        super().stir()
        self.fake.outcome = BuildStatus.BUILDERFAIL if self.dying else BuildStatus.OK

    def check(self) -> None:
        """Each is begun once more for each time that it was lost, and that is counted once."""
        assert len(self.fake.started) - len(self.ids) in (1, 2)
        assert self.vitals().enabled


class Refuses(Situation):
    """A builder takes no build; later on, it does."""

    comes_by = (
        "scanner.Scanner._failed: recovery.punish",
        "scanner.Scanner._remember: builders.set_trouble",
        "scanner.Scanner._went_well: builders.set_trouble",
    )

    def stir(self) -> None:
        super().stir()
        troubled = bool(self.vitals().trouble)
        self.fake.refuse = "BuilderStatus.UNKNOWNBUILDER" if self.dying and not troubled else ""
        if not self.vitals().enabled:
            with self.farm.transaction() as connection:
                builders.enable(connection, "x86")

    def check(self) -> None:
        assert sorted(self.fake.started) == sorted(builds.cookie(each) for each in self.ids)


class Forgets(Situation):
    """A builder forgets its build, as one does that was switched off and on, while its master looks."""

    comes_by = ("scanner.Scanner._forgotten: forgotten",)
    forgotten = 0

    def stir(self) -> None:
        super().stir()
        known = self.fake.calls[-2:] == ["status", "status"] and self.fake.status is BuilderStatus.BUILDING
        self.fake.duration_s = None if self.dying else 0.2
        if self.fake.status is BuilderStatus.BUILDING and not self.dying:
            self.fake.end()
        elif known and self.master is not None and self.master.is_alive():
            self.fake.calls.clear()
            self.fake.forget()
            self.forgotten += 1
        if not self.vitals().enabled:
            with self.farm.transaction() as connection:
                builders.enable(connection, "x86")

    def check(self) -> None:
        assert len(self.fake.started) == len(self.ids) + self.forgotten


class NeverEnds(Situation):
    """A build does not end while a builder may have it; later on, builds do."""

    settings_of_masters: ClassVar[dict[str, Any]] = {"build_timeout_s": 1.5}
    comes_by = ("gathering.Gatherer.take_away: recovery.punish",)

    def stir(self) -> None:
        super().stir()
        self.fake.duration_s = None if self.dying else 0.1
        if not self.vitals().enabled:
            with self.farm.transaction() as connection:
                builders.enable(connection, "x86")

    def check(self) -> None:
        assert set(self.fake.started) == {builds.cookie(each) for each in self.ids}


class ForgotMeanwhile(Situation):
    """It forgets its build while no master looks."""

    comes_by = ("scanner.Scanner._forgotten: builds.record",)

    async def prepare(self) -> None:
        self.fake.duration_s = None
        self.submit()
        first = self.start()
        await self.until(lambda: self.fake.status is BuilderStatus.BUILDING)
        first.kill()
        first.join()
        self.fake.forget()
        self.fake.duration_s = 0.2

    def check(self) -> None:
        assert len(self.fake.started) == len(self.ids) + 1
        assert self.vitals().enabled


class TakenOut(Situation):
    """A builder is taken out of service while files are sent to it for a build."""

    settings_of_masters: ClassVar[dict[str, Any]] = {"send_ahead_bytes": 0}
    comes_by = ("dispatch.Dispatcher.dispatch: _take_back",)

    async def prepare(self) -> None:
        fetch: Any = self.fake.fetch

        async def out(sha1: str, url: str) -> Any:
            if self.dying:
                with self.farm.transaction() as connection:
                    builders.disable(connection, "x86", "a test")
            return await fetch(sha1, url)

        self.fake.fetch = out  # type: ignore[method-assign]

    def stir(self) -> None:
        super().stir()
        vitals = self.vitals()
        if not vitals.enabled and vitals.job is None:
            with self.farm.transaction() as connection:
                builders.enable(connection, "x86")


class DoesAnothersWork(Situation):
    """A builder that was a dead master's does what nobody knows of."""

    comes_by = ("scanner.Scanner._clean_again: builders.set_cleanliness", "scanner.Scanner._clean: client.abort")

    async def prepare(self) -> None:
        with self.farm.transaction() as connection:
            connection.execute(update(builder).values(master_id=999))

    def stir(self) -> None:
        if self.dying and self.fake.status is BuilderStatus.IDLE:
            self.fake.status, self.fake.build_id = BuilderStatus.BUILDING, "PACKAGEBUILD-777"


class IsReset(Situation):
    """A virtualised builder is reset."""

    comes_by = (
        "resetting.Resetter.reset: external.run",
        "resetting.Resetter.reset: client.echo",
        "scanner.Scanner._reset: builders.begin_reset",
        "scanner.Scanner._reset: builders.was_reset",
    )

    async def prepare(self) -> None:
        self.settings_of_masters = {"reset_command": ("true", "{host}")}  # type: ignore[misc]
        with self.farm.transaction() as connection:
            builders.set_vm_host(connection, "x86", "host")
            connection.execute(update(builder).values(virtualised=True))

    def stir(self) -> None:
        if self.dying and self.vitals().cleanliness is Cleanliness.CLEAN:
            self.set_cleanliness(Cleanliness.DIRTY)


class IsLookedAt(Situation):
    """Builds lack something, and are released when that is published."""

    settings_of_masters: ClassVar[dict[str, Any]] = {"archive_poll_s": 0.3}
    comes_by: ClassVar[tuple[str, ...]] = (
        "examiner.Examiner._system: self._read_system",
        "examiner.Examiner._system: depwaits.keep_system",
        "examiner.Examiner._fetch: fetch",
        "examiner.Examiner._bring_up_to_date: shelf.curiosity.changed",
        "examiner.Examiner._look: self._looker.look",
        "examiner.Examiner._look: depwaits.settle",
        "examiner.Examiner._sweep: sweep",
    )

    def start(self, point: str = "", side: str = "") -> BaseProcess:
        where = self.farm.directory, self.log, point, side
        self.master = processes.start_master(*where, looks=True, **self.settings_of_masters)
        return self.master

    async def prepare(self) -> None:
        self.archive = SmallArchive()
        self.archive.add("there")
        self.archive.publish()
        set_chroot(self.farm, self.place, make_chroot({}))
        with self.farm.transaction() as connection:
            distributions.set_apt_lines(connection, "debian", "primary", f"deb {self.archive.url} stable main")
            distributions.set_trusted_keys(connection, "debian", "primary", [self.archive.key])
        self.submit(relations="Build-Depends: there")
        self.submit(relations="Build-Depends: late")

    async def tearDown(self) -> None:  # type: ignore[override]
        self.archive.close()
        await super().tearDown()

    def stir(self) -> None:
        """What is missing comes when no master is to die any more of what it lacks."""
        if not self.dying and not any("late" in path for path, _ in self.archive.requests):
            self.publish()

    def publish(self) -> None:
        if not getattr(self, "published", False):
            self.archive.add("late")
            self.archive.publish()
            self.published = True


class IsReleased(IsLookedAt):
    """The same, of masters that release what waits."""

    comes_by = ("examiner.Examiner._look: depwaits.settle",)

    async def prepare(self) -> None:
        await super().prepare()
        first = self.start()
        await self.until(lambda: self.state(self.ids[0]) is S.BUILT and self.state(self.ids[1]) is S.DEP_WAIT)
        first.kill()
        first.join()
        self.publish()

    def stir(self) -> None:
        """It is published already."""


class CannotBeLookedAt(Situation):
    """Nobody can tell what builds lack."""

    comes_by = ("examiner.Examiner._look_at_queued: depwaits.let_pass",)
    start = IsLookedAt.start


SITUATIONS = [each for each in globals().values() if isinstance(each, type) and issubclass(each, Situation)]


def test_none_is_forgotten() -> None:
    """Every point in the code is one at which masters die here, or there is a reason why not."""
    here = {point for each in SITUATIONS for point in each.comes_by}
    assert here | ELSEWHERE.keys() == POINTS.keys()
    assert not here & ELSEWHERE.keys()


def test_nobody_talks_past_the_doors() -> None:
    """Of the work layer, no other module has what talks to others, and none commits but by the doors."""
    talkers = set()
    for path in points.files_of(LAYERS["work"]):
        module = path.stem
        nodes = list(ast.walk(ast.parse(path.read_text())))
        calls = {each.func for each in nodes if isinstance(each, ast.Call)}
        found = [each for each in nodes if isinstance(each, ast.Attribute)]
        doors = {each for each in found if each.attr in ("transact", "_write", "_in")}
        assert doors <= calls, f"{module}: a door by another name is not found"
        names = {each.attr for each in found}
        names |= {each.id for each in nodes if isinstance(each, ast.Name)}
        if names & TALKING:
            talkers.add(module)
        assert module == "leases" or not names & {"transaction", "_transaction"}, module
    assert talkers == TALKERS.keys()
