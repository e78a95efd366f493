"""One client's session, by FTP or SFTP: the files that it sends, and what becomes of the uploads that they make.

Both know folders, and have none: /upload/DISTRIBUTION/ARCHIVE, the first word of which may be left out, is where files
can be put. Nobody sees anything there, not even what came from himself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from buildmaster.uploading.reception import NoSuchPlace, NotNow, Outcome, Reception
from buildmaster.uploading.spool import Incoming, SpoolRefused

_TOP = "upload"


class Refused(Exception):
    """A file is not taken, or an upload refused; the message is what to tell."""


@implementer(IPushProducer)
class Unread:
    """Sends away a client that reads no answers: more of them wait for it than any good one has asked for."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """The transport keeps more than it likes to."""
        self._transport.abortConnection()

    def resumeProducing(self) -> None:
        """It is too late."""

    def stopProducing(self) -> None:
        """It has gone."""


class Session:
    """A client's session."""

    log = Logger()

    def __init__(self, reception: Reception, peer: str) -> None:
        """:param peer: its address."""
        self.reception = reception
        self.peer = peer
        self._pending: set[Path] = set()

    def begin(self, path: Sequence[str]) -> "Transfer":
        """Begin to take a file.

        :raises Refused: it is not taken.
        """
        words = words_of(path)
        if len(words) != 3:
            raise Refused(f"files are put into /{_TOP}/DISTRIBUTION/ARCHIVE, and nowhere else")
        try:
            return Transfer(self, self.reception.begin(words[2], self.peer), words[0], words[1])
        except SpoolRefused as error:
            raise Refused(str(error)) from error
        except OSError as error:
            raise self._no_room(error) from error

    async def enter(self, path: Sequence[str]) -> None:
        """Look whether there is a folder.

        :raises Refused: there is not.
        """
        words = words_of(path)
        if len(words) > 2:
            raise Refused("there is no such folder")
        if len(words) == 2:
            try:
                await self.reception.find_place(words[0], words[1])
            except (NoSuchPlace, NotNow) as error:
                raise Refused(str(error)) from error

    async def finish(self, transfer: "Transfer") -> Outcome:
        """A file came whole.

        :raises Refused: it, or the upload that it made complete, is refused.
        """
        if isinstance(transfer.trouble, OSError):
            raise self._no_room(transfer.trouble) from transfer.trouble
        if transfer.trouble is not None:
            raise Refused(str(transfer.trouble)) from transfer.trouble
        try:
            outcome = await self.reception.finish(transfer.incoming, transfer.distribution, transfer.archive)
        except (NoSuchPlace, NotNow) as error:
            raise Refused(str(error)) from error
        except OSError as error:
            raise self._no_room(error) from error
        if outcome.pending is not None:
            self._pending.add(outcome.pending)
        if not outcome.accepted:
            raise Refused(outcome.text)
        return outcome

    def _no_room(self, error: OSError) -> Refused:
        self.log.error("cannot keep an upload: {why}", why=error)
        return Refused("there is no room for uploads now: try again later")

    def end(self) -> "Deferred[None]":
        """It is over: what it left incomplete stays so."""

        async def give_up() -> None:
            await self.reception.give_up(self._pending, self.peer)

        def told(failure: Failure) -> None:
            if not isinstance(failure.value, NotNow):
                self.log.failure("cannot end a session of {peer}", failure, peer=self.peer)

        return Deferred.fromCoroutine(give_up()).addErrback(told)


class Transfer:
    """A file on its way."""

    def __init__(self, session: Session, incoming: Incoming, distribution: str, archive: str) -> None:
        self.session = session
        self.incoming = incoming
        self.distribution = distribution
        self.archive = archive
        self.trouble: Exception | None = None  # After which nothing more of it is kept.

    def write(self, data: bytes) -> None:
        """Append. Trouble is told at the end, as clients look for it there."""
        if self.trouble is None:
            try:
                self.incoming.write(data)
            except (SpoolRefused, OSError) as error:
                self.trouble = error

    def refuse(self, why: str) -> None:
        """Keep nothing of it, and tell that at its end."""
        self.incoming.discard()
        self.trouble = Refused(why)

    def discard(self) -> None:
        """It broke off. Harmless when it has ended."""
        self.incoming.discard()


def words_of(path: Sequence[str]) -> list[str]:
    """The words of a path, without the first if that is what all have in common."""
    words = [word for word in path if word]
    return words[1:] if words[:1] == [_TOP] else words
