"""Signatures of uploads, checked against the certificates of an archive's uploaders by Sequoia.

What is no good is refused in words that say what to do. Beyond what Sequoia refuses, so is what was signed by a key
that has expired or was revoked since: an upload is made now.
"""

import hashlib
import math
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parseaddr

import pysequoia

from buildmaster.notifications import is_address
from buildmaster.uploaders import Certificate
from buildmaster.uploading import openpgp
from buildmaster.uploading.openpgp import Key, Signature, Unreadable

_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
_END = b"-----END PGP SIGNATURE-----"
_HEADER = re.compile(rb"Hash: [A-Za-z0-9, -]{1,80}")
_CERTIFICATE_MAX = 4 << 20  # Some have thousands of others' signatures on them.
_AHEAD_S = 300.0  # So far clocks may be apart.


class SignatureRefused(Exception):
    """A file is not signed as it must be; the message is a sentence that says what to do."""

    def __init__(self, why: str, payload: bytes) -> None:
        super().__init__(why)
        self.payload = payload  # What would be read of the file if it were.


class CertificateRefused(ValueError):
    """A certificate is none of an uploader; the message says why."""


@dataclass(frozen=True)
class Signed:
    """A file whose signature is good."""

    payload: bytes  # What is signed, and nothing beside it.
    fingerprint: str  # Of the certificate.
    identity: str  # A digest of what was signed, when, by whom: however that is wrapped, it is this one.


@dataclass(frozen=True)
class _Known:
    """A certificate, and what it says of itself."""

    cert: pysequoia.Cert
    fingerprint: str
    keys: list[Key]


def read_certificate(content: bytes, now: float) -> Certificate:
    """A certificate as an uploader's, in armour or not.

    :raises CertificateRefused: it is none, or not one; secret; revoked, expired or weak; or cannot sign.
    """
    if len(content) > _CERTIFICATE_MAX:
        raise CertificateRefused(
            f"a certificate of more than {_CERTIFICATE_MAX} bytes is not taken: export a small one"
        )
    try:
        certs = pysequoia.Cert.split_bytes(content)
        if len(certs) != 1:
            raise CertificateRefused(
                f"there are {len(certs)} certificates in it: give one, as `gpg --export --armor KEY` does"
            )
        if any(tag in openpgp.SECRET_KEYS for tag, _ in openpgp.packets(openpgp.dearmour(content))):
            raise CertificateRefused("this is a secret key: give the public one, as `gpg --export --armor KEY` does")
        known = _known(certs[0])
        if why := _unfit(known, now):
            raise CertificateRefused(f"the certificate {known.fingerprint} {why}")
        names = [str(each) for each in certs[0].user_ids]
        return Certificate(known.fingerprint, _name(names), address_in(names), str(certs[0]))
    except CertificateRefused:
        raise
    except (RuntimeError, ValueError, OverflowError) as error:  # Sequoia's are all of the first kind.
        raise CertificateRefused(f"this is no OpenPGP certificate: {_said(error)}") from error


def address_of(certificate: str) -> str:
    """Where who has a certificate is told of uploads; "": nowhere."""
    return address_in([str(each) for each in pysequoia.Cert.from_bytes(certificate.encode()).user_ids])


def check(
    file: str, content: bytes, certificates: Iterable[str], now: float, archive: str, *, age_s: float = math.inf
) -> Signed:
    """What is signed of a file, by one of these certificates.

    :param file: what it is called.
    :param age_s: that its signature may have.
    :param archive: what its archive is called.
    :raises SignatureRefused: in the words for it.
    """
    head, payload, armour = _split(file, content)
    known = [_known(pysequoia.Cert.from_bytes(text.encode())) for text in certificates]
    try:
        data = openpgp.dearmour(armour)
        found, told = list(openpgp.packets(data)), openpgp.signatures(data)
    except Unreadable as error:
        raise SignatureRefused(f"the signature of {file} cannot be read ({error}): sign it again", payload) from error
    if not told:
        raise SignatureRefused(f"there is no signature in what {file} has for one: sign it again", payload)
    if len(found) != 1:  # So that what is said of the one is what was verified of it.
        raise SignatureRefused(f"{file} has more than one signature in its armour: sign it once, with debsign", payload)
    try:
        # In an armour of our own: in a strange one Sequoia might find another signature than we do.
        verified = pysequoia.verify(head + openpgp.armoured(data), lambda _: [each.cert for each in known])
    except (RuntimeError, ValueError):
        raise SignatureRefused(_diagnosis(file, told, known, now, archive), payload) from None
    if verified.bytes is None:
        raise SignatureRefused(f"the signature of {file} is not one of a text: sign it with debsign", payload)
    why = ""
    for valid in verified.valid_sigs:
        cert = next(each for each in known if each.fingerprint == valid.certificate.upper())
        key = next((each for each in cert.keys if each.fingerprint == valid.signing_key.upper()), cert.keys[0])
        why = _unfit(cert, now) or _unfit_key(key, now)
        if not why:
            _must_be_new(file, told[0].created_at, now, age_s, verified.bytes)
            return Signed(verified.bytes, cert.fingerprint, _identity(verified.bytes, told[0]))
    raise SignatureRefused(f"{file} is signed by a key that {why}: sign it with another one", verified.bytes)


def _must_be_new(file: str, made_at: int, now: float, age_s: float, payload: bytes) -> None:
    """Old uploads lie about for everybody to take."""
    if made_at < now - age_s:
        said = f"{file} was signed on {_day(made_at)}, which is too long ago: sign it again"
        raise SignatureRefused(said, payload)


