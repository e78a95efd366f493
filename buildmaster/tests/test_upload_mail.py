"""Who uploads is told what became of it, by a real mail server; and nobody else is."""

import dataclasses

from aiosmtpd.controller import Controller
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from buildmaster import uploaders
from buildmaster.notifying import Notifier
from buildmaster.tests import gpg
from buildmaster.tests.ports import free_port
from buildmaster.tests.test_notifying import SETTINGS, Letterbox
from buildmaster.tests.upload_case import UploadCase
from buildmaster.tests.uploading import Upload
from buildmaster.uploading.acceptance import process
from buildmaster.uploading.arrivals import Folder, Received
from buildmaster.uploading.signatures import read_certificate
from buildmaster.uploading.terms import Terms


class TestUploadMail(UploadCase):
    terms = Terms(tells=True)

    def setUp(self) -> None:
        super().setUp()
        self.box = Letterbox()
        self.server = Controller(self.box, hostname="127.0.0.1", port=free_port())
        self.server.start()
        self.addCleanup(self.server.stop)

    async def send(self, upload: Upload) -> list[tuple[list[str], str, str]]:
        """What letters come of an upload: to whom, their subjects and texts."""
        changes = upload.write(self.directory / f"{upload.version}-{upload.signer}-{upload.distribution}")
        received = Received(changes.name, changes.read_bytes(), Folder(changes.parent))
        await deferToThread(process, self.farm, received, self.place, self.terms, self.now())
        settings = dataclasses.replace(SETTINGS, smtp_port=self.server.port)
        await Notifier(self.farm, reactor, settings, self.now).send_due()  # type: ignore[arg-type]
        letters, self.box.letters = self.box.letters, []
        return [(to, letter["Subject"], letter.get_content().replace("\r", "")) for _, to, letter in letters]

    async def test_letters(self) -> None:
        """Of acceptance and of refusal, to the address in the certificate of who signed."""
        ((to, subject, text),) = await self.send(Upload())
        assert to == ["uploader@example.org"]
        assert subject == "accepted: hello_1.0_source.changes to debian/mine (hello 1.0)"
        assert "Upload:  1: hello_1.0_source.changes to debian/mine (hello 1.0)\nState:   accepted\n" in text
        ((to, subject, text),) = await self.send(Upload(version="0.9", distribution="sid"))
        assert to == ["uploader@example.org"] and subject.startswith("refused: hello_0.9_source.changes")
        assert "What is wrong with it:\n  debian/mine has no suite 'sid'" in text

    async def test_nobody_else(self) -> None:
        """What nobody known has signed is told to nobody, whatever address stands in it."""
        keys = gpg.shared()
        keys.make("mallory")
        assert await self.send(Upload(signer="")) == []
        assert await self.send(Upload(signer="mallory")) == []
        assert len(self.uploads()) == 2

    async def test_no_address(self) -> None:
        """A certificate without one that mail can be sent to: it is accepted all the same."""
        keys = gpg.shared()
        keys.gpg("--quick-gen-key", "--allow-freeform-uid", "noaddress", "ed25519", "sign", "never")
        certificate = keys.gpg("--armor", "--export", "noaddress")
        with self.farm.transaction() as connection:
            uploaders.add(connection, self.place.archive_id, read_certificate(certificate, self.now()), 1.0)
        upload = Upload(signer="")
        upload.sign = lambda content: keys.gpg("-u", "noaddress", "--clearsign", data=content)  # type: ignore[method-assign]
        assert await self.send(upload) == []
        assert self.sources() == ["hello 1.0"]
