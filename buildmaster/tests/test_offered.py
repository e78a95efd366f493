"""What builds take packages from."""

import base64
import time

import pytest
from sqlalchemy import update

from buildmaster import archives, depwaits, distributions, offered, orders
from buildmaster.apt_sources import Login, Sources
from buildmaster.farm import Farm
from buildmaster.repositories import RepositoryRefused
from buildmaster.scoring import ArchivePurpose, Pocket
from buildmaster.tables import archive, archive_key, suite
from buildmaster.tests.factories import make_build, make_repository, make_series, set_chroot

URL = "http://here:8230"
DEBIAN = "deb http://deb.debian.org/debian bookworm main"


@pytest.fixture
def place(farm: Farm) -> int:
    """An architecture of bookworm, the only series."""
    return make_series(farm)


def publish(
    farm: Farm, archive_id: int, pocket: Pocket = Pocket.RELEASE, components: str = "main", number: int = 1
) -> None:
    """Let an archive have a suite."""
    with farm.transaction() as connection:
        series = distributions.find_series(connection, "debian", "bookworm")
        values = {"archive_id": archive_id, "series_id": series, "pocket": pocket, "generation": number}
        connection.execute(suite.insert().values(components=components, **values))


def add_key(farm: Farm, archive_id: int, text: str) -> str:
    """Give an archive a key. Returns what builders are told of it."""
    with farm.transaction() as connection:
        values = {"archive_id": archive_id, "fingerprint": text, "certificate": text, "created_at": 1, "signs_from": 1}
        connection.execute(archive_key.insert().values(values))
    return base64.b64encode(text.encode()).decode()


def sources(farm: Farm, archive_id: int, pocket: Pocket = Pocket.RELEASE) -> Sources:
    with farm.reading() as connection:
        return offered.sources(connection, archive_id, "bookworm", pocket)


def lines(farm: Farm, archive_id: int, pocket: Pocket = Pocket.RELEASE) -> list[str]:
    """Without what is the same in all of them."""
    return [line.removeprefix(f"deb {URL}/debian/") for line in sources(farm, archive_id, pocket).at(URL)]


def elsewhere(farm: Farm, name: str, apt_lines: str, keys: tuple[bytes, ...] = ()) -> int:
    """An archive that others publish."""
    with farm.transaction() as connection:
        if name != distributions.PRIMARY:
            archives.add(connection, "debian", name, ArchivePurpose.PPA)
        distributions.set_apt_lines(connection, "debian", name, apt_lines)
        distributions.set_trusted_keys(connection, "debian", name, keys)
        return distributions.find_archive(connection, "debian", name)


def test_itself(farm: Farm, place: int) -> None:
    """An archive builds on itself once it was published, with its keys, but for its debug symbols."""
    mine = make_repository(farm, "mine")
    assert sources(farm, mine) == Sources()
    publish(farm, mine, components="main main/debug contrib contrib/debug")
    key = add_key(farm, mine, "mine's key")
    assert lines(farm, mine) == ["mine bookworm main contrib"] and sources(farm, mine).keys == (key,)


def test_a_key_that_was_replaced(farm: Farm, place: int) -> None:
    """Builds trust no key that signs no more: somebody else may have it."""
    mine = make_repository(farm, "mine")
    publish(farm, mine)
    add_key(farm, mine, "old")
    with farm.transaction() as connection:
        connection.execute(update(archive_key).values(signs_until=time.time() - 1))
    key = add_key(farm, mine, "new")
    assert sources(farm, mine).keys == (key,)


@pytest.mark.parametrize(
    ("pocket", "wanted"),
    [
        (Pocket.RELEASE, ["bookworm"]),
        (Pocket.SECURITY, ["bookworm-security", "bookworm"]),
        (Pocket.UPDATES, ["bookworm-updates", "bookworm-security", "bookworm"]),
        (Pocket.PROPOSED, ["bookworm-updates", "bookworm-security", "bookworm"]),  # Which has nothing of its own yet.
    ],
)
def test_pockets(farm: Farm, place: int, pocket: Pocket, wanted: list[str]) -> None:
    """A pocket builds on itself and on those below it; what was never published is not named."""
    mine = make_repository(farm, "mine")
    for each in (Pocket.RELEASE, Pocket.UPDATES, Pocket.SECURITY, Pocket.BACKPORTS):
        publish(farm, mine, each)
    publish(farm, mine, Pocket.PROPOSED, number=0)
    assert lines(farm, mine, pocket) == [f"mine {suite} main" for suite in wanted]


