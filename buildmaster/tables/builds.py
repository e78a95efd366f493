"""Builds, and who makes them: masters, builders, the queue, and what is told of builds."""

from sqlalchemy import (
    BigInteger,
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
    true,
)

from buildmaster.tables.schema import metadata, tags_column

master = Table(
    "master",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False),  # HOST:PID, for people.
    Column("lease_s", Double, nullable=False),  # Unheard for so long, it has lost its builders.
    Column("beats", BigInteger, nullable=False),  # Counted up again and again while it lives; see leasing.py.
    Column("since", Double, nullable=False),  # By the database's clock, as
    Column("heard_at", Double, nullable=False),  # this; both are for people.
    sqlite_autoincrement=True,  # Ids are never used again.
)

builder = Table(
    "builder",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("url", String(1024), nullable=False, unique=True),  # http://HOST:PORT/, with the slash.
    Column("architecture", String(64), nullable=False),
    Column("virtualised", Boolean, nullable=False, server_default=false()),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("disabled_reason", Text, nullable=False, server_default=""),
    Column("manual", Boolean, nullable=False, server_default=false()),  # Scanned, but given no builds but by hand.
    Column("given_build_id", Integer),  # The build that a person gave it to build next; see giving.py.
    Column("cleanliness", String(16), nullable=False),  # builders.Cleanliness.
    tags_column(),  # What it has for builds that ask for it.
    tags_column("restricted_tags"),  # What it has for those alone that ask for all of it.
    Column("failures", Integer, nullable=False, server_default="0"),  # Consecutive; see blame.py.
    Column("losses", Integer, nullable=False, server_default="0"),  # Builds lost since one ended properly; likewise.
    Column("version", String(255), nullable=False, server_default=""),  # What the daemon says of itself.
    Column("vm_host", String(255), nullable=False, server_default=""),  # For the command that resets it.
    # Since when it is CLEANING; while it is DIRTY, when the command was wanted that resets it. NULL: that is over.
    Column("cleaning_since", Double),
    Column("trouble", Text, nullable=False, server_default=""),  # Why its last scan failed; "": it did not.
    Column("trouble_since", Double),  # When the first of the scans failed that did so in a row. None: the last did not.
    Column("created_at", Double, nullable=False),
    # The master that holds it, if that one has a row still: see masters.py. No foreign key, for this reason.
    Column("master_id", Integer, index=True),
)

build = Table(
    "build",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source_id", ForeignKey("source.id"), nullable=False, index=True),
    Column("series_architecture_id", ForeignKey("series_architecture.id"), nullable=False),
    Column("arch_indep", Boolean, nullable=False, server_default=false()),  # Builds arch:all packages as well.
    Column("manual_score", Integer),  # That a person gave it; None: it has that of scoring.py.
    Column("wishes", Text, nullable=False, server_default=""),  # How it is to be done; see wishes.py.
    tags_column(),  # What it needs of a builder, beside what all builds of its archive do.
    Column("state", String(16), nullable=False),  # lifecycle.BuildState.
    Column("reason", Text, nullable=False, server_default=""),  # Why it is in that state, in words.
    Column("dependencies", Text, nullable=False, server_default=""),  # What a DEP_WAIT waits for.
    # Of what its archives had when its build-dependencies were last looked at, a digest; "": nobody has.
    Column("archive_state", String(64), nullable=False, server_default=""),
    Column("cause", String(32), nullable=False, server_default=""),  # protocol.Cause of the last failure; "": not told.
    Column("error", Text, nullable=False, server_default=""),  # The lines of the log that told so.
    Column("failures", Integer, nullable=False, server_default="0"),  # Consecutive; see blame.py.
    Column("builder_id", ForeignKey("builder.id")),  # That builds it, or was the last to.
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),  # When it was last claimed.
    Column("expected_s", Double),  # What it was expected to take then.
    Column("finished_at", Double),  # When it ended; None unless the state is an ended one.
    Column("log_file_id", ForeignKey("stored_file.id"), index=True),  # The log of the last attempt that ended, gzipped.
    Column("log_name", String(512), nullable=False, server_default=""),
    # When it was last claimed: the SHA-256 of the chroot that it got, and what its builder's daemon said of itself.
    Column("chroot_sha256", String(64), nullable=False, server_default=""),
    Column("builder_version", String(255), nullable=False, server_default=""),
    # The build that this one is to repeat, for comparison: its results go nowhere. None: it is an ordinary one.
    Column("reproduces_id", Integer, index=True),
    Index(None, "series_architecture_id", "state"),
    Index(None, "state", "id"),
)

answer = Table(
    "answer",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("build_id", ForeignKey("build.id"), nullable=False, unique=True),
    Column("told_at", Double, nullable=False),  # The last answer about a build, and what it was:
    Column("begins_from", Double, nullable=False),
    Column("begins_to", Double, nullable=False),
    Column("ends_from", Double, nullable=False),
    Column("ends_to", Double, nullable=False),
)

