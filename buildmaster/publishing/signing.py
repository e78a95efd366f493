"""Keys of archives, and what they sign. OpenPGP by Sequoia; what is made here Debian 12's gpgv verifies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


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
    """Make a key that signs: Ed25519, version 4, which does not expire within a machine's life."""
    raise NotImplementedError


class Keys:
    """Signs with one key, or with several at once while one takes over from another."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Take secret keys, armoured, at least one.

        :raises KeyRefused: one of them is none.
        """
        raise NotImplementedError

    @property
    def fingerprints(self) -> tuple[str, ...]:
        raise NotImplementedError

    def sign(self, text: bytes) -> Signed:
        raise NotImplementedError


def keyring(certificates: Sequence[str]) -> str:
    """Public keys, armoured, as one file that apt takes by Signed-By (key.asc)."""
    raise NotImplementedError
