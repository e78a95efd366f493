"""Uploads by FTP and SFTP: by Debian's own clients, and by those who want more than that."""

import ftplib
import io
import re
import shutil
import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from buildmaster.tests.upload_case import UploadCase
from buildmaster.tests.uploading import Upload


class TestUploadFtp(UploadCase):
    def profile(self) -> dict[str, str]:
        return {
            "method": "ftp", "fqdn": f"127.0.0.1:{self.ftp()}", "login": "anonymous", "passive_ftp": "1",
            "incoming": "/upload/debian/mine",
        }  # fmt: skip

    async def test_dput(self) -> None:
        """What dput sends is accepted; when it is refused, dput says why."""
        profile = self.profile()
        sent = await self.dput(profile, Upload().write(self.directory / "good"))
        assert sent.returncode == 0, sent
        assert self.sources() == ["hello 1.0"] and self.spooled() == []
        sent = await self.dput(profile, Upload(version="0.9", distribution="sid").write(self.directory / "bad"))
        assert sent.returncode == 1
        assert (
            "450-hello_0.9_source.changes is refused by debian/mine:\n550-- hello 0.9 is not newer" in sent.stdout
            or ("no suite 'sid'" in sent.stdout)
        )
        assert self.spooled() == [] and len(self.uploads()) == 2

    async def test_dput_ng(self) -> None:
        """So it is with dput-ng."""
        profile = self.profile()
        sent = await self.dput_ng(profile, Upload().write(self.directory / "good"))
        assert sent.returncode == 0, sent
        assert self.sources() == ["hello 1.0"] and self.spooled() == []
        sent = await self.dput_ng(profile, Upload(version="0.9").write(self.directory / "bad"))
        assert sent.returncode != 0 and self.spooled() == []
        assert "hello 0.9 is not newer than 1.0" in sent.stderr

    async def with_ftp(self, act: Callable[[ftplib.FTP], Any], port: int | None = None) -> Any:
        """Do something in one session."""

        def run() -> Any:
            with ftplib.FTP() as client:
                client.connect("127.0.0.1", port or self.ftp(), timeout=20)
                client.login()
                return act(client)

        return await deferToThread(run)

    async def test_the_session_ends(self) -> None:
        """What a session leaves incomplete is refused when it is over."""
        content = Upload().write(self.directory / "good").read_bytes()
        told = await self.with_ftp(
            lambda client: client.storbinary("STOR /debian/mine/hello_1.0_source.changes", io.BytesIO(content))
        )
        assert told.startswith("226 hello_1.0_source.changes has come; debian/mine waits for: hello_1.0.dsc")
        await self.until(lambda: bool(self.uploads()))
        (said,) = self.uploads()
        assert said.faults[0].startswith("hello_1.0.dsc did not come")
        assert self.left_behind() == []

    async def test_one_way(self) -> None:
        """Nothing can be read, listed, renamed or removed; nor sent elsewhere, in either sense."""

        def try_all(client: ftplib.FTP) -> None:
            client.storbinary("STOR debian/mine/hello_1.0.dsc", io.BytesIO(b"secret"))
            client.cwd("/debian/mine")
            for word in (
                "SIZE hello_1.0.dsc",
                "DELE hello_1.0.dsc",
                "MKD x",
                "RMD /debian/mine",
                "MDTM hello_1.0.dsc",
            ):
                with pytest.raises(ftplib.error_perm):
                    client.voidcmd(word)
            with pytest.raises(ftplib.error_perm, match="550"):
                client.rename("hello_1.0.dsc", "other.dsc")
            for act in (client.nlst, lambda: client.retrbinary("RETR hello_1.0.dsc", print)):
                with pytest.raises(ftplib.error_perm):
                    act()
            with pytest.raises(ftplib.error_perm, match="502"):
                client.voidcmd("PORT 192,0,2,1,0,25")
            for path in ("/debian/other", "/etc", "/debian/mine/hello_1.0.dsc"):
                with pytest.raises(ftplib.error_perm, match="550"):
                    client.cwd(path if path != "/etc" else "/etc/passwd/x")
            for name in ("x.dsc", "/debian/x.dsc", "/debian/mine/a/x.dsc", "/debian/mine/passwd", "../../../x.dsc"):
                if name != "x.dsc":
                    with pytest.raises((ftplib.error_temp, ftplib.error_perm), match=r"450|550"):
                        client.storbinary(f"STOR {name}", io.BytesIO(b"x"))

        await self.with_ftp(try_all)
        assert len(self.spooled()) == 1

    async def test_limits(self) -> None:
        """A file that is too large is refused with the reason, and nothing of it is kept."""

        def send(client: ftplib.FTP) -> None:
            with pytest.raises(ftplib.error_temp, match=r"450 hello_1\.0\.dsc is larger than the 1048576 bytes"):
                client.storbinary("STOR /debian/mine/hello_1.0.dsc", io.BytesIO(b"x" * (2 << 20)))

        await self.with_ftp(send)
        assert self.spooled() == []

    async def test_where_files_are_sent_to(self) -> None:
        """Behind a firewall, to the ports and the address that were configured."""

        def ask(client: ftplib.FTP) -> list[int]:
            told = client.sendcmd("PASV")
            numbers = [int(word) for word in re.findall(r"\d+", told)[1:]]
            with socket.create_connection(("127.0.0.1", numbers[4] * 256 + numbers[5]), 10):
                return numbers

        *address, high, low = await self.with_ftp(ask, self.ftp(range(45210, 45220), "192.0.2.7"))
        assert address == [192, 0, 2, 7] and 45210 <= high * 256 + low < 45220


