"""Keys of archives, and what they sign. OpenPGP by Sequoia; what is made here Debian 12's gpgv verifies."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import pysequoia
from pysequoia import Cert, SignatureMode

from buildmaster.uploading import openpgp

if TYPE_CHECKING:
    from pysequoia import PySigner  # 0.1.27 has one, but does not tell its name.

_BEGIN: Final = b"-----BEGIN PGP SIGNATURE-----"
_END: Final = b"-----END PGP SIGNATURE-----"
# Debian 13's pysequoia, 0.1.27, has neither: it makes keys of version 4 only, and those for three years.
_HAS_TSK: Final = hasattr(pysequoia, "Tsk")


class KeyRefused(ValueError):
    """A secret key cannot be read, or cannot sign."""


@dataclass(frozen=True)
class NewKey:
    """A key, as it was made."""

    fingerprint: str  # Upper-case hex.
    certificate: str  # The public part, armoured.
    secret: str  # All of it, armoured, without a password: for a file that nobody else reads.


@dataclass(frozen=True)
class Signed:
    """A Release file's signatures."""

    inline: bytes  # InRelease.
    detached: bytes  # Release.gpg.


class Signer(Protocol):
    """Who signs Release files."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Of the keys, in order."""

    def sign(self, text: bytes) -> Signed:
        """Sign with every key."""


def make_key(user_id: str) -> NewKey:
    """Make a key: Ed25519, version 4 (which Debian 12's gpgv knows), with a subkey that signs.

    It does not expire, but with Sequoia's bindings before 0.1.28, whose keys sign for three years.
    """
    if _HAS_TSK:
        secret = pysequoia.Tsk.generate(user_id, profile=pysequoia.Profile.RFC4880)
        certificate = secret.extract_certificate()
    else:
        certificate = Cert.generate(user_id)
        secret = certificate.secrets  # type: ignore[assignment]
    return NewKey(certificate.fingerprint.upper(), str(certificate), str(secret))


@lru_cache(maxsize=1024)
def expires_at(certificate: str) -> float | None:
    """Until when a key of ours can sign; None: for ever.

    :raises KeyRefused: the certificate is none.
    """
    try:
        expiration = Cert.from_bytes(certificate.encode()).expiration
        subkeys = [key for key in openpgp.keys(openpgp.dearmour(certificate.encode())) if key.signs]
    except Exception as exc:  # Sequoia's errors have no class of their own.
        raise KeyRefused(f"not a public key: {_said(exc)}") from exc
    ends = [] if expiration is None else [expiration.timestamp()]
    times = [each.expires_at for each in subkeys if each.expires_at is not None]
    if times and len(times) == len(subkeys):  # Any one of them will do.
        ends.append(max(times))
    return min(ends, default=None)


class Keys:
    """Signs with one key, or with several at once while one takes over from another."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Take secret keys, armoured, at least one.

        :raises KeyRefused: one of them is none, or there is none.
        """
        loaded = [_loaded(secret) for secret in secrets]
        if not loaded:
            raise KeyRefused("an archive needs a key to sign with")
        self._signers = [signer for _, signer in loaded]
        self.fingerprints = tuple(fingerprint for fingerprint, _ in loaded)

    def sign(self, text: bytes) -> Signed:
        lines = text.removesuffix(b"\n")  # What stands before the signature ends its last line.
        inline = [pysequoia.sign(signer, lines, mode=SignatureMode.CLEAR) for signer in self._signers]
        detached = [pysequoia.sign(signer, text, mode=SignatureMode.DETACHED) for signer in self._signers]
        if len(self._signers) == 1:
            return Signed(inline[0], detached[0])
        told, _, _ = inline[0].rpartition(_BEGIN)
        return Signed(told + _joined(inline), _joined(detached))


def keyring(certificates: Sequence[str]) -> str:
    """Public keys, armoured, as one file that apt takes by Signed-By (key.asc).

    It is one block: of several, apt reads the first.

    :raises KeyRefused: one of them is none.
    """
    try:
        packets = b"".join(_serialized(Cert.from_bytes(each.encode())) for each in certificates)
    except Exception as exc:  # Sequoia's errors have no class of their own.
        raise KeyRefused(f"not a public key: {_said(exc)}") from exc
    return _armoured("PUBLIC KEY BLOCK", packets).decode()


def _serialized(certificate: Cert) -> bytes:
    return bytes(certificate) if _HAS_TSK else certificate.bytes()  # type: ignore[attr-defined]


def _loaded(secret: str) -> "tuple[str, PySigner]":
    """A key's fingerprint, and what signs with it."""
    try:
        if _HAS_TSK:
            key = pysequoia.Tsk.from_bytes(secret.encode())
            return key.extract_certificate().fingerprint.upper(), key.signer()
        cert = Cert.from_bytes(secret.encode())
        if cert.secrets is None:
            raise KeyRefused("it has no secret part")
        return cert.fingerprint.upper(), cert.secrets.signer()
    except Exception as exc:  # Sequoia's errors have no class of their own.
        raise KeyRefused(f"not a secret key that can sign: {_said(exc)}") from exc


def _said(error: Exception) -> str:
    """What Sequoia says, without where in its code that was."""
    return str(error).partition("\n\nStack backtrace")[0]


# Armour (RFC 9580, 6), for what Sequoia's bindings have no function for


def _joined(signed: Iterable[bytes]) -> bytes:
    """The signatures of several signed texts, or detached ones, in one block."""
    return _armoured("SIGNATURE", b"".join(map(_packets, signed)))


def _packets(signed: bytes) -> bytes:
    """The signatures at the end of a signed text, or a detached one, without armour."""
    _, _, block = signed.rpartition(_BEGIN)
    body, _, _ = block.partition(_END)
    _, _, data = body.replace(b"\r", b"").partition(b"\n\n")  # Before it are headers.
    data, _, _ = data.partition(b"\n=")  # Behind it is a checksum.
    return base64.b64decode(data)


def _armoured(kind: str, packets: bytes) -> bytes:
    lines = binascii.b2a_base64(packets, newline=False)
    wrapped = [lines[at : at + 64] for at in range(0, len(lines), 64)]
    checksum = b"=" + binascii.b2a_base64(_crc24(packets).to_bytes(3, "big"), newline=False)
    begin, end = (f"-----{word} PGP {kind}-----".encode() for word in ("BEGIN", "END"))
    return b"\n".join([begin, b"", *wrapped, checksum, end, b""])


def _crc24(data: bytes) -> int:
    """Armour's checksum (RFC 9580, 6.1): gpgv does without, but says so."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc
