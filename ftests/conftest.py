"""What real builds are tested with: a daemon for each module of tests, and a client of it for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ftests.stock_client import StockClient
from harness import BuilddTestSetup, FileServer, base_chroot


@pytest.fixture(scope="module")
def chroot() -> Path:
    """The tarball of a chroot."""
    return base_chroot()


@pytest.fixture(scope="module")
def setup() -> Iterator[BuilddTestSetup]:
    """A daemon."""
    buildd = BuilddTestSetup()
    buildd.setUp()
    yield buildd
    buildd.tearDown()


@pytest.fixture
def client(setup: BuilddTestSetup) -> Iterator[StockClient]:
    """A client of an idle daemon, which is idle again afterwards."""
    files = FileServer()
    client = StockClient(setup.url, files)
    yield client
    if client.proxy.status()["builder_status"] == "BuilderStatus.WAITING":
        client.proxy.clean()
    files.close()
