"""Strangers who want to keep others from uploading, or the master from its work: what they take is bounded."""

import contextlib
import ftplib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event
from twisted.conch.ssh.common import NS
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from buildmaster.database import DatabaseLost
from buildmaster.peers import who
from buildmaster.tests import databases
from buildmaster.tests.ssh_client import Channel, connect, open_channel
from buildmaster.tests.upload_case import UploadCase
from buildmaster.tests.uploading import Upload
from buildmaster.uploading import acceptance, sftp, spool, ssh
from buildmaster.uploading import reception as receiving
from buildmaster.uploading.reception import Reception
from buildmaster.uploading.sessions import Session
from buildmaster.uploading.spool import SpoolRefused


class TestHostile(UploadCase):
    async def send(self, upload: Upload) -> tuple[int, str]:
        changes = upload.write(self.directory / f"{upload.name}-{upload.version}".replace(":", "-"))
        for path in sorted(changes.parent.iterdir()):
            if path != changes:
                await self.put(path.name, path.read_bytes())
        return await self.put(changes.name, changes.read_bytes())

    async def test_what_nobody_foresaw(self) -> None:
        """An upload on which the judge fails is refused, written down, and in nobody's way."""
        real = acceptance.process

        def fails(farm: Any, received: Any, *more: Any) -> Any:
            if "evil" in received.name:
                raise ZeroDivisionError
            return real(farm, received, *more)

        self.patch(receiving, "process", fails)  # type: ignore[no-untyped-call]
        code, said = await self.send(Upload(name="evil"))
        assert code == 400 and "cannot be looked at" in said
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1  # type: ignore[no-untyped-call]
        assert (await self.send(Upload()))[0] == 201
        assert self.spooled() == [] and self.sources() == ["hello 1.0"] and len(self.uploads()) == 2

    async def test_a_database_that_is_away(self) -> None:
        """What cannot be judged for that is kept, and others' uploads are judged all the same."""
        real, away = acceptance.process, ["hello"]

        def lose(farm: Any, received: Any, *more: Any) -> Any:
            if received.name.partition("_")[0] in away:
                raise DatabaseLost("no route")
            return real(farm, received, *more)

        self.patch(receiving, "process", lose)  # type: ignore[no-untyped-call]
        assert (await self.send(Upload()))[0] == 503
        assert (await self.send(Upload(name="world")))[0] == 201
        await self.reception._look()
        assert len(self.reception._pending) == 1
        away.clear()
        await self.reception._look()
        assert self.sources() == ["world 1.0", "hello 1.0"] and self.spooled() == []

    @databases.on_a_file()
    async def test_a_disk_that_is_full(self) -> None:
        """What the database has no room for is kept, and judged when it has."""
        full = True

        def configure(connection: Any, *_: Any) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0] if full else 1 << 30
            connection.execute(f"PRAGMA max_page_count = {pages}")

        engine = self.farm.database.engine
        event.listen(engine, "checkout", configure)
        self.addCleanup(event.remove, engine, "checkout", configure)
        for number in range(100):  # Until there is no free page left.
            if (said := await self.send(Upload(name=f"hello{number}")))[0] != 201:
                break
        assert said[0] == 503 and "it is kept" in said[1], said
        full = False
        await self.reception._look()
        assert self.sources()[-1] == f"hello{number} 1.0" and self.spooled() == []

    async def test_many_that_wait(self) -> None:
        """.changes files that are never completed are forgotten beyond a number, and cost others nothing."""
        files = {f"hello_1.0.{number}.tar.xz": b"x" for number in range(100)}
        self.patch(receiving, "_PENDING_OF_PEER", 4)  # type: ignore[no-untyped-call]
        for number in range(8):
            upload = Upload(version=f"2.{number}", signer="", more=files)
            changes = upload.write(self.directory / str(number))
            code, said = await self.put(changes.name, changes.read_bytes())
            assert code == 202 and len(said) < 1000 and "more" in said
        assert len(self.reception._pending) == receiving._PENDING_OF_PEER
        began = time.process_time()
        assert (await self.send(Upload()))[0] == 201
        assert time.process_time() - began < 2.0

    async def test_many_files_at_once(self) -> None:
        """Files that are begun and not ended take descriptors: some of each client, and not too many in all."""
        begun = []
        with pytest.raises(SpoolRefused, match="at the same time"):
            for number in range(100):
                begun.append(self.reception.begin(f"{number}.dsc", "192.0.2.1"))
        assert len(begun) == spool._AT_ONCE_OF_PEER
        self.reception.begin("x.dsc", "192.0.2.2").discard()
        for each in begun:
            each.discard()
        self.reception.begin("x.dsc", "192.0.2.1").discard()
        assert self.spooled() == []

    async def test_many_files(self) -> None:
        """One address cannot take all the room that there is for files."""
        self.patch(spool, "_FILES_OF_PEER", 3)  # type: ignore[no-untyped-call]
        for number in range(3):
            assert (await self.put(f"{number}.dsc", b"x"))[0] == 201
        assert (await self.put("more.dsc", b"x"))[0] == 507
        self.reception.begin("x.dsc", "192.0.2.2").discard()

    async def test_a_refusal_that_is_sent_again(self) -> None:
        """It is answered each time, and written down once."""
        upload = Upload(distribution="sid")
        first = await self.send(upload)
        content = (self.directory / "hello-1.0" / "hello_1.0_source.changes").read_bytes()
        for path in (self.directory / "hello-1.0").iterdir():
            await self.put(path.name, path.read_bytes())
        await self.put("hello_1.0.dsc", (self.directory / "hello-1.0" / "hello_1.0.dsc").read_bytes())
        again = await self.put("hello_1.0_source.changes", content)
        assert first[0] == 400 and again[0] in (202, 400)
        assert len(self.uploads()) == 1

    async def from_elsewhere(self, name: str, content: bytes, peer: str = "192.0.2.1") -> Any:
        """A file that a stranger sends."""
        incoming = self.reception.begin(name, peer)
        incoming.write(content)
        return await self.reception.finish(incoming, "debian", "mine")

    async def test_a_trap(self) -> None:
        """A stranger's .changes that waits for a file of one's name brings nobody a refusal, and tells him nothing."""
        evil = Upload(name="evil", signer="", more={"hello_1.0.dsc": b"x", "hello_1.0.tar.xz": b"y"})
        content = evil.write(self.directory / "evil").read_bytes()
        assert (await self.from_elsewhere("evil_1.0_source.changes", content)).missing
        changes = Upload().write(self.directory / "good")
        for path in sorted(changes.parent.iterdir()):
            if path != changes:
                assert (await self.put(path.name, path.read_bytes()))[0] == 201
        assert (await self.put(changes.name, changes.read_bytes()))[0] == 201
        assert self.sources() == ["hello 1.0"]
        assert [each.name for each in self.uploads()] == ["hello_1.0_source.changes"]

    async def test_theft(self) -> None:
        """Nor can he have others' files removed by naming them, or by sending them first."""
        upload = Upload()
        changes = upload.write(self.directory / "good")
        tarball = (changes.parent / "hello_1.0.tar.xz").read_bytes()
        await self.from_elsewhere("hello_1.0.tar.xz", tarball)
        for path in sorted(changes.parent.iterdir()):
            if path != changes:
                await self.put(path.name, path.read_bytes())
        thief = Upload(name="thief", signer="", files={"thief_1.0.tar.xz": b"x"}, more={"hello_1.0.tar.xz": tarball})
        folder = thief.write(self.directory / "thief").parent
        for name in ("thief_1.0.dsc", "thief_1.0.tar.xz", "thief_1.0_source.changes"):
            outcome = await self.from_elsewhere(name, (folder / name).read_bytes())
        assert not outcome.accepted
        await self.from_elsewhere("hello_1.0.tar.xz", b"another")
        assert (await self.put(changes.name, changes.read_bytes()))[0] == 201
        assert self.sources() == ["hello 1.0"] and len(self.spooled()) == 1

    async def test_who_goes_too_soon(self) -> None:
        """A client that goes when all of a file has come, and before that is kept, leaves nothing, not in any count."""
        for number in range(3):
            incoming = self.reception.begin(f"x{number}.dsc", "192.0.2.1")
            incoming.write(b"x")
            coming = Deferred.fromCoroutine(self.reception.finish(incoming, "debian", "mine"))
            incoming.discard()
            with pytest.raises(ConnectionAbortedError):
                await coming
        spool = self.reception.spool
        assert (spool._count, spool._used, spool._files_of("192.0.2.1")) == (0, 0, 0)
        assert self.spooled() == []

    async def test_another_of_the_same_name(self) -> None:
        """A .changes whose place another took is in nobody's way."""
        old = Upload(urgency="low").write(self.directory / "old")
        assert (await self.put(old.name, old.read_bytes()))[0] == 202
        new = Upload().write(self.directory / "new")
        for path in sorted(new.parent.iterdir(), key=lambda path: path != new):
            assert (await self.put(path.name, path.read_bytes()))[0] in (201, 202)
        assert self.sources() == ["hello 1.0"]
        self.clock = lambda: time.time() + 86401
        await self.reception._look()
        assert self.reception._pending == {} and [each.faults for each in self.uploads()] == [()]

    async def test_who_ends_an_upload(self) -> None:
        """The end of somebody's session ends what he began, and nobody else's upload whose .changes he sent, too."""
        changes = Upload().write(self.directory / "good")
        assert (await self.put(changes.name, changes.read_bytes()))[0] == 202
        session = Session(self.reception, "192.0.2.1")
        transfer = session.begin(["debian", "mine", changes.name])
        transfer.write(changes.read_bytes())
        assert (await session.finish(transfer)).missing
        await session.end()
        assert self.uploads() == []
        for path in sorted(changes.parent.iterdir()):
            if path != changes:
                assert (await self.put(path.name, path.read_bytes()))[0] == 201
        assert self.sources() == ["hello 1.0"]

    async def test_many_that_waited(self) -> None:
        """After a restart nobody knows whose uploads wait: all of them do."""
        for number in range(25):
            changes = Upload(version=f"1.{number}").write(self.directory / str(number))
            await self.from_elsewhere(changes.name, changes.read_bytes(), f"192.0.2.{number}")
        again = Reception(self.farm, self.reception.reactor, self.terms, self.now)
        await again._resume()
        assert len(again._pending) == 25

    async def test_names_that_no_database_takes(self) -> None:
        """An archive cannot be called so."""
        assert (await self.put("x.dsc", b"x", "debian%00/mine"))[0] == 404
        assert (await self.put("x.dsc", b"x", "debian/%ff%00"))[0] == 404

    async def test_a_long_dsc(self) -> None:
        """What nobody known has signed is not read on when it is long."""
        upload = Upload(signer="", edit_dsc=lambda text: text + b"X: y\n" * 100_000)
        folder = upload.write(self.directory / "long").parent
        for name in ("hello_1.0.tar.xz", "hello_1.0.dsc", "hello_1.0_source.changes"):
            code, said = await self.put(name, (folder / name).read_bytes())
        assert code == 400 and "hello_1.0.dsc is not signed" in said and "field" not in said

    async def with_ftp(self, act: Callable[[ftplib.FTP], object]) -> None:
        port = self.ftp()

        def run() -> None:
            with ftplib.FTP() as client:
                client.connect("127.0.0.1", port, timeout=20)
                client.login()
                act(client)

        await deferToThread(run)

    async def test_data_that_nobody_asked_for(self) -> None:
        """What comes by FTP before it is said what it is stays where it is."""

        def send(client: ftplib.FTP) -> None:
            with socket.create_connection(client.makepasv(), timeout=2) as data, pytest.raises(TimeoutError):
                for _ in range(64):
                    data.sendall(bytes(1 << 20))

        await self.with_ftp(send)

    async def test_data_connections(self) -> None:
        """There is one to a client, which goes when another comes, or the client; and takes one file."""
        left: list[socket.socket] = []

        def connect(client: ftplib.FTP) -> None:
            for _ in range(2):
                left.append(socket.create_connection(client.makepasv(), timeout=5))
            with contextlib.suppress(ConnectionResetError):
                assert left[0].recv(1) == b""
            client.voidcmd("TYPE I")
            assert client.sendcmd("STOR /debian/mine/x.dsc").startswith("1")
            left[1].close()
            client.voidresp()
            for _ in range(20):
                with pytest.raises(ftplib.error_perm, match="503"):
                    client.sendcmd("STOR /debian/mine/y.dsc")
            left.append(socket.create_connection(client.makepasv(), timeout=5))
            client.close()
            with contextlib.suppress(ConnectionResetError):
                assert left[2].recv(1) == b""

        await self.with_ftp(connect)
        assert self.reception.spool._writing.total() == 0
        for each in left:
            each.close()

    async def test_a_client_that_goes(self) -> None:
        """One whose line breaks in the middle of a file leaves none that is being written, and no complaint."""

        def go(client: ftplib.FTP) -> None:
            data = client.transfercmd("STOR /debian/mine/x.dsc")
            data.sendall(b"x")
            client.close()
            data.close()

        await self.with_ftp(go)
        await self.until(lambda: not self.reception.spool._writing)

    async def test_commands_that_make_no_sense(self) -> None:
        """By FTP, each is answered, and leaves no traceback: a stranger would fill the log."""

        def send(client: ftplib.FTP) -> None:
            words = (
                "PASS x",
                "RNTO y",
                "\xff\xfe",
                "EPSV 9",
                "TYPE E",
                "CWD",
                "STOR \0",
                "REIN",
                "PORT 1,2",
                "X" * 3000,
                " ",
            )
            for word in words * 2:
                with contextlib.suppress(ftplib.Error):
                    client.sendcmd(word)
            assert client.sendcmd("NOOP")

        await self.with_ftp(send)

    async def test_too_many_clients(self) -> None:
        """They are told so by FTP, and are not counted for ever."""
        port = self.ftp()
        factory = self.ports[-1].factory
        factory.connectionLimit = 1

        def come() -> None:
            with ftplib.FTP() as client:
                client.connect("127.0.0.1", port, timeout=20)
                for _ in range(3):
                    with ftplib.FTP() as more, pytest.raises(ftplib.error_temp, match="421"):
                        more.connect("127.0.0.1", port, timeout=20)

        await deferToThread(come)
        await self.until(lambda: factory.clients.total() == 0)

    async def test_answers_that_nobody_reads(self) -> None:
        """Who sends command after command by FTP, and reads no answer, is sent away before they fill the memory."""

        def send(client: ftplib.FTP) -> None:
            assert client.sock is not None
            client.sock.settimeout(5)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                for _ in range(4000):
                    client.sock.sendall(b"X" * 10_000 + b"\r\n")

        await self.with_ftp(send)

    async def test_sftp_answers_that_nobody_reads(self) -> None:
        """The same, by SFTP, of a client that has room for all of them, as it says."""
        client = await connect(self.sftp())
        factory = self.ports[-1].factory.wrappedFactory
        channel = await open_channel(client)
        await client.sendRequest(channel, b"subsystem", NS(b"sftp"), 1)
        client.adjustWindow(channel, 1 << 30)
        client.transport.transport.pauseProducing()
        channel.remoteWindowLeft = 1 << 30
        channel.write(NS(struct.pack("!BL", 1, 3)))  # type: ignore[no-untyped-call]
        for number in range(1500):
            if not factory.clients.total():
                return
            asked = NS(struct.pack("!BL", 16, number) + NS(b"x" * 4000))
            channel.write(asked * 4)  # type: ignore[no-untyped-call]
            await deferLater(reactor, 0)
        raise AssertionError("still there")

    async def test_sftp_answers_that_wait_for_keys(self) -> None:
        """A client that wants new keys, and does not go on with that, has few answers wait for them."""
        client = await connect(self.sftp())
        factory = self.ports[-1].factory.wrappedFactory
        client.transport.sendKexInit()
        client.transport.ssh_KEXINIT = lambda _: None
        client.transport._allowedKeyExchangeMessageType = lambda _: True
        for _ in range(1500):
            if not factory.clients.total():
                return
            for _ in range(4):
                client.transport.sendPacket(80, NS(b"what") + b"\1")  # A global request, which wants an answer.
            await deferLater(reactor, 0)
        raise AssertionError("still there")

    async def test_sftp_packets_that_conch_fails_at(self) -> None:
        """Who sends them is sent away, without a traceback."""
        client = await connect(self.sftp())
        channel = await open_channel(client)
        await client.sendRequest(channel, b"subsystem", NS(b"sftp"), 1)
        channel.write(NS(struct.pack("!BL", 2, 3)))  # type: ignore[no-untyped-call]
        await client.transport.lost

    async def test_sftp_data_for_nobody(self) -> None:
        """Who sends data without saying what for is sent away."""
        client = await connect(self.sftp())
        channel = await open_channel(client)
        channel.write(bytes(1 << 20))  # type: ignore[no-untyped-call]
        await client.transport.lost

    async def test_sftp_channels(self) -> None:
        """There are a few to a client, of one kind, and each is used once."""
        port = self.sftp()
        client = await connect(port)
        channel = await open_channel(client)
        asked = [client.sendRequest(channel, b"subsystem", NS(each), 1) for each in (b"x", b"sftp", b"sftp")]
        answers = await DeferredList(asked, consumeErrors=True)
        assert [good for good, _ in answers] == [False, True, False]
        for _ in range(10):
            client.openChannel(Channel())
        await client.transport.lost
        client = await connect(port)
        other = Channel()
        other.name = b"direct-tcpip"
        client.openChannel(other)
        await client.transport.lost

    async def test_a_file_is_closed_once(self) -> None:
        """However often a client says that it is, and however that ends."""
        client = await connect(self.sftp())
        channel = await open_channel(client)
        await client.sendRequest(channel, b"subsystem", NS(b"sftp"), 1)
        changes = Upload(signer="").write(self.directory / "bad")
        opening = NS(f"debian/mine/{changes.name}".encode()) + struct.pack("!LL", 0x02, 0)
        packets = [struct.pack("!BL", 1, 3), struct.pack("!BL", 3, 1) + opening]
        channel.write(b"".join(NS(each) for each in packets))  # type: ignore[no-untyped-call]
        await self.until(lambda: b"\x66\0\0\0\1" in channel.came)
        handle = channel.came.partition(b"\x66\0\0\0\1")[2]
        packets = [struct.pack("!BL", 6, 2) + handle + struct.pack("!Q", 0) + NS(b"nonsense")]
        packets += [struct.pack("!BL", 4, number) + handle for number in range(3, 40)]
        channel.write(b"".join(NS(each) for each in packets))  # type: ignore[no-untyped-call]
        await self.until(lambda: channel.came.count(b"there is no such file open") == 36)
        await self.until(lambda: b"is not signed" in channel.said)
        assert len(self.uploads()) == 1
        spool = self.reception.spool
        assert (spool._count, spool._used, self.spooled()) == (0, 0, [])
        client.transport.loseConnection()
        await client.transport.lost

    async def test_many_clients(self) -> None:
        """One address has some connections, by FTP and SFTP."""
        port = self.ftp()

        def connect() -> int:
            clients = []
            try:
                for _ in range(20):
                    clients.append(ftplib.FTP())
                    clients[-1].connect("127.0.0.1", port, timeout=5)
            except (EOFError, OSError):
                return len(clients) - 1
            finally:
                for each in clients:
                    each.close()
            return len(clients)

        assert await deferToThread(connect) == 10

    async def test_packets_that_cannot_be_read(self) -> None:
        """A client that sends what SFTP does not know is sent away, with one line in the log."""
        lost: list[bool] = []

        class Transport:
            def loseConnection(self) -> None:
                lost.append(True)

        server = sftp.Server.__new__(sftp.Server)
        server.buf, server.transport, server._log = b"", Transport(), sftp._Strict(server)
        server.dataReceived(struct.pack("!LB", 5, 3) + b"abcd")  # OPEN, without a name.
        assert lost == [True]

    def test_long_packets(self) -> None:
        """SFTP packets that are longer than any client's end the connection before they are kept."""

        class Transport:
            lost = 0

            def loseConnection(self) -> None:
                self.lost += 1

        for pieces in ([struct.pack("!L", 0xFFFFFFF0) + bytes(100)], [b"\xff\xff", b"\xff\xf0"]):
            server = sftp.Server.__new__(sftp.Server)
            server.buf, server.transport = b"", Transport()
            for piece in pieces:
                server.dataReceived(piece)
            assert server.transport.lost == 1 and len(server.buf) < 10
        assert ssh._Transport.supportedCompressions == [b"none"]


def test_who_a_client_is() -> None:
    """An address of IPv4; of IPv6 the network that somebody has."""
    assert who("192.0.2.1") == who("::ffff:192.0.2.1") == "192.0.2.1"
    assert who("2001:db8:1:2:3:4:5:6") == who("2001:db8:1:2::1%eth0") != who("2001:db8:1:3::1")
