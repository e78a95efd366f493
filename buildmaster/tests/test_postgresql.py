"""What PostgreSQL does otherwise than SQLite: several writers at a time, a server that goes away, and a password."""

import shutil
import tempfile
import threading
import time
import unittest.mock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, func, select, text, update
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from buildmaster import (
    archives,
    builders,
    builds,
    chroots,
    depwaits,
    dispatch,
    distributions,
    forecasting,
    gathering,
    masters,
    needs,
)
from buildmaster.apt_sources import Sources
from buildmaster.archives import Changes
from buildmaster.builders import Cleanliness
from buildmaster.commits import CHANNEL, PostgresqlCommits
from buildmaster.config import ConfigError, load
from buildmaster.database import CommitUncertain, DatabaseLost
from buildmaster.engines import make_engine, was_lost
from buildmaster.farm import Farm, NoFarm, Places
from buildmaster.forecast import Forecast, Span
from buildmaster.lifecycle import BuildState, Event, ImpossibleTransition
from buildmaster.masters import Taken
from buildmaster.scoring import ArchivePurpose, Pocket
from buildmaster.secrets import SecretRefused
from buildmaster.store import Sha256
from buildmaster.tables import archive, build_queue, builder, distribution, series_architecture, source
from buildmaster.tests import databases
from buildmaster.tests.factories import (
    make_build,
    make_builder,
    make_farm,
    make_series,
    open_farm,
)
from buildmaster.tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not databases.on_postgresql(), reason="$DEBFARM_TEST_DATABASE is not postgresql")
NOW = 1_000_000.0


