"""Signatures of uploads: who is believed, and what is said to the others. gpgv is asked about the same files."""

import base64
import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildmaster.tests import gpg
from buildmaster.tests.gpg import A_MINUTE_LATER, PAST, Keys
from buildmaster.uploading import openpgp
from buildmaster.uploading.signatures import CertificateRefused, SignatureRefused, check, read_certificate, unsigned

TEXT = b"Source: hello\nVersion: 1.0\n"
GOOD = "GOODSIG"


@dataclass(frozen=True)
class Case:
    """A signature, what of it is refused, and what gpgv says of it."""

    make: Callable[[Keys], tuple[bytes, bytes]]  # Certificate and signed text.
    says: str
    gpgv: str  # One of the words for it. GOODSIG where it is less strict than we are.


def _by_uploader(*more: str) -> Callable[[Keys], tuple[bytes, bytes]]:
    return lambda keys: (keys.certificate("uploader"), keys.sign("uploader", TEXT, *more))


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Keys], tuple[bytes, bytes]]:
    return lambda keys: (keys.certificate("uploader"), change(keys.sign("uploader", TEXT)))


def _expired(keys: Keys) -> tuple[bytes, bytes]:
    certificate = keys.make("expired", *PAST, expires="1d")
    return certificate, keys.sign("expired", TEXT, *A_MINUTE_LATER)


def _revoked(keys: Keys) -> tuple[bytes, bytes]:
    keys.make("revoked")
    text = keys.sign("revoked", TEXT)
    keys.revoke("revoked")
    return keys.certificate("revoked"), text


def _short(keys: Keys) -> tuple[bytes, bytes]:
    return keys.make("short", algorithm="rsa1024"), keys.sign("short", TEXT)


def _self_signed_weakly(keys: Keys) -> tuple[bytes, bytes]:
    return keys.make("weakly", "--cert-digest-algo", "SHA1"), keys.sign("weakly", TEXT)


def _expired_subkey(keys: Keys) -> tuple[bytes, bytes]:
    keys.make("old-subkey", *PAST)
    keys.add_subkey("old-subkey", *PAST, expires="1d")
    return keys.certificate("old-subkey"), keys.sign("old-subkey", TEXT, *A_MINUTE_LATER)


def _revoked_subkey(keys: Keys) -> tuple[bytes, bytes]:
    keys.make("bad-subkey")
    keys.add_subkey("bad-subkey")
    text = keys.sign("bad-subkey", TEXT)
    keys.revoke_subkeys("bad-subkey")
    return keys.certificate("bad-subkey"), text


def _expired_signature(keys: Keys) -> tuple[bytes, bytes]:
    certificate = keys.make("long-ago", *PAST)
    return certificate, keys.sign("long-ago", TEXT, *A_MINUTE_LATER, "--default-sig-expire", "1d")


def _unknown(keys: Keys) -> tuple[bytes, bytes]:
    keys.make("stranger")
    return keys.certificate("uploader"), keys.sign("stranger", TEXT)


CASES = {
    "unknown key": Case(_unknown, "which is no uploader's of debian/mine", "NO_PUBKEY"),
    "expired key": Case(_expired, "is signed by a key that expired on 2020-01-02", "EXPKEYSIG"),
    "expired subkey": Case(_expired_subkey, "is signed by a key that expired on 2020-01-02", "EXPKEYSIG"),
    "expired signature": Case(_expired_signature, "has a signature that expired on 2020-01-02", "EXPSIG"),
    "revoked key": Case(_revoked, "is signed by a key that was revoked", "REVKEYSIG"),
    "revoked subkey": Case(_revoked_subkey, "is signed by a key that was revoked", "REVKEYSIG"),
    "short RSA key": Case(_short, "is too weak (RSA of 1024 bits", GOOD),
    "SHA-1": Case(_by_uploader("--digest-algo", "SHA1"), "is signed with SHA-1, which is too weak", GOOD),
    "MD5": Case(
        _by_uploader("--digest-algo", "MD5", "--allow-weak-digest-algos"),
        "is signed with MD5, which is too weak",
        "ERRSIG",
    ),
    "weak certificate": Case(_self_signed_weakly, "is too weak (SHA1 is not considered secure", GOOD),
    "of the future": Case(_by_uploader("--faked-system-time", "20990101T000000"), "was signed in the future", GOOD),
    "changed": Case(_changed(lambda text: text.replace(b"1.0", b"1.1")), "was changed after it was signed", "BADSIG"),
    "not signed": Case(_changed(lambda _: TEXT), "is not signed: sign it with `debsign`", "NODATA"),
    "empty": Case(_changed(lambda _: b""), "is not signed", "NODATA"),
    "text before": Case(_changed(lambda text: b"Files: evil\n" + text), "has text outside of what is signed", GOOD),
    "text behind": Case(_changed(lambda text: text + b"\nFiles: evil\n"), "has text outside of what is signed", GOOD),
    "twice": Case(_changed(lambda text: text + text), "has text outside of what is signed", "ERROR"),
    "unterminated": Case(
        _changed(lambda text: text.partition(b"-----END")[0]), "signature of x.changes has no end", GOOD
    ),
    "no signature in it": Case(
        _changed(lambda text: text.partition(b"-----BEGIN PGP SIGNATURE")[0]),
        "signature of x.changes has no end",
        "NODATA",
    ),
    "text among headers": Case(
        _changed(lambda text: re.sub(rb"Hash: .*", b"Files: evil", text)), "text between its heading", "ERRSIG"
    ),
    "broken armour": Case(
        _changed(lambda text: re.sub(rb"(SIGNATURE-----\n\n).*", rb"\1!!!!", text)), "cannot be read", "NODATA"
    ),
}


