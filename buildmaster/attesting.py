"""Signed statements of what files were built from, and with what: made of the rows of a build when somebody first asks
for one, then kept in the store.

Nothing of that happens while a build is dispatched or gathered: all that a statement says is recorded then anyway. One
that is lost is made again, from the same rows, with the same content; but not once its source is forgotten.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, select, union_all, update

from buildd.control import CONTROL_MAX_BYTES, Buildinfo, ControlError, parse_buildinfo
from buildmaster import builds, envelopes, files, provenance
from buildmaster.envelopes import PublicKey
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.provenance import Digested, Made
from buildmaster.secrets import SecretRefused, Secrets
from buildmaster.store import NotStored, Sha256, StoredFile, store_chunks
from buildmaster.tables import (
    archive,
    attestation,
    attestation_key,
    attested_file,
    build,
    build_file,
    builder,
    source,
    source_file,
    stored_file,
)
from buildmaster.wishes import Wishes

_MEANT = 8  # Digits of a key that somebody has to give, who revokes it.


class NothingToState(LookupError):
    """There is no statement of a build's provenance; the message says why."""


class NoSuchKey(LookupError):
    """The farm has signed statements with no such key; the message says so."""


class NoKey(Exception):
    """The farm's key for statements is not here; the message says what to do."""


@dataclass(frozen=True)
class _Facts:
    """What is said of a build, but for what its .buildinfo says."""

    made: Made
    buildinfo: StoredFile | None
    buildinfo_name: str
    forgotten: bool  # The files of its source are not known any more.


def ensure(farm: Farm, build_id: int) -> bytes:
    """The signed statement about a build that ended well, in DSSE: made now if there is none that counts. Blocks.

    :raises NothingToState: it has not ended well, or it repeats another build; or the statement that there was is lost,
        and nobody knows any more what it was built from.
    :raises NoSuchBuild: there is none.
    :raises NoKey: it cannot be signed here.
    """
    with farm.reading() as connection:
        kept = connection.execute(_KEPT, {"this": build_id}).scalar()
        facts = None if kept else _facts(connection, build_id)
        revoked = {each.key_id for each in keys(connection) if each.revoked_at is not None}
    content = None
    if kept:
        with suppress(NotStored), farm.store.open(Sha256(kept)) as stream:  # That damage can be mended.
            content = stream.read()
            if not revoked or revoked.isdisjoint(envelopes.signers(content)):
                return content
        with farm.reading() as connection:
            facts = _facts(connection, build_id)
    assert facts is not None
    if not facts.forgotten:
        envelope = _signed(farm, _statement(farm, facts))
    elif content is not None:
        envelope = _signed(farm, envelopes.payload(content))
    else:
        raise NothingToState(f"what build {build_id} was built from was forgotten, and the statement about it is lost")
    stored = store_chunks(farm.store, [envelope])
    farm.write(_keep, build_id, stored, facts.made.results, time.time())
    return envelope


def buildinfo_of(farm: Farm, build_id: int) -> Buildinfo | None:
    """What the .buildinfo of a build says. None: there is none, or it is not what it must be. Blocks."""
    with farm.reading() as connection:
        return _read(farm, *_buildinfo(_results(connection, build_id)))


def made_by(connection: Connection, build_id: int) -> dict[str, str]:
    """The results of a build, SHA-256 by name: also those that are kept no more, as far as it was attested."""
    attested = connection.execute(_ATTESTED, {"this": build_id})
    results = connection.execute(_RESULTS, {"this": build_id})
    return {row.name: row.sha256 for rows in (attested, results) for row in rows}


def maker_of(connection: Connection, sha256: str) -> int | None:
    """The build that ended well, first of all that did, with a file of this digest as a result, kept still or not."""
    return connection.execute(_MAKER, {"sha256": sha256}).scalar()


def statements(connection: Connection) -> list[Sha256]:
    """The statements that there are, by what they are called in the store."""
    return [Sha256(each) for each in connection.execute(_EVERY).scalars()]


def keys(connection: Connection) -> list[PublicKey]:
    """The keys that the farm has signed statements with, the oldest first."""
    rows = connection.execute(select(attestation_key).order_by(attestation_key.c.id))
    return [PublicKey(row.key_id, row.public_key, row.revoked_at) for row in rows]


def current(connection: Connection) -> PublicKey | None:
    """The key that the farm signs statements with. None: there is none yet."""
    return next((each for each in reversed(keys(connection)) if each.revoked_at is None), None)