def at_once(*functions: Callable[[], object]) -> list[Any]:
    """What these return, or raise, when they begin at the same time, each in a thread of its own."""
    barrier = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)

    def run(place: int, function: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[place] = function()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def blocked(farm: Farm) -> int:
    """How many transactions on the farm's database wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with farm.reading() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


@contextmanager
def meanwhile(farm: Farm, *functions: Callable[[], object]) -> Iterator[list[Any]]:
    """Begin these while the body has locked something; the body ends when all of them wait. Their results follow."""
    results: list[Any] = []
    threads = [threading.Thread(target=lambda f=function: results.append(_result(f))) for function in functions]
    for thread in threads:
        thread.start()
    wait_until(lambda: blocked(farm) >= len(functions), told=lambda: f"{results}")
    yield results


def _result(function: Callable[[], object]) -> Any:
    try:
        return function()
    except Exception as error:
        return error


def wait_for(results: list[Any], count: int = 1) -> list[Any]:
    wait_until(lambda: len(results) >= count)
    return results


def transacted(farm: Farm, function: Callable[..., Any], *arguments: Any, **more: Any) -> Callable[[], Any]:
    """A transaction that has not begun yet."""

    def run() -> Any:
        with farm.transaction() as connection:
            return function(connection, *arguments, **more)

    return run


def state(farm: Farm, build_id: int) -> BuildState:
    with farm.reading() as connection:
        return builds.state(connection, build_id)


# Several writers


def test_claims_at_once(farm: Farm) -> None:
    """Of several builders that claim a build at the same moment, one gets it; each time."""
    make_series(farm)
    ids = [make_builder(farm, f"b{number}", f"http://b{number}/") for number in range(4)]
    for round_ in range(10):
        build_id = make_build(farm, f"source{round_}")
        claims = [transacted(farm, builds.claim, build_id, builder_id, NOW) for builder_id in ids]
        results = at_once(*claims)
        assert sorted(map(str, results)) == ["False", "False", "False", "True"], results
        with farm.transaction() as connection:
            builds.record(connection, build_id, Event.PACKAGE_FAILED, NOW)


def test_a_claim_waits_for_a_cancellation(farm: Farm) -> None:
    """A build that is cancelled in a transaction that has not ended is not claimed after it."""
    make_series(farm)
    build_id, builder_id = make_build(farm), make_builder(farm)
    with farm.transaction() as connection:
        assert builds.cancel(connection, build_id, NOW) is BuildState.CANCELLED
        with meanwhile(farm, transacted(farm, builds.claim, build_id, builder_id, NOW)) as results:
            pass
    assert wait_for(results) == [False]


def test_a_cancellation_waits_for_a_claim(farm: Farm) -> None:
    """A build that is claimed in a transaction that has not ended is cancelled as one that a builder has."""
    make_series(farm)
    build_id, builder_id = make_build(farm), make_builder(farm)
    with farm.transaction() as connection:
        assert builds.claim(connection, build_id, builder_id, NOW)
        with meanwhile(farm, transacted(farm, builds.cancel, build_id, NOW)) as results:
            pass
    assert wait_for(results) == [BuildState.CANCELLING]
    with farm.reading() as connection:
        row = connection.execute(select(build_queue.c.cancelled_at, build_queue.c.builder_id)).one()
    assert tuple(row) == (NOW, builder_id)


def test_two_ends_of_one_build(farm: Farm) -> None:
    """Of two events that end a build at the same time the second finds it ended."""
    make_series(farm)
    build_id, builder_id = make_build(farm), make_builder(farm)
    transacted(farm, builds.claim, build_id, builder_id, NOW)()
    failed = transacted(farm, builds.record, build_id, Event.PACKAGE_FAILED, NOW)
    results = at_once(failed, failed)
    assert {type(each) for each in results} == {BuildState, ImpossibleTransition}, results
    assert state(farm, build_id) is BuildState.FAILED


def test_retried_twice_at_once(farm: Farm) -> None:
    """A build that two people retry at the same time is in the queue once."""
    make_series(farm)
    build_id = make_build(farm)
    transacted(farm, builds.cancel, build_id, NOW)()
    results = at_once(*[transacted(farm, builds.retry, build_id, NOW) for _ in range(3)])
    assert sum(each is BuildState.NEEDS_BUILD for each in results) == 1, results
    with farm.reading() as connection:
        assert connection.execute(select(func.count()).select_from(build_queue)).scalar() == 1


def test_a_reset_that_is_over_while_it_is_recorded(farm: Farm) -> None:
    """Who says that a reset is over when it is just being recorded that it goes on is heard."""
    builder_id = make_builder(farm, cleanliness=Cleanliness.DIRTY)
    with farm.transaction() as connection:
        builders.begin_reset(connection, builder_id, NOW)
    with farm.transaction() as connection:
        builders.was_reset(connection, builder_id, Cleanliness.CLEANING, NOW)
        with meanwhile(farm, transacted(farm, builders.say_cleaned, "x86")) as results:
            pass
    assert wait_for(results) == [None]
    with farm.reading() as connection:
        assert builders.find(connection, "x86").cleanliness is Cleanliness.CLEAN


def test_failures_are_all_counted(farm: Farm) -> None:
    """Failures that are counted at the same time are all counted."""
    builder_id = make_builder(farm)
    at_once(*[transacted(farm, builders.count_failure, builder_id) for _ in range(5)])
    with farm.reading() as connection:
        assert builders.find(connection, "x86").failures == 5


def test_a_chroot_while_a_build_comes(farm: Farm) -> None:
    """A build that found no chroot is released by one that is set before the build is committed; and the other way
    round, a build that comes before the chroot is committed finds it."""
    place = make_series(farm, chroot=None)
    stored = farm.store.add([b"chroot"])
    put = transacted(farm, distributions.set_chroot, place, stored, "chroot.tar", NOW)
    source_id = _source(farm)
    with farm.transaction() as connection:
        build_id = builds.add(connection, source_id, place, NOW)
        assert builds.state(connection, build_id) is BuildState.CHROOT_WAIT
        with meanwhile(farm, put) as results:
            pass
    assert wait_for(results) == [1]
    assert state(farm, build_id) is BuildState.NEEDS_BUILD


def test_a_build_while_a_chroot_comes(farm: Farm) -> None:
    """A build that comes before a new chroot is committed finds it."""
    place = make_series(farm, chroot=None)
    stored, source_id = farm.store.add([b"chroot"]), _source(farm)
    with farm.transaction() as connection:
        distributions.set_chroot(connection, place, stored, "chroot.tar", NOW)
        with meanwhile(farm, transacted(farm, builds.add, source_id, place, NOW)) as results:
            pass
    assert state(farm, wait_for(results)[0]) is BuildState.NEEDS_BUILD


def _source(farm: Farm) -> int:
    """A source without builds."""
    with farm.transaction() as connection:
        return _add_source(connection)


def _add_source(connection: Connection) -> int:
    archive_id = distributions.find_archive(connection, "debian")
    series_id = distributions.find_series(connection, "debian", "bookworm")
    values = {"archive_id": archive_id, "series_id": series_id, "name": "hello", "version": "1", "dsc": "hello.dsc"}
    row = source.insert().values(**values, architectures="any", created_at=NOW).returning(source.c.id)
    return int(connection.execute(row).scalar_one())


def test_versions_at_once(farm: Farm) -> None:
    """A newer version that is submitted while an older one is being recorded takes its place."""
    place = make_series(farm)
    with farm.transaction() as connection:
        distributions.hold_archive(connection, distributions.find_archive(connection, "debian"))
        build_id = builds.add(connection, _add_source(connection), place, NOW)
        with meanwhile(farm, lambda: make_build(farm, "hello", "1.1")) as results:
            pass
    assert isinstance(wait_for(results)[0], int), results
    assert state(farm, build_id) is BuildState.SUPERSEDED


@pytest.mark.parametrize("other", ["another master", "a person"])
def test_no_chroot_and_somebody_was_quicker(farm: Farm, other: str) -> None:
    """A build whose chroot has gone, and that is taken out of the queue at the same moment by another master, or
    cancelled, is no error of the builder that was to have it."""
    place = make_series(farm)
    build_id = make_build(farm)
    make_builder(farm)
    with farm.transaction() as connection:
        connection.execute(update(series_architecture).values(chroot_file_id=None))
        vitals = builders.find(connection, "x86")
    act, left = (
        (lambda connection: builds.wait_for_chroot(connection, build_id, NOW), BuildState.CHROOT_WAIT)
        if other == "another master"
        else (lambda connection: builds.cancel(connection, build_id, NOW), BuildState.CANCELLED)
    )
    with farm.transaction() as connection:
        chroots.hold(connection, place)
        act(connection)
        with meanwhile(farm, transacted(farm, dispatch.take, vitals.id, vitals.cleanliness, "", NOW)) as results:
            pass
    assert wait_for(results) == [None]
    assert state(farm, build_id) is left


def test_cancelled_when_it_has_just_ended_well(farm: Farm) -> None:
    """A build that is cancelled at the moment when it is to be gathered has not ended by that: its log is to come."""
    make_series(farm)
    build_id, builder_id = make_build(farm), make_builder(farm)
    with farm.transaction() as connection:
        assert builds.claim(connection, build_id, builder_id, NOW)
    with farm.transaction() as connection:
        builds.cancel(connection, build_id, NOW)
        with meanwhile(farm, transacted(farm, gathering._begin, build_id, NOW)) as results:
            pass
    assert wait_for(results) == [None]
    assert state(farm, build_id) is BuildState.CANCELLING


def test_a_new_version_while_a_chroot_comes(farm: Farm) -> None:
    """A version that takes the place of one that waits for a chroot, and the chroot, do not wait for each other."""
    place = make_series(farm, chroot=None)
    old = make_build(farm)
    stored = farm.store.add([b"chroot"])
    with farm.transaction() as connection:
        chroots.put(connection, place, stored, "chroot.tar", NOW, pocket=Pocket.RELEASE)
        with meanwhile(farm, lambda: make_build(farm, "hello", "1.1")) as results:
            pass
        assert builds.release_chroot_waits(connection, place, NOW, list(Pocket)) == 1
    new = wait_for(results)[0]
    assert isinstance(new, int), results
    assert (state(farm, old), state(farm, new)) == (BuildState.SUPERSEDED, BuildState.NEEDS_BUILD)


def test_superseded_while_it_is_looked_at(farm: Farm) -> None:
    """Who ends a build, and who has found its build-dependencies, do not wait for each other."""
    make_series(farm)
    build_id = make_build(farm)
    with farm.transaction() as connection:
        builds.hold(connection, [build_id])
        with meanwhile(farm, transacted(farm, depwaits.settle, {build_id: None}, "state", NOW)) as results:
            pass
        builds.record(connection, build_id, Event.SUPERSEDE, NOW)
    assert wait_for(results) == [{}]
    assert state(farm, build_id) is BuildState.SUPERSEDED


@pytest.mark.parametrize("by", ["archive", "source"])
@pytest.mark.parametrize("back", ["retried", "requeued", "submitted"])
def test_a_build_while_its_needs_change(farm: Farm, by: str, back: str) -> None:
    """What goes into the queue, or back, while what it needs is changed, needs what is said then."""
    make_series(farm)
    build_id, builder_id = make_build(farm), make_builder(farm)
    with farm.reading() as connection:
        archive_id = distributions.find_archive(connection, "debian")
    come: Callable[[], Any] = lambda: make_build(farm, version="1.1")  # noqa: E731
    if back == "retried":
        transacted(farm, builds.cancel, build_id, NOW)()
        come = transacted(farm, builds.retry, build_id, NOW)
    elif back == "requeued":
        transacted(farm, builds.claim, build_id, builder_id, NOW)()
        come = transacted(farm, builds.record, build_id, Event.REQUEUED, NOW)
    with farm.transaction() as connection:
        if by == "archive":
            archives.change(connection, archive_id, Changes(tags="large"), NOW)
        else:
            needs.set_of_source(connection, archive_id, "hello", "large", NOW)
        with meanwhile(farm, come) as results:
            pass
    assert not isinstance(wait_for(results)[0], Exception), results
    with farm.reading() as connection:
        waits = select(build_queue.c.tags).where(build_queue.c.builder_id.is_(None))
        assert connection.execute(waits).scalars().all() == ["large"]


def test_a_deadlock_with_a_command(farm: Farm) -> None:
    """Of a command and a master that wait for each other, the server ends one; if it is the command, that is done all
    the same, from its start."""
    make_series(farm)
    one, two = make_build(farm), make_build(farm, "other")
    holds = {one: threading.Event(), two: threading.Event()}
    began: list[str] = []

    def take_both(connection: Connection, first: int, second: int, patience: str) -> str:
        began.append(patience)
        connection.exec_driver_sql(f"SET LOCAL deadlock_timeout = '{patience}'")
        builds.hold(connection, [first])
        holds[first].set()
        assert holds[second].wait(20)
        builds.set_score(connection, second, len(patience))
        return patience

    results = at_once(lambda: farm.write(take_both, one, two, "50ms"), transacted(farm, take_both, two, one, "60s"))
    assert results == ["50ms", "60s"]
    assert sorted(began) == ["50ms", "50ms", "60s"]


def test_made_at_once(farm: Farm) -> None:
    """What several commands add at the same time is there once, and none of them fails; a builder is refused."""
    ensure = transacted(farm, distributions.ensure, "debian", "trixie", "arm64")
    assert len(set(at_once(ensure, ensure, ensure, ensure))) == 1
    with farm.reading() as connection:
        assert connection.execute(select(func.count()).select_from(archive)).scalar() == 1
    add = transacted(farm, builders.add, "x86", "http://x86:8221/", "amd64", NOW)
    results = at_once(add, add, add)
    assert sorted(type(each).__name__ for each in results) == ["BuilderRefused", "BuilderRefused", "int"], results
    make_series(farm)
    told = Forecast(Span(0.0, 1.0), Span(2.0, 3.0))
    keep = transacted(farm, forecasting.keep, make_build(farm), told, NOW)
    assert at_once(keep, keep, keep) == [None] * 3
    keep = transacted(farm, depwaits.keep_system, Sha256("0" * 64), b"system", Sources())
    assert at_once(keep, keep, keep) == [None] * 3
    add = transacted(farm, archives.add, "debian", "ppa", ArchivePurpose.PPA)
    results = at_once(add, add, add)
    assert sorted(type(each).__name__ for each in results) == ["ArchiveRefused", "ArchiveRefused", "int"], results


def test_a_hanging_transaction_is_ended(farm: Farm) -> None:
    """A transaction that stands still does not keep a lock for ever, and what it did is taken back."""
    make_series(farm)
    build_id = make_build(farm)
    with pytest.raises(DatabaseLost), farm.transaction() as connection:
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '100ms'")
        builds.cancel(connection, build_id, NOW)
        time.sleep(0.5)
        builds.state(connection, build_id)
    assert state(farm, build_id) is BuildState.NEEDS_BUILD


def test_settings_of_a_session(farm: Farm) -> None:
    """No statement, lock or transaction is waited for without an end; who reads cannot write."""
    with farm.transaction() as connection:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert connection.exec_driver_sql(f"SHOW {name}").scalar() not in ("0", None)
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
    with farm.reading() as connection, pytest.raises(sqlalchemy.exc.DBAPIError, match="read-only"):
        connection.execute(distribution.insert().values(name="debian"))


# From here on, who has set test.waits looks at no master before it has had the lock.
_LOOKS_WAIT = """
ALTER TABLE master RENAME TO all_masters;
CREATE FUNCTION may_look() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('test.waits', true) = 'yes' THEN
        PERFORM pg_advisory_xact_lock(1);
    END IF;
    RETURN true;
END $$;
CREATE VIEW master AS SELECT * FROM all_masters WHERE may_look();
"""


def test_a_builder_that_another_takes_meanwhile(farm: Farm) -> None:
    """Of two masters that take the builder of a dead one, the second leaves it to the first; even if that one has
    joined, and taken it, since the second one's query began."""
    builder_id = make_builder(farm)
    with farm.transaction() as connection:
        dead, late = (masters.join(connection, name, 5.0) for name in ("dead:1", "late:2"))
        masters.take(connection, dead, 1)
        masters.leave(connection, dead)
        connection.execute(update(builder).values(master_id=dead))
        connection.exec_driver_sql(_LOOKS_WAIT)

    def take_late(connection: Connection) -> list[Taken]:
        connection.exec_driver_sql("SET LOCAL test.waits = 'yes'")
        return masters.take(connection, late, 1)

    with farm.transaction() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
        with meanwhile(farm, transacted(farm, take_late)) as results, farm.transaction() as another:
            early = masters.join(another, "early:3", 5.0)
            assert masters.take(another, early, 1) == [Taken(builder_id, inherited=True)]
    assert wait_for(results) == [[]]
    with farm.transaction() as connection:
        masters.confirm(connection, early, builder_id)


# Where it is, and its password


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Places]:
    """Where a farm is whose database asks for the password `s3cret`; nobody has made it yet."""
    name = databases.new_database(empty=True).partition("?")[0].rpartition("/")[2]
    databases.administer(f"CREATE ROLE {name} LOGIN PASSWORD 's3cret'", f"ALTER DATABASE {name} OWNER TO {name}")
    yield Places(tmp_path / "farm", databases.server().tcp_url(name, name), "database-password", tmp_path / "secrets")
    databases.administer(f"DROP DATABASE {name} WITH (FORCE)", f"CREATE DATABASE {name}", f"DROP ROLE {name}")


