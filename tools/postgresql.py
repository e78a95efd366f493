"""A PostgreSQL server for tests: Debian's, in a directory of its own, ended at the end. Nothing in it is kept."""

import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.account import ROOT, Account, this_account
from tools.children import PLAIN_ENVIRONMENT

DEBIAN = Path("/usr/lib/postgresql")
SERVER_ACCOUNT = "postgres"
_WAIT_S = 60.0
# Data for a test needs not outlive a power cut.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "autovacuum": "off",
    "listen_addresses": "127.0.0.1",
}
# By the socket, which only its owner and root can reach, anybody; by TCP with a password.
_ACCESS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


class NoPostgresql(Exception):
    """Debian's package postgresql is not installed, or its server does not start; the message says which."""


def programs() -> Path:
    """Where the newest version's programs are.

    :raises NoPostgresql: there are none.
    """
    found = [path for path in DEBIAN.glob("*/bin") if path.parent.name.isdigit() and (path / "initdb").exists()]
    if not found:
        raise NoPostgresql("tests on PostgreSQL need its programs: apt install postgresql")
    return max(found, key=lambda path: int(path.parent.name))


class Server:
    """A server, which ends with the thread that started it at the latest."""

    def __init__(self, account: Account, directory: Path, port: int) -> None:
        """Use running()."""
        self.account = account
        self.directory = directory
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, user: str = SERVER_ACCOUNT) -> str:
        """A URL of one of its databases, through its socket."""
        return f"postgresql://{user}@/{database}?host={self.directory}&port={self.port}"

    def tcp_url(self, database: str, user: str) -> str:
        """A URL of one of its databases, for which a password is asked."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Begin to serve.

        :raises NoPostgresql: it does not.
        """
        settings: list[str | Path] = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        place: list[str | Path] = ["-D", self._data, "-k", self.directory, "-p", str(self.port)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.account.command([programs() / "postgres", *place, *settings], at_death="INT"),  # INT: at once.
                env=PLAIN_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _WAIT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoPostgresql(f"PostgreSQL does not start:\n{(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self, how: str = "INT") -> None:
        """End it: INT takes its clients their connections, QUIT does not even tell them. start() may follow."""
        if self._process is not None:
            subprocess.run(["kill", f"-{how}", str(self._process.pid)], check=False)
            self._process.wait(_WAIT_S)
            self._process = None

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def make(self) -> None:
        """Make its files, once."""
        options = ["-U", SERVER_ACCOUNT, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = self.account.command([programs() / "initdb", "-D", self._data, *options])
        subprocess.run(command, env=PLAIN_ENVIRONMENT, cwd="/", check=True, capture_output=True)
        (self._data / "pg_hba.conf").write_text(_ACCESS)

    def _answers(self) -> bool:
        command = [str(programs() / "pg_isready"), "-q", "-h", str(self.directory), "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


@contextmanager
def running(port: int, parent: str | None = None) -> Iterator[Server]:
    """A server, as long as this lasts. Run as root it is the user postgres', else one's own.

    :param port: free on 127.0.0.1.
    :param parent: the directory in which its data is; None: that for temporary files.
    :raises NoPostgresql: there can be none.
    """
    programs()
    account = _account()
    # Short: a socket's path has no more than 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="postgresql-", dir=parent))
    account.make_directory(directory, 0o700)
    server = Server(account, directory, port)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


def _account() -> Account:
    """It refuses to be root."""
    mine = this_account()
    if mine.uid != ROOT:
        return mine
    entry = pwd.getpwnam(SERVER_ACCOUNT)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
