"""Archives that we publish ourselves, as queries: how each is published, and what signs it."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from buildmaster.tables import archive, archive_key, distribution, repository, source_hold

VALID_MIN_S = 600.0  # What was signed is signed anew when half of it is over, by a master that looks twice a minute.
SNAPSHOT_MIN_S = 1200.0  # A master looks every ten minutes whether one is due.
FORGET_S = 30 * 86400.0  # So long what has left can be looked at, and had again, if nobody says otherwise.
NOT_A_DISTRIBUTION = "upload"  # What uploads are put below, beside the archives.


class RepositoryRefused(ValueError):
    """An archive cannot be published so; the message says why."""


@dataclass(frozen=True)
class Repository:
    """An archive that we publish."""

    archive_id: int
    distribution: str
    name: str
    private: bool
    binaries: bool  # Uploads of binary packages are accepted.
    keep_versions: int  # Older ones that stay beside the newest.
    hold: bool  # Until all architectures have a version.
    hold_deadline_s: float  # But no longer; 0: as long as it takes.
    valid_s: float  # Release files expire after so long; 0: never.
    forget_s: float  # Packages are forgotten so long after they have left; 0: never.
    snapshot_every_s: float  # A snapshot is taken so long after the one before, when anything has changed; 0: never.
    snapshots_kept: int  # So many of these; 0: all.
    created_at: float

    @property
    def words(self) -> str:
        """What it is called."""
        return f"{self.distribution}/{self.name}"


@dataclass(frozen=True)
class Settings:
    """What is to be set of how an archive is published; None: it stays."""

    binaries: bool | None = None
    keep_versions: int | None = None
    hold: bool | None = None
    hold_deadline_s: float | None = None
    valid_s: float | None = None
    forget_s: float | None = None
    snapshot_every_s: float | None = None
    snapshots_kept: int | None = None


@dataclass(frozen=True)
class ArchiveKey:
    """What signs an archive, or did, or will."""

    fingerprint: str  # Upper-case hex.
    certificate: str  # The OpenPGP public key, armoured.
    created_at: float
    signs_from: float
    signs_until: float | None  # None: until further notice.

    def signs(self, now: float) -> bool:
        """Whether it signs what is published at a moment."""
        return self.signs_from <= now and (self.signs_until is None or now < self.signs_until)

    @property
    def secret_name(self) -> str:
        """What the secret part is called among the secrets."""
        return f"archive-key-{self.fingerprint.lower()}"


def add(connection: Connection, archive_id: int, now: float) -> None:
    """Publish an archive from now on; what was accepted before is not.

    :raises RepositoryRefused: it is published already, or its name is none for a path.
    """
    names = connection.execute(_NAMES, {"this": archive_id}).one()
    if "/" in names.distribution + names.name or names.distribution == NOT_A_DISTRIBUTION:
        raise RepositoryRefused(
            f"{names.distribution}/{names.name} cannot be published: DISTRIBUTION/NAME is its path on the web, without "
            f"more slashes, and /{NOT_A_DISTRIBUTION} is for uploads; add an archive by another name"
        )
    values = {"archive_id": archive_id, "created_at": now}
    try:
        with connection.begin_nested():
            connection.execute(repository.insert(), values)
    except IntegrityError:
        raise RepositoryRefused("this archive is published already: `buildmaster archive show` shows it") from None


def find(connection: Connection, archive_id: int) -> Repository | None:
    """How an archive is published; None: not by us."""
    row = connection.execute(_FIND, {"this": archive_id}).one_or_none()
    return None if row is None else Repository(**row._mapping)


def get(connection: Connection, archive_id: int) -> Repository:
    """How an archive is published.

    :raises RepositoryRefused: we do not publish it.
    """
    found = find(connection, archive_id)
    if found is None:
        raise RepositoryRefused(
            "the farm does not publish this archive: `buildmaster archive create` lets it; `archive list` lists those"
        )
    return found


def every(connection: Connection) -> list[Repository]:
    """All archives that we publish, by name."""
    return [Repository(**row._mapping) for row in connection.execute(_EVERY)]


def are_there(connection: Connection) -> bool:
    """Whether we publish any archive."""
    return connection.execute(_ANY).first() is not None


def change(connection: Connection, archive_id: int, settings: Settings) -> None:
    """Change how an archive is published.

    :raises RepositoryRefused: what is signed would expire before it can be signed anew; snapshots would be due oftener
        than anybody looks.
    """
    if settings.snapshot_every_s and settings.snapshot_every_s < SNAPSHOT_MIN_S:
        raise RepositoryRefused(f"snapshots are taken every {SNAPSHOT_MIN_S / 60:g} minutes at most")
    if settings.valid_s and settings.valid_s < VALID_MIN_S:
        raise RepositoryRefused(
            f"Release files that are valid for {settings.valid_s:g} s may expire before they are signed anew: "
            f"at least {VALID_MIN_S / 60:g} minutes, or never"
        )
    values = {name: value for name, value in vars(settings).items() if value is not None}
    if values:
        connection.execute(update(repository).where(repository.c.archive_id == archive_id).values(**values))


def add_key(connection: Connection, archive_id: int, key: ArchiveKey, overlap_s: float = 0.0) -> None:
    """Let an archive have another key; those that it had sign as well for so long, and no longer."""
    until = key.signs_from + overlap_s
    older = (archive_key.c.archive_id == archive_id) & (
        archive_key.c.signs_until.is_(None) | (archive_key.c.signs_until > until)
    )
    connection.execute(update(archive_key).where(older).values(signs_until=until))
    connection.execute(archive_key.insert(), {"archive_id": archive_id, **vars(key)})


def keys(connection: Connection, archive_id: int) -> list[ArchiveKey]:
    """An archive's keys, the oldest first; those as well that sign no more."""
    return [ArchiveKey(**row._mapping) for row in connection.execute(_KEYS, {"this": archive_id})]


