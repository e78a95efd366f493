"""What archive depends and archive access do."""

import re

from buildmaster.cli.tests.conftest import Cli
from buildmaster.farm import Farm
from buildmaster.tests.factories import make_repository


def test_depends(ready: Cli) -> None:
    """An archive's builds take packages from others, until they do not; it is no news when they did already."""
    for name in ("mine", "toolchain", "other"):
        ready("add-archive", name)
    assert ready("archive", "depends", "mine").out == "archive debian/mine: builds use no others\n"
    said = ready("archive", "depends", "mine", "--on", "toolchain", "--on", "debian/other").out
    assert said == "archive debian/mine: builds use debian/toolchain, debian/other\n"
    assert ready("archive", "depends", "mine", "--on", "toolchain").out == said
    found = ready("archive", "depends", "mine", "--not-on", "toolchain", "--json").json
    assert found == {"archive": "debian/mine", "depends_on": ["debian/other"]}
    assert "own packages anyway" in ready("archive", "depends", "mine", "--on", "mine", status=1).err
    assert "no archive 'none'" in ready("archive", "depends", "mine", "--on", "none", status=1).err


def test_access(ready: Cli, farm: Farm) -> None:
    """A token is told once; whose it is is listed, and it can be taken back."""
    make_repository(farm, "mine")
    said = ready("archive", "access", "add", "mine", "ada")
    token = said.out.splitlines()[0].rpartition(" ")[2]
    assert f"machine http://127.0.0.1:8230/debian/mine login ada password {token}" in said.out
    assert "--private" in said.err + said.out
    assert "already" in ready("archive", "access", "add", "mine", "ada", status=1).err
    (user,) = ready("archive", "access", "list", "mine", "--json").json["users"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", user["created_at"])
    assert user["name"] == "ada" and token not in ready("archive", "access", "list", "mine").out
    found = ready("archive", "access", "add", "mine", "bob", "--json").json
    assert found["url"] == f"http://bob:{found['token']}@127.0.0.1:8230/debian/mine"
    assert ready("archive", "access", "remove", "mine", "ada").out == "ada may read debian/mine no longer\n"
    assert "no user 'ada'" in ready("archive", "access", "remove", "mine", "ada", status=1).err


def test_what_is_not_published(ready: Cli) -> None:
    """Nobody reads what the farm does not publish."""
    assert "archive create" in ready("archive", "access", "add", "primary", "ada", status=1).err
