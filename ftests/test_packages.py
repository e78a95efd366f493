"""Our own Debian packages: built by our own farm, installed on new machines, at work there.

The machines are booted Debian systems (booted.py), made of the base chroots that the demo uses.
"""

import os
import re
import shutil
import subprocess
import xmlrpc.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildd.protocol import BuilderStatus, BuildStatus
from buildmaster.tests.waiting import wait_until
from ftests.booted import BootedSystem
from ftests.tiny_source import tiny_source
from harness import FarmTestSetup, FileServer, base_chroot
from tools.machines_apt import find_mirror
from tools.places import Places, default_root
from tools.source_package import checkout_source, fetch_source

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may boot a system that has users of its own"),
]

ARCHITECTURE = subprocess.run(
    ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
).stdout.strip()
PORT_0 = "[Service]\nEnvironment=DEBFARM_BUILDD_PORT=0\n"  # The machine's network is ours: 8221 may be taken.
BUILD_S = 900.0  # The build of our own packages runs their tests.


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Package name to file: what our own farm makes, for trixie, of what is committed."""
    folder = tmp_path_factory.mktemp("packages")
    farm = FarmTestSetup(suite="trixie")
    farm.setUp()
    try:
        build = farm.wait_for(farm.submit(checkout_source(farm.places)), timeout_s=BUILD_S)
        assert build["state"] == "built", farm.master.run("log", str(build["id"]))[-8000:]
        farm.master.run("fetch", str(build["id"]), "--to", str(folder))
    finally:
        farm.tearDown()
    return {deb.name.partition("_")[0]: deb for deb in folder.glob("*.deb")}


@contextmanager
def new_machine(suite: str, folder: Path, debs: Mapping[str, Path], *names: str) -> Iterator[BootedSystem]:
    """A machine of a suite, with packages of ours installed and all that they need from the suite itself."""
    system = BootedSystem(base_chroot(suite), folder / suite)
    try:
        drop_in = system.root / "etc/systemd/system/debfarm-buildd.service.d"
        drop_in.mkdir(parents=True)
        (drop_in / "port.conf").write_text(PORT_0)
        (system.root / "packages").mkdir()
        for name in names:
            shutil.copy(debs[name], system.root / "packages")
        system.install(*(f"/packages/{debs[name].name}" for name in names))
        yield system
    except BaseException:
        print(system.run(["journalctl", "--no-pager", "--unit=debfarm-*"], check=False))
        raise
    finally:
        system.close()


def daemon_url(system: BootedSystem) -> str:
    """Where the machine's daemon is."""
    return f"http://127.0.0.1:{(system.root / 'var/lib/debfarm-buildd/port').read_text().strip()}"


def test_they_are_three_for_every_architecture(packages: dict[str, Path]) -> None:
    """One source makes three packages; what the daemon needs can be had on Debian 12."""
    assert sorted(packages) == ["debfarm-buildd", "debfarm-buildmaster", "python3-debfarm"]
    fields = {name: _fields(deb) for name, deb in packages.items()}
    assert {field["Architecture"] for field in fields.values()} == {"all"}
    assert re.search(r"python3-twisted \(>= 22\.4\)", fields["python3-debfarm"]["Depends"])
    assert "sqlalchemy" not in fields["python3-debfarm"]["Depends"] + fields["debfarm-buildd"]["Depends"]


def test_a_new_debian_13_machine_builds_hello(packages: dict[str, Path], tmp_path: Path) -> None:
    """Daemon and master from the packages, as their own users under systemd, build hello; it runs."""
    with new_machine("trixie", tmp_path, packages, *packages) as system:
        _check_daemon_runs(system)
        _start_master(system)
        made = _build_hello(system)
        system.run(["apt-get", "install", "--yes", *made])
        assert "Hello, world!" in system.run(["hello"])
        _check_hangup_is_the_end(system)
        _check_purge(system)


def test_the_daemon_builds_on_debian_12(packages: dict[str, Path], tmp_path: Path) -> None:
    """The daemon's package runs on what Debian 12 has, and builds for a plain client; killed, it comes back."""
    with new_machine("bookworm", tmp_path, packages, "python3-debfarm", "debfarm-buildd") as system:
        _check_daemon_runs(system)
        assert _build_by_plain_calls(daemon_url(system), tiny_source(tmp_path / "source")) == BuildStatus.OK
        system.run(["systemctl", "kill", "--kill-who=main", "--signal=KILL", "debfarm-buildd"])
        wait_until(lambda: system.unit("debfarm-buildd", "NRestarts")["NRestarts"] == "1", 30)
        wait_until(lambda: system.unit("debfarm-buildd", "ActiveState")["ActiveState"] == "active", 30)
        status = xmlrpc.client.ServerProxy(f"{daemon_url(system)}/rpc").status()
        assert isinstance(status, dict) and status["builder_status"] == BuilderStatus.IDLE


def _fields(deb: Path) -> dict[str, str]:
    shown = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^([\w-]+): (.*)$", shown, re.MULTILINE))


