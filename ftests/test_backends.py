"""The interface of isolation, on every backend that this machine can do; and whole builds. See backend_trial.py."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from buildd.config import IsolationName
from buildd.isolation.choose import KINDS
from ftests.backend_trial import ATTEMPTS, ATTEMPTS_BESIDE, sleeping
from ftests.leftovers import Leftovers
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from ftests.trial import Trial, trial
from harness import BuilddTestSetup, FileServer, base_chroot
from tools.account import ROOT, Account, build_account, this_account
from tools.places import Places, default_root

pytestmark = pytest.mark.real

GONE_S = 2.0
BEGUN_S = 20.0
KILLED_MARK = "87654"  # Seconds that a process sleeps in the test that kills.


@dataclass(frozen=True)
class Backend:
    """A backend that works here, and where it is tried."""

    name: IsolationName
    trial: Trial
    directory: Path  # The daemon's.

    def argv(self, *seconds: str) -> list[str | Path]:
        """Of backend_trial.py."""
        return [self.trial.program("backend_trial.py"), self.name, self.directory, base_chroot(), *seconds]


def account_of(name: IsolationName) -> Account:
    """Who runs a daemon with this backend; or the test is skipped, as it cannot be done here."""
    if name is IsolationName.UNSHARE:
        return build_account()
    if os.geteuid() != ROOT:
        pytest.skip(f"{name}: needs root")
    missing = [program for program in KINDS[name].way.programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{name}: {', '.join(missing)} not installed")
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"{name}: root may not make namespaces here")
    return this_account()


@pytest.fixture(scope="module", params=list(IsolationName), ids=str)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each in turn."""
    with trial(f"backend-{request.param}", account_of(request.param)) as place:
        yield Backend(request.param, place, place.make_directory())


@pytest.fixture(scope="module")
def found(backend: Backend) -> dict[str, Any]:
    """What came of everything that was tried with a backend; and nothing is left of it on the machine."""
    before = of_the_machine()
    answers: dict[str, Any] = json.loads(backend.trial.run(backend.argv()))
    answers["new on the machine"] = sorted(of_the_machine() - before)
    return answers


def of_the_machine() -> set[str]:
    """What a backend could leave: mounts, control groups, files where programs keep their state."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    places = (Path(place) for place in ("/run", "/dev/shm", "/var/lib/containers", "/var/tmp"))
    files = {str(path) for place in places if place.exists() for path in place.iterdir()}
    return {line.split()[4] for line in mounts} | {name for name in files if "podman" in name or "libpod" in name}


def test_a_chroot_is_unpacked_once(found: dict[str, Any]) -> None:
    """For each digest, whoever asks for it."""
    assert found["unpacked once"]


def test_broken_tarballs(found: dict[str, Any]) -> None:
    """A path that is absolute, a link that leads out, one that ends early, no archive: nothing is left of them."""
    assert found["broken"] == ["broken"] * 4
    assert found["layers"] == 2 + ("image" in found), "the chroots, and the layer that was kept"


def test_exit_statuses(found: dict[str, Any]) -> None:
    """As a shell gives them, also of a command that was killed."""
    assert found["exits"] == [0, 3, 128 + signal.SIGKILL]
    assert found["missing"] not in (0, None)


def test_words_in_and_out(found: dict[str, Any]) -> None:
    """Standard input, output and arguments to the byte; standard error goes to the log."""
    assert found["output"]
    assert found["log"] == "complaint\n"


def test_what_is_around_a_command(found: dict[str, Any]) -> None:
    """Root of the build, in /, on a host without a name, without a terminal; and no variable of the daemon's."""
    assert found["around"] == ["/", "0", "0022", "localhost", "not a tty"]
    assert set(found["environment"]) - {"HOSTNAME"} == {"DEBIAN_FRONTEND", "HOME", "LANG", "PATH"}


def test_orphans_are_reaped(found: dict[str, Any]) -> None:
    """A process that lost its parent is gone when it has ended: tests wait for daemons that they ended."""
    assert found["reaped"] == "yes"


def test_the_network(found: dict[str, Any]) -> None:
    """None but a loopback of its own; with a reach, what that names, by the proxy only."""
    assert found["interfaces"] == "lo"
    assert found["without"] == ""
    assert found["archive"] is True
    assert (found["elsewhere"], found["past the proxy"]) == (False, "")


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_command_is_shut_in(found: dict[str, Any], attempt: str) -> None:
    """Each prints what it is not to be able to do."""
    assert found["attempts"][attempt] == ""


@pytest.mark.parametrize("attempt", ATTEMPTS_BESIDE)
def test_a_command_beside_a_root_is_shut_in(found: dict[str, Any], attempt: str) -> None:
    """So is sbuild, which has the host's programs."""
    if "beside" not in found:
        pytest.skip("podman: nothing runs beside a container")
    assert found["attempts beside"][attempt] == ""