class TestUploadSftp(UploadCase):
    def setUp(self) -> Any:
        super().setUp()
        self.port = self.sftp()
        ssh = self.directory / ".ssh"
        ssh.mkdir(mode=0o700)
        (ssh / "config").write_text(
            f"Host *\nPort {self.port}\nStrictHostKeyChecking no\nUserKnownHostsFile {ssh}/known_hosts\n"
            f"LogLevel ERROR\nIdentityFile {ssh}/id\nUser ada\n"
        )

    async def sftp_client(self, commands: str, *more: str) -> Any:
        batch = self.directory / "batch"
        batch.write_text(commands)
        config = str(self.directory / ".ssh/config")
        return await self.call("sftp", "-F", config, *more, "-b", str(batch), "anybody@127.0.0.1")

    async def make_key(self) -> None:
        path = str(self.directory / ".ssh/id")
        made = await self.call("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", path)
        assert made.returncode == 0, made

    async def test_openssh(self) -> None:
        """Anybody may come in, with a key or without one; files come whole, or are forgotten."""
        changes = Upload().write(self.directory / "good")
        puts = "".join(f"put {path}\n" for path in sorted(changes.parent.iterdir()) if path != changes)
        sent = await self.sftp_client(f"cd /upload/debian/mine\n{puts}put {changes}\n")
        assert sent.returncode == 0, sent
        assert "hello_1.0_source.changes is accepted by debian/mine: hello 1.0; builds: 1" in sent.stderr
        assert self.sources() == ["hello 1.0"] and self.spooled() == []
        old = Upload(version="0.9").write(self.directory / "old")
        puts = "".join(f"put {path}\n" for path in sorted(old.parent.iterdir()) if path != old)
        sent = await self.sftp_client(f"cd debian/mine\n{puts}put {old}\n")
        assert sent.returncode != 0 and "close remote: Failure" in sent.stderr, sent
        assert "refused by debian/mine:\n- hello 0.9 is not newer than 1.0" in sent.stderr, sent
        sent = await self.sftp_client(f"put {old} /debian/mine/passwd\n")
        assert sent.returncode != 0 and "no file of an upload is called 'passwd'" in sent.stderr, sent
        key = (self.directory / "secrets" / "sftp-host-key").stat()
        assert key.st_mode & 0o777 == 0o600

    async def test_dput(self) -> None:
        """dput's scp goes by SFTP nowadays."""
        profile = {
            "method": "scp", "fqdn": "127.0.0.1", "incoming": "/upload/debian/mine", "login": "ada",
            "ssh_config_options": f"Port {self.port}\n StrictHostKeyChecking no\n UserKnownHostsFile /nonexistent",
        }  # fmt: skip
        sent = await self.dput(profile, Upload().write(self.directory / "good"))
        assert self.sources() == ["hello 1.0"], sent
        assert sent.returncode == 0 and "Successfully uploaded" in sent.stdout, sent
        sent = await self.dput(profile, Upload(version="0.9").write(self.directory / "bad"))
        assert sent.returncode != 0 and "Error while uploading" in sent.stdout + sent.stderr, sent
        assert "hello 0.9 is not newer than 1.0" in sent.stderr, sent

    async def test_scp(self) -> None:
        """scp shows what became of it, too."""
        for version, status in (("1.0", 0), ("0.9", 1)):
            changes = Upload(version=version).write(self.directory / version)
            files = [str(path) for path in sorted(changes.parent.iterdir(), key=lambda path: path == changes)]
            config = str(self.directory / ".ssh/config")
            sent = await self.call("scp", "-F", config, *files, "anybody@127.0.0.1:/upload/debian/mine/")
            assert sent.returncode == status, sent
            assert ("is accepted by", "is not newer than 1.0")[status] in sent.stderr

    async def test_dput_ng(self) -> None:
        """What dput-ng sends is accepted, or refused."""
        await self.make_key()
        shutil.copy(self.directory / ".ssh/id", self.directory / ".ssh/id_rsa")
        keys = await self.call("ssh-keyscan", "-p", str(self.port), "127.0.0.1")
        (self.directory / ".ssh/known_hosts").write_text(keys.stdout)
        profile = {"method": "sftp", "fqdn": "127.0.0.1", "incoming": "/upload/debian/mine", "login": "ada"}
        place = {**profile, "port": str(self.port)}
        sent = await self.dput_ng(place, Upload().write(self.directory / "good"))
        assert sent.returncode == 0, sent
        assert self.sources() == ["hello 1.0"] and self.spooled() == []
        sent = await self.dput_ng(place, Upload(version="0.9").write(self.directory / "bad"))
        assert "hello 0.9 is not newer than 1.0" in self.uploads()[-1].faults[0]
        assert sent.returncode != 0 and "Server connection dropped" in sent.stderr, sent  # It knows no more.

    async def test_one_way(self) -> None:
        """Nothing can be read, listed, renamed, removed or run."""
        path = self.directory / "x.dsc"
        path.write_text("secret")
        sent = await self.sftp_client(f"put {path} /debian/mine/x.dsc\n")
        assert sent.returncode == 0 and len(self.spooled()) == 1, sent
        for command in (
            f"get /debian/mine/x.dsc {self.directory}/got", "ls /debian/mine", "rm /debian/mine/x.dsc",
            "mkdir /debian/x",
            "rename /debian/mine/x.dsc /debian/mine/y.dsc", "symlink /etc/passwd /debian/mine/y.dsc",
            f"put {path} /x.dsc", f"put {path} /debian/mine/a/x.dsc", f"put {path} /debian/mine/passwd",
            "cd /other/mine", f"reput {path} /debian/mine/x.dsc",
        ):  # fmt: skip
            done = await self.sftp_client(f"{command}\n")
            assert done.returncode != 0, (command, done)
        config = str(self.directory / ".ssh/config")
        for words in (["id"], ["-t", "-t"]):
            done = await self.call("ssh", "-F", config, *words[1:], "ada@127.0.0.1", *words[:1])
            assert done.returncode != 0 and "uid" not in done.stdout
        assert len(self.spooled()) == 1

    async def test_it_breaks_off(self) -> None:
        """A client that goes in the middle of a file leaves nothing of it."""
        big = self.directory / "big.dsc"
        big.write_bytes(bytes(900_000))
        config = str(self.directory / ".ssh/config")
        (self.directory / "batch").write_text(f"put {big} /debian/mine/big.dsc\n")
        words = ["timeout", "-s", "KILL", "1.5", "sftp", "-l", "800", "-F", config, "-b", f"{self.directory}/batch"]
        await self.call(*words, "ada@127.0.0.1")
        await self.until(lambda: self.spooled() == [])
        assert self.uploads() == []
