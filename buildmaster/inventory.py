"""What is wrong with the store: files that are missing or damaged, and files that nobody needs.

Blocking, for a command; a master may run meanwhile. What changes while it looks is never told as wrong: rows are read
before the store is listed, and what seems missing is looked at once more.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from buildmaster import files
from buildmaster.farm import Farm
from buildmaster.files import Recorded
from buildmaster.store import Listed, NotStored, Sha256

YOUNG_S = 3600.0  # What is younger may be about to be recorded.
_AT_ONCE = 20_000  # Files that are held in memory, about.
_CHUNK = 1 << 20


class Wrong(StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"  # It is recorded, and the store does not have it.
    DAMAGED = "damaged"  # Its content is not what is recorded.
    UNREFERENCED = "unreferenced"  # Nobody needs it: it has no row, or nothing refers to its row.


@dataclass(frozen=True)
class Finding:
    """A file, and what is wrong with it."""

    wrong: Wrong
    sha256: Sha256
    size: int  # Bytes; as recorded, or, where it is not, as it is.
    why: str = ""  # In words, where the above does not say all.
    used_by: tuple[str, ...] = ()  # What needs it, in words.
    deleted: bool = False


@dataclass
class Report:
    """What a check found."""

    files: int = 0  # That were looked at.
    size: int = 0  # Bytes of those.
    findings: list[Finding] = field(default_factory=list)

    def of(self, wrong: Wrong) -> list[Finding]:
        """What is wrong in this way."""
        return [each for each in self.findings if each.wrong is wrong]


@dataclass(frozen=True)
class How:
    """How thoroughly to look, and what to do."""

    quick: bool = False  # Sizes only, and no contents.
    delete_unreferenced: bool = False
    older_than_s: float = YOUNG_S  # What is younger is never unreferenced; at least YOUNG_S.


def check(
    farm: Farm,
    how: How,
    now: Callable[[], float],
    progress: Callable[[float, Report], None] = lambda part, so_far: None,
) -> Report:
    """Compare the store with the database, when it is large one part of it after the other.

    :param progress: told now and then which part of it is done, from 0 to 1, and what was found.
    :raises OSError: the store cannot be used.
    """
    work = _Check(farm, how, now, progress)
    with farm.reading() as connection:
        prefixes = _prefixes(files.count(connection))
    for number, prefix in enumerate(prefixes):
        work.look(prefix, number / len(prefixes), (number + 1) / len(prefixes))
    progress(1.0, work.report)
    return work.report


@dataclass
class _Check:
    """A check under way."""

    farm: Farm
    how: How
    now: Callable[[], float]
    progress: Callable[[float, Report], None]
    report: Report = field(default_factory=Report)

    def look(self, prefix: str, begin: float, end: float) -> None:
        """Look at all files whose SHA-256 begins so, which are those from one part of all to another."""
        oldest = self.now() - max(self.how.older_than_s, YOUNG_S)
        with self.farm.reading() as connection:
            rows = {row.file.sha256: row for row in files.recorded(connection, prefix)}
        there = {each.sha256: each for each in self.farm.store.files(prefix)}
        for number, (sha256, row) in enumerate(rows.items()):
            self.progress(begin + (end - begin) * number / len(rows), self.report)
            self.report.files += 1
            self.report.size += row.file.size
            self._look_at(row, there.get(sha256))
        for sha256 in sorted(rows.keys() | there.keys()):
            size = _unneeded_size(rows.get(sha256), there.get(sha256), oldest)
            if size is not None:
                deleted = self.how.delete_unreferenced and _delete(self.farm, sha256, self.now, oldest)
                self.report.findings.append(Finding(Wrong.UNREFERENCED, sha256, size, deleted=deleted))

    def _look_at(self, row: Recorded, listed: Listed | None) -> None:
        """Look at a file that is recorded."""
        wrong, why = Wrong.DAMAGED, ""
        if listed is None:
            wrong = Wrong.MISSING
            if not _is_missing(self.farm, row.file.sha256):
                return
        elif listed.size != row.file.size:
            why = f"it has {listed.size} bytes instead of {row.file.size}"
        elif not self.how.quick:
            why = _damage(self.farm, row)
        if wrong is Wrong.MISSING or why:
            with self.farm.reading() as connection:
                users = tuple(files.users(connection, row.id))
            self.report.findings.append(Finding(wrong, row.file.sha256, row.file.size, why, users))


def _prefixes(count: int) -> list[str]:
    """Beginnings of a SHA-256, of which each file has one, and each so many that they can be held in memory."""
    digits = next(digits for digits in range(65) if count >> 4 * digits <= _AT_ONCE)
    return [f"{number:0{digits}x}" if digits else "" for number in range(16**digits)]


def _is_missing(farm: Farm, sha256: Sha256) -> bool:
    """Whether a file that was not listed is really missing, and not only deleted, or stored, at this moment."""
    if farm.store.has(sha256):
        return False
    with farm.reading() as connection:
        return files.is_recorded(connection, sha256)


def _damage(farm: Farm, row: Recorded) -> str:
    """What is wrong with a file's content; "" when nothing is."""
    sha1, sha256, size = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), 0
    try:
        with farm.store.open(row.file.sha256) as stream:
            while data := stream.read(_CHUNK):
                sha1.update(data)
                sha256.update(data)
                size += len(data)
    except NotStored:
        return "it went while it was looked at" if _is_missing(farm, row.file.sha256) else ""
    if sha256.hexdigest() != row.file.sha256:
        return f"its content has the SHA-256 {sha256.hexdigest()}"
    if sha1.hexdigest() != row.file.sha1:
        return f"its SHA-1 is {sha1.hexdigest()}, and not {row.file.sha1} as it is recorded"
    return "" if size == row.file.size else f"it has {size} bytes instead of {row.file.size}"


def _unneeded_size(row: Recorded | None, listed: Listed | None, oldest: float) -> int | None:
    """How long a file is that nobody needs; None when somebody does, or may be about to."""
    if row is not None and (row.referenced or row.created_at >= oldest):
        return None
    if listed is not None:
        return listed.size if listed.changed_at < oldest else None
    return row.file.size if row is not None else None


def _delete(farm: Farm, sha256: Sha256, now: Callable[[], float], oldest: float) -> bool:
    """Delete a file that nobody refers to: its row first. False: somebody does by now."""
    until = farm.write(files.give_up, sha256, now(), oldest)
    if until is None or not files.may_delete(until, now()):
        return False
    farm.store.delete(sha256)
    farm.write(files.gave_up, sha256, until, now())
    return True
