"""One publication: what the database has for a suite is brought to the tree on disk, and then said to be there.

First the pool's files, then the indices, by one rename, then one transaction. When somebody died between the rename
and the transaction, the numbers of both differ, and the suite is made anew. Masters that share a farm publish an
archive one after the other: by a lock on its directory, and, where that does not hold, since the transaction finds the
suite's number changed.
"""

import errno
import fcntl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

from debian.deb822 import Deb822

from buildmaster import goods, publications, repositories, retention, rows, suites
from buildmaster.farm import Farm
from buildmaster.goods import Goods
from buildmaster.indices.records import IndexName, Record
from buildmaster.indices.release import Facts
from buildmaster.publications import Publication, Suite
from buildmaster.publishing import archive_keys
from buildmaster.publishing.digests import Digests
from buildmaster.publishing.edits import Unlistable, contents_of, edits_of, records_of
from buildmaster.publishing.files import write
from buildmaster.publishing.pool import Pool, PoolConflict, PoolFile
from buildmaster.publishing.signing import Keys, keyring
from buildmaster.publishing.tree import Published, SuiteTree, TreeDamaged
from buildmaster.secrets import Secrets
from buildmaster.store import NotStored
from buildmaster.suites import Plan, Shown

KEY_FILE = "key.asc"
_LOCK = ".publisher"


class Busy(Exception):
    """Another master publishes this archive just now."""


@dataclass(frozen=True)
class Outcome:
    """What a publication did."""

    name: str  # distribution/archive suite.
    generation: int
    entered: int  # Packages.
    left: int
    changed: bool = False  # This generation is another than the database knew.
    more: bool = False  # There are changes left.
    refused: tuple[str, ...] = ()  # Why packages could not be published, in words.
    warning: str = ""  # Of the keys.


@dataclass(frozen=True)
class Press:
    """Publishes suites. Blocks."""

    farm: Farm
    directory: Path  # Of all archives.
    secrets: Secrets
    now: Callable[[], float]
    digests: Digests = field(default_factory=Digests)

    def publish(self, where: Suite, *, full: bool = False, wait: bool = False) -> Outcome:
        """Bring a suite on disk in step with the database.

        :param full: make it all anew, whatever there is on disk, and let leave what settings of before had stay.
        :param wait: for another master that is at it.
        :raises Busy: another one is.
        :raises RepositoryRefused: we do not publish that archive.
        :raises SecretRefused: its key cannot be read;
        :raises KeyRefused: or there is none.
        :raises OSError: the disk is full or broken, or the store cannot be used.
        """
        refused = []
        with self.turn(where.archive_id, wait=wait) as folder:
            while True:
                with self.farm.reading() as connection:
                    plan = suites.plan(connection, where, full=full)
                try:
                    shown = self._bring(plan, folder, full=full)
                    break
                except Unlistable as error:  # It was accepted, so nobody may have to wait for what is wrong with it.
                    bad, why = [error.publication.id], str(error)
                except PoolConflict as error:  # Two came at the same moment, neither of which saw the other.
                    bad, why = _in_the_way(plan, error), str(error)
                    if not bad:
                        raise
                refused.append(why)
                for each in bad:
                    self.farm.write(publications.refuse, each, why, self.now())
            self.farm.write(suites.done, plan, shown, self.now())
        name = f"{plan.repository.words} {plan.name}"
        numbers = shown.generation, len(plan.enters), len(plan.leaves)
        changed = shown.generation != plan.generation
        warning = archive_keys.warning(plan.keys, self.now())
        return Outcome(name, *numbers, changed=changed, more=plan.more, refused=tuple(refused), warning=warning)

    @contextmanager
    def turn(self, archive_id: int, *, wait: bool = False) -> Iterator[Path]:
        """Be the only one who changes an archive on disk, and know its directory.

        :raises Busy: somebody else is, and is not waited for.
        :raises RepositoryRefused: we do not publish it.
        """
        with self.farm.reading() as connection:
            folder = self.directory / repositories.get(connection, archive_id).words
        with _turn(folder, wait=wait):
            yield folder

    def _bring(self, plan: Plan, folder: Path, *, full: bool) -> Shown:
        """Bring the disk in step with a plan."""
        now = self.now()
        signer = archive_keys.signer(self.secrets, plan.keys, now)
        tree, facts = SuiteTree(folder, plan.name, digests=self.digests), _facts(plan)
        self._show_keys(plan, folder)
        try:
            edits = edits_of(plan, self.farm.store)
            Pool(folder).place(self._pool_files(plan.enters))
            if not full and _is_in_step(tree, plan) and _architectures(folder, plan.name) in (plan.architectures, None):
                return _shown(tree.publish(edits, facts, signer, now), facts)
        except (TreeDamaged, NotStored):  # What leaves can do so though the list of its files is lost.
            pass
        if full:
            self._sort_out(plan.suite.archive_id, Pool(folder))
        return self._rebuild(plan, folder, tree, signer, anew=full)

    def _sort_out(self, archive_id: int, pool: Pool) -> None:
        """Have the files leave an archive's pool that it should not have.

        :raises PoolConflict: it should have two files of one name.
        """
        with self.farm.reading() as connection:
            known = retention.pool_files(connection, archive_id)
        for path, contents in known.items():
            if len(contents) > 1:
                raise PoolConflict(path)
        pool.retire_others(known, self.now())

    def _rebuild(self, plan: Plan, folder: Path, tree: SuiteTree, signer: Keys, *, anew: bool) -> Shown:
        """Make a suite anew, of all that it has; and the files of its packages, where they are not what they should."""
        with self.farm.reading() as connection:
            every = suites.everything(connection, plan)
        facts = _facts(plan, every)
        records = self._records(plan, self._placed(every, Pool(folder), anew=anew))
        return _shown(tree.rebuild(records, facts, signer, self.now()), facts)

    def _records(self, plan: Plan, every: Iterable[Goods]) -> Iterator[tuple[IndexName, Record]]:
        """What indices say of packages, one after the other: of all together it may be more than there is memory.

        :param every: all versions of a package follow one another.
        """
        for _, versions in groupby(every, lambda each: _package(each.publication)):
            some = list(versions)
            for each in some:
                yield from records_of(each, plan.architectures, self.farm.store)
            yield from contents_of(some, plan.architectures, self.farm.store)

    def _placed(self, every: Sequence[Publication], pool: Pool, *, anew: bool) -> Iterator[Goods]:
        """Packages, whose files are in the pool by then."""
        for part in rows.parts(every):
            with self.farm.reading() as connection:
                found = goods.of(connection, part)
            pool.place(self._pool_files(found), anew=anew)
            yield from found

    def _pool_files(self, goods: Iterable[Goods]) -> Iterator[PoolFile]:
        store = self.farm.store
        for each in goods:
            for path, stored in each.files.items():
                source = store.local_path(stored.sha256) or partial(store.open, stored.sha256)
                yield PoolFile(path, stored.size, stored.sha256, source)

    def _show_keys(self, plan: Plan, folder: Path) -> None:
        """Have the archive's keys beside it: those that sign, and those that will."""
        now = self.now()
        text = keyring([key.certificate for key in plan.keys if key.signs_until is None or key.signs_until > now])
        path = folder / KEY_FILE
        with suppress(FileNotFoundError):
            if path.read_text() == text:
                return
        write(path, text.encode())
        path.chmod(0o644)


