"""What is shown of the masters."""

from pathlib import Path

from buildmaster import masters
from buildmaster.cli.tests.conftest import Cli
from buildmaster.farm import Farm


def test_none(ready: Cli) -> None:
    """Where no master runs, how to start one."""
    assert ready("masters", "--json").json == {"masters": []}
    assert "buildmaster --dir" in ready("masters").err


def test_who_holds_what(ready: Cli, farm: Farm) -> None:
    """Each master with its builders, and each builder with its master."""
    for number in range(3):
        ready("add-builder", f"http://b{number}:8221/", "--offline", "--architecture", "amd64")
    with farm.transaction() as connection:
        east, west = (masters.join(connection, name, 5.0) for name in ("east:4711", "west:90210"))
        masters.take(connection, west, 1)
        masters.take(connection, east, 2)
    one, other = ready("masters", "--json").json["masters"]
    assert (one["name"], one["builders"], one["state"]) == ("east:4711", 2, "runs")
    assert (other["name"], other["builders"]) == ("west:90210", 1)
    assert one["since"].endswith("Z") and one["heard"].endswith("Z")
    held = [each["master"] for each in ready("builders", "--json").json["builders"]]
    assert sorted(held) == ["east:4711", "east:4711", "west:90210"]
    assert "east:4711" in ready("masters").out


def test_one_that_is_silent(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A master that was not heard for longer than its lease is silent, and none that runs; one that is heard does run,
    be it on another machine."""
    with farm.transaction() as connection:
        masters.join(connection, "east:4711", 5.0)
    assert "No master runs" not in ready("submit", dsc).err
    with farm.transaction() as connection:
        connection.exec_driver_sql("UPDATE master SET heard_at = heard_at - 7")
    (one,) = ready("masters", "--json").json["masters"]
    assert one["state"] == "silent"
    assert "No master runs" in ready("queue").err
