"""Real daemons and real masters for tests: set up, used over HTTP like anybody's, torn down.

    >>> setup = BuilddTestSetup()
    >>> setup.setUp()
    >>> setup.proxy.echo("Hello World")
    ['Hello World']
    >>> setup.tearDown()

The daemon starts from this checkout's buildd.conf. Where the tests run as root it runs as the account that `make demo`
uses too, since it refuses to be root.
"""

import contextlib
import functools
import hashlib
import http.server
import shutil
import subprocess
import tempfile
import threading
import time
import xmlrpc.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from buildd.protocol import DEFAULT_PORT, Sha1, parse_sha1
from tools.account import Account, build_account, this_account
from tools.base_chroot import BaseChroot, ensure_chroot
from tools.children import Child
from tools.daemon import Daemon
from tools.groups import OwnGroups
from tools.machines_apt import find_mirror
from tools.master import Master
from tools.places import Places, default_root

__all__ = ["BuilddSlaveTestSetup", "BuilddTestSetup", "FarmTestSetup", "FileServer", "base_chroot"]

WAIT_S = 300.0  # How long a build may take before a test gives up on it.
LOOK_EVERY_S = 0.1
LEFT_AFTER_S = 24 * 3600.0
DISTRIBUTION = "debian"
BUILDER = "local"


def own_architecture() -> str:
    """This machine's Debian architecture."""
    found = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def base_chroot(suite: str = "bookworm") -> Path:
    """A base chroot for this machine's architecture, as a tar archive; made once, and shared with the demo."""
    base = BaseChroot(suite, own_architecture(), find_mirror(suite))
    return ensure_chroot(base, Places(default_root()), build_account())


