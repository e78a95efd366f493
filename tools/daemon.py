"""Running the build daemon of this checkout as an unprivileged account."""

import hashlib
import shutil
import sys
import time
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.account import Account
from tools.children import Child, start
from tools.groups import OwnGroups
from tools.places import CHECKOUT, Places, beside, lock

ANSWER_S = 20.0  # How long a daemon may take to answer.
COPY_KEPT_S = 24 * 3600.0
ENVIRONMENT_PREFIX = "DEBFARM_BUILDD_"
_MAIN = "import sys; sys.argv[0] = 'debfarm-buildd'; from buildd.commands import main; sys.exit(main())"


class NotAnswering(Exception):
    """A program that was started ended, or did not answer in time; the message has the end of its log."""

    def __init__(self, child: Child) -> None:
        self.child = child
        state = "does not answer" if child.is_running else f"ended with status {child.process.returncode}"
        super().__init__(f"{child.name} {state}; the end of its log, {child.log}:\n{child.log_tail()}")


@dataclass
class Daemon:
    """A daemon of ours: starts from the checkout's own buildd.conf, with some keys set otherwise."""

    account: Account
    places: Places
    directory: Path  # The daemon's own, which belongs to the account.
    log: Path
    port: int = 0  # 0: any free one. The one in use, once it has been started.
    host: str = "127.0.0.1"
    settings: Mapping[str, str] = field(default_factory=dict)  # Other keys of buildd.conf, as written there.
    groups: OwnGroups = OwnGroups()  # noqa: RUF009  The control groups that it runs in. It is frozen.
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> Child:
        """Start it, and return when it answers.

        :raises NotAnswering: it does not, within ANSWER_S; it has been stopped then.
        """
        self.account.make_directory(self.directory)
        port_file = self.directory / "port"
        port_file.unlink(missing_ok=True)
        python, code = python_and_code(self.account, self.places)
        keys = {"host": self.host, "port": str(self.port), "directory": str(self.directory), **self.settings}
        environment = {
            "HOME": str(self.directory),
            "PYTHONPATH": str(code),
            "PYTHONDONTWRITEBYTECODE": "1",
            **{ENVIRONMENT_PREFIX + name.upper(): value for name, value in keys.items()},
        }
        argv: list[str | Path] = [python, "-c", _MAIN, "--config", code / "buildd.conf"]
        self.child = start("debfarm-buildd", argv, self.account, self.log, environment, groups=self.groups)
        try:
            self._wait_until_it_answers(port_file)
        except BaseException:
            self.stop()
            raise
        return self.child

    def stop(self) -> None:
        """Stop it; harmless when it does not run."""
        if self.child is not None:
            self.child.stop()

    def _wait_until_it_answers(self, port_file: Path) -> None:
        assert self.child is not None
        deadline = time.monotonic() + ANSWER_S
        while self.child.is_running and time.monotonic() < deadline:
            # Written once it listens: not somebody else's daemon answers, at a port that ours did not get.
            written = port_file.read_text().strip() if port_file.exists() else ""
            if written:
                self.port = int(written)
                if _answers(self.url):
                    return
            time.sleep(0.05)
        raise NotAnswering(self.child)


def _answers(url: str) -> bool:
    try:
        with xmlrpc.client.ServerProxy(f"{url}/rpc", allow_none=True) as proxy:
            return bool(proxy.echo("ready") == ["ready"])
    except (OSError, xmlrpc.client.Error):
        return False


def python_and_code(account: Account, places: Places) -> tuple[Path, Path]:
    """The Python to run the daemon with, and the folder that holds its code and its buildd.conf.

    An account other than this one may reach neither the checkout nor its virtual environment (think of /root): it gets
    a copy of the code, and Debian's own Python with Debian's own Twisted.
    """
    if not account.is_another:
        return Path(sys.executable), CHECKOUT
    files = sorted(path for path in (CHECKOUT / "buildd").rglob("*") if path.is_file() and _is_code(path))
    files.append(CHECKOUT / "buildd.conf")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(CHECKOUT)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    copy = places.make().python / digest.hexdigest()[:16]
    with lock(places.python / "lock", wait=True):
        if not copy.exists():
            _copy(files, copy)
        copy.touch()  # In use: not to be pruned.
        for older in places.python.iterdir():
            if older.is_dir() and time.time() - older.stat().st_mtime > COPY_KEPT_S:
                shutil.rmtree(older)
    return Path("/usr/bin/python3"), copy


def _is_code(path: Path) -> bool:
    return not {"tests", "__pycache__"} & set(path.parts)


def _copy(files: list[Path], target: Path) -> None:
    written = beside(target)
    for file in files:
        to = written / file.relative_to(CHECKOUT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
        to.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    for folder in (written, *(path for path in written.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    written.replace(target)
