"""Takes the files of uploads, by whichever way they come, and has an upload judged when all of it is there.

An upload is complete when its .changes and every file that this names have come, in any order. What is complete and not
judged when the master ends, or when the database is away, is judged later.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from buildd.control import ControlError, parse_changes
from buildmaster import uploaders, uploads
from buildmaster.database import DatabaseLost, is_trouble
from buildmaster.farm import Farm
from buildmaster.peers import who
from buildmaster.ports import IMasterReactor
from buildmaster.uploading import signatures
from buildmaster.uploading.acceptance import Verdict, process
from buildmaster.uploading.arrivals import Arrived, NotReadable, Received, read_control
from buildmaster.uploading.judging import FILES_MAX, STRANGERS_BYTES
from buildmaster.uploading.signatures import SignatureRefused
from buildmaster.uploading.spool import Incoming, Spool, Spooled
from buildmaster.uploading.terms import Terms
from buildmaster.uploads import Place

_SWEEP_S = 600.0
_PENDING_MAX = 200
_PENDING_OF_PEER = 20
_NAMED = 10  # Files that a client is told of by name.


class NoSuchPlace(LookupError):
    """There is no archive that this could be uploaded to; the message says so."""

    def __init__(self, words: str) -> None:
        super().__init__(f"there is no archive {words} here: `buildmaster archive show` tells where to upload to")


class NotNow(Exception):
    """An upload could not be judged, by no fault of its own; what came is kept, and it is tried again."""


@dataclass(frozen=True)
class Outcome:
    """What came of a file that came whole."""

    name: str
    place: Place
    verdicts: tuple[Verdict, ...] = ()  # Of uploads that are complete now.
    missing: tuple[str, ...] = ()  # Of a .changes: what is still to come.
    pending: Path | None = None  # Likewise: by which give_up() knows it.

    @property
    def accepted(self) -> bool:
        """Whether nothing was refused."""
        return all(verdict.accepted for verdict in self.verdicts)

    @property
    def text(self) -> str:
        """For who sent it."""
        if self.verdicts:
            return "\n".join(verdict.text for verdict in self.verdicts)
        if self.missing:
            more = f" and {len(self.missing) - _NAMED} more" if len(self.missing) > _NAMED else ""
            return f"{self.name} has come; {self.place.words} waits for: {', '.join(self.missing[:_NAMED])}{more}"
        return f"{self.name} has come"


@dataclass(frozen=True)
class _Pending:
    """A .changes that waits for the rest of its upload, or for being judged."""

    changes: Spooled
    place: Place
    wanted: tuple[tuple[str, str], ...]  # Names and SHA-256.

    @cached_property
    def names(self) -> frozenset[str]:
        """Of the files."""
        return frozenset(name for name, _ in self.wanted)


@dataclass(frozen=True)
class _OfArchive:
    """What the spool has for one archive. See :class:`buildmaster.uploading.arrivals.Arrivals`."""

    spool: Spool
    archive_id: int
    peer: str  # Where the .changes came from.

    def find(self, name: str, sha256: str) -> Arrived | None:
        return self.spool.find(self.archive_id, name, sha256, self.peer)


@dataclass
class Reception:
    """Where uploads come to, as long as the master runs."""

    farm: Farm
    reactor: IMasterReactor
    terms: Terms
    now: Callable[[], float]
    _pending: dict[Path, _Pending] = field(default_factory=dict)
    _turn: DeferredLock = field(default_factory=DeferredLock)
    _loop: Any = None

    log = Logger()

    def __post_init__(self) -> None:
        self.spool = Spool(self.farm.directory / "uploads", self.terms)

    async def start(self) -> None:
        """Take up what another master has left, and look now and then for what is too old."""
        await self._in_thread(self.spool.recount)
        await self._resume()
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._look()).addErrback(self._told))
        self._loop.clock = self.reactor
        self._loop.start(_SWEEP_S, now=False)
        Deferred.fromCoroutine(self._look()).addErrback(self._told)

    def stop(self) -> None:
        """End. What is being judged comes to its end in its thread, or is judged by the next master."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def begin(self, name: str, peer: str, size: int | None = None) -> Incoming:
        """Begin to take a file: see Spool.begin()."""
        return self.spool.begin(name, peer, size)

    async def finish(self, incoming: Incoming, distribution: str, archive: str) -> Outcome:
        """A file came whole; if it makes an upload complete, that is judged.

        :raises NoSuchPlace: there is no such archive; the file is forgotten.
        :raises NotNow: an upload is complete, but cannot be judged now.
        :raises OSError: the disk is full or broken; the file is forgotten.
        """
        try:
            place = await self.find_place(distribution, archive)
        except BaseException:
            incoming.discard()
            raise
        spooled = incoming.finish(place.archive_id)
        if spooled.is_changes:
            await self._note(spooled, place)
        theirs, others = self._concerned(spooled, incoming.peer)
        verdicts = await self._judge_complete(theirs)
        if others:  # Which is nothing to tell who sent this.
            Deferred.fromCoroutine(self._judge_complete(others)).addErrback(self._told)
        left = self._pending.get(spooled.path)
        missing = tuple(self._missing(left)) if left is not None else ()
        return Outcome(spooled.name, place, tuple(verdicts), missing, spooled.path if left is not None else None)

    async def find_place(self, distribution: str, archive: str) -> Place:
        """An archive that can be uploaded to.

        :raises NoSuchPlace: there is none.
        :raises NotNow: nobody can tell.
        """
        try:
            known = distribution.isprintable() and archive.isprintable()  # PostgreSQL does not take a NUL.
            place = await self.farm.read(uploads.find_place, distribution, archive) if known else None
        except DatabaseLost as error:
            raise NotNow("the farm's database is away: try again in a minute") from error
        if place is None:
            raise NoSuchPlace(f"{distribution[:80]}/{archive[:80]}")
        return place

    async def give_up(self, pending: Iterable[Path], peer: str | None = None) -> list[Verdict]:
        """Judge these .changes as they are: nothing more comes.

        :param peer: those that came from this address first; None: all.
        :raises NotNow: one of them cannot be judged now; the others are.
        """
        found = [self._pending[path] for path in pending if path in self._pending]
        if peer is not None:
            found = [each for each in found if self.spool.peer_of(each.changes) == who(peer)]
        return await self._judge_each(found)

    async def _look(self) -> None:
        """Judge what is complete, or will never be; and forget what is too old."""
        try:
            with suppress(NotNow):  # What is too old is looked at all the same.
                await self._judge_complete(list(self._pending.values()))
            old = self.now() - self.terms.keep_s
            await self.give_up([path for path, each in self._pending.items() if each.changes.changed_at < old])
        finally:
            self.spool.sweep(self.now())

    def _told(self, failure: Any) -> None:
        if failure.check(NotNow, DatabaseLost) is None:
            self.log.failure("cannot look after uploads; trying again", failure)

    async def _resume(self) -> None:
        """Find the .changes files that are here."""
        places: dict[int, Place | None] = {}
        for each in await self._in_thread(lambda: [found for found in self.spool.every() if found.is_changes]):
            if each.archive_id not in places:
                places[each.archive_id] = await self.farm.read(uploads.place_of, each.archive_id)
            place = places[each.archive_id]
            if place is not None:
                await self._note(each, place)

    async def _note(self, changes: Spooled, place: Place) -> None:
        """Remember a .changes. One too many is forgotten: the oldest."""
        certificates = []
        if changes.size > STRANGERS_BYTES:
            everyone = await self.farm.read(uploaders.every, place.archive_id)
            certificates = [each.certificate for each in everyone]
        wanted = await self._in_thread(_wanted, changes, certificates, self.now())
        self._pending[changes.path] = _Pending(changes, place, wanted)
        peer = self.spool.peer_of(changes)
        theirs = [path for path, each in self._pending.items() if peer and self.spool.peer_of(each.changes) == peer]
        for path in theirs[: max(0, len(theirs) - _PENDING_OF_PEER)]:
            self._pending.pop(path)
        while len(self._pending) > _PENDING_MAX:
            self._pending.pop(next(iter(self._pending)))

    def _concerned(self, spooled: Spooled, peer: str) -> tuple[list[_Pending], list[_Pending]]:
        """Whose uploads a file may make complete: those of who sent it, and others'."""
        theirs: list[_Pending] = []
        others: list[_Pending] = []
        for each in self._pending.values():
            if each.place.archive_id != spooled.archive_id:
                continue
            if each.changes.path == spooled.path or spooled.name in each.names:
                same = each.changes.path == spooled.path or self.spool.came_from(each.changes, peer)
                (theirs if same else others).append(each)
        return theirs, others

    def _missing(self, pending: _Pending) -> list[str]:
        archive_id, peer = pending.place.archive_id, self.spool.peer_of(pending.changes)
        return [name for name, sha256 in pending.wanted if self.spool.find(archive_id, name, sha256, peer) is None]

    async def _judge_complete(self, pending: Iterable[_Pending]) -> list[Verdict]:
        """Judge those that are complete; as _judge_each()."""
        return await self._judge_each(pending, unless=self._missing)

    async def _judge_each(
        self, pending: Iterable[_Pending], unless: Callable[[_Pending], object] = lambda _: False
    ) -> list[Verdict]:
        """Judge those, one after the other.

        :param unless: asked of each, in a thread, when its turn comes.
        :raises NotNow: one of them cannot be judged now, and nothing came of the others.
        """
        found, trouble = [], None
        for each in pending:
            if await self._in_thread(unless, each):
                continue
            try:
                verdict = await self._judge(each)
            except NotNow as error:
                trouble = error
                continue
            if verdict is not None:
                found.append(verdict)
        if trouble is not None and not found:
            raise trouble
        return found

    async def _judge(self, pending: _Pending) -> Verdict | None:
        """Judge one upload, and forget it. None: another call was quicker, or another .changes took its place.

        :raises NotNow: it cannot be judged now, and is not forgotten.
        """
        await self._turn.acquire()
        try:
            if pending.changes.path not in self._pending:
                return None
            try:
                verdict: Verdict | None = await self._in_thread(self._process, pending)
            except Exception as error:
                if isinstance(error, OSError) or is_trouble(error):
                    self.log.warn("cannot judge {name} yet: {why}", name=pending.changes.name, why=error)
                    raise NotNow(f"{pending.changes.name} cannot be looked at now; it is kept, and will be") from error
                # Whatever a stranger may have found: it must not be in the way of others.
                self.log.failure("cannot judge {name}", name=pending.changes.name)
                verdict = await self._in_thread(self._refuse, pending, "cannot be looked at: tell whose farm this is")
            if verdict is None:
                del self._pending[pending.changes.path]
                return None
            self._forget(pending, known=bool(verdict.uploader) or verdict.accepted)
        finally:
            self._turn.release()
        outcome = "accepted" if verdict.accepted else f"refused: {'; '.join(verdict.faults[:3])}"
        about = {"name": verdict.name, "archive": verdict.archive, "by": verdict.uploader or "nobody known"}
        self.log.info("upload {name} to {archive}, by {by}: {outcome}", outcome=outcome, **about)
        return verdict

    def _process(self, pending: _Pending) -> Verdict | None:
        """None: the .changes is not here any more."""
        changes, place = pending.changes, pending.place
        try:
            content = read_control(changes.path)
        except FileNotFoundError:
            return None
        except NotReadable as error:
            return self._refuse(pending, str(error))
        arrivals = _OfArchive(self.spool, place.archive_id, self.spool.peer_of(changes))
        received = Received(changes.name, content, arrivals)
        return process(self.farm, received, place, self.terms, self.now())

    def _refuse(self, pending: _Pending, why: str) -> Verdict:
        """Refuse an upload for what is wrong with its .changes, or with us. Blocks."""
        changes, place = pending.changes, pending.place
        faults = (f"{changes.name} {why}",)
        self.farm.write(uploads.record, place.archive_id, changes.name, changes.sha256, self.now(), faults=faults)
        return Verdict(changes.name, place.words, faults, "")

    def _forget(self, pending: _Pending, *, known: bool) -> None:
        """Remove an upload that was judged; see Spool.remove()."""
        self._pending.pop(pending.changes.path, None)
        peer = self.spool.peer_of(pending.changes)
        if not peer:
            known = True  # Of a master that was: nobody knows whose files they are.
        for name, sha256 in (*pending.wanted, (pending.changes.name, pending.changes.sha256)):
            self.spool.remove(pending.place.archive_id, name, sha256, peer, known=known)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), function, *args)


def _wanted(changes: Spooled, certificates: Sequence[str], now: float) -> tuple[tuple[str, str], ...]:
    """The files that a .changes names; none, if that cannot be read: then it is refused as it is.

    :param certificates: of who may have signed a large one, which takes long to read.
    """
    with suppress(ControlError, NotReadable, SignatureRefused, OSError):
        content = read_control(changes.path)
        if len(content) > STRANGERS_BYTES:
            payload = signatures.check(changes.name, content, certificates, now, "").payload
        else:
            payload = signatures.unsigned(content)
        files = parse_changes(PurePath(changes.name), payload).files
        return tuple((each.name, each.sha256) for each in files) if len(files) < FILES_MAX else ()
    return ()
