"""What apt sees of one suite of one archive: its indices, signed, on disk; each change is one rename.

    dists/SUITE                     a link to .state/suites/SUITE/N
    .state/suites/SUITE/lock        whoever changes the suite holds it
    .state/suites/SUITE/N/          generation N, which is written once; beside it is N.manifest
    .state/suites/SUITE/by-hash/SHA256/   files of the indices by SHA-256: the current ones, and for a while older ones
    .state/suites/SUITE/pieces/     those of the current indices

What is written before the rename is seen by nobody, and what nobody needs is removed after it: so whoever dies anywhere
leaves the old suite or the new one, and perhaps files that the next one removes.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final

from buildmaster.indices import manifest as manifests
from buildmaster.indices.chunks import Piece, PieceDamaged, Text, change
from buildmaster.indices.manifest import Index, Left, Manifest, ManifestDamaged
from buildmaster.indices.records import Edit, IndexKind, IndexName, Record, checked, parsed
from buildmaster.indices.release import Facts, indices_of, release_text
from buildmaster.publishing import files, threads
from buildmaster.publishing.digests import Digests, Progress
from buildmaster.publishing.generation import BY_HASH, Generation
from buildmaster.publishing.joined import Before
from buildmaster.publishing.pieces import Pieces, fill
from buildmaster.publishing.signing import Signer

STATE: Final = ".state"
_SUITE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*", re.ASCII)
_CLOCKS_DIFFER_S: Final = 3600.0  # At most. A clock that was further ahead was wrong, and is wrong no more.
_AT_ONCE: Final = 4  # Indices that are written at the same time, by as many processors.
_KEPT_FOLDERS: Final = 2  # Of generations: the current one, and the one that somebody may be opening a file in.


class TreeDamaged(ValueError):
    """What was kept of a suite's indices is not there or not whole: only rebuild() can go on from here."""


@dataclass(frozen=True)
class Keep:
    """How long what was replaced can still be fetched by its digest."""

    seconds: float = 300.0
    generations: int = 3  # At least so many, however old.


@dataclass(frozen=True)
class Published:
    """A generation of a suite."""

    generation: int  # Counted up from 1.
    published_at: float
    valid_until: float | None  # None: it does not expire.


# Of each index, the pieces that are there, and the texts of those to be made.
_Parts = Mapping[IndexName, Sequence[Piece | Text]]


@dataclass(frozen=True)
class _Terms:
    """What Release will say, who signs it, and when."""

    facts: Facts
    signer: Signer
    now: float