# What signs statements of provenance: the newest. The secret part is in the secrets directory, as `provenance-KEYID`.
attestation_key = Table(
    "attestation_key",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key_id", String(64), nullable=False, unique=True),  # As statements name it.
    Column("public_key", Text, nullable=False),  # Ed25519, as PEM.
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),  # Since then nothing that it has signed counts, whenever that was.
)

# The signed statements of provenance that there are; see attesting.py.
attestation = Table(
    "attestation",
    metadata,
    Column("build_id", ForeignKey("build.id"), primary_key=True),
    Column("stored_file_id", ForeignKey("stored_file.id"), nullable=False, index=True),
)

# What these statements are about: results that were kept when they were made, and perhaps are no more.
attested_file = Table(
    "attested_file",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("build_id", ForeignKey("build.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    UniqueConstraint("build_id", "name"),
)

build_file = Table(
    "build_file",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("build_id", ForeignKey("build.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("stored_file_id", ForeignKey("stored_file.id"), nullable=False, index=True),
    UniqueConstraint("build_id", "name"),
)

_WAITS = text("coalesce(builder_id, 0) = 0")
# Of all that waits. PostgreSQL, as long as it has no statistics, takes one index for another that begins alike; so who
# wants this one has to say so.
_ENTERED = text("coalesce(builder_id, 0) = 0 AND entered_at >= 0")

build_queue = Table(
    "build_queue",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("build_id", ForeignKey("build.id"), nullable=False, unique=True),
    # Of the build and its archive, said again here so that candidates are found by one index.
    Column("architecture", String(64), nullable=False),
    Column("virtualised", Boolean, nullable=False),
    tags_column(),
    Column("archive_id", Integer, nullable=False, server_default="0"),
    Column("band", Integer, nullable=False, server_default="0"),  # scoring.Band, of the score.
    Column("score", Integer, nullable=False),
    Column("minus_score", Integer, nullable=False, server_default="0"),  # The queue is in its order, then by id.
    Column("manual_score", Boolean, nullable=False, server_default=false()),  # A person set it: it sticks.
    Column("queued_at", Double, nullable=False),
    Column("entered_at", Double, nullable=False, server_default="0"),  # When it was last put into the queue, or back.
    Column("attempts", Integer, nullable=False, server_default="0"),  # How often it was claimed since it was queued.
    Column("broken_by", Text, nullable=False, server_default=""),  # Ids of builders, with spaces; see recovery.py.
    Column("not_before", Double, nullable=False, server_default="0"),  # A pause after it was given back.
    Column("builder_id", ForeignKey("builder.id"), unique=True),  # None: waiting.
    Column("lost_by_id", ForeignKey("builder.id"), index=True),  # The last builder that lost it.
    # When its build-dependencies were found installable, or it was found that nobody can tell. None: not yet.
    Column("looked_at", Double),
    Column("expected_s", Double, nullable=False, server_default="300"),  # How long it will take.
    Column("cancelled_at", Double),  # When a person asked for it.
    Column("stage", String(255), nullable=False, server_default=""),  # What its daemon says it is at.
    # Of what waits, candidates are found by the one, and that there is something new by the other. PostgreSQL knows no
    # order in what comes after a column that IS NULL: so builder_id is no column of theirs. And SQLite would
    # take the index of builder_id for what IS NULL.
    Index(
        "ix_build_queue_turns",
        "architecture",
        "virtualised",
        "tags",
        "band",
        "archive_id",
        "minus_score",
        "id",
        sqlite_where=_WAITS,
        postgresql_where=_WAITS,
    ),
    Index(
        "ix_build_queue_entered",
        "architecture",
        "virtualised",
        "tags",
        "entered_at",
        sqlite_where=_ENTERED,
        postgresql_where=_ENTERED,
    ),
    Index(None, "looked_at", "archive_id", "minus_score"),
)

# Somebody who is still to be told of the state that a build has ended in, or of what became of an upload; see
# notifications.py.
notification = Table(
    "notification",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("build_id", ForeignKey("build.id")),  # Either this,
    Column("upload_id", ForeignKey("upload.id")),  # or this.
    Column("recipient", String(255), nullable=False),
    # Of the build, as it was then. Of an upload: accepted or refused, and its faults as the error.
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("cause", String(32), nullable=False),
    Column("error", Text, nullable=False),
    Column("builder_id", ForeignKey("builder.id")),
    Column("created_at", Double, nullable=False),
    Column("not_before", Double, nullable=False, index=True),  # When to send it, or to send it again.
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("done", String(64), nullable=False, server_default=""),  # The ways in which it was sent, with spaces.
    Column("trouble", Text, nullable=False, server_default=""),  # Why the last attempt failed.
)
