"""Where the demo, the tests and what they share keep their files: one directory outside the checkout."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
ROOT = 0


class Busy(Exception):
    """Another process holds this directory."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"another process is using {path.parent}; one at a time, please")
        self.path = path


def default_root() -> Path:
    """$DEBFARM_DEMO_DIR; else, for root, below /var/lib, since the account that builds must reach it and may not enter
    /root; else below the home directory."""
    if os.environ.get("DEBFARM_DEMO_DIR"):
        return Path(os.environ["DEBFARM_DEMO_DIR"]).absolute()
    if os.geteuid() == ROOT:
        return Path("/var/lib/debfarm-demo")
    return Path.home() / ".local/state/debfarm-demo"


@dataclass(frozen=True)
class Places:
    """The parts of that directory."""

    root: Path

    @property
    def chroots(self) -> Path:
        """Base chroots, as tar archives. Shared between the demo and the tests."""
        return self.root / "chroots"

    @property
    def apt(self) -> Path:
        """A private apt configuration, its lists and its cache, one folder a suite."""
        return self.root / "apt"

    @property
    def sources(self) -> Path:
        """Source packages, one folder a suite."""
        return self.root / "sources"

    @property
    def python(self) -> Path:
        """Copies of the daemon's code that the account which builds can read."""
        return self.root / "python"

    @property
    def farm(self) -> Path:
        """The demo's master: database, store, logs."""
        return self.root / "farm"

    @property
    def builder(self) -> Path:
        """The demo's builder: file cache, builds, bases and layers."""
        return self.root / "builder"

    @property
    def results(self) -> Path:
        """What was built, one folder a source package and suite."""
        return self.root / "results"

    @property
    def logs(self) -> Path:
        """The demo's processes' own logs."""
        return self.root / "log"

    @property
    def scratch(self) -> Path:
        """Half-made things."""
        return self.root / "tmp"

    @property
    def tests(self) -> Path:
        """One folder a running test of the harness."""
        return self.root / "tests"

    @property
    def register(self) -> Path:
        """Which processes of the demo run."""
        return self.root / "processes"

    @property
    def builder_port(self) -> Path:
        """The port that the builder had last."""
        return self.root / "builder-port"

    @property
    def lock(self) -> Path:
        """Held by the demo."""
        return self.root / "lock"

    def parts(self) -> list[Path]:
        """All of it, in the order in which it may be removed."""
        made = [self.scratch, self.tests, self.builder, self.farm, self.python, self.sources, self.apt, self.results]
        return [*made, self.chroots, self.logs, self.builder_port, self.register, self.lock]

    def make(self) -> "Places":
        """Make the directory and what every part of this program expects in it."""
        for directory in (self.root, self.chroots, self.logs, self.tests, self.python, self.scratch):
            _open_directory(directory)
        return self


def _open_directory(path: Path) -> None:
    """Make a directory that every account may pass through, whatever the umask."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)


@contextmanager
def lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a lock file, which goes away with the process at the latest.

    :param wait: wait for another holder, instead of failing.
    :raises Busy: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Busy(path) from None
        yield


def beside(path: Path) -> Path:
    """A name in the same folder, under which a file is written before it is renamed."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