class SuiteTree:
    """One suite of one archive. Blocks; one process at a time changes it (others wait), any number reads."""

    def __init__(self, archive: Path, suite: str, keep: Keep = Keep(), digests: Digests | None = None) -> None:
        """Take the archive's directory and the suite's name (bookworm-updates); neither need be there yet.

        :param digests: what is remembered of this suite, among others: it costs less then to publish a change.
        :raises ValueError: no suite can have this name.
        """
        if not _SUITE.fullmatch(suite):
            raise ValueError(f"not the name of a suite: {suite[:80]!r}")
        self._link = archive / "dists" / suite
        self._new_link = self._link.with_name(f".{suite}.new")
        self._state = archive / STATE / "suites" / suite
        self._by_hash = self._state / BY_HASH / "SHA256"
        self._pieces = Pieces(self._state / "pieces")
        self._grace = keep
        self._digests = digests or Digests()

    def current(self) -> Published | None:
        """What is there now; None: nothing was ever published.

        :raises TreeDamaged: there is something, but it cannot be read.
        """
        manifest = self.manifest()
        return None if manifest is None else _published(manifest)

    def publish(self, edits: Iterable[Edit], facts: Facts, signer: Signer, now: float) -> Published:
        """Change what apt sees, in one step. The files that the edits name are in the pool by now (Pool.place()).

        Publishing what is there already changes nothing and returns what is current, unless Release files expire and
        half of their time is over. So a caller that died anywhere does the same again. The first time, a suite comes
        into being, with all indices that `facts` asks for, be they empty; an index of a component or architecture that
        is no longer asked for goes.

        :raises TreeDamaged: rebuild() is needed.
        :raises ValueError: an edit is of an index that `facts` does not have, or no record.
        :raises OSError: the disk is full or broken; what apt sees is what it was.
        """
        by_index = _by_index(edits, facts)
        terms = _Terms(facts, signer, now)
        with self._turn():
            before = self.manifest()
            try:
                wanted = sorted({*by_index, *_translations(before, facts)})
                parts = _there({name: self._changed(name, before, by_index.get(name, {})) for name in wanted})
                if before is not None and self._is_current(before, parts, terms):
                    self._sweep(before, now)
                    return _published(before)
                return self._next(before, parts, terms)
            except PieceDamaged as exc:
                raise TreeDamaged(str(exc)) from exc

    def rebuild(
        self, records: Iterable[tuple[IndexName, Record]], facts: Facts, signer: Signer, now: float
    ) -> Published:
        """The same, from all records there are, whatever was there before. They are taken one by one, in our turn, and
        not held in memory; they are written in their order. Of those with the same key the first counts."""
        with self._turn():
            try:
                before = self.manifest()
            except TreeDamaged:
                before = None
            made = files.make(self._state / "pieces")
            parts = fill(self._pieces, indices_of(facts), _of_suite(records, facts))
            return self._next(before, parts, _Terms(facts, signer, now), made, anew=True)

    def records(self, index: IndexName) -> Iterator[Record]:
        """What an index says now; of an index that is not there, nothing. Nobody publishes until all was taken.

        :raises TreeDamaged: it cannot be read.
        """
        with self._turn(shared=True):
            manifest = self.manifest()
            found = None if manifest is None else manifest.indices.get(index)
            try:
                for piece in () if found is None else found.pieces:
                    yield from parsed(index.kind, self._pieces.text(piece))
            except ValueError as exc:
                raise TreeDamaged(str(exc)) from exc

    def manifest(self) -> Manifest | None:
        """All that is known of what is there now.

        :raises TreeDamaged: there is something, but it cannot be read.
        """
        try:
            dists = self._link.parent / self._link.readlink()
        except FileNotFoundError:
            return None
        try:
            return manifests.read(_manifest_of(dists).read_bytes())
        except (OSError, ManifestDamaged) as exc:
            raise TreeDamaged(f"{self._link.name}: {exc}") from exc

    # In our turn

    @contextmanager
    def _turn(self, shared: bool = False) -> Iterator[None]:
        with files.locked(self._state / "lock", shared):
            yield

    def _changed(
        self, name: IndexName, before: Manifest | None, edits: Mapping[bytes, bytes | None]
    ) -> list[Piece | Text]:
        old = before.indices.get(name) if before is not None else None
        return change(name.kind, old.pieces if old is not None else (), edits, self._pieces.text)

    def _is_current(self, before: Manifest, parts: _Parts, terms: _Terms) -> bool:
        """Whether there is nothing to publish."""
        same = (before.facts, before.fingerprints) == (terms.facts, terms.signer.fingerprints)
        stale = terms.facts.valid_s and terms.now > before.published_at + terms.facts.valid_s / 2
        same = same and parts.keys() == before.indices.keys()
        return same and not stale and all(tuple(each) == _pieces(before, name) for name, each in parts.items())

    def _next(
        self, before: Manifest | None, parts: _Parts, terms: _Terms, made: Sequence[Path] = (), *, anew: bool = False
    ) -> Published:
        """Write the next generation and let apt see it.

        :param made: folders that have new names in them.
        :param anew: take nothing over.
        """
        number = 1 + max((int(each) for each in files.names(self._state) if each.isdigit()), default=0)
        if before is not None:
            number = before.generation + 1
        dists = self._state / str(number)
        shutil.rmtree(dists, ignore_errors=True)  # Of one who died.
        folders = self._by_hash, self._state / "pieces", self._link.parent
        made = [*made, *chain.from_iterable(map(files.make, folders))]
        at, modified_at = _times(before, terms.now)
        with files.syncing() as sync:
            generation = Generation(dists, self._by_hash, sync)
            indices = self._indices(generation, None if anew else before, parts, terms.now)
            manifest = Manifest(number, at, modified_at, terms.facts, terms.signer.fingerprints, indices, {})
            manifest = replace(manifest, left=self._left(before, manifest))
            new = _piece_names(manifest) - (set() if before is None or anew else _piece_names(before))
            sync(self._pieces.paths(new))
            release = release_text(terms.facts, manifest.sums(), at)
            generation.sign(release, terms.signer.sign(release), modified_at)
            written = _manifest_of(dists)
            written.write_bytes(manifests.written(manifest))
            generation.link_by_hash()
            sync([*generation.paths(), written, self._state, *made])
        self._show(dists)
        self._sweep(manifest, terms.now)
        return _published(manifest)

    def _indices(
        self, generation: Generation, before: Manifest | None, parts: _Parts, now: float
    ) -> dict[IndexName, Index]:
        """Take over the indices that did not change, and write the others, several at the same time."""
        found = dict[IndexName, Index]()

        def write(name: IndexName) -> None:
            was = self._was(before, name, now)
            found[name], progress = generation.write(name, parts[name], self._pieces, was)
            self._digests.keep(self._state, name, progress)

        for component in {name.component for name in parts}:  # A language may have left just now.
            generation.make_folder(IndexName(component, IndexKind.TRANSLATION, "en"))
        try:
            for name, each in parts.items():
                generation.make_folder(name)
                if before is not None and tuple(each) == _pieces(before, name):
                    found[name] = before.indices[name]
                    generation.keep(name, found[name], self._dists(before))
            threads.each(_AT_ONCE, write, parts.keys() - found.keys())
        except FileNotFoundError as exc:
            raise TreeDamaged(f"{exc.filename} is not there") from exc
        return {name: found[name] for name in parts}

    def _was(self, before: Manifest | None, name: IndexName, now: float) -> Before:
        """What an index was, as far as that is remembered."""
        if before is None or name not in before.indices:
            return Before(self._state, Progress((), (), now))
        progress = self._digests.of(self._state, name, before.indices[name].pieces, now)
        return Before(self._dists(before) / name.path, progress or Progress((), (), now))

    def _dists(self, manifest: Manifest) -> Path:
        return self._state / str(manifest.generation)

    def _left(self, before: Manifest | None, after: Manifest) -> dict[str, Left]:
        """What was in the suite, and leaves now or has left. Where nobody knows, all that is there leaves now."""
        now = Left(after.published_at, after.generation)
        leaving = self._digests_there() if before is None else before.digests()
        found = {**({} if before is None else before.left), **dict.fromkeys(leaving, now)}
        current = after.digests()
        return {
            name: Left(min(each.at, now.at), each.generation)
            for name, each in found.items()
            if name not in current and not self._expired(each, after.generation, after.published_at)
        }

    def _digests_there(self) -> set[str]:
        """All files that can be had by their SHA-256; not what somebody left who died while he linked one."""
        return {name for name in files.names(self._by_hash) if not name.startswith(".")}

    def _expired(self, left: Left, generation: int, now: float) -> bool:
        return left.at <= now - self._grace.seconds and left.generation <= generation - self._grace.generations

    def _show(self, dists: Path) -> None:
        """The one step."""
        self._new_link.unlink(missing_ok=True)
        self._new_link.symlink_to(os.path.relpath(dists, self._link.parent))
        self._new_link.replace(self._link)
        files.sync([self._link.parent])

    def _sweep(self, manifest: Manifest, now: float) -> None:
        """Remove what nobody needs, of those who died, too."""
        self._new_link.unlink(missing_ok=True)
        self._pieces.sweep(_piece_names(manifest))
        still = {name for name, left in manifest.left.items() if not self._expired(left, manifest.generation, now)}
        for name in files.names(self._by_hash) - manifest.digests() - still:
            (self._by_hash / name).unlink()
        for name in files.names(self._state):
            number, _, what = name.partition(".")
            if number.isdigit() and not manifest.generation - _KEPT_FOLDERS < int(number) <= manifest.generation:
                (self._state / name).unlink() if what else shutil.rmtree(self._state / name)