def _new_folder(prefix: str, parent: Path) -> Path:
    """A new folder that every account may enter. Those that killed tests left behind a day ago or more are removed."""
    for left in parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # Another test removes it at this moment.
            if time.time() - left.stat().st_mtime > LEFT_AFTER_S:
                build_account().remove_tree(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    folder.chmod(0o755)
    return folder


class BuilddTestSetup:
    """A build daemon of one's own, on the loopback.

    setUp() and tearDown() can be repeated: each setUp() begins with an empty directory, unless one was given, and takes
    the port of the first.
    """

    def __init__(
        self,
        port: int = 0,
        directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        groups: bool = True,
        account: Account | None = None,
    ) -> None:
        """Nothing is started yet.

        :param port: 0 for any free one.
        :param directory: the daemon's; it is kept. None: a new one at each setUp(), removed by tearDown().
        :param settings: keys of buildd.conf to set otherwise, as written there.
        :param groups: it gets control groups of its own, where this program may make some.
        :param account: which it runs as; None: the unprivileged one.
        """
        self.account = account or build_account()
        self.places = Places(default_root()).make()
        self.port = port
        self._directory = directory
        self._settings = dict(settings or {})
        self._with_groups = groups
        self._groups = OwnGroups()
        self._folder: Path | None = None
        self._daemon: Daemon | None = None

    def setUp(self) -> None:
        """Start the daemon, and return when it answers.

        :raises tools.daemon.NotAnswering: it does not; the message has the end of its log.
        """
        assert self._folder is None, "it is set up already"
        self._folder = _new_folder("buildd-", self.places.tests)
        self._groups = OwnGroups.make(self.account) if self._with_groups else OwnGroups()
        self._daemon = Daemon(
            self.account,
            self.places,
            directory=self._directory or self._folder / "buildd",
            log=self._folder / "debfarm-buildd.log",
            port=self.port,
            settings=self._settings,
            groups=self._groups,
        )
        try:
            self.restart()
        except BaseException:
            self.tearDown()
            raise

    def tearDown(self) -> None:
        """Stop the daemon and remove what is its own; afterwards a connection to it is refused. Harmless when done."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None
        self._groups.remove()
        if self._folder is not None:
            self.account.remove_tree(self._folder)
            self._folder = None

    @property
    def daemon(self) -> Daemon:
        """The daemon, while it is set up."""
        assert self._daemon is not None, "it is not set up"
        return self._daemon

    @property
    def process(self) -> Child:
        """The daemon's process."""
        assert self.daemon.child is not None
        return self.daemon.child

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return self.daemon.url

    @property
    def proxy(self) -> Any:
        """A plain client of its calls, an xmlrpc.client.ServerProxy."""
        return xmlrpc.client.ServerProxy(f"{self.url}/rpc", allow_none=True)

    @property
    def directory(self) -> Path:
        """The daemon's own directory."""
        return self.daemon.directory

    @property
    def groups(self) -> tuple[Path, ...]:
        """Its control groups, one in each hierarchy; empty where it has none."""
        return self._groups.places

    def file_url(self, sha1: str) -> str:
        """Where it serves a file of its cache."""
        return f"{self.url}/filecache/{sha1}"

    def log(self) -> str:
        """All that it has logged."""
        return self.process.log.read_text(errors="replace")

    def crash(self) -> None:
        """End it as kill -9 does, at whatever it is doing."""
        self.process.process.kill()
        self.process.process.wait()

    def restart(self) -> None:
        """Start it again after it ended, in the same directory and at the same port."""
        self.daemon.start()
        self.port = self.daemon.port

    def wait_for(self, builder_status: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Wait until it says this; return its status then.

        :raises TimeoutError: it does not; the message has its last status and the end of the build's log.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            status: dict[str, Any] = self.proxy.status()
            if status["builder_status"] == builder_status:
                return status
            if time.monotonic() > deadline:
                raise TimeoutError(f"not {builder_status} after {timeout_s} s: {status}\n{self.process.log_tail()}")
            time.sleep(LOOK_EVERY_S)


class BuilddSlaveTestSetup(BuilddTestSetup):
    """The same under the seed's name and with its manners: at port 8221 unless told otherwise, one at a time, and any
    object of the class tears down the one that is set up."""

    _current: ClassVar["BuilddSlaveTestSetup | None"] = None

    def __init__(self, port: int = DEFAULT_PORT, **more: Any) -> None:
        super().__init__(port, **more)

    def setUp(self) -> None:
        """Start the daemon, and return when it answers."""
        super().setUp()
        BuilddSlaveTestSetup._current = self

    def tearDown(self) -> None:
        """Stop the daemon that is set up."""
        current, BuilddSlaveTestSetup._current = BuilddSlaveTestSetup._current, None
        if current is not None and current is not self:
            current.tearDown()
        super().tearDown()


class FarmTestSetup:
    """A whole farm: a master with its store, and a daemon that builds for it. Used through the master's commands."""

    def __init__(
        self,
        suite: str = "bookworm",
        chroot: Path | None = None,
        settings: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        """Nothing is started yet.

        :param chroot: the chroot of the farm's one series; None: a real one, made when there is none yet.
        :param settings: sections and keys of buildmaster.conf to set otherwise, as written there: ("database", "url")
            for a farm on PostgreSQL.
        """
        self.suite = suite
        self.buildd = BuilddTestSetup()
        self._chroot = chroot
        self._settings = dict(settings or {})
        self._folder: Path | None = None
        self._master: Master | None = None

    def setUp(self) -> None:
        """Start the daemon and the master, make the farm known to both."""
        chroot = self._chroot or base_chroot(self.suite)
        self.buildd.setUp()
        try:
            self._folder = _new_folder("farm-", self.places.tests)
            log = self._folder / "buildmaster.log"
            self._master = Master(this_account(), self._folder / "farm", log, self._settings)
            self.master.run("init", "--distribution", DISTRIBUTION)
            place = f"{DISTRIBUTION}/{self.suite}"
            self.master.run("add-chroot", "--no-check", place, own_architecture(), chroot)
            self.master.run("add-builder", self.buildd.url, "--name", BUILDER)
            self.master.start()
        except BaseException:
            self.tearDown()
            raise

    def tearDown(self) -> None:
        """Stop master and daemon, and remove what is theirs. Harmless when done."""
        if self._master is not None:
            self._master.stop()
            self._master = None
        self.buildd.tearDown()
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    @property
    def places(self) -> Places:
        """The directory that the tests share with the demo."""
        return self.buildd.places

    @property
    def master(self) -> Master:
        """The master, while it is set up: run() and ask() give it commands."""
        assert self._master is not None, "it is not set up"
        return self._master

    def log(self) -> str:
        """All that the master has logged."""
        assert self.master.child is not None
        return self.master.child.log.read_text(errors="replace")

    def submit(self, dsc: Path) -> int:
        """Add a source package, and return the id of the one build that it needs."""
        builds = self.master.ask("submit", "--series", f"{DISTRIBUTION}/{self.suite}", dsc)["builds"]
        assert len(builds) == 1, builds
        return int(builds[0]["id"])

    def show(self, build_id: int) -> dict[str, Any]:
        """What `buildmaster show --json` says of a build."""
        return self.master.ask("show", str(build_id))

    def wait_for(self, build_id: int, *states: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Wait until a build is in one of these states, by default until it has ended; return what `show` says then.

        :raises TimeoutError: it is not; the message has what it is, and the end of the master's log.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            build = self.show(build_id)
            if build["state"] in states or (not states and build["ended"]):
                return build
            if time.monotonic() > deadline:
                raise TimeoutError(f"build {build_id} is {build} after {timeout_s} s\n{self.log()[-4000:]}")
            time.sleep(LOOK_EVERY_S)

    def wait_for_builder(self, state: str = "idle", timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Wait until the builder is in this state, which it is a moment after its build has ended; return what
        `builders` says then.

        :raises TimeoutError: it is not; the message has what it is, and the end of the master's log.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            builder: dict[str, Any] = self.master.ask("builders")["builders"][0]
            if builder["state"] == state:
                return builder
            if time.monotonic() > deadline:
                raise TimeoutError(f"{builder} after {timeout_s} s\n{self.log()[-4000:]}")
            time.sleep(LOOK_EVERY_S)

    def wait_for_log(self, build_id: int, text: str, timeout_s: float = WAIT_S) -> None:
        """Wait until the log of a running build, as the farm has it, has this text in it.

        :raises TimeoutError: it has not; the message has the log.
        """
        deadline = time.monotonic() + timeout_s
        while text not in (log := str(self.master.ask("log", str(build_id))["text"])):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text!r} is not in the log of build {build_id} after {timeout_s} s:\n{log}")
            time.sleep(LOOK_EVERY_S)


class FileServer:
    """Files at URLs, as a master's file server or the seed's Librarian has them."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="files-"))
        handler = functools.partial(_QuietFiles, directory=str(self._folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(LOOK_EVERY_S,), daemon=True)
        self._thread.start()

    def put(self, file: Path | bytes) -> tuple[Sha1, str]:
        """Serve a file; return its SHA-1 and its URL."""
        if isinstance(file, bytes):
            sha1 = parse_sha1(hashlib.sha1(file).hexdigest())
            (self._folder / sha1).write_bytes(file)
        else:
            status = file.stat()
            sha1 = _sha1_of(file.absolute(), status.st_mtime_ns, status.st_size)
            if not (target := self._folder / sha1).exists():
                target.symlink_to(file.absolute())
        return sha1, f"http://127.0.0.1:{self._server.server_port}/{sha1}"

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        shutil.rmtree(self._folder)


@functools.cache
def _sha1_of(file: Path, *_as_it_is: int) -> Sha1:
    """Chroots are served again and again, and reading one takes half a second."""
    with file.open("rb") as stream:
        return parse_sha1(hashlib.file_digest(stream, "sha1").hexdigest())


class _QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is not the place."""