def test_what_it_depends_on(farm: Farm, place: int) -> None:
    """Packages come from the archives that an archive depends on, ours or others', and not from theirs in turn."""
    mine, lender, third = (make_repository(farm, name) for name in ("mine", "lender", "third"))
    for each in (mine, lender, third):
        publish(farm, each)
    far = elsewhere(farm, "far", "deb http://far/ SERIES main", (b"far's",))
    key = add_key(farm, lender, "lender's key")
    with farm.transaction() as connection:
        offered.depend(connection, mine, lender)
        offered.depend(connection, mine, far)
        offered.depend(connection, mine, far)
        offered.depend(connection, lender, third)
    assert lines(farm, mine) == ["mine bookworm main", "lender bookworm main", "deb http://far/ bookworm main"]
    assert sources(farm, mine).keys == (key, base64.b64encode(b"far's").decode())
    with farm.transaction() as connection:
        offered.depend_no_longer(connection, mine, lender)
        assert offered.dependencies(connection, mine) == ["debian/far"]
    assert lines(farm, mine) == ["mine bookworm main", "deb http://far/ bookworm main"]


def test_the_distributions_own(farm: Farm, place: int) -> None:
    """An archive without lines has those of the distribution's primary archive, and its keys."""
    mine = make_repository(farm, "mine")
    publish(farm, mine)
    elsewhere(
        farm, "primary", "deb http://deb.debian.org/debian SERIES main\ndeb http://x SERIES-updates main", (b"d",)
    )
    assert sources(farm, mine).lines == (DEBIAN, "deb http://x bookworm-updates main")
    assert sources(farm, mine).keys == (base64.b64encode(b"d").decode(),)
    with farm.transaction() as connection:
        distributions.set_apt_lines(connection, "debian", "mine", "deb http://own SERIES main")
    assert sources(farm, mine).lines == ("deb http://own bookworm main",) and not sources(farm, mine).keys


def test_a_build(farm: Farm, place: int) -> None:
    """A builder is told of our archives and of the chroot's own lines, once these are known; with a login for what is
    private. The examiner asks by the same."""
    chroot = set_chroot(farm, place)
    mine = make_repository(farm)
    publish(farm, mine)
    with farm.transaction() as connection:
        connection.execute(update(archive).where(archive.c.id == mine).values(private=True))
    build_id = make_build(farm)

    def told() -> list[str]:
        with farm.reading() as connection:
            wire = orders.find(connection, build_id).wire_arguments(URL, Login("build-1", "word"))
        found = wire.get("archives", [])
        assert isinstance(found, list)
        return found

    assert told() == []  # Rather than ours alone.
    with farm.transaction() as connection:
        depwaits.keep_system(connection, chroot.sha256, b"", Sources(lines=(DEBIAN,), keys=("a2V5",)))
    assert told() == ["deb http://build-1:word@here:8230/debian/primary bookworm main", DEBIAN]
    with farm.reading() as connection:
        order = orders.find(connection, build_id)
        asked = depwaits.archives_of(connection, depwaits.Place(mine, place, Pocket.RELEASE)).sources
    assert "word" not in repr(order) and order.arguments.trusted_keys == ("a2V5",)
    assert asked.complete(Sources(lines=(DEBIAN,), keys=("a2V5",))) == order.sources


@pytest.mark.parametrize("name", ["debian/a/b", "upload/mine", "x/y/mine"])
def test_names_that_are_no_paths(farm: Farm, name: str) -> None:
    """What would be served where nobody finds it, or where uploads go, is not published."""
    of, _, own = name.rpartition("/") if name.startswith("x") else name.partition("/")
    make_series(farm, of)
    with pytest.raises(RepositoryRefused, match="without more slashes"):
        make_repository(farm, own, of)