def revoke(farm: Farm, key_id: str, now: float) -> PublicKey:
    """Let nothing count any more that was signed with a key, since somebody else may have it.

    The farm's own statements are signed anew when they are asked for.

    :param key_id: or how it begins.
    :returns: the key that is signed with from now on, a new one if it must be.
    :raises NoSuchKey: there is none such, or several; or it says too little to be meant.
    """
    if len(key_id) < _MEANT:
        raise NoSuchKey(f"{key_id!r} is too short for a key: give the first {_MEANT} digits; `provenance key --json`")

    def mark(connection: Connection) -> None:
        found = [each.key_id for each in keys(connection) if each.key_id.startswith(key_id)]
        if len(found) != 1:
            how_many = "several keys" if found else "no key"
            raise NoSuchKey(f"{how_many} of this farm's begin with {key_id!r}: `provenance key --json` lists them")
        changed = update(attestation_key).where(attestation_key.c.key_id == found[0])
        connection.execute(changed.where(attestation_key.c.revoked_at.is_(None)).values(revoked_at=now))

    farm.write(mark)
    return new_key(farm, unless_there=True)


def new_key(farm: Farm, *, unless_there: bool = False) -> PublicKey:
    """Let the farm have a new key, and sign with that from now on. Statements that are signed stay as they are.

    :param unless_there: not if it has one.
    :returns: the key that it signs with.
    """
    with farm.reading() as connection:
        there = current(connection) if unless_there else None
    if there is not None:
        return there
    secret = envelopes.new_secret()
    public = envelopes.public_key(secret)
    _secrets(farm).keep(secret_name(public), secret)  # Before it is known to be: see NoKey.

    def add(connection: Connection) -> PublicKey:
        there = current(connection)
        if there is not None and unless_there:  # Somebody was quicker.
            return there
        values = {"key_id": public.key_id, "public_key": public.pem, "created_at": time.time()}
        connection.execute(attestation_key.insert().values(**values))
        return public

    return farm.write(add)


def _signed(farm: Farm, content: bytes) -> bytes:
    return envelopes.sign(content, _secret(farm, new_key(farm, unless_there=True)))


def _statement(farm: Farm, facts: _Facts) -> bytes:
    new_key(farm, unless_there=True)
    with farm.reading() as connection:
        first = keys(connection)[0]
    buildinfo = _read(farm, facts.buildinfo_name, facts.buildinfo)
    made = Made(**vars(facts.made) | {"installed": buildinfo.installed if buildinfo else ()})
    return provenance.statement(made, provenance.farm_uri(first.key_id), version("debfarm"))


def _secret(farm: Farm, key: PublicKey) -> str:
    try:
        secret = _secrets(farm).read(secret_name(key))
        if envelopes.public_key(secret).key_id == key.key_id:
            return secret
        why = f"the secret {secret_name(key)!r} is of another key"
    except (SecretRefused, envelopes.BadKey) as error:
        why = str(error)
    raise NoKey(
        f"statements are signed with key {key.key_id}, which cannot be used here: {why}. Copy it from the machine that "
        "has it, or make a new one with `buildmaster provenance key --new`"
    )


def _secrets(farm: Farm) -> Secrets:
    return Secrets(farm.directory / farm.places.secrets)


def secret_name(key: PublicKey) -> str:
    """What the secret part of a key is called among the secrets."""
    return f"provenance-{key.key_id[:32]}"


def _facts(connection: Connection, build_id: int) -> _Facts:
    row: Any = connection.execute(_ABOUT, {"this": build_id}).first()
    if row is None:
        raise builds.NoSuchBuild(build_id)
    if row.state != BuildState.BUILT:
        raise NothingToState(f"build {build_id} is {row.state}: there is provenance of what was built only")
    if row.reproduces_id is not None:
        raise NothingToState(f"build {build_id} repeats build {row.reproduces_id}: provenance is of that one")
    results = _results(connection, build_id)
    sources = connection.execute(_SOURCES, {"this": row.source_id})
    name, stored = _buildinfo(results)
    made = Made(
        **{each: getattr(row, each) for each in _COPIED},
        build_id=build_id,
        wishes={key: value for key, value in vars(Wishes.from_text(row.wishes)).items() if value},
        sources=[Digested(each.name, each.sha256) for each in sources],
        chroot=row.chroot_sha256,
        installed=(),
        results=[Digested(*each) for each in made_by(connection, build_id).items()],
        log=Digested(row.log_name, row.log_sha256) if row.log_sha256 else None,
        started_at=_moment(row.started_at),
        finished_at=_moment(row.finished_at),
    )
    return _Facts(made, stored, name, row.forgotten_at is not None)