@pytest.fixture(scope="module")
def keys() -> Keys:
    return gpg.shared()


@pytest.mark.parametrize("name", CASES)
def test_what_is_refused(name: str, keys: Keys) -> None:
    """Each kind has words of its own; and where we are content, gpgv would be."""
    case = CASES[name]
    certificate, text = case.make(keys)
    words = gpg.gpgv(text, certificate)
    assert case.gpgv in words
    with pytest.raises(SignatureRefused) as refused:
        check("x.changes", text, [certificate.decode()], time.time(), "debian/mine")
    assert case.says in str(refused.value)


def made_by_sequoia() -> tuple[str, Any]:
    """A certificate, and what signs for it."""
    module: Any = pysequoia
    if hasattr(module, "Tsk"):
        tsk = module.Tsk.generate("Sequoia <sequoia@example.org>")
        return str(tsk.extract_certificate()), tsk.signer()
    cert = module.Cert.generate("Sequoia <sequoia@example.org>")  # As Debian 13 has it.
    return str(cert), cert.secrets.signer()


def test_what_is_believed(keys: Keys) -> None:
    """A signature of an uploader's, by GnuPG or by Sequoia; what is read is what was signed, dashes and all."""
    text = b"Source: hello\n- dashed\n-----BEGIN PGP\nVersion: 1.0\n"
    theirs, signer = made_by_sequoia()
    by_gpg, by_sequoia = (
        keys.sign("uploader", text),
        pysequoia.sign(signer, text, mode=pysequoia.SignatureMode.CLEAR),
    )
    both = [keys.certificate("uploader").decode(), theirs]
    found = [check("x.changes", each, both, time.time(), "debian/mine") for each in (by_gpg, by_sequoia)]
    assert [each.payload.rstrip() for each in found] == [text.rstrip()] * 2
    assert [unsigned(each).rstrip() for each in (by_gpg, by_sequoia, text)] == [text.rstrip()] * 3
    assert found[0].fingerprint == keys.fingerprint("uploader")
    assert GOOD in gpg.gpgv(by_gpg, keys.certificate("uploader")) and GOOD in gpg.gpgv(by_sequoia, theirs.encode())


