"""Build-dependencies that want others to be blamed: their scripts are root where they are installed, in real builds."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftests.hostile import HOSTILE, HostileArchive
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import base_chroot

pytestmark = pytest.mark.real

_numbers = itertools.count()


@pytest.fixture
def archive() -> Iterator[HostileArchive]:
    archive = HostileArchive()
    yield archive
    archive.close()


def build_with(
    client: StockClient, archive: HostileArchive, folder: Path, builder: str, postinst: str
) -> tuple[dict[str, Any], str]:
    """Build a harmless package that wants one with this maintainer script."""
    script = f"#!/bin/sh\n: {next(_numbers)}\n{postinst}\n"
    archive.add(HOSTILE, {"DEBIAN/postinst": (script.encode(), 0o755)})
    source = tiny_source(folder, needs=HOSTILE)
    return client.build("hostile", source, base_chroot(), package_builder=builder, archives=[archive.line])


def test_words_of_apts(client: StockClient, archive: HostileArchive, tmp_path: Path) -> None:
    """No archive was silent, no disk is full."""
    words = "E: Failed to fetch http://h/x.deb  503  Service Unavailable\nE: You don't have enough free space in /var."
    postinst = f"cat <<'END'\n{words}\nEND\nexit 1"
    status, log = build_with(client, archive, tmp_path, "direct", postinst)
    assert words in log
    assert (status["build_status"], status["cause"]) == ("BuildStatus.PACKAGEFAIL", "dependency")


@pytest.mark.parametrize("builder", ["sbuild", "direct"])
@pytest.mark.parametrize(
    "damage",
    [
        "mkdir -p /build /.debfarm-build/report; touch /build/reproducible-path",
        "printf '#!/bin/sh\\nexit 1\\n' >/usr/bin/new; chmod 755 /usr/bin/new; (sleep 0.3; mv /usr/bin/new /usr/bin/id;"
        " cp /usr/bin/id /usr/bin/env; rm /bin/sh) & sed -i /buildd/d /etc/passwd; wait",
    ],
    ids=["in the way", "without programs"],
)
def test_a_chroot_in_which_nothing_works(
    client: StockClient, archive: HostileArchive, tmp_path: Path, builder: str, damage: str
) -> None:
    """It was fit before it came."""
    status, log = build_with(client, archive, tmp_path, builder, damage)
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL", log[-3000:]
    assert status["cause"] == "dependency"
