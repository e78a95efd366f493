"""What OpenPGP data says of itself: who is said to have signed, by which digest, and until when keys are good.

Nothing here is proof of anything: Sequoia is what verifies, and this is what its refusals are put into words by.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE, PUBLIC_KEY, PUBLIC_SUBKEY = 2, 6, 14  # Tags of packets.
SECRET_KEYS = frozenset({5, 7})  # Of which each, too, is one's tag.
SUBKEY_BINDING, SUBKEY_REVOCATION = 0x18, 0x28  # Types of signatures.
# RFC 9580, 9.5.
HASHES = {1: "MD5", 2: "SHA-1", 3: "RIPEMD-160", 8: "SHA-256", 9: "SHA-384", 10: "SHA-512", 11: "SHA-224"}
_SIGNS_DATA = 0x02  # Of the flags of a key.
WEAK_HASHES = frozenset({1, 2, 3})
RSA = frozenset({1, 2, 3})
RSA_LEAST_BITS = 2048


class Unreadable(ValueError):
    """It is no OpenPGP data, or ends too soon; the message says what of it."""


@dataclass(frozen=True)
class Key:
    """A primary key, or a subkey."""

    fingerprint: str  # Upper-case hex.
    key_id: str
    created_at: int
    algorithm: int
    bits: int  # Of an RSA key's modulus; 0: it is none.
    expires_at: int | None = None  # By its newest binding signature; of subkeys only.
    revoked: bool = False  # Likewise.
    signs: bool = False  # Data, not other keys; likewise.


@dataclass(frozen=True)
class Signature:
    """A signature as it describes itself."""

    kind: int
    algorithm_of_hash: int
    issuers: frozenset[str]  # Fingerprints and key ids, upper-case hex.
    created_at: int
    lasts_s: int  # 0: for ever.
    key_lasts_s: int  # What a binding signature says of the key; likewise.
    hashed: (
        bytes  # What is signed beside the text: its own head, with the time. The rest of a packet anybody can change.
    )
    key_signs: bool = False  # What a binding signature says of the key.

    def is_by(self, key: Key) -> bool:
        """Whether it says that it is by this key."""
        return key.fingerprint in self.issuers or key.key_id in self.issuers


def dearmour(text: bytes) -> bytes:
    """What is in an ASCII armour; what has none is returned as it is.

    :raises Unreadable: it is not base64.
    """
    if not text.lstrip().startswith(b"-----BEGIN PGP "):
        return text
    lines = [line.strip() for line in text.strip().splitlines()[1:]]
    if b"" in lines:  # After the armour's headers.
        lines = lines[lines.index(b"") + 1 :]
    body = []
    for line in lines:
        if line.startswith((b"-----END", b"=")):
            break
        body.append(line)
    try:
        return base64.b64decode(b"".join(body), validate=True)
    except binascii.Error as error:
        raise Unreadable(f"its armour is not base64: {error}") from error


def armoured(data: bytes) -> bytes:
    """A signature in armour, with nothing beside it."""
    lines = base64.encodebytes(data)
    return b"-----BEGIN PGP SIGNATURE-----\n\n" + lines + b"-----END PGP SIGNATURE-----\n"


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet.

    :raises Unreadable: it ends in the middle of one, or is none.
    """
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise Unreadable("it is not made of OpenPGP packets")
        if head & 0x40:
            length, begin = _new_length(data, at + 1)
            tag = head & 0x3F
        else:
            tag, size = (head >> 2) & 0x0F, (1, 2, 4, 0)[head & 3]
            if not size:
                raise Unreadable("a packet has no length")
            begin = at + 1 + size
            length = int.from_bytes(data[at + 1 : begin])
        if begin + length > len(data):
            raise Unreadable("it ends in the middle of a packet")
        yield tag, data[begin : begin + length]
        at = begin + length


def signatures(data: bytes) -> list[Signature]:
    """All signatures, the unknown kinds left out.

    :raises Unreadable: see packets().
    """
    found = [_signature(body) for tag, body in packets(data) if tag == SIGNATURE]
    return [each for each in found if each is not None]


