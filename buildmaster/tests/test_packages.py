"""Source packages: accepted whole, or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from buildmaster import packages
from buildmaster.distributions import NoSuchSeries
from buildmaster.farm import Farm
from buildmaster.packages import Accepted, SourceRefused
from buildmaster.tables import build, series_architecture, source, source_file
from buildmaster.tests.factories import make_series, write_source


@pytest.fixture
def place(farm: Farm) -> Farm:
    """A farm with two architectures of bookworm."""
    make_series(farm)
    make_series(farm, architecture="i386")
    return farm


def accept(farm: Farm, dsc: Path, **more: object) -> Accepted:
    return packages.accept(farm, dsc, 5.0, distribution="debian", series_name="bookworm", **more)  # type: ignore[arg-type]


def rows(farm: Farm, table: object) -> int:
    with farm.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def builds_of(farm: Farm) -> list[tuple[str, bool]]:
    joined = build.join(series_architecture, series_architecture.c.id == build.c.series_architecture_id)
    query = select(series_architecture.c.architecture, build.c.arch_indep).select_from(joined).order_by(build.c.id)
    with farm.reading() as connection:
        return [(row.architecture, row.arch_indep) for row in connection.execute(query)]


def test_a_source_with_its_builds(place: Farm, tmp_path: Path) -> None:
    """An accepted source has its files in the store, and one build for each architecture."""
    accepted = accept(place, write_source(tmp_path, "hello", "1:2.0"))
    assert (accepted.name, accepted.version, len(accepted.build_ids)) == ("hello", "1:2.0", 2)
    assert rows(place, source_file) == 2
    assert builds_of(place) == [("amd64", False), ("i386", False)]


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [
        ("any all", [("amd64", True), ("i386", False)]),
        ("all", [("amd64", True)]),
        ("i386 s390x", [("i386", False)]),
    ],
)
def test_arch_all_is_built_once(
    place: Farm, tmp_path: Path, architectures: str, expected: list[tuple[str, bool]]
) -> None:
    """arch:all packages are built on the nominated architecture, and there only."""
    accept(place, write_source(tmp_path, architectures=architectures))
    assert builds_of(place) == expected


def test_some_architectures_only(place: Farm, tmp_path: Path) -> None:
    """A source can be built on some of its architectures only."""
    accept(place, write_source(tmp_path), only=frozenset({"i386"}))
    assert builds_of(place) == [("i386", False)]


def test_nothing_here_can_build_it(place: Farm, tmp_path: Path) -> None:
    """A source that no architecture here can build is refused, with both lists, and not recorded."""
    with pytest.raises(SourceRefused, match=r"s390x.*amd64 i386"):
        accept(place, write_source(tmp_path, architectures="s390x"))
    assert rows(place, source) == 0


def test_the_same_again(place: Farm, tmp_path: Path) -> None:
    """The very same source is refused, unless a rebuild is asked for, which makes new builds."""
    dsc = write_source(tmp_path)
    first = accept(place, dsc)
    with pytest.raises(SourceRefused, match="rebuild"):
        accept(place, dsc)
    again = accept(place, dsc, rebuild=True)
    assert again.source_id == first.source_id and not set(again.build_ids) & set(first.build_ids)
    assert rows(place, source) == 1 and rows(place, build) == 4


def test_another_source_of_the_same_version(place: Farm, tmp_path: Path) -> None:
    """Another source of the same name and version is refused, also as a rebuild."""
    dsc = write_source(tmp_path)
    accept(place, dsc)
    dsc.write_text(dsc.read_text() + "Homepage: https://example.org/\n")
    with pytest.raises(SourceRefused, match="new version"):
        accept(place, dsc, rebuild=True)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (b"", "bytes"),
        (b"not really the source of hello 1.1\n", "digests"),
        (b"x" * 100_000, "bytes"),
        (None, "is not there"),
    ],
)
def test_a_file_that_is_not_as_promised(place: Farm, tmp_path: Path, damage: bytes | None, told: str) -> None:
    """A file that is missing, or other than the .dsc promises, is named; nothing is recorded."""
    dsc = write_source(tmp_path)
    tar = tmp_path / "hello_1.0.tar.xz"
    tar.unlink()
    if damage is not None:
        tar.write_bytes(damage)
    with pytest.raises(SourceRefused, match=told) as refused:
        accept(place, dsc)
    assert "hello_1.0.tar.xz" in str(refused.value)
    assert rows(place, source) == rows(place, build) == rows(place, source_file) == 0


def test_what_is_no_dsc(place: Farm, tmp_path: Path) -> None:
    """What is no .dsc is refused by its name."""
    path = tmp_path / "hello.dsc"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceRefused, match=r"hello\.dsc"):
        accept(place, path)


def test_no_such_series(farm: Farm, tmp_path: Path) -> None:
    """A series that is not there is named, with those that are, before any file is stored."""
    make_series(farm, series="trixie")
    with pytest.raises(NoSuchSeries, match=r"bookworm.*trixie"):
        accept(farm, write_source(tmp_path))
    with pytest.raises(NoSuchSeries, match="add one"):
        packages.accept(farm, tmp_path / "x.dsc", 5.0, distribution="ubuntu", series_name="hoary")


def test_a_fifo_as_a_file(place: Farm, tmp_path: Path) -> None:
    """A file that is no regular file does not hang us."""
    dsc = write_source(tmp_path)
    (tmp_path / "hello_1.0.tar.xz").unlink()
    os.mkfifo(tmp_path / "hello_1.0.tar.xz")
    with pytest.raises(SourceRefused, match=r"hello_1\.0\.tar\.xz is not a regular file"):
        accept(place, dsc)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_a_dsc_that_is_no_regular_file(place: Farm, tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A .dsc that is no regular file does not hang us either."""
    make(tmp_path / "hello_1.0.dsc")
    with pytest.raises(SourceRefused, match=r"hello_1\.0\.dsc is not a regular file"):
        accept(place, tmp_path / "hello_1.0.dsc")


def test_no_architecture_for_all(place: Farm, tmp_path: Path) -> None:
    """A source whose arch:all packages would be built nowhere is refused, unless a person chooses what is built."""
    dsc = write_source(tmp_path, architectures="any all")
    dsc.write_text(dsc.read_text() + "Build-Indep-Architecture: s390x\n")
    with pytest.raises(SourceRefused, match="all architectures built on s390x"):
        accept(place, dsc)
    accept(place, dsc, only=frozenset({"amd64"}))
