"""Tells people, or a command, of builds that ended badly, and of what became of uploads: by mail through a server, by a
command, or both.

What is sent is noted at once, and what could not be sent is tried again, ever more rarely. A master that dies between
the two sends a letter a second time, with the same Message-ID.
"""

import shlex
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeAlias

from sqlalchemy import Connection, select
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimedOut
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from buildmaster import builds, external, files, letters, notifications, uploads
from buildmaster.database import DatabaseLost
from buildmaster.farm import Farm
from buildmaster.letters import News
from buildmaster.notifications import Due
from buildmaster.ports import IMasterReactor
from buildmaster.tables import builder

_LOOK_S = 5.0
_AT_ONCE = 50  # Are read at once, and sent one after the other.
_BACK_OFF_S = 60.0  # After the first failure; doubled with each further one, up to
_LONGEST_S = 3 * 3600.0
_GIVE_UP_S = 5 * 86400.0  # As mail servers do.
_MAIL, _COMMAND = "mail", "command"

Way: TypeAlias = tuple[str, Callable[[News], Coroutine[Any, Any, None]]]


@dataclass(frozen=True)
class NotifySettings:
    """How people are told."""

    smtp_host: str = ""  # "": not by mail.
    smtp_port: int = 25
    smtp_tls: bool = False  # STARTTLS, or nothing is sent.
    smtp_user: str = ""
    smtp_password: str = ""
    sender: str = ""
    command: tuple[str, ...] = ()  # (): not by a command.
    timeout_s: float = 60.0  # For one mail, or one command.


class NotSent(Exception):
    """A notification could not be sent; the message says why."""

    def __init__(self, why: str, *, for_ever: bool = False) -> None:
        super().__init__(why)
        self.for_ever = for_ever  # Trying again cannot help.