def keys(data: bytes) -> list[Key]:
    """The primary key of a certificate and its subkeys.

    :raises Unreadable: see packets().
    """
    found: list[Key] = []
    bound: list[list[Signature]] = []
    for tag, body in packets(data):
        if tag in (PUBLIC_KEY, PUBLIC_SUBKEY):
            found.append(_key(body))
            bound.append([])
        elif tag == SIGNATURE and found and (signature := _signature(body)) is not None:
            bound[-1].append(signature)
    return [_judged(key, signatures) for key, signatures in zip(found, bound, strict=True)]


def _judged(key: Key, bound: list[Signature]) -> Key:
    """A key with what the signatures say that bind it."""
    bindings = [each for each in bound if each.kind == SUBKEY_BINDING]
    newest = max(bindings, key=lambda each: each.created_at, default=None)
    lasts_s = newest.key_lasts_s if newest else 0
    return Key(
        key.fingerprint,
        key.key_id,
        key.created_at,
        key.algorithm,
        key.bits,
        key.created_at + lasts_s if lasts_s else None,
        any(each.kind == SUBKEY_REVOCATION for each in bound),
        newest is not None and newest.key_signs,
    )


def _key(body: bytes) -> Key:
    if len(body) < 6:
        raise Unreadable("it ends in the middle of a key")
    created_at, algorithm = int.from_bytes(body[1:5]), body[5]
    if body[0] == 6:
        fingerprint = hashlib.sha256(b"\x9b" + len(body).to_bytes(4) + body).hexdigest().upper()
        key_id, material = fingerprint[:16], body[10:]
    else:
        said = b"\x99" + (len(body) & 0xFFFF).to_bytes(2) + body
        fingerprint = hashlib.sha1(said, usedforsecurity=False).hexdigest().upper()
        key_id, material = fingerprint[-16:], body[6:]
    bits = int.from_bytes(material[:2]) if algorithm in RSA else 0
    return Key(fingerprint, key_id, created_at, algorithm, bits)


def _signature(body: bytes) -> Signature | None:
    """None: of a kind that nobody makes any more, or yet."""
    version = body[0] if body else 0
    if version == 3 and len(body) >= 17:
        issuer = body[7:15].hex().upper()
        return Signature(body[2], body[16], frozenset({issuer}), int.from_bytes(body[3:7]), 0, 0, body[2:7])
    if version not in (4, 6) or len(body) < 6:
        return None
    size = 2 if version == 4 else 4
    hashed = _area(body, 4, size)
    unhashed = _area(body, 4 + size + len(hashed), size)
    issuers, times, flags = set(), {2: 0, 3: 0, 9: 0}, b""
    for area in (unhashed, hashed):
        for kind, value in _subpackets(area):
            if kind == 16:
                issuers.add(value.hex().upper())
            elif kind == 33:
                issuers.add(value[1:].hex().upper())
            elif kind in times and area is hashed:
                if len(value) != 4:
                    raise Unreadable("a time in it is none")
                times[kind] = int.from_bytes(value)
            elif kind == 27 and area is hashed:
                flags = value
    head, key_signs = body[: 4 + size + len(hashed)], bool(flags[:1] and flags[0] & _SIGNS_DATA)
    return Signature(body[1], body[3], frozenset(issuers), times[2], times[3], times[9], head, key_signs)


def _area(body: bytes, at: int, size: int) -> bytes:
    begin = at + size
    length = int.from_bytes(body[at:begin])
    if begin + length > len(body):
        raise Unreadable("it ends in the middle of a signature")
    return body[begin : begin + length]


def _subpackets(area: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(area):
        length, begin = _new_length(area, at, partial=False)
        if not length or begin + length > len(area):
            raise Unreadable("it ends in the middle of a signature")
        yield area[begin] & 0x7F, area[begin + 1 : begin + length]
        at = begin + length


def _new_length(data: bytes, at: int, *, partial: bool = True) -> tuple[int, int]:
    """A length, and where what it is the length of begins (RFC 9580, 4.2.1 and 5.2.3.7)."""
    first = data[at] if at < len(data) else 0
    if first < 192:
        return first, at + 1
    if first < 224 or (first < 255 and not partial):
        return ((first - 192) << 8) + int.from_bytes(data[at + 1 : at + 2]) + 192, at + 2
    if first < 255:
        raise Unreadable("a packet comes in parts, as no key and no signature does")
    return int.from_bytes(data[at + 1 : at + 5]), at + 5