def holds(connection: Connection, where: Repository, source_name: str) -> bool:
    """Whether new versions of a source are held until all architectures have them."""
    own = connection.execute(_HOLD, {"archive_id": where.archive_id, "name": source_name}).scalar()
    return where.hold if own is None else bool(own)


def set_hold(connection: Connection, archive_id: int, source_name: str, hold: bool | None) -> None:
    """Say whether new versions of a source are held; None: as its archive says."""
    ours = (source_hold.c.archive_id == archive_id) & (source_hold.c.name == source_name)
    connection.execute(source_hold.delete().where(ours))
    if hold is not None:
        connection.execute(source_hold.insert().values(archive_id=archive_id, name=source_name, hold=hold))


# Made once: to make a statement takes longer than to execute it.
_FOUND = (
    select(
        repository,
        archive.c.name,
        archive.c.private,
        distribution.c.name.label("distribution"),
    )
    .join_from(repository, archive, archive.c.id == repository.c.archive_id)
    .join(distribution, distribution.c.id == archive.c.distribution_id)
)
_NAMES = (
    select(archive.c.name, distribution.c.name.label("distribution"))
    .join(distribution, distribution.c.id == archive.c.distribution_id)
    .where(archive.c.id == bindparam("this"))
)
_FIND = _FOUND.where(repository.c.archive_id == bindparam("this"))
_ANY = select(repository.c.archive_id).limit(1)
_EVERY = _FOUND.order_by(distribution.c.name, archive.c.name)
_KEYS = (
    select(
        archive_key.c.fingerprint,
        archive_key.c.certificate,
        archive_key.c.created_at,
        archive_key.c.signs_from,
        archive_key.c.signs_until,
    )
    .where(archive_key.c.archive_id == bindparam("this"))
    .order_by(archive_key.c.id)
)
_HOLD = select(source_hold.c.hold).where(
    source_hold.c.archive_id == bindparam("archive_id"), source_hold.c.name == bindparam("name")
)
