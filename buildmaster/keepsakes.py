"""Secrets that a farm cannot do without, since others know it by them: with its rows they are what makes it this farm.

The other ones can be made, or asked for, anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from buildmaster import attesting, repositories
from buildmaster.secrets import SecretRefused, Secrets


@dataclass(frozen=True)
class Keepsake:
    """A secret that is to be kept for as long as the farm is."""

    name: str
    what_for: str  # In words.


def needed(connection: Connection, now: float) -> list[Keepsake]:
    """Those that a farm has to have, by its rows."""
    found = [
        Keepsake(key.secret_name, f"signs archive {each.words}")
        for each in repositories.every(connection)
        for key in repositories.keys(connection, each.archive_id)
        if key.signs_until is None or key.signs_until > now
    ]
    key = attesting.current(connection)
    return found if key is None else [*found, Keepsake(attesting.secret_name(key), "signs statements of provenance")]


def missing(secrets: Secrets, wanted: list[Keepsake]) -> list[Keepsake]:
    """Which of these are not there, or cannot be used."""
    return [each for each in wanted if _read(secrets, each.name) is None]


def every(secrets: Secrets) -> dict[str, str]:
    """All secrets that are there, by name.

    :raises SecretRefused: one of them cannot be used.
    """
    return {name: secrets.read(name) for name in secrets.names()}


def bring(secrets: Secrets, found: Mapping[str, str]) -> list[str]:
    """Keep secrets that were elsewhere. Returns the names of those that are not: others are there,
    or none can be."""
    kept = {name: _keep(secrets, name, secret) for name, secret in found.items()}
    return sorted(name for name, secret in found.items() if kept[name] != secret)


def _read(secrets: Secrets, name: str) -> str | None:
    try:
        return secrets.read(name)
    except SecretRefused:
        return None


def _keep(secrets: Secrets, name: str, secret: str) -> str | None:
    try:
        return secrets.keep(name, secret)
    except SecretRefused:
        return None
