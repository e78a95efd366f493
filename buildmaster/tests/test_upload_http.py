"""Uploads by HTTP: by Debian's own clients, and by those who behave otherwise."""

import http.client
import socket
from contextlib import closing
from pathlib import Path

from twisted.internet.threads import deferToThread

from buildmaster.tests.upload_case import UploadCase
from buildmaster.tests.uploading import Upload


class TestUploadHttp(UploadCase):
    async def send(self, changes: Path) -> tuple[int, str]:
        """All files beside a .changes, that one last."""
        for path in sorted(changes.parent.iterdir()):
            if path != changes:
                code, said = await self.put(path.name, path.read_bytes())
                assert code == 201, said
        return await self.put(changes.name, changes.read_bytes())

    async def test_dput(self) -> None:
        """What dput sends is accepted; when it is refused, dput says why."""
        for version in ("1.0", "1.1"):
            sent = await self.dput(self.http_profile(), Upload(version=version).write(self.directory / version))
            assert sent.returncode == 0, sent
        assert self.sources() == ["hello 1.0", "hello 1.1"] and self.spooled() == []
        sent = await self.dput(self.http_profile(), Upload(version="0.9").write(self.directory / "old"))
        assert sent.returncode == 1
        assert "Upload failed: 400" in sent.stdout and "hello 0.9 is not newer than 1.1" in sent.stdout
        assert self.spooled() == []

    async def test_dput_ng(self) -> None:
        """So it is with dput-ng."""
        sent = await self.dput_ng(self.http_profile(), Upload().write(self.directory / "good"))
        assert sent.returncode == 0, sent
        assert self.sources() == ["hello 1.0"] and self.spooled() == []
        sent = await self.dput_ng(self.http_profile(), Upload(version="0.9").write(self.directory / "old"))
        assert sent.returncode == 3 and "hello 0.9 is not newer than 1.0" in sent.stderr

    async def test_in_any_order(self) -> None:
        """A .changes that comes first waits for the others, and says for which; the last one brings the verdict."""
        changes = Upload().write(self.directory / "good")
        code, said = await self.put(changes.name, changes.read_bytes())
        assert code == 202 and "waits for: hello_1.0.dsc, hello_1.0.tar.xz" in said
        folder = changes.parent
        assert (await self.put("hello_1.0.tar.xz", (folder / "hello_1.0.tar.xz").read_bytes()))[0] == 201
        code, said = await self.put("hello_1.0.dsc", (folder / "hello_1.0.dsc").read_bytes())
        assert code == 201 and "is accepted by debian/mine: hello 1.0; builds: 1" in said
        assert self.spooled() == [] and self.sources() == ["hello 1.0"]

    async def test_a_refusal(self) -> None:
        """All faults come with the answer, and nothing is left but the record."""
        code, said = await self.send(Upload(signer="", distribution="sid").write(self.directory / "bad"))
        assert code == 400 and "is not signed" in said and "no suite 'sid'" in said
        assert self.left_behind() == [] and len(self.uploads()) == 1

    async def test_a_file_that_was_cut_off(self) -> None:
        """What breaks off leaves nothing, and comes whole the next time."""
        changes = Upload().write(self.directory / "good")
        content = (changes.parent / "hello_1.0.tar.xz").read_bytes()

        def cut_off() -> None:
            with socket.create_connection(("127.0.0.1", self.http), 10) as stream:
                stream.sendall(
                    b"PUT /upload/debian/mine/hello_1.0.tar.xz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                    % len(content)
                )
                stream.sendall(content[:-5])

        await deferToThread(cut_off)
        await self.until(lambda: self.spooled() == [])
        assert (await self.send(changes))[0] == 201

    async def test_another_file_of_that_name(self) -> None:
        """One who sends a file of the same name from elsewhere spoils nobody's upload; one's own is replaced."""
        changes = Upload().write(self.directory / "good")
        incoming = self.reception.begin("hello_1.0.tar.xz", "192.0.2.1")
        incoming.write(b"evil")
        await self.reception.finish(incoming, "debian", "mine")
        assert (await self.put("hello_1.0.tar.xz", b"broken"))[0] == 201
        assert len(self.spooled()) == 2
        assert (await self.send(changes))[0] == 201
        assert self.sources() == ["hello 1.0"] and len(self.spooled()) == 1

    async def test_limits(self) -> None:
        """A file that is too large is refused, announced or not; so is more than one client may keep here."""
        code, said = await self.put("big_1.0.tar.xz", b"x" * ((1 << 20) + 1))
        assert code == 413 and "larger than the 1048576 bytes" in said
        chunked = (b"x" * 65536 for _ in range(17))
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=20)

        def send() -> int:
            connection.request("PUT", "/upload/debian/mine/big_1.0.tar.xz", body=chunked, encode_chunked=True)
            return connection.getresponse().status

        assert await deferToThread(send) == 413
        connection.close()
        assert self.spooled() == []
        for number in range(4):
            assert (await self.put(f"big{number}_1.0.tar.xz", b"%d" % number * (1 << 20)))[0] == 201
        code, said = await self.put("one_1.0.tar.xz", b"x" * 100)
        assert code == 507 and "bytes came from 127.0.0.1" in said
        self.reception.spool.sweep(self.clock() + 86401)
        assert self.spooled() == [] and (await self.put("one_1.0.tar.xz", b"x" * 100))[0] == 201

    async def test_what_is_no_upload(self) -> None:
        """Wrong archives, names and methods are answered; nothing can be read or listed."""
        assert (await self.put("hello_1.0.dsc", b"x", "debian/other"))[0] == 404
        assert (await self.put("hello_1.0.dsc", b"x", "other/mine"))[0] == 404
        for name in (
            "passwd",
            ".dsc",
            "%2e%2e%2fx.dsc",
            "a%5cb.dsc",
            "a%00.dsc",
            "x" * 300 + ".dsc",
            "%ff%fe.dsc",
            "a%0ab.dsc",
        ):
            code, said = await self.put(name, b"x")
            assert code == 400 and "no file of an upload is called" in said, name
        assert (await self.put("a/b.dsc", b"x"))[0] == 404
        assert (await self.put("hello_1.0.dsc", b"x"))[0] == 201

        def get(method: str, path: str) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=20)
            with closing(connection):
                connection.request(method, path, body=b"x" * 100_000 if method == "POST" else None)
                return connection.getresponse().status

        for method in ("GET", "POST", "DELETE"):
            assert await deferToThread(get, method, "/upload/debian/mine/hello_1.0.dsc") in (405, 501)
        assert await deferToThread(get, "GET", "/upload/debian/mine/") == 405

    async def test_the_master_ends_in_between(self) -> None:
        """What had come by then is there for the next master, which judges what is complete; the rest vanishes."""
        changes = Upload().write(self.directory / "good")
        self.patch(self.reception, "_judge_complete", self._nobody)  # type: ignore[no-untyped-call]
        await self.send(changes)
        await self.put("other_1.0_source.changes", Upload(name="other").write(self.directory / "o").read_bytes())
        assert len(self.spooled()) == 4
        after = type(self.reception)(self.farm, self.reception.reactor, self.terms, self.now)
        await after.start()
        await self.until(lambda: self.sources() == ["hello 1.0"] and len(self.spooled()) == 1)
        self.clock = lambda: 4e9
        await after._look()
        after.stop()
        assert self.left_behind()[2:] == []
        (_, told) = self.uploads()
        assert told.name == "other_1.0_source.changes"
        assert "other_1.0.dsc did not come, but other_1.0_source.changes names it: send it as well" in told.faults

    async def _nobody(self, archive_id: int | None) -> list[object]:
        return []