def test_a_command_beside_a_root(found: dict[str, Any]) -> None:
    """It is root, sees the root, and can run sbuild."""
    if "beside" not in found:
        pytest.skip("podman: nothing runs beside a container")
    words = found["beside"].split()
    assert words[0] == "0"
    assert "include" in words
    assert "sbuild" in words


def test_a_file_put_into_a_root(found: dict[str, Any]) -> None:
    """Root's, readable to all; gone when it is taken back, and in nothing that is kept."""
    assert found["put"] == ["0:0 644", "content", "left []", "1"]


def test_a_layer(found: dict[str, Any]) -> None:
    """Owners, modes, what was removed and what was replaced: all as it was left; and so it stays."""
    layer = found["layer"]
    assert layer["changed"]
    assert layer["seen"] == ["1000:33 4750", "deep", "new"]
    assert layer["same"]
    assert layer["unknown"]
    assert layer["untouched"] == "deep"
    assert set(layer["nothing of ours"]) <= {"etc", "made", "run", "tmp", "usr"}


def test_an_image_as_chroot(found: dict[str, Any]) -> None:
    """One tree is made of its layers, once; of one that ends early, none."""
    if "image" not in found:
        pytest.skip("only podman takes images")
    assert found["image"] == ["above", "below", "True", "broken"]


def test_turns(found: dict[str, Any]) -> None:
    """One at a time makes a layer."""
    assert found["turns"] == ["first begins", "first ends", "second begins", "second ends"]


@pytest.mark.parametrize(("limit", "name"), [("time", "WALL_TIME"), ("silence", "SILENCE"), ("log", "LOG_SIZE")])
def test_limits(found: dict[str, Any], limit: str, name: str) -> None:
    """The limit is named; nothing lives on that the command has started, whatever that did to live on."""
    assert found["limits"][limit] == [name, 0, True]


def test_an_abort(found: dict[str, Any]) -> None:
    """All three of its processes are gone, within two seconds."""
    assert found["aborted"] == [3, 0, True]


def test_control_groups(found: dict[str, Any]) -> None:
    """A command stays in those that it was started in: they are the build's, with its limits."""
    assert found["groups"]


def test_nothing_is_left(found: dict[str, Any]) -> None:
    """Of a build that was removed: no file, no mount, no record of a container."""
    assert found["usage"]
    assert found["left"] == []
    assert found["new on the machine"] == []


def wait_for_sleepers(number: int, timeout_s: float) -> None:
    """Wait until so many processes sleep as long as only ours do."""
    deadline = time.monotonic() + timeout_s
    while (found := len(sleeping(("sleep", KILLED_MARK)))) != number and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == number


def test_a_killed_daemon(backend: Backend, found: dict[str, Any]) -> None:
    """What it ran is dead within two seconds, no mount is left, and the next start removes the rest."""
    before = of_the_machine()
    with backend.trial.start(backend.argv(KILLED_MARK), at_death="KILL") as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "begun\n"
            wait_for_sleepers(2, BEGUN_S)
        finally:
            daemon.kill()
    wait_for_sleepers(0, GONE_S)
    assert of_the_machine() == before
    assert list((backend.directory / "builds/one").iterdir())
    backend.trial.run(backend.argv(""))
    assert list((backend.directory / "builds").iterdir()) == []


PAIRS = [
    (name, builder)
    for name in (IsolationName.CHROOT, IsolationName.PODMAN)  # All other tests are with unshare.
    for builder in map(str, name.package_builders)
]


@pytest.fixture(scope="module")
def layers() -> Iterator[Path]:
    """A directory of layers for daemons of root, which can have the same."""
    folder = Places(default_root()).make().tests / f"layers-{os.getpid()}"
    yield folder
    this_account().remove_tree(folder)


@pytest.mark.parametrize(("name", "builder"), PAIRS, ids=str)
def test_a_build(name: IsolationName, builder: str, layers: Path, tmp_path: Path) -> None:
    """A package comes out, and nothing stays of its build."""
    settings = {"isolation": name, "builder": builder, "allow_root": "yes", "layers": str(layers)}
    setup, files = BuilddTestSetup(settings=settings, account=account_of(name)), FileServer()
    setup.setUp()
    try:
        before = Leftovers.of(setup.directory)
        client = StockClient(setup.url, files)
        status, log = client.build("tiny", tiny_source(tmp_path, build="id -un"), base_chroot())
        assert status["build_status"] == "BuildStatus.OK", log[-4000:]
        assert any(file.endswith(".deb") for file in status["filemap"])
        assert "\nbuildd\n" in log
        assert ("sbuild (Debian sbuild)" in log) == (builder == "sbuild")
        client.proxy.clean()
        Leftovers.of(setup.directory).assert_none_since(before)
    finally:
        setup.tearDown()
        files.close()