def _in_the_way(plan: Plan, conflict: PoolConflict) -> list[int]:
    """The publications that would have a file have other content than it has; of two that enter not the first."""
    entering = [each for each in plan.enters if conflict.path in each.files]
    these = [each for each in entering if each.files[conflict.path].sha256 == conflict.sha256]
    return [each.publication.id for each in these or entering]


def _shown(published: Published, facts: Facts) -> Shown:
    return Shown(published.generation, published.published_at, published.valid_until, facts.components)


def _package(publication: Publication) -> tuple[str, str, str]:
    """What all versions of a package have in common."""
    return publication.component, publication.name, publication.architecture


def _facts(plan: Plan, every: Iterable[Publication] = ()) -> Facts:
    """What a suite's Release file says.

    :param every: what is there, where that is not what was there before.
    """
    return Facts(
        origin=plan.repository.words.replace("/", " "),
        label=plan.repository.name,
        suite=plan.name,
        codename=plan.name,
        components=tuple(sorted({*plan.components, *(each.component for each in every)})),
        architectures=plan.architectures,
        valid_s=plan.repository.valid_s,
    )


def _is_in_step(tree: SuiteTree, plan: Plan) -> bool:
    """Whether what is on disk is what the database knows. If not, one of them was lost, or is from a backup, or
    somebody died before the database knew: what is on disk then was another plan, of packages that may have been
    deleted since, or had others leave that now stay. So no edits help, not even when there is one step between them.

    :raises TreeDamaged: it cannot be read.
    """
    current = tree.current()
    return (0 if current is None else current.generation) == plan.generation


def _architectures(folder: Path, name: str) -> tuple[str, ...] | None:
    """Those that a suite has now; None: there is no suite."""
    try:
        release = Deb822((folder / "dists" / name / "Release").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return tuple(sorted(set(release.get("Architectures", "").split()) - {"all"}))


@contextmanager
def _turn(folder: Path, *, wait: bool) -> Iterator[None]:
    """Be the only one who publishes an archive. Ends with the process at the latest.

    :raises Busy: somebody else is, and is not waited for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise Busy(f"another master publishes {folder}") from error
        yield
