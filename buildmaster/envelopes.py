"""Signed statements: DSSE envelopes, and the Ed25519 keys that they are signed with. Pure, over securesystemslib.

That imports slowly, and is not needed by most commands: so functions import it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildmaster.provenance import PAYLOAD_TYPE, Malformed, parse_json

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope

_SEED_BYTES = 32  # Of a secret key (RFC 8032, 5.1.5).


class BadSignature(Exception):
    """An envelope is not signed by any of the keys; the message says which it is signed with."""


class BadKey(ValueError):
    """What should be a key is none; the message says why."""


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with."""

    key_id: str  # 64 hex digits, as securesystemslib makes them of a key.
    pem: str
    revoked_at: float | None = None  # Nothing that it has signed counts any more. None: it is good.


def new_secret() -> str:
    """A new secret key, in hex digits."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return Ed25519PrivateKey.generate().private_bytes_raw().hex()


def public_key(secret: str) -> PublicKey:
    """The public key of a secret one.

    :raises BadKey: that is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    public = Ed25519PrivateKey.from_private_bytes(_seed(secret)).public_key()
    return parse_key(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def parse_key(pem: bytes) -> PublicKey:
    """Take a public key in PEM, as `buildmaster provenance key` prints it.

    :raises BadKey: it is none, or not one of Ed25519.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
    from securesystemslib.signer import SSlibKey  # noqa: PLC0415

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey("it is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadKey("it is no key of Ed25519")
    return PublicKey(SSlibKey.from_crypto(key).keyid, pem.decode())


def sign(payload: bytes, secret: str) -> bytes:
    """An envelope around a statement, as JSON.

    :raises BadKey: the secret is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from securesystemslib.dsse import Envelope  # noqa: PLC0415
    from securesystemslib.signer import CryptoSigner  # noqa: PLC0415

    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(Ed25519PrivateKey.from_private_bytes(_seed(secret))))
    return json.dumps(envelope.to_dict(), sort_keys=True).encode() + b"\n"


def unwrap(content: bytes, keys: Sequence[PublicKey]) -> bytes:
    """The statement in an envelope that one of these keys has signed.

    :raises Malformed: it is no envelope of a statement.
    :raises BadSignature: no key has signed it, or it was changed.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
    from securesystemslib.exceptions import VerificationError  # noqa: PLC0415
    from securesystemslib.signer import SSlibKey  # noqa: PLC0415

    envelope = _parse(parse_json(content))
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Malformed(f"it is an envelope of something else: {str(envelope.payload_type)[:80]!r}")
    theirs = [key for key in keys if key.key_id in envelope.signatures and key.revoked_at is None]
    revoked = [key.key_id for key in keys if key.key_id in envelope.signatures and key.revoked_at is not None]
    if revoked and not theirs:  # There is no telling when it was signed, so that it may be a thief's.
        raise BadSignature(f"it is signed by {revoked[0]}, which was revoked: ask the farm for the statement anew")
    if not theirs:
        # Anybody's words: a terminal must not read them as its own.
        signers = ", ".join(ascii(str(each)[:80]).strip("'\"") for each in envelope.signatures) or "nobody"
        known = ", ".join(key.key_id for key in keys if key.revoked_at is None) or "none"
        raise BadSignature(f"it is signed by {signers}, and the keys that count are: {known}")
    try:
        envelope.verify([SSlibKey.from_crypto(load_pem_public_key(key.pem.encode())) for key in theirs], 1)
    except VerificationError as error:
        raise BadSignature(f"the signature of {theirs[0].key_id} is not of this content") from error
    return envelope.payload


def signers(content: bytes) -> frozenset[str]:
    """The keys that an envelope says it is signed with.

    :raises Malformed: it is none.
    """
    return frozenset(_parse(parse_json(content)).signatures)


def payload(content: bytes) -> bytes:
    """The statement in an envelope, whoever has signed it.

    :raises Malformed: it is none.
    """
    return bytes(_parse(parse_json(content)).payload)


def _parse(document: object) -> "Envelope":
    from securesystemslib.dsse import Envelope  # noqa: PLC0415
    from securesystemslib.exceptions import Error  # noqa: PLC0415

    if not isinstance(document, Mapping):
        raise Malformed("it is no envelope")
    try:
        envelope = Envelope.from_dict(dict(document))
    except (Error, KeyError, ValueError, TypeError, AttributeError) as error:
        raise Malformed(f"it is no envelope with payload, payloadType and signatures: {error!r:.200}") from error
    return envelope


def _seed(secret: str) -> bytes:
    try:
        seed = bytes.fromhex(secret)
    except ValueError as error:
        raise BadKey("it is no secret key in hex digits") from error
    if len(seed) != _SEED_BYTES:
        raise BadKey(f"it is no secret key of {_SEED_BYTES} bytes")
    return seed