class Notifier:
    """Sends what is due, as long as the master runs."""

    log = Logger()

    def __init__(self, farm: Farm, reactor: IMasterReactor, settings: NotifySettings, now: Callable[[], float]) -> None:
        self._farm = farm
        self._reactor = reactor
        self._settings = settings
        self._now = now
        self._sending: Deferred[None] | None = None
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin, unless nobody is to be told in any way."""
        if self._settings.smtp_host or self._settings.command:
            self._loop.start(_LOOK_S)

    def stop(self) -> None:
        """End, in the middle of a letter if need be: that one is sent by the next master."""
        if self._loop.running:
            self._loop.stop()
        if self._sending is not None:
            self._sending.cancel()

    def _look(self) -> Deferred[None]:
        def ended(result: object) -> None:
            self._sending = None
            is_told = isinstance(result, Failure) and isinstance(result.value, DatabaseLost)  # Where it is found.
            if self._loop.running and isinstance(result, Failure) and not is_told:
                self.log.failure("cannot look for notifications; trying again", result)

        self._sending = Deferred.fromCoroutine(self.send_due())
        return self._sending.addBoth(ended)

    async def send_due(self) -> None:
        """Send all that is due now."""
        for one in await self._farm.read(notifications.due, self._now(), _AT_ONCE):
            until = self._now() + 3 * self._settings.timeout_s  # Longer than both ways together may take.
            if await self._farm.transact(notifications.claim, one, until):
                await self._send(one)

    async def _send(self, one: Due) -> None:
        news = await self._farm.read(self._news, one)
        done, troubles, hopeless = one.done.split(), [], True
        for way, send in self._ways():
            if way in done:
                continue
            try:
                await send(news)
                done.append(way)
            except NotSent as error:
                troubles.append(f"{way}: {error}")
                hopeless = hopeless and error.for_ever
        await self._settle(one, done, "; ".join(troubles), hopeless=hopeless)

    def _ways(self) -> list[Way]:
        ways: list[Way] = []
        if self._settings.smtp_host:
            ways.append((_MAIL, self._mail))
        if self._settings.command:
            ways.append((_COMMAND, self._call))
        return ways

    async def _settle(self, one: Due, done: list[str], trouble: str, *, hopeless: bool) -> None:
        """Note what was sent, and when the rest is to be tried again, if it is."""
        about = f"upload {one.upload_id}" if one.build_id is None else f"build {one.build_id}"
        told = {"about": about, "state": one.state, "to": one.recipient}
        if not trouble:
            await self._farm.transact(notifications.went, one.id)
            self.log.info("{about}: told {to} that it is {state}", **told)
            return
        if hopeless or self._now() - one.created_at > _GIVE_UP_S:
            await self._farm.transact(notifications.went, one.id)
            self.log.error("{about}: gave up telling {to} that it is {state}: {why}", why=trouble, **told)
            return
        pause_s = min(_BACK_OFF_S * 2 ** min(one.attempts, 20), _LONGEST_S)
        words = (one.id, self._now() + pause_s, trouble, " ".join(done))
        await self._farm.transact(notifications.postpone, *words)
        self.log.warn("{about}: cannot tell {to} yet that it is {state}: {why}", why=trouble, **told)

    def _news(self, connection: Connection, one: Due) -> News:
        """All that is told."""
        if one.build_id is not None:
            return self._of_build(connection, one, one.build_id)
        assert one.upload_id is not None
        found = uploads.find(connection, one.upload_id)
        words = {"reason": "", "cause": "", "builder": "", "log": "", "command": ""}
        title = f"{found.name} to {found.distribution}/{found.archive}"
        return News(
            id=one.id,
            to=one.recipient,
            build_id=None,
            upload_id=one.upload_id,
            title=title + (f" ({found.source})" if found.source else ""),
            state=one.state,
            error=one.error,
            at=one.created_at,
            **words,
        )

    def _of_build(self, connection: Connection, one: Due, build_id: int) -> News:
        """As of when the build ended so: it may be built again by now."""
        row = builds.find(connection, build_id)
        log = ""
        if row.finished_at == one.created_at and row.log_file_id is not None:
            path = getattr(self._farm.store, "path", None)  # Only a store on this machine's disk has places.
            log = row.log_name if path is None else str(path(files.find(connection, row.log_file_id).sha256))
        name = connection.execute(select(builder.c.name).where(builder.c.id == one.builder_id)).scalar()
        return News(
            id=one.id,
            to=one.recipient,
            build_id=build_id,
            title=builds.title_of(row),
            state=one.state,
            reason=one.reason,
            cause=one.cause,
            error=one.error,
            builder=name or "",
            log=log,
            command=f"buildmaster --dir {shlex.quote(str(self._farm.directory))} log {build_id}",
            at=one.created_at,
        )

    async def _call(self, news: News) -> None:
        """Have the command told."""
        ended = await external.run(
            self._reactor, self._settings.command, self._settings.timeout_s, letters.document(news)
        )
        if ended.trouble:
            raise NotSent(ended.trouble + (f": {ended.said}" if ended.said else ""))

    async def _mail(self, news: News) -> None:
        """Send a letter."""
        from twisted.mail import smtp  # noqa: PLC0415 - it imports the global reactor.

        settings = self._settings

        def give_up(_: Deferred[object]) -> None:
            factory.sendFinished = True
            if factory.currentProtocol is None:
                connector.disconnect()
            else:
                factory.currentProtocol.transport.abortConnection()

        ended: Deferred[object] = Deferred(give_up)
        factory = smtp.ESMTPSenderFactory(  # type: ignore[no-untyped-call]
            settings.smtp_user.encode() or None,
            settings.smtp_password.encode() or None,
            settings.sender.encode(),
            [news.to.encode()],
            BytesIO(bytes(letters.letter(news, settings.sender))),
            ended,
            retries=0,  # It cannot know whether a server that hung up has taken the letter; nor can we, but we wait.
            heloFallback=True,
            requireAuthentication=bool(settings.smtp_user),
            requireTransportSecurity=settings.smtp_tls,
            hostname=settings.smtp_host,
        )
        factory.noisy = False
        connector = self._reactor.connectTCP(settings.smtp_host, settings.smtp_port, factory)
        try:
            await ended.addTimeout(settings.timeout_s, self._reactor)
        except DeferredTimedOut as error:
            raise NotSent(f"no answer within {settings.timeout_s:g} s") from error
        except smtp.SMTPDeliveryError as error:  # 55x: there is no such recipient, or not from us.
            raise NotSent(_one_line(error), for_ever=550 <= (error.code or 0) < 560) from error
        except CancelledError:
            raise
        except Exception as error:  # Twisted's errors of connections, of TLS and of SMTP have no common class.
            raise NotSent(f"{type(error).__name__}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    said = " ".join(str(error).split())[:500]
    return "".join(each if each.isprintable() else "?" for each in said) or type(error).__name__
