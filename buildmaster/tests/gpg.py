"""OpenPGP keys for tests, made by GnuPG, and gpgv's word on what they sign."""

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

PAST = ("--faked-system-time", "20200101T000000")
A_MINUTE_LATER = ("--faked-system-time", "20200101T000100")


class Keys:
    """A GnuPG home of its own."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="gnupg-"))  # A short path: sockets are in it.
        atexit.register(self._end)

    def _end(self) -> None:
        subprocess.run(["gpgconf", "--kill", "all"], env=self._environment(), check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "GNUPGHOME": str(self.home)}

    def gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        command = ["gpg", "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        done = subprocess.run(
            [*command, *arguments], input=data, env=self._environment(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make(self, name: str, *more: str, algorithm: str = "ed25519", expires: str = "never") -> bytes:
        """A key for NAME <NAME@example.org>; its certificate."""
        user = f"{name} <{name}@example.org>"
        self.gpg(*more, "--quick-gen-key", user, algorithm, "sign,cert", expires)
        return self.certificate(name)

    def certificate(self, name: str) -> bytes:
        return self.gpg("--armor", "--export", f"{name}@example.org")

    def fingerprint(self, name: str) -> str:
        listed = self.gpg("--with-colons", "--list-keys", f"{name}@example.org").decode().splitlines()
        return next(line.split(":")[9] for line in listed if line.startswith("fpr:"))

    def add_subkey(self, name: str, *more: str, expires: str = "never") -> None:
        self.gpg(*more, "--quick-add-key", self.fingerprint(name), "ed25519", "sign", expires)

    def revoke(self, name: str) -> None:
        made = self.home / "openpgp-revocs.d" / f"{self.fingerprint(name)}.rev"
        self.gpg("--import", data=made.read_bytes().replace(b":-----BEGIN", b"-----BEGIN"))

    def revoke_subkeys(self, name: str) -> None:
        words = b"key 1\nrevkey\ny\n0\n\ny\nsave\n"
        self.gpg("--command-fd", "0", "--no-batch", "--no-tty", "--edit-key", self.fingerprint(name), data=words)

    def sign(self, name: str, content: bytes, *more: str) -> bytes:
        return self.gpg(*more, "--local-user", f"{name}@example.org", "--clearsign", data=content)

    def sign_file(self, name: str, path: Path, *more: str) -> None:
        """Sign a .dsc or .changes, as debsign does."""
        path.write_bytes(self.sign(name, path.read_bytes(), *more))


@cache
def shared() -> Keys:
    """One home for all tests of a process, with the key of `uploader`."""
    keys = Keys()
    keys.make("uploader")
    return keys


def gpgv(content: bytes, *certificates: bytes) -> set[str]:
    """What gpgv says of a signed text: GOODSIG, BADSIG, EXPKEYSIG ..."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ring").write_bytes(b"".join(_dearmoured(each) for each in certificates))
        (folder / "text").write_bytes(content)
        command = ["gpgv", "--status-fd", "1", "--keyring", str(folder / "ring"), str(folder / "text")]
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "GNUPGHOME": name})
        return {line.split()[1] for line in done.stdout.decode(errors="replace").splitlines() if line.startswith("[GN")}


def _dearmoured(content: bytes) -> bytes:
    return subprocess.run(["gpg", "--dearmor"], input=content, capture_output=True, check=True).stdout
