"""The keys of archives: made, and taken up by who signs. The secret parts are among the farm's secrets."""

import base64
import binascii
import math
import time
from collections.abc import Iterable, Sequence

from buildmaster.publishing.signing import KeyRefused, Keys, expires_at, make_key
from buildmaster.repositories import ArchiveKey
from buildmaster.secrets import Secrets

_WARNS_S = 90 * 86400.0


def make(secrets: Secrets, archive: str, now: float) -> ArchiveKey:
    """Make a key for an archive, and keep its secret part. The public one is the caller's to record.

    :param archive: what the archive is called, for people.
    :raises SecretRefused: it cannot be kept.
    """
    made = make_key(f"Archive {archive}")
    key = ArchiveKey(made.fingerprint, made.certificate, now, now, None)
    keep(secrets, key, made.secret)
    return key


def keep(secrets: Secrets, key: ArchiveKey, secret: str) -> None:
    """Keep the secret part of a key.

    :raises SecretRefused: it cannot be.
    """
    # A secret is one line, and an armoured key is several.
    secrets.keep(key.secret_name, base64.b64encode(secret.encode()).decode())


def signer(secrets: Secrets, keys: Iterable[ArchiveKey], now: float) -> Keys:
    """Signs for an archive, with those of its keys that sign at this moment.

    :raises SecretRefused: a secret part cannot be read.
    :raises KeyRefused: there is none, or each has expired, or one is no key.
    """
    at_work = [key for key in keys if key.signs(now)]
    found = [secret(secrets, key) for key in at_work if (expires_at(key.certificate) or math.inf) > now]
    if not found:
        why = _ending(at_work, now, now) or "the archive has no key that signs now"
        raise KeyRefused(f"{why}: `buildmaster archive key rotate` makes another one")
    return Keys(found)


def warning(keys: Iterable[ArchiveKey], now: float) -> str:
    """What whoever has an archive must know of its keys: that they have expired, or soon will; "": nothing."""
    if why := _ending([key for key in keys if key.signs(now)], now + _WARNS_S, now):
        return f"{why}: `buildmaster archive key rotate` makes another one, which clients must have by then"
    return ""


def _ending(keys: Sequence[ArchiveKey], before: float, now: float) -> str:
    """When the last of some keys expires, or did; "": it does not before that moment."""
    ends = [(expires_at(key.certificate) or math.inf, key.fingerprint) for key in keys]
    at, fingerprint = max(ends, default=(math.inf, ""))
    if at > before:
        return ""
    word = "has expired:" if at <= now else "expires:"
    return f"the key {fingerprint} {word} it signs until {time.strftime('%Y-%m-%d %H:%M', time.gmtime(at))} UTC only"


def secret(secrets: Secrets, key: ArchiveKey) -> str:
    """The secret part of a key, armoured.

    :raises SecretRefused: it cannot be read.
    :raises KeyRefused: it is no key.
    """
    try:
        return base64.b64decode(secrets.read(key.secret_name), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise KeyRefused(f"the secret {key.secret_name} is no key as base64: {error}") from error