def _identity(payload: bytes, signature: Signature) -> str:
    """The same for whatever can be made of a signed text without its key: ends of lines are not signed, nor is what
    surrounds the hashed part of a signature."""
    lines = [line.rstrip() for line in payload.rstrip().split(b"\n")]
    return hashlib.sha256(b"\n".join([*lines, signature.hashed])).hexdigest()


def unsigned(content: bytes) -> bytes:
    """What would be read of a file, whoever signed it, if anybody did."""
    try:
        return _split("", content)[1]
    except SignatureRefused as refused:
        return refused.payload


def _split(file: str, content: bytes) -> tuple[bytes, bytes, bytes]:
    """All before the signature of a signed text, what is signed of that, and the signature, in armour. Nothing may
    stand outside."""
    lines = content.strip().split(b"\n")
    bare = [line.rstrip() for line in lines]
    if _BEGIN not in bare:
        raise SignatureRefused(f"{file} is not signed: sign it with `debsign` and upload it again", content)
    first = bare.index(_BEGIN)
    begin = bare.index(b"", first) + 1 if b"" in bare[first:] else first + 1
    last = bare.index(_SIGNATURE) if _SIGNATURE in bare[begin:] else len(bare)
    payload = b"".join(line.removeprefix(b"- ") + b"\n" for line in lines[begin:last])
    if last == len(bare) or _END not in bare[last:]:
        raise SignatureRefused(
            f"the signature of {file} has no end: part of the file is missing, send it again", payload
        )
    end = bare.index(_END, last)
    if first or end != len(bare) - 1 or bare.count(_BEGIN) + bare.count(_SIGNATURE) + bare.count(_END) != 3:
        raise SignatureRefused(f"{file} has text outside of what is signed: take it away, and sign all of it", payload)
    if not all(_HEADER.fullmatch(line) for line in bare[first + 1 : begin - 1]):
        raise SignatureRefused(f"{file} has text between its heading and what is signed: take it away", payload)
    return b"".join(line + b"\n" for line in lines[:last]), payload, b"\n".join(bare[last:])


def _diagnosis(file: str, told: list[Signature], known: list[_Known], now: float, archive: str) -> str:
    """Why Sequoia did not take any of these signatures."""
    for signature in told:
        for cert, key in _makers(signature, known):
            return f"{file} {_why(signature, cert, key, now)}"
    who = max((issuer for each in told for issuer in each.issuers), key=len, default="a key that it does not name")
    return (
        f"{file} is signed by {who}, which is no uploader's of {archive}: sign it with an uploader's key, or have "
        "this one added"
    )


def _makers(signature: Signature, known: list[_Known]) -> Iterator[tuple[_Known, Key]]:
    for cert in known:
        for key in cert.keys:
            if signature.is_by(key):
                yield cert, key


def _why(signature: Signature, cert: _Known, key: Key, now: float) -> str:
    if signature.algorithm_of_hash in openpgp.WEAK_HASHES:
        name = openpgp.HASHES[signature.algorithm_of_hash]
        return f"is signed with {name}, which is too weak: sign it again with --digest-algo SHA256"
    unfit = _unfit(cert, now) or _unfit_key(key, now)
    if unfit:
        return f"is signed by a key that {unfit}: sign it with another one"
    if signature.created_at > now + _AHEAD_S:
        return f"was signed in the future ({_day(signature.created_at)}): set the clock, and sign it again"
    if signature.lasts_s and signature.created_at + signature.lasts_s < now:
        return f"has a signature that expired on {_day(signature.created_at + signature.lasts_s)}: sign it again"
    if signature.created_at < key.created_at:
        return "was signed before its key was made: set the clock, and sign it again"
    return "was changed after it was signed, or its key cannot sign: its signature is bad; sign it again"


def _unfit(known: _Known, now: float) -> str:
    """Why nothing may be signed by a certificate now, as the end of a sentence; "": it may."""
    primary = known.keys[0]
    if known.cert.is_revoked:
        return "was revoked"
    if why := _weak(primary):
        return why
    try:
        expires = known.cert.expiration
    except RuntimeError as error:  # What Sequoia's policy has against it.
        return f"is too weak ({_said(error)})"
    if expires is not None and expires.timestamp() <= now:
        return f"expired on {_day(expires.timestamp())}"
    return ""


def _unfit_key(key: Key, now: float) -> str:
    if key.revoked:
        return "was revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return f"expired on {_day(key.expires_at)}"
    return _weak(key)


def _weak(key: Key) -> str:
    if key.algorithm in openpgp.RSA and key.bits < openpgp.RSA_LEAST_BITS:
        return f"is too weak (RSA of {key.bits} bits, where {openpgp.RSA_LEAST_BITS} are needed)"
    return ""


def _known(cert: pysequoia.Cert) -> _Known:
    """:raises Unreadable: it cannot be."""
    keys = openpgp.keys(openpgp.dearmour(str(cert).encode()))
    if not keys:
        raise Unreadable("it has no key")
    return _Known(cert, cert.fingerprint.upper(), keys)


def _name(names: list[str]) -> str:
    """The first user id, harmless to look at."""
    first = names[0] if names else "nobody in particular"
    return "".join(each if each.isprintable() else "?" for each in first)[:255]


def address_in(names: list[str]) -> str:
    """The first mail address in user ids; "": there is none."""
    return next((address for name in names if is_address(address := parseaddr(name)[1])), "")


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _said(error: Exception) -> str:
    """The last of Sequoia's reasons, without where in its code that was."""
    lines = [line.strip() for line in str(error).partition("Stack backtrace")[0].splitlines()]
    return re.sub(r"^\d+: ", "", next((line for line in reversed(lines) if line), "no reason given"))[:200]
