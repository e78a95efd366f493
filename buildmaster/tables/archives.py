"""The archives that the farm publishes itself: what was uploaded, what is in their suites, what signs them."""

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from buildmaster.tables.schema import metadata

# An archive that the farm publishes itself: one has this row, one that is published elsewhere has none.
repository = Table(
    "repository",
    metadata,
    Column("archive_id", ForeignKey("archive.id"), primary_key=True),
    Column("binaries", Boolean, nullable=False, server_default=false()),  # Uploads of binary packages are accepted.
    Column("keep_versions", Integer, nullable=False, server_default="0"),  # Older ones that stay beside the newest.
    Column("hold", Boolean, nullable=False, server_default=false()),  # Until all architectures have a version.
    Column("hold_deadline_s", Double, nullable=False, server_default="0"),  # But no longer; 0: as long as it takes.
    Column("valid_s", Double, nullable=False, server_default="0"),  # Release files expire after so long; 0: never.
    # So long after they have left for good packages are forgotten; 0: never. See retention.py.
    Column("forget_s", Double, nullable=False, server_default="2592000"),
    Column("snapshot_every_s", Double, nullable=False, server_default="0"),  # When anything has changed; 0: never.
    Column("snapshots_kept", Integer, nullable=False, server_default="0"),  # Of those that were due; 0: all.
    Column("created_at", Double, nullable=False),
)

# What signs such an archive. The secret part is in the secrets directory, in a file named after the fingerprint.
archive_key = Table(
    "archive_key",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False, index=True),
    Column("fingerprint", String(128), nullable=False, unique=True),  # Upper-case hex.
    Column("certificate", Text, nullable=False),  # The OpenPGP public key, armoured.
    Column("created_at", Double, nullable=False),
    Column("signs_from", Double, nullable=False),  # It is published from created_at on, and signs from here on,
    Column("signs_until", Double),  # until here. None: until further notice.
)

# Who may upload to an archive.
uploader = Table(
    "uploader",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("fingerprint", String(128), nullable=False),
    Column("name", String(255), nullable=False),  # The certificate's first user id, for people.
    Column("certificate", Text, nullable=False),  # Armoured.
    Column("created_at", Double, nullable=False),
    UniqueConstraint("archive_id", "fingerprint"),
)

# What was uploaded, and what became of it.
upload = Table(
    "upload",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False, index=True),
    Column("name", String(255), nullable=False),  # Of the .changes file.
    Column("sha256", String(64), nullable=False),  # Of the same.
    Column("uploader_id", ForeignKey("uploader.id")),  # None: no known one, or not uploaded with a signature.
    Column("source_id", ForeignKey("source.id")),  # Of an accepted one.
    Column("faults", Text, nullable=False, server_default=""),  # One a line; "": it was accepted.
    Column("created_at", Double, nullable=False),
)

# An archive that another one's builds can take packages from, beside those of its apt_lines.
archive_dependency = Table(
    "archive_dependency",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("depends_on_id", ForeignKey("archive.id"), nullable=False),
    UniqueConstraint("archive_id", "depends_on_id"),
)

# Who may read a private archive; see credentials.py.
archive_reader = Table(
    "archive_reader",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("token_sha256", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("archive_id", "name"),
)

# A binary package, once for all archives that have it.
binary = Table(
    "binary",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source_id", ForeignKey("source.id"), nullable=False, index=True),
    Column("build_id", ForeignKey("build.id"), index=True),  # None: it was uploaded.
    Column("name", String(255), nullable=False, index=True),
    Column("version", String(255), nullable=False),
    Column("architecture", String(64), nullable=False),  # Its own: "all" is one.
    Column("section", String(255), nullable=False, server_default=""),
    Column("debug", Boolean, nullable=False, server_default=false()),  # It has debug symbols, and nothing else.
    Column("file_name", String(255), nullable=False),
    Column("stored_file_id", ForeignKey("stored_file.id"), nullable=False, index=True),
    Column("control", Text, nullable=False),  # Its control file's one paragraph, as it is.
    # The paths of its files, sorted, one a line, gzipped. None: it has none.
    Column("contents_file_id", ForeignKey("stored_file.id"), index=True),
)

# That a source package, or a binary one, is in a suite of an archive; publications.State says how far that is.
publication = Table(
    "publication",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("pocket", String(16), nullable=False),
    Column("component", String(64), nullable=False),
    Column("source_id", ForeignKey("source.id"), nullable=False, index=True),  # Itself, or what a binary was built of.
    Column("binary_id", ForeignKey("binary.id"), index=True),  # None: the source.
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),  # Why it leaves, or why it is held.
    Column("created_at", Double, nullable=False),
    Column("published_at", Double),  # When an index first named it.
    Column("leaves_at", Double),  # When it was decided that it is to leave.
    Column("gone_at", Double),  # When no current index named it any more.
    Column("waived", String(255), nullable=False, server_default=""),  # Architectures that a HELD one is not held for.
    Column("held_until", Double),  # A HELD one becomes PENDING then, whatever has become of the others. None: never.
    # A PUBLISHED one was superseded, and stays, because this publication depends on it; see leaving.py. No foreign key:
    # that one may be forgotten first.
    Column("kept_for_id", Integer),
    Index(
        "ix_publication_kept_for_id",
        "kept_for_id",
        sqlite_where=text("kept_for_id IS NOT NULL"),
        postgresql_where=text("kept_for_id IS NOT NULL"),
    ),
    # What is to change: little at any time. SQLite, once it has statistics, expects as much of one state as of another.
    Index(
        "ix_publication_changing",
        "archive_id",
        "series_id",
        "pocket",
        "state",
        sqlite_where=text("state IN ('PENDING', 'LEAVING')"),
        postgresql_where=text("state IN ('PENDING', 'LEAVING')"),
    ),
    # The state first: so that who has to do with few states of all archives, and who has to do with all states of a few
    # packages, are not led astray by it.
    Index(None, "state", "archive_id", "series_id", "pocket"),
)

# Whether a source package is held until all architectures have it, whatever its archive says.
source_hold = Table(
    "source_hold",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("hold", Boolean, nullable=False),
    UniqueConstraint("archive_id", "name"),
)

# What apt sees of an archive's series and pocket, as it was last published.
suite = Table(
    "suite",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("pocket", String(16), nullable=False),
    Column("generation", Integer, nullable=False, server_default="0"),  # Counted up by each publication; 0: none yet.
    Column("published_at", Double),
    Column("valid_until", Double),  # When its Release file expires. None: never.
    Column("components", String(255), nullable=False, server_default="main"),  # With spaces, as last published.
    Column("refresh_at", Double, index=True),  # When it is to be signed anew, whatever has changed. None: never.
    UniqueConstraint("archive_id", "series_id", "pocket"),
)

# All suites of an archive as they were at a time, kept.
snapshot = Table(
    "snapshot",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("name", String(32), nullable=False),  # 20261122T120000Z.
    Column("taken_at", Double, nullable=False),
    Column("was_due", Boolean, nullable=False, server_default=false()),  # Taken by time, and not by hand.
    UniqueConstraint("archive_id", "name"),
)