def _manifest_of(dists: Path) -> Path:
    """Where the manifest of a generation is."""
    return dists.with_name(f"{dists.name}.manifest")


def _times(before: Manifest | None, now: float) -> tuple[float, int]:
    """When the next generation is published, and when its InRelease was changed."""
    if before is None:
        return now, int(now)
    at = now
    if before.published_at < at + _CLOCKS_DIFFER_S:  # apt passes over what is older than what it has,
        at = max(at, before.published_at)  # and refuses what is of the future.
    return at, max(int(now), before.modified_at + 1)


def _by_index(edits: Iterable[Edit], facts: Facts) -> dict[IndexName, dict[bytes, bytes | None]]:
    """Edits by index and key, all of them checked; nothing for the indices that do not change."""
    found: dict[IndexName, dict[bytes, bytes | None]] = {name: {} for name in indices_of(facts)}
    for edit in edits:
        if _is_translation(edit.index, facts):
            found.setdefault(edit.index, {})
        if edit.index in found:
            if edit.text is not None:
                checked(edit.index.kind, Record(edit.key, edit.text))
            found[edit.index][edit.key] = edit.text
        elif edit.text is not None:
            raise ValueError(f"the suite has no index {edit.index.path}")
    return found


def _of_suite(records: Iterable[tuple[IndexName, Record]], facts: Facts) -> Iterator[tuple[IndexName, Record]]:
    """Records, all of them checked."""
    wanted = set(indices_of(facts))
    for name, record in records:
        if name not in wanted and not _is_translation(name, facts):
            raise ValueError(f"the suite has no index {name.path}")
        yield name, checked(name.kind, record)


def _is_translation(name: IndexName, facts: Facts) -> bool:
    return name.kind is IndexKind.TRANSLATION and name.component in facts.components


def _translations(manifest: Manifest | None, facts: Facts) -> list[IndexName]:
    """Those that a suite has, and may still have."""
    return [name for name in manifest.indices if _is_translation(name, facts)] if manifest is not None else []


def _there(parts: _Parts) -> _Parts:
    """The indices that there are to be: no empty translations."""
    return {name: each for name, each in parts.items() if each or name.kind is not IndexKind.TRANSLATION}


def _pieces(manifest: Manifest, name: IndexName) -> tuple[Piece, ...] | None:
    index = manifest.indices.get(name)
    return None if index is None else index.pieces


def _piece_names(manifest: Manifest) -> set[str]:
    return {piece.name for index in manifest.indices.values() for piece in index.pieces}


def _published(manifest: Manifest) -> Published:
    return Published(manifest.generation, manifest.published_at, manifest.valid_until)