def _check_daemon_runs(system: BootedSystem) -> None:
    """It said READY to systemd, runs as its own user with ids for builds, and answers."""
    unit = system.unit("debfarm-buildd", "ActiveState", "Type", "User", "WatchdogUSec", "UnitFileState")
    assert unit == {
        "ActiveState": "active",
        "Type": "notify",
        "User": "debfarm-buildd",
        "WatchdogUSec": "2min",
        "UnitFileState": "enabled",
    }
    for file in ("subuid", "subgid"):
        assert re.search(r"^debfarm-buildd:\d+:65536$", (system.root / "etc" / file).read_text(), re.MULTILINE)
    assert "Builds can run here." in system.run(["debfarm-buildd", "doctor"], user="debfarm-buildd")
    info = xmlrpc.client.ServerProxy(f"{daemon_url(system)}/rpc").info()
    assert info == ["1.0", ARCHITECTURE, ["binarypackage"]]


def _start_master(system: BootedSystem) -> None:
    """Make a farm and start its master, as README.Debian says; its service waits for the farm."""
    config = system.root / "etc/debfarm/buildmaster.conf"
    text = config.read_text().replace("#ftp_port = 8231", "ftp_port =")
    text = text.replace("#port = 8220", "port = 0").replace("#port = 8230", "port = 0")
    config.write_text(text)
    assert system.unit("debfarm-buildmaster", "ActiveState") == {"ActiveState": "inactive"}
    _buildmaster(system, "init", "--distribution", "debian", "--series", "trixie", "--architecture", ARCHITECTURE)
    system.run(["systemctl", "start", "debfarm-buildmaster"])
    assert system.unit("debfarm-buildmaster", "ActiveState", "User") == {
        "ActiveState": "active",
        "User": "debfarm-buildmaster",
    }


def _build_hello(system: BootedSystem) -> list[str]:
    """Submit hello to the machine's master; return the packages that its daemon makes, as paths in the machine."""
    shutil.copy(base_chroot("trixie"), system.root / "chroot.tar")
    shutil.copytree(_hello().parent, system.root / "hello")
    _buildmaster(system, "add-chroot", "debian/trixie", ARCHITECTURE, "/chroot.tar")
    _buildmaster(system, "add-builder", daemon_url(system), "--name", "local")
    _buildmaster(system, "submit", "--wait", f"/hello/{_hello().name}")
    results = system.root / "results"
    results.mkdir()
    shutil.chown(results, *_owner(system.root / "var/lib/debfarm-buildmaster"))
    _buildmaster(system, "fetch", "1", "--to", "/results")
    return [f"/results/{deb.name}" for deb in results.glob("hello_*.deb")]


def _check_hangup_is_the_end(system: BootedSystem) -> None:
    """SIGHUP ends the daemon for good: it does not come back by itself, and has not failed."""
    system.run(["systemctl", "kill", "--kill-who=main", "--signal=HUP", "debfarm-buildd"])
    ended = {"ActiveState": "inactive", "Result": "success", "NRestarts": "0"}
    wait_until(lambda: system.unit("debfarm-buildd", *ended) == ended, 30)


def _check_purge(system: BootedSystem) -> None:
    """Removing the packages leaves their state and configuration; purging them takes that, too."""
    names = ["debfarm-buildd", "debfarm-buildmaster"]
    kept = [*(f"var/lib/{name}" for name in names), "etc/debfarm/buildd.conf", "etc/debfarm/buildmaster.conf"]
    system.run(["apt-get", "remove", "--yes", *names])
    assert [path for path in kept if not (system.root / path).exists()] == []
    system.run(["apt-get", "purge", "--yes", *names])
    assert [path for path in kept if (system.root / path).exists()] == []


def _buildmaster(system: BootedSystem, *arguments: str) -> str:
    return system.run(["buildmaster", *arguments], user="debfarm-buildmaster")


def _hello() -> Path:
    """Debian 12's hello, which builds on 13 as well."""
    return fetch_source("hello", "bookworm", find_mirror("bookworm"), Places(default_root()))


def _build_by_plain_calls(url: str, dsc: Path) -> str:
    """Drive the daemon through a build for bookworm as any client would; return how it ended."""
    daemon = xmlrpc.client.ServerProxy(f"{url}/rpc", allow_none=True)
    files = FileServer()
    try:
        filemap = {file.name: _ensure_present(daemon, files, file) for file in dsc.parent.iterdir()}
        chroot = _ensure_present(daemon, files, base_chroot("bookworm"))
        arguments = {"series": "bookworm", "suite": "bookworm", "arch_indep": True}
        daemon.build("PACKAGEBUILD-1", "binarypackage", chroot, filemap, arguments)
        wait_until(lambda: _status(daemon)["builder_status"] == BuilderStatus.WAITING, BUILD_S)
        status = _status(daemon)
        daemon.clean()
        return str(status["build_status"])
    finally:
        files.close()


def _ensure_present(daemon: xmlrpc.client.ServerProxy, files: FileServer, file: Path) -> str:
    sha1, file_url = files.put(file)
    assert daemon.ensurepresent(sha1, file_url, "", "") == [True, "Download"]
    return sha1


def _status(daemon: xmlrpc.client.ServerProxy) -> dict[str, object]:
    status = daemon.status()
    assert isinstance(status, dict)
    return status


def _owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid
