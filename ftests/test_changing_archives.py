"""A daemon that keeps what it has made of archives, which change: what apt would install now is installed."""

import base64
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from buildd.tests.small_archive import SmallArchive
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup, FileServer, base_chroot
from tools.machines_apt import find_mirror

pytestmark = pytest.mark.real

IN_RELEASE = "dists/stable/InRelease"
AS_IT_WAS = "The archives are as they were"


@dataclass
class Farm:
    """A daemon, an archive with a tool, and a package that says which version of it there is."""

    client: StockClient
    archive: SmallArchive
    source: Path
    builds: int = 0

    def publish(self, version: str, modified: float) -> None:
        """Have this version of the tool, and no other."""
        for old in (self.archive.folder / "files/pool").glob("tool_*"):
            old.unlink()
        self.archive.add("tool", version)
        self.archive.publish(modified=modified)

    def build(self) -> tuple[dict[str, Any], str]:
        """The status of a build, and its log."""
        signed_by = re.search("signed-by=(.*)]", self.archive.line)
        assert signed_by is not None
        self.builds += 1
        if self.builds > 1:
            self.client.proxy.clean()
        return self.client.build(
            f"b-{self.builds}",
            self.source,
            base_chroot(),
            archives=[f"deb {find_mirror('bookworm').url} bookworm main", f"deb {self.archive.url} stable main"],
            trusted_keys=[base64.b64encode(Path(signed_by[1]).read_bytes()).decode()],
            package_builder="direct",
        )

    def good_build(self) -> str:
        """The log of a build that went well."""
        status, log = self.build()
        assert status["build_status"] == "BuildStatus.OK", log[-3000:]
        return log


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """In which nothing was built yet."""
    buildd, files, archive = BuilddTestSetup(), FileServer(), SmallArchive()
    buildd.setUp()
    try:
        source = tiny_source(tmp_path, needs="tool", build="dpkg-query -W -f '<$${Version}>\\n' tool")
        yield Farm(StockClient(buildd.url, files), archive, source)
    finally:
        buildd.tearDown()
        files.close()
        archive.close()


def test_what_apt_would_install_now_is_installed(farm: Farm) -> None:
    """Whatever an archive does, and whether it says so or not; and where it did nothing, apt is not called."""
    long_ago, now = time.time() - 10_000, time.time()
    farm.publish("1.0", long_ago)
    assert "<1.0>" in farm.good_build()
    log = farm.good_build()
    assert "<1.0>" in log
    assert AS_IT_WAS in log
    assert "apt-get" not in log

    farm.publish("2.0", now)
    assert "<2.0>" in farm.good_build()
    assert AS_IT_WAS in farm.good_build()

    farm.publish("3.0", now)  # In the same second, as far as the archive tells.
    log = farm.good_build()
    assert AS_IT_WAS not in log
    assert "<3.0>" in log

    farm.publish("1.5", now)  # It goes back.
    assert "<1.5>" in farm.good_build()

    # It gets another name, and does not say by itself that it has changed.
    farm.archive.locations[IN_RELEASE] = f"{farm.archive.url}{IN_RELEASE}?moved"
    farm.publish("4.0", long_ago)
    assert "<4.0>" in farm.good_build()
    farm.archive.origin = "Elsewhere"
    farm.publish("5.0", long_ago + 1000)
    assert "<5.0>" in farm.good_build()


def test_a_package_that_is_listed_and_not_there(farm: Farm) -> None:
    """The archive is in mid-change, which is nobody's fault; when it has it, it is built."""
    farm.publish("1.0", time.time())
    package = farm.archive.folder / "files/pool/tool_1.0_all.deb"
    package.rename(package.with_suffix(".late"))
    status, log = farm.build()
    assert (status["build_status"], status["cause"]) == ("BuildStatus.GIVENBACK", "archive"), log[-2000:]
    package.with_suffix(".late").rename(package)
    assert "<1.0>" in farm.good_build()