def _results(connection: Connection, build_id: int) -> dict[str, StoredFile]:
    rows = connection.execute(_RESULTS, {"this": build_id})
    return {row.name: StoredFile(Sha256(row.sha256), row.sha1, row.size) for row in rows}


def _buildinfo(results: Mapping[str, StoredFile]) -> tuple[str, StoredFile | None]:
    name = next((name for name in results if name.endswith(".buildinfo")), "")
    return name, results.get(name)


def _read(farm: Farm, name: str, stored: StoredFile | None) -> Buildinfo | None:
    if stored is None or stored.size > CONTROL_MAX_BYTES:
        return None
    try:
        with farm.store.open(stored.sha256) as stream:
            return parse_buildinfo(PurePath(name), stream.read())
    except ControlError:
        return None


def _keep(connection: Connection, build_id: int, stored: StoredFile, about: Sequence[Digested], now: float) -> None:
    builds.hold(connection, [build_id])
    file_id = files.keep(connection, stored, now)
    connection.execute(delete(attestation).where(attestation.c.build_id == build_id))
    connection.execute(attestation.insert().values(build_id=build_id, stored_file_id=file_id))
    connection.execute(delete(attested_file).where(attested_file.c.build_id == build_id))
    rows = [{"build_id": build_id, "name": each.name, "sha256": each.sha256} for each in about]
    if rows:
        connection.execute(attested_file.insert(), rows)


def _moment(seconds: float | None) -> str:
    """RFC 3339, to the second."""
    return datetime.fromtimestamp(seconds or 0.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_COPIED = (
    *("source", "version", "dsc", "distribution", "archive", "series", "pocket", "component", "architecture"),
    *("arch_indep", "builder", "builder_version"),
)
_THIS: BindParameter[int] = bindparam("this")
_ABOUT = (
    select(
        *(build.c[name] for name in ("state", "reproduces_id", "source_id", "arch_indep", "wishes", "chroot_sha256")),
        *(build.c[name] for name in ("builder_version", "started_at", "finished_at", "log_name")),
        *builds.DESCRIPTION,
        *(source.c[name] for name in ("component", "dsc", "forgotten_at")),
        source.c.name.label("source"),
        source.c.version.label("version"),
        builds.DESCRIPTION[-1].label("distribution"),
        builds.DESCRIPTION[-2].label("series"),
        archive.c.name.label("archive"),
        builder.c.name.label("builder"),
        stored_file.c.sha256.label("log_sha256"),
    )
    .select_from(
        builds.DESCRIBED.outerjoin(builder, builder.c.id == build.c.builder_id).outerjoin(
            stored_file, stored_file.c.id == build.c.log_file_id
        )
    )
    .where(build.c.id == _THIS)
)
_SOURCES = (
    select(source_file.c.name, stored_file.c.sha256)
    .select_from(source_file.join(stored_file, stored_file.c.id == source_file.c.stored_file_id))
    .where(source_file.c.source_id == _THIS)
)
_RESULTS = (
    select(build_file.c.name, stored_file)
    .select_from(build_file.join(stored_file, stored_file.c.id == build_file.c.stored_file_id))
    .where(build_file.c.build_id == _THIS)
    .order_by(build_file.c.name)
)
_ATTESTED = select(attested_file.c.name, attested_file.c.sha256).where(attested_file.c.build_id == _THIS)
_KEPT = (
    select(stored_file.c.sha256)
    .select_from(attestation.join(stored_file, stored_file.c.id == attestation.c.stored_file_id))
    .where(attestation.c.build_id == _THIS)
)
_EVERY = select(stored_file.c.sha256).join_from(stored_file, attestation).order_by(attestation.c.build_id)
# By two indexes, where one question for both would read all builds.
MAKERS = union_all(
    select(build_file.c.build_id)
    .join(stored_file, stored_file.c.id == build_file.c.stored_file_id)
    .where(stored_file.c.sha256 == bindparam("sha256")),
    select(attested_file.c.build_id).where(attested_file.c.sha256 == bindparam("sha256")),
)
_MAKER = (
    select(build.c.id)
    .where(build.c.id.in_(MAKERS), build.c.state == BuildState.BUILT, build.c.reproduces_id.is_(None))
    .order_by(build.c.id)
    .limit(1)
)
