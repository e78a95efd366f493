"""Transactions, migrations, and several processes at one database."""

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import alembic.command
import alembic.config
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select

import buildmaster.migrations
from buildmaster import builds, entries, queue
from buildmaster.builders import Cleanliness
from buildmaster.database import Database
from buildmaster.farm import Farm, NoFarm
from buildmaster.tables import build, build_queue, distribution, metadata
from buildmaster.tests.factories import CONFIG, config_of, make_build, make_builder, make_series, write_config
from buildmaster.tests.waiting import wait_until


def add(farm: Farm, name: str) -> None:
    with farm.transaction() as connection:
        connection.execute(distribution.insert().values(name=name))


def names(farm: Farm) -> list[str]:
    with farm.reading() as connection:
        return list(connection.execute(select(distribution.c.name)).scalars())


def test_migrations_lead_to_the_tables(farm: Farm) -> None:
    """The migrations, one after the other, lead to the tables as the code knows them."""
    with farm.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": False})
        assert compare_metadata(context, metadata) == []


def test_an_older_farm_is_brought_up_to_date(farm: Farm) -> None:
    """With the builds that wait in it."""
    make_series(farm)
    build_id = make_build(farm)
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(buildmaster.migrations.__file__).parent))
    with farm.transaction() as connection:
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "0001")
        assert "cause" not in [column["name"] for column in sqlalchemy.inspect(connection).get_columns("build")]
    again = Farm.open(farm.places)
    with again.reading() as connection:
        assert entries.standing(connection, build_id).attempts == 0
        assert queue.breakdowns(connection, build_id) == ()
        assert builds.find(connection, build_id).cause == ""
    again.close()


def test_open_twice(farm: Farm) -> None:
    """Opening a farm again finds what was there."""
    add(farm, "debian")
    again = Farm.open(farm.places)
    assert names(again) == ["debian"]
    again.close()


def test_no_farm(tmp_path: Path) -> None:
    """Where there is no farm, that is said, with what to do; and none is made."""
    with pytest.raises(NoFarm, match=r"buildmaster --dir .* init"):
        Farm.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_only_the_owner_enters(farm: Farm) -> None:
    """A farm holds what private archives hold: nobody else enters its directory."""
    assert farm.directory.stat().st_mode & 0o777 == 0o700


def test_only_the_owner_enters_what_is_made(tmp_path: Path) -> None:
    """So it is from the first moment on, and whatever comes first."""
    write_config(tmp_path / CONFIG, empty=True)
    farm = Farm.create(dataclasses.replace(config_of(tmp_path).places, directory=tmp_path / "new"))
    farm.close()
    assert farm.directory.stat().st_mode & 0o777 == 0o700


def test_many_make_one_farm_at_once(tmp_path: Path) -> None:
    """Several processes that make the same farm at the same time all get it."""
    (tmp_path / "farm").mkdir()
    write_config(tmp_path / "farm" / CONFIG, empty=True)
    code = (
        "import sys; from pathlib import Path; from buildmaster.farm import Farm\n"
        "from buildmaster.tests.factories import config_of\n"
        "Farm.create(config_of(Path(sys.argv[1])).places)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "farm")]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]


def test_an_exception_takes_it_all_back(farm: Farm) -> None:
    """A transaction that ends by an exception has changed nothing."""
    with pytest.raises(RuntimeError), farm.transaction() as connection:
        connection.execute(distribution.insert().values(name="debian"))
        raise RuntimeError
    assert names(farm) == []


def test_foreign_keys(farm: Farm) -> None:
    """A row cannot speak of one that is not there."""
    with pytest.raises(sqlalchemy.exc.IntegrityError), farm.transaction() as connection:
        values = {"build_id": 7, "architecture": "a", "virtualised": False, "score": 0, "queued_at": 0.0}
        connection.execute(build_queue.insert().values(**values))


def test_writers_wait_for_each_other(farm: Farm) -> None:
    """A transaction that reads and then writes sees no other writer in between."""
    add(farm, "0")

    def count() -> None:
        for _ in range(20):
            with farm.transaction() as connection:
                (last,) = connection.execute(select(distribution.c.name).with_for_update()).scalars()
                connection.execute(distribution.update().values(name=str(int(last) + 1)))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(farm) == ["80"]


def test_a_reader_sees_one_moment(farm: Farm) -> None:
    """What is committed while somebody reads is not seen by them, and does not wait for them."""
    with farm.reading() as connection:
        before = list(connection.execute(select(distribution.c.name)).scalars())
        add(farm, "debian")
        assert list(connection.execute(select(distribution.c.name)).scalars()) == before == []
    assert names(farm) == ["debian"]


def test_commits_by_others_are_seen(farm: Farm) -> None:
    """A commit is noticed once, also when it was another process'."""
    commits = farm.commits()
    assert not commits.seen()
    code = (
        "import sys; from pathlib import Path\n"
        "from buildmaster import distributions; from buildmaster.tests.factories import open_farm\n"
        "with open_farm(Path(sys.argv[1])).transaction() as connection: distributions.ensure(connection, 'debian')"
    )
    subprocess.run([sys.executable, "-c", code, str(farm.directory)], check=True)
    wait_until(commits.seen)
    assert not commits.seen()
    commits.close()


CLAIMER = """
import sys, time
from pathlib import Path
from buildmaster import builds
from buildmaster.tables import build_queue
from buildmaster.tests.factories import open_farm
farm, builder, mine = open_farm(Path(sys.argv[1])), int(sys.argv[2]), 0
for build_id in range(1, 61):
    with farm.transaction() as connection:
        if builds.claim(connection, build_id, builder, time.time()):
            mine += 1
            connection.execute(build_queue.update().values(builder_id=None))  # It may have the next.
print(mine)
"""


def test_three_processes_claim_each_build_once(farm: Farm) -> None:
    """Three processes that claim 60 builds at the same time record 60 claims."""
    make_series(farm)
    for number in range(60):
        make_build(farm, f"source{number}")
    ids = [make_builder(farm, name, f"http://{name}/", cleanliness=Cleanliness.CLEAN) for name in "abc"]
    command = [sys.executable, "-c", CLAIMER, str(farm.directory)]
    running = [subprocess.Popen([*command, str(each)], stdout=subprocess.PIPE) for each in ids]
    claims = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(claims) == 60
    with farm.reading() as connection:
        claimed = select(func.count()).select_from(build).where(build.c.state == "building")
        assert connection.execute(claimed).scalar() == 60


def test_the_thread_must_run() -> None:
    """Awaiting the database before it was started is a mistake that is told."""
    database = Database(sqlalchemy.make_url("sqlite://"))
    waiting = database.read(lambda connection: None)
    with pytest.raises(RuntimeError, match="start"):
        waiting.send(None)