def write_password(places: Places, password: str, mode: int = 0o600) -> None:
    places.secrets.mkdir(exist_ok=True)
    file = places.secrets / places.database_secret
    file.write_text(password + "\n")
    file.chmod(mode)


def test_the_password_is_a_secret(guarded: Places) -> None:
    """The password comes from a file, which is refused when it is missing or others may read it, and read anew for each
    connection; no error has it in it."""
    with pytest.raises(SecretRefused, match="is not there"):
        Farm.create(guarded)
    write_password(guarded, "s3cret", 0o644)
    with pytest.raises(SecretRefused, match="others may read"):
        Farm.create(guarded)
    write_password(guarded, "wr0ng")
    with pytest.raises(DatabaseLost, match="password authentication failed") as caught:
        Farm.create(guarded)
    assert "wr0ng" not in f"{caught.value!r} {caught.value.__cause__!r}"
    write_password(guarded, "s3cret")
    farm = Farm.create(guarded)
    assert "s3cret" not in repr(vars(farm)) + repr(vars(farm.database)) + repr(farm.database.engine)
    farm.close()


def test_no_farm_there(tmp_path: Path) -> None:
    """A database in which nobody has made a farm is none, and is left as it is."""
    places = Places(tmp_path / "farm", databases.new_database(empty=True))
    with pytest.raises(NoFarm, match=r"there is no farm in the database postgresql://.* with the same configuration"):
        Farm.open(places)
    with pytest.raises(NoFarm):
        Farm.open(places)
    assert not places.directory.exists()
    Farm.create(places).close()
    Farm.open(places).close()


