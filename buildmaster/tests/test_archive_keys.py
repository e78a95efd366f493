"""Keys of archives that expire, as those that Debian 13's pysequoia makes do after three years."""

import time
from pathlib import Path

import pysequoia
import pytest

from buildmaster.publishing import archive_keys
from buildmaster.publishing.signing import KeyRefused, expires_at, make_key
from buildmaster.repositories import ArchiveKey
from buildmaster.secrets import Secrets

DAY = 86400.0


def expiring(secrets: Secrets, after_s: float) -> ArchiveKey:
    """A key that expires so long after it was made, which Sequoia says was a minute ago."""
    if not hasattr(pysequoia, "Tsk"):
        pytest.skip("this pysequoia knows one time only")
    made = pysequoia.Tsk.generate("mine", profile=pysequoia.Profile.RFC4880, validity_seconds=int(after_s) + 60)
    certificate = made.extract_certificate()
    key = ArchiveKey(certificate.fingerprint.upper(), str(certificate), 0.0, 0.0, None)
    archive_keys.keep(secrets, key, str(made))
    return key


def test_until_when_a_key_signs(tmp_path: Path) -> None:
    """One of ours, for ever, or for three years; another one, as its certificate says."""
    ours = expires_at(make_key("mine").certificate)
    assert ours is None if hasattr(pysequoia, "Tsk") else abs((ours or 0.0) - time.time() - 1092 * DAY) < DAY
    short = expires_at(expiring(Secrets(tmp_path), 1000).certificate)
    assert short is not None and abs(short - time.time() - 1000) < 10
    with pytest.raises(KeyRefused):
        expires_at("no certificate")


def test_it_is_said_in_time(tmp_path: Path) -> None:
    """From 90 days before on; not while another key signs for longer."""
    secrets, now = Secrets(tmp_path), time.time()
    short, long = expiring(secrets, 91 * DAY), archive_keys.make(secrets, "mine", now)
    assert archive_keys.warning([short], now) == ""
    said = archive_keys.warning([short], now + 2 * DAY)
    assert said.startswith(f"the key {short.fingerprint} expires: it signs until ") and "key rotate" in said
    assert archive_keys.warning([short, long], now + 2 * DAY) == ""


def test_nothing_is_signed_with_it_any_more(tmp_path: Path) -> None:
    """With another one, if there is; else it is said what to do."""
    secrets, now = Secrets(tmp_path), time.time()
    short, long = expiring(secrets, 1000), archive_keys.make(secrets, "mine", now)
    assert archive_keys.signer(secrets, [short, long], now + 1).fingerprints == (short.fingerprint, long.fingerprint)
    assert archive_keys.signer(secrets, [short, long], now + 1001).fingerprints == (long.fingerprint,)
    with pytest.raises(KeyRefused, match=r"has expired: .* `buildmaster archive key rotate` makes another one"):
        archive_keys.signer(secrets, [short], now + 1001)
    with pytest.raises(KeyRefused, match="has no key that signs now"):
        archive_keys.signer(secrets, [], now)
