"""The keys of archives: made, and taken up by who signs. The secret parts are among the farm's secrets."""

import base64
import binascii
from collections.abc import Iterable

from buildmaster.publishing.signing import KeyRefused, Keys, make_key
from buildmaster.repositories import ArchiveKey
from buildmaster.secrets import Secrets


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
    :raises KeyRefused: there is none, or one is no key.
    """
    found = [secret(secrets, key) for key in keys if key.signs(now)]
    if not found:
        raise KeyRefused("the archive has no key that signs now: `buildmaster archive key rotate` makes one")
    return Keys(found)


def secret(secrets: Secrets, key: ArchiveKey) -> str:
    """The secret part of a key, armoured.

    :raises SecretRefused: it cannot be read.
    :raises KeyRefused: it is no key.
    """
    try:
        return base64.b64decode(secrets.read(key.secret_name), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise KeyRefused(f"the secret {key.secret_name} is no key as base64: {error}") from error