def test_another_machine(farm: Farm, tmp_path: Path) -> None:
    """A second master has a directory of its own, which is made when it is not there."""
    places = Places(tmp_path / "second", farm.places.database_url)
    second = Farm.open(places)
    assert places.directory.stat().st_mode & 0o777 == 0o700
    second.close()


# A server that goes away


class TestLost(TestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.farm = make_farm(self.directory)
        self.farm.start(reactor)  # type: ignore[arg-type]
        self.addCleanup(self.farm.close)
        self.lines: list[str] = []
        self.farm.database.log = self  # type: ignore[assignment]

    def error(self, text: str, **words: object) -> None:
        """As a logger has it."""
        self.lines.append(text.format(**words))

    info = error

    def end_connections(self) -> None:
        """End all connections to the farm's database, as a restart of the server does."""
        name = str(self.farm.database.url.database)
        databases.administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    async def test_a_connection_that_was_lost(self) -> None:
        """A connection that was lost between two transactions, or in one, is made anew, and nobody notices."""
        await self.farm.transact(distributions.ensure, "debian")
        self.end_connections()
        await self.farm.transact(distributions.ensure, "ubuntu")
        times = []

        def cut(connection: Connection) -> int:
            found = distributions.ensure(connection, "devuan")
            times.append(found)
            if len(times) == 1:
                self.end_connections()
            return distributions.ensure(connection, "devuan")

        await self.farm.transact(cut)
        assert len(times) == 2 and not self.lines
        names = await self.farm.read(lambda connection: connection.execute(select(distribution.c.name)).scalars().all())
        assert sorted(names) == ["debian", "devuan", "ubuntu"]

    async def test_deadlocks(self) -> None:
        """Of transactions that wait for each other one is begun anew: both are done."""
        for name in ("a", "b"):
            await self.farm.transact(distributions.ensure, name)
        both = threading.Barrier(2, timeout=60)
        runs = []

        def lock(connection: Connection, *names: str) -> None:
            first_time = names not in runs
            runs.append(names)
            # Each waits for the other, which takes its time where a processor is rare.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            for place, name in enumerate(names):
                this = select(distribution.c.id).where(distribution.c.name == name)
                connection.execute(this.with_for_update())
                if place == 0 and first_time:
                    both.wait()

        from twisted.internet.defer import Deferred  # noqa: PLC0415

        orders = (("a", "b"), ("b", "a"))
        await gatherResults([Deferred.fromCoroutine(self.farm.transact(lock, *each)) for each in orders])
        assert len(runs) >= 3

    async def test_a_transaction_that_stood_still(self) -> None:
        """Who was stopped in the middle of a transaction, which the server ended then, does all of it again."""
        runs = []

        def hang(connection: Connection) -> None:
            runs.append(distributions.ensure(connection, "debian"))
            if len(runs) == 1:
                connection.exec_driver_sql("SET idle_in_transaction_session_timeout = '50ms'")
                time.sleep(0.5)
                distributions.ensure(connection, "ubuntu")

        await self.farm.transact(hang)
        assert len(runs) == 2

    async def test_a_commit_that_nobody_knows_of(self) -> None:
        """A connection that is lost while it commits is told of, and the transaction not done again."""
        runs = []

        def cut(connection: Connection) -> None:
            runs.append(1)
            distributions.ensure(connection, "debian")
            driver: Any = connection.connection.dbapi_connection
            commit = driver.commit

            def lost() -> None:
                self.end_connections()
                commit()

            driver.commit = lost

        with pytest.raises(CommitUncertain):
            await self.farm.transact(cut)
        assert len(runs) == 1

    async def test_a_server_that_is_away(self) -> None:
        """While the server is away each attempt fails, which is told of once; when it is there again, that is told,
        and all goes on; commits by others are seen as before."""
        commits = self.farm.commits(poll_s=0.1)
        self.addCleanup(commits.close)
        server = databases.server()
        server.stop()
        try:
            for _ in range(2):
                with pytest.raises(DatabaseLost):
                    await self.farm.read(lambda _: None)
        finally:
            server.start()
        await self.farm.read(lambda _: None)
        assert [each.partition(":")[0] for each in self.lines] == [
            "the farm's database cannot be reached",
            "the farm's database can be reached again",
        ]
        other = open_farm(self.farm.directory)
        self.addCleanup(other.close)
        await deferToThread(self.until, commits, True)
        await deferToThread(self.until, commits, False)
        await deferToThread(transacted(other, distributions.ensure, "debian"))
        await deferToThread(self.until, commits, True)

    def until(self, commits: Any, seen: bool) -> None:
        """Wait until commits can be looked for, and are seen or not."""
        from buildmaster.commits import CannotSee  # noqa: PLC0415

        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if commits.seen() is seen:
                    return
            except CannotSee:
                pass
            time.sleep(0.05)
        raise AssertionError(f"never {seen}")


class TestToldOf(TestCase):
    """Commits by others."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.farm = make_farm(self.directory)
        self.farm.start(reactor)  # type: ignore[arg-type]
        self.other = open_farm(self.farm.directory)
        for each in (self.other, self.farm):
            self.addCleanup(each.close)

    async def told_after(self, act: Callable[[], object], poll_s: float = 30.0, within_s: float = 1.0) -> bool:
        """Whether the master is told of something, in so short a time that it did not look for it."""
        told: list[float] = []
        commits = self.farm.commits(lambda: told.append(time.monotonic()), poll_s)
        self.addCleanup(commits.close)
        await deferToThread(time.sleep, 0.3)
        told.clear()
        await deferToThread(act)
        deadline = time.monotonic() + within_s
        while not told and time.monotonic() < deadline:
            await deferToThread(time.sleep, 0.01)
        return bool(told)

    async def test_a_commit_wakes(self) -> None:
        """A commit by another process is told of at once."""
        assert await self.told_after(transacted(self.other, distributions.ensure, "debian"), within_s=20)

    async def test_nothing_new(self) -> None:
        """A transaction that changed nothing, one that says so itself, and our own are no news."""

        def nothing() -> None:
            with self.other.transaction() as connection:
                connection.execute(select(distribution.c.id)).all()
            with self.other.transaction(told=False) as connection:
                distributions.ensure(connection, "debian")

        assert not await self.told_after(nothing)

    async def test_words_of_others(self) -> None:
        """Anybody with the database may notify: what is no word of ours tells that there is something."""
        for payload in ("somebody a-builder", "9 " + "9" * 5000):

            def notify(payload: str = payload) -> None:
                with self.other.transaction(told=False) as connection:
                    connection.execute(select(func.pg_notify(CHANNEL, payload)))

            assert await self.told_after(notify, within_s=20), payload[:20]

    async def test_a_secret_that_is_refused_for_a_while(self) -> None:
        """Commits are looked for again when the password can be read again."""
        asked = []

        def password() -> str:
            asked.append(1)
            if len(asked) == 2:
                raise SecretRefused(Path("database-password"), "is empty")
            return ""

        engine = make_engine(self.farm.database.url, password)
        self.addCleanup(engine.dispose)
        commits = PostgresqlCommits(engine, "own", lambda: None, 0.1)
        self.addCleanup(commits.close)
        await deferToThread(wait_until, lambda: len(asked) >= 4)
        assert commits.seen()

    async def test_without_notifications(self) -> None:
        """Where notifications do not come through, commits are found by looking."""
        lost = unittest.mock.patch("buildmaster.commits._NOTIFY", text("SELECT :channel, :payload"))
        lost.start()  # What it sends itself, too: at a moment of its own.
        self.addCleanup(lost.stop)
        with unittest.mock.patch("buildmaster.commits.CHANNEL", "another"):
            listening = self.farm.commits(poll_s=0.05)
        self.addCleanup(listening.close)
        await deferToThread(time.sleep, 0.3)
        listening.seen()
        await deferToThread(transacted(self.other, distributions.ensure, "debian"))
        await deferToThread(wait_until, listening.seen)


def test_what_ended_an_idle_transaction_is_a_lost_connection() -> None:
    """Whether its driver has noticed that the server closed the connection, or only heard why."""
    import psycopg.errors  # noqa: PLC0415

    said = psycopg.errors.IdleInTransactionSessionTimeout("terminating connection due to idle-in-transaction timeout")
    assert was_lost(sqlalchemy.exc.InternalError("SELECT 1", {}, said))
    assert not was_lost(sqlalchemy.exc.InternalError("SELECT 1", {}, psycopg.errors.InternalError_("corrupt")))


def test_errors_of_the_url_quote_nothing(tmp_path: Path) -> None:
    """A password in the URL is refused without being told to whoever reads the error."""
    path = tmp_path / "buildmaster.conf"
    for url in ("postgresql://u:hunter2@h/d", "postgresql://u@h/d?password=hunter2", "postgres://u:hunter2@h:x/d"):
        path.write_text(f"[database]\nurl = {url}\npassword_secret = hunter2/\n")
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert "hunter2" not in str(caught.value) and "[database] url" in str(caught.value)
