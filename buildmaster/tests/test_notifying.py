"""Who is told of builds that ended badly: through a real mail server, and a real command."""

import dataclasses
import email
import email.policy
import json
import socket
from typing import Any

from aiosmtpd.controller import Controller
from sqlalchemy import select, update
from twisted.internet import reactor

from buildd.protocol import BuildStatus
from buildmaster import builds, notifications
from buildmaster.database import DatabaseLost
from buildmaster.lifecycle import BuildState, Event
from buildmaster.notifying import Notifier, NotifySettings
from buildmaster.tables import archive, notification
from buildmaster.tests import stores
from buildmaster.tests.factories import make_build, make_busy
from buildmaster.tests.farm_case import FarmCase
from buildmaster.tests.ports import free_port

SETTINGS = NotifySettings(smtp_host="127.0.0.1", sender="farm@example.org", timeout_s=5.0)


class Letterbox:
    """What a mail server does with letters."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.answers: dict[str, str] = {}  # By recipient: in place of taking letters for it.
        self.after = "250 OK"  # What it says when it has a letter.

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.letters.append((envelope.mail_from, envelope.rcpt_tos, message))
        return self.after


class TestNotifying(FarmCase):
    def setUp(self) -> None:
        super().setUp()
        self.box = Letterbox()
        self.server = Controller(self.box, hostname="127.0.0.1", port=free_port())
        self.server.start()
        self.addCleanup(self.server.stop)
        self.settings_now = dataclasses.replace(SETTINGS, smtp_port=self.server.port)
        self.tell("somebody@example.org")

    def tell(self, *addresses: str) -> None:
        with self.farm.transaction() as connection:
            connection.execute(update(archive).values(notify=" ".join(addresses)))

    def notifier(self, **settings: object) -> Notifier:
        changed = dataclasses.replace(self.settings_now, **settings)  # type: ignore[arg-type]
        return Notifier(self.farm, reactor, changed, lambda: self.now)  # type: ignore[arg-type]

    def rows(self) -> list[Any]:
        with self.farm.reading() as connection:
            return list(connection.execute(select(notification).order_by(notification.c.id)))

    async def ends(self, outcome: BuildStatus, *states: BuildState) -> int:
        self.fake.outcome = outcome
        self.fake.extra_status = {}
        build_id = make_build(self.farm, f"source{self.now:.0f}{outcome.name.lower()}")
        await self.scan_until(build_id, *states)
        return build_id

    def make_failed(self, event: Event = Event.PACKAGE_FAILED, name: str = "hello") -> int:
        """A build that ends so, without the fake builder."""
        build_id = make_build(self.farm, name)
        make_busy(self.farm, "x86", build_id)
        with self.farm.transaction() as connection:
            builds.record(connection, build_id, event, self.now, reason="because")
        return build_id

    async def test_a_build_that_fails(self) -> None:
        """A letter with the cause and the place of the log comes, once."""
        build_id = await self.ends(BuildStatus.PACKAGEFAIL, BuildState.FAILED)
        assert [(row.build_id, row.state) for row in self.rows()] == [(build_id, "failed")]
        await self.notifier().send_due()
        ((sender, recipients, letter),) = self.box.letters
        assert (sender, recipients) == ("farm@example.org", ["somebody@example.org"])
        assert letter["Subject"].startswith("failed: amd64 build of source")
        if stores.STORE == "local":
            assert str(self.farm.directory / "store") in letter.get_content()
        await self.notifier().send_due()
        assert len(self.box.letters) == 1 and self.rows() == []

    async def test_which_ends_are_told(self) -> None:
        """A broken chroot and a build that is condemned, too; what ends well, or is nobody's fault, is not."""
        await self.ends(BuildStatus.OK, BuildState.BUILT)
        await self.ends(BuildStatus.DEPFAIL, BuildState.DEP_WAIT)
        assert self.rows() == []
        await self.ends(BuildStatus.CHROOTFAIL, BuildState.CHROOT_WAIT)
        self.set_cleanliness(self.vitals().cleanliness.CLEAN)
        self.make_failed(Event.CONDEMNED)
        assert [row.state for row in self.rows()] == ["chroot-wait", "failed"]

    async def test_nobody_wants_to_know(self) -> None:
        """Where an archive names nobody, nothing is written; and nothing when the change of state is rolled back."""
        self.tell()
        self.make_failed()
        self.tell("somebody@example.org")
        build_id = make_build(self.farm, "second")
        make_busy(self.farm, "x86", build_id)
        try:
            with self.farm.transaction() as connection:
                builds.record(connection, build_id, Event.PACKAGE_FAILED, self.now)
                raise ZeroDivisionError
        except ZeroDivisionError:
            assert self.rows() == []

    async def test_no_server(self) -> None:
        """A letter that cannot be sent waits, ever longer, and arrives when the server is back."""
        self.make_failed()
        notifier = self.notifier(smtp_port=free_port())
        for pause_s in (60, 120, 240):
            await notifier.send_due()
            (row,) = self.rows()
            assert row.not_before == self.now + pause_s and "refused" in row.trouble
            await notifier.send_due()
            assert self.rows()[0].attempts == row.attempts
            self.now += pause_s
        await self.notifier().send_due()
        assert len(self.box.letters) == 1 and self.rows() == []

    async def test_what_the_server_says(self) -> None:
        """Who is refused for good is given up, who is for now waits, and both keep no other from a letter."""
        self.tell("never@example.org", "later@example.org", "yes@example.org")
        self.box.answers = {"never@example.org": "550 no such user", "later@example.org": "450 busy"}
        self.make_failed()
        await self.notifier().send_due()
        assert [recipients for _, recipients, _ in self.box.letters] == [["yes@example.org"]]
        assert [row.recipient for row in self.rows()] == ["later@example.org"]
        self.now += 6 * 86400
        await self.notifier().send_due()
        assert self.rows() == []

    async def test_a_server_that_hangs(self) -> None:
        """A server that says nothing keeps nobody for longer than the time for it."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        self.make_failed()
        await self.notifier(smtp_port=listening.getsockname()[1], timeout_s=0.3).send_due()
        assert self.rows()[0].trouble == "mail: no answer within 0.3 s"

    async def test_not_without_tls(self) -> None:
        """Where TLS is asked for, nothing is sent to a server that has none; the password neither."""
        self.make_failed()
        await self.notifier(smtp_tls=True, smtp_user="farm", smtp_password="secret").send_due()
        assert self.box.letters == [] and len(self.rows()) == 1

    async def test_a_command(self) -> None:
        """It reads one JSON object; when it fails, what was mailed is not mailed again."""
        said = self.directory / "said"
        script = f"cat >>{said}; test -e {self.directory}/works"
        notifier = self.notifier(command=("sh", "-c", script))
        build_id = self.make_failed()
        await notifier.send_due()
        assert self.rows()[0].done == "mail" and len(self.box.letters) == 1
        (self.directory / "works").touch()
        self.now += 61
        await notifier.send_due()
        assert len(self.box.letters) == 1 and self.rows() == []
        told = [json.loads(line) for line in said.read_text().splitlines()]
        assert len(told) == 2 and (told[1]["build_id"], told[1]["state"], told[1]["reason"]) == (
            build_id,
            "failed",
            "because",
        )

    async def test_two_masters(self) -> None:
        """Several that look at the same time send each letter once."""
        from twisted.internet.defer import Deferred, gatherResults  # noqa: PLC0415

        for number in range(5):
            self.make_failed(name=f"source{number}")
        notifiers = [self.notifier() for _ in range(3)]
        await gatherResults([Deferred.fromCoroutine(each.send_due()) for each in notifiers])
        assert len(self.box.letters) == 5 and self.rows() == []

    async def test_built_again_meanwhile(self) -> None:
        """What is told is what was when it ended: its reason, and no log of another attempt."""
        build_id = self.make_failed()
        with self.farm.transaction() as connection:
            builds.retry(connection, build_id, self.now)
        await self.notifier().send_due()
        ((_, _, letter),) = self.box.letters
        assert "because" in letter.get_content() and "Log:" not in letter.get_content()

    async def test_as_long_as_the_master_runs(self) -> None:
        """It looks by itself; without a server and a command it looks for nothing."""
        self.make_failed()
        notifier, off = self.notifier(), self.notifier(smtp_host="")
        off.start()
        notifier.start()
        for _ in range(100):
            if self.box.letters and not self.rows():
                break
            await self.sleep(0.05)
        notifier.stop()
        off.stop()
        assert len(self.box.letters) == 1

    async def test_a_database_that_is_away(self) -> None:
        """That is told where it is found, and is no mistake of who wants to send something."""

        def lose(*_what: object) -> list[object]:
            raise DatabaseLost("no route")

        self.patch(notifications, "due", lose)  # type: ignore[no-untyped-call]
        notifier = self.notifier()
        notifier.start()
        await self.sleep(0.2)
        notifier.stop()
        assert self.flushLoggedErrors() == []  # type: ignore[no-untyped-call]
