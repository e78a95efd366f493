"""What tests may rely on: the harness itself."""

import socket
import xmlrpc.client

import pytest

from harness import BuilddSlaveTestSetup, BuilddTestSetup
from tools.daemon import NotAnswering

SEEDS_PORT = 8221


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(not _is_free(SEEDS_PORT), reason="a daemon of this machine's own is at port 8221")
def test_the_seeds_manners() -> None:
    """Under the seed's name the daemon is at port 8221, and any object of the class tears it down."""
    BuilddSlaveTestSetup().setUp()
    try:
        assert xmlrpc.client.ServerProxy("http://localhost:8221/rpc/").echo("a") == ["a"]
    finally:
        BuilddSlaveTestSetup().tearDown()
    assert _is_free(SEEDS_PORT)


def test_a_daemon_that_cannot_start() -> None:
    """A daemon that ends at its start is reported with its log, and nothing of it is left."""
    setup = BuilddTestSetup(settings={"timeout": "soon"})
    with pytest.raises(NotAnswering, match=r"ended with status 2.*\n.*TIMEOUT: 'soon' is not a duration") as caught:
        setup.setUp()
    assert caught.value.child.log.is_relative_to(setup.places.tests)
    assert not caught.value.child.log.parent.exists()
    setup.tearDown()


def test_crash_and_restart() -> None:
    """A daemon that was killed is started again in its directory, at its port."""
    setup = BuilddTestSetup()
    setup.setUp()
    try:
        port = setup.port
        setup.crash()
        assert not setup.process.is_running and _is_free(port)
        setup.restart()
        assert setup.port == port
        assert setup.proxy.info()
    finally:
        setup.tearDown()