def test_one_signature_however_it_is_wrapped(keys: Keys) -> None:
    """What is signed by whom and when is known again whatever is changed of what is not signed; and nothing of that
    makes it younger."""
    certificate, text = keys.certificate("uploader").decode(), keys.sign("uploader", TEXT)
    head, _, armour = text.partition(b"-----BEGIN PGP SIGNATURE-----")
    raw = openpgp.dearmour(b"-----BEGIN PGP SIGNATURE-----" + armour)
    ((_, body),) = openpgp.packets(raw)
    longer = bytes([0xC2, 0xFF]) + len(body).to_bytes(4) + body  # Another encoding of its length.
    hashed = int.from_bytes(body[4:6])
    at = 6 + hashed
    noise = b"\x05\x64abcd"  # A subpacket of somebody's own, not hashed.
    more = body[:at] + (int.from_bytes(body[at : at + 2]) + len(noise)).to_bytes(2) + noise + body[at + 2 :]
    noisy = bytes([0xC2, 0xFF]) + len(more).to_bytes(4) + more

    def wrapped(packets: bytes, before: bytes = head) -> bytes:
        encoded = base64.encodebytes(packets)
        return before + b"-----BEGIN PGP SIGNATURE-----\n\n" + encoded + b"-----END PGP SIGNATURE-----\n"

    first = check("x.changes", text, [certificate], time.time(), "debian/mine")
    spaced = head.replace(b"1.0", b"1.0  ")
    for each in (wrapped(raw), wrapped(longer), wrapped(noisy), wrapped(raw, spaced), b"\n\n" + text + b"\n \n"):
        again = check("x.changes", each, [certificate], time.time(), "debian/mine")
        assert again.identity == first.identity
    for each in (raw + raw, raw + longer, raw + b"\xca\x03PGP"):
        with pytest.raises(SignatureRefused, match="more than one signature"):
            check("x.changes", wrapped(each), [certificate], time.time(), "debian/mine")
    with pytest.raises(SignatureRefused, match="too long ago"):
        check("x.changes", wrapped(noisy), [certificate], time.time() + 100, "debian/mine", age_s=50)
    assert check("x.changes", keys.sign("uploader", TEXT + b"x: y\n"), [certificate], time.time(), "d/m") != first


def test_another_signature_for_us_than_for_sequoia(keys: Keys) -> None:
    """An armour in which Sequoia would find an old signature, and we another, which is of nothing."""
    certificate, old = keys.certificate("uploader").decode(), keys.sign("uploader", TEXT)
    head, begin, armour = old.partition(b"-----BEGIN PGP SIGNATURE-----\n")
    inside = base64.encodebytes(openpgp.dearmour(begin + armour))
    other = keys.sign("uploader", b"x: y\n").rpartition(begin)[2]
    forged = base64.encodebytes(openpgp.dearmour(begin + other))
    strange = head + begin + inside + b"\n" + forged + b"-----END PGP SIGNATURE-----\n"
    assert pysequoia.verify(strange, lambda _: [pysequoia.Cert.from_bytes(certificate.encode())]).valid_sigs
    with pytest.raises(SignatureRefused, match="was changed after it was signed"):
        check("x.changes", strange, [certificate], time.time(), "debian/mine")


def test_certificates(keys: Keys) -> None:
    """Armoured or not; what is no good for an uploader is refused with the reason."""
    good = read_certificate(keys.certificate("uploader"), time.time())
    assert (good.fingerprint, good.address) == (keys.fingerprint("uploader"), "uploader@example.org")
    raw = keys.gpg("--export", "uploader@example.org")
    assert read_certificate(raw, time.time()).fingerprint == good.fingerprint
    secret = keys.gpg("--armor", "--export-secret-keys", "uploader@example.org")
    for content, says in (
        (_expired(Keys())[0], "expired on 2020-01-02"),
        (_revoked(Keys())[0], "was revoked"),
        (_short(Keys())[0], "is too weak"),
        (_self_signed_weakly(Keys())[0], "is too weak"),
        (secret, "this is a secret key"),
        (raw + Keys().make("second", "--no-armor"), "this is no OpenPGP certificate"),
        (b"", "certificate"),
        (b"\x00" * 100, "this is no OpenPGP certificate"),
        (TEXT, "this is no OpenPGP certificate"),
    ):
        with pytest.raises(CertificateRefused) as refused:
            read_certificate(content, time.time())
        assert says in str(refused.value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """What looks at packets never fails in another way than by saying so."""
    for look in (openpgp.signatures, openpgp.keys):
        with contextlib.suppress(openpgp.Unreadable):
            look(openpgp.dearmour(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_is_refused(data: st.DataObject) -> None:
    """However a signed file is changed: what is accepted has the text that was signed."""
    keys = gpg.shared()
    text = bytearray(_SIGNED.setdefault("text", keys.sign("uploader", TEXT)))
    certificate = _SIGNED.setdefault("certificate", keys.certificate("uploader")).decode()
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        signed = check("x.changes", bytes(text), [certificate], time.time(), "debian/mine")
    except SignatureRefused:
        return
    assert signed.payload.split() == TEXT.split()


_SIGNED: dict[str, bytes] = {}
