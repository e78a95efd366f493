"""Whether a master runs on a farm on this machine, found without disturbing one that is just starting."""

from pathlib import Path

from sqlalchemy import Connection

from buildmaster import masters
from buildmaster.cli.group import Session

LOCK = "master.lock"  # In the farm's directory; flock()ed by the master as long as it runs.
LOCKS = Path("/proc/locks")  # Trying to lock the file ourselves could make a starting master give up.


def master_runs(directory: Path) -> bool:
    """Whether some process holds the farm's lock. True when there is no telling."""
    try:
        inode = (directory / LOCK).stat().st_ino
    except FileNotFoundError:
        return False
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return True
    # 1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234567 0 EOF; a waiting one has an arrow before FLOCK.
    return any(words[1] == "FLOCK" and words[5].endswith(f":{inode}") for words in map(str.split, lines))


def somebody_runs(directory: Path, connection: Connection) -> bool:
    """Whether a master runs on a farm, here or on another machine."""
    return master_runs(directory) or masters.is_anyone_heard(connection)


def tell_absence(session: Session, directory: Path) -> None:
    """Give a hint that no master runs: nothing will happen until one does."""
    session.output.hint(f"No master runs on this farm: start one with {session.command_on(directory, 'run')}")
