"""The farm's tables. Times are Unix time in seconds (UTC); digests are lower-case hex.

What a state may hold beside itself (a build that is queued has a row in build_queue, an ended one has none) is kept by
:mod:`buildmaster.builds`, which is the only one to change a build's state.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)

from buildmaster.tags import LONGEST

# Names for what would have none, so that migrations can speak of them on any database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def tags_column(name: str = "tags") -> "Column[str]":
    """A set of resource tags; see tags.py."""
    return Column(name, String(LONGEST), nullable=False, server_default="")


stored_file = Table(
    "stored_file",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),  # Its key in the store.
    Column("sha1", String(40), nullable=False, index=True),  # For the builder protocol.
    Column("size", BigInteger, nullable=False),  # Bytes.
    Column("created_at", Double, nullable=False),
)

# Files that were deleted from the store, or are about to be; see files.py.
deleted_file = Table(
    "deleted_file",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("deleted_at", Double, nullable=False),
)

distribution = Table(
    "distribution",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("distribution_id", ForeignKey("distribution.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("nominated_architecture", String(64)),  # Builds arch:all. None: the first that was added.
    UniqueConstraint("distribution_id", "name"),
)

series_architecture = Table(
    "series_architecture",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("architecture", String(64), nullable=False),
    Column(
        "chroot_file_id", ForeignKey("stored_file.id")
    ),  # None: builds are CHROOT_WAIT, unless their pocket has one.
    Column("chroot_name", String(255), nullable=False, server_default=""),  # The file's name when it was added.
    Column("chroot_set_at", Double),
    UniqueConstraint("series_id", "architecture"),
)

# Of a pocket other than RELEASE, on top of that of the series' architecture; see chroots.py.
pocket_chroot = Table(
    "pocket_chroot",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series_architecture_id", ForeignKey("series_architecture.id"), nullable=False),
    Column("pocket", String(16), nullable=False),
    Column("chroot_file_id", ForeignKey("stored_file.id"), nullable=False),
    Column("chroot_name", String(255), nullable=False),
    Column("chroot_set_at", Double, nullable=False),
    UniqueConstraint("series_architecture_id", "pocket"),
)

# What apt in a chroot goes by, read from the tarball when it is first needed; see chroot_system.py.
chroot_system = Table(
    "chroot_system",
    metadata,
    Column("sha256", String(64), primary_key=True),  # Of the tarball.
    Column("content", Text, nullable=False),  # System.pack(), as base64; "": there is none in it.
    Column("lines", Text),  # Its sources, as lines of sources.list. None: it was read before this was looked for.
    Column("line_keys", Text, nullable=False, server_default=""),  # The keys that stand in them, one a line, as base64.
)

archive = Table(
    "archive",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("distribution_id", ForeignKey("distribution.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("purpose", String(16), nullable=False),  # PRIMARY, PPA, PARTNER, COPY.
    Column("private", Boolean, nullable=False, server_default=false()),
    Column("relative_score", Integer, nullable=False, server_default="0"),
    Column("virtualised", Boolean, nullable=False, server_default=false()),  # Build on virtualised builders only.
    Column("weight", Double, nullable=False, server_default="1"),  # Of its share of the builders; see sharing.py.
    tags_column(),  # What its builds need of a builder.
    # For how long a builder may have a build of it; 0: what buildmaster.conf says.
    Column("build_timeout_s", Double, nullable=False, server_default="0"),
    # Addresses of those who are told of builds that end badly, with spaces; see notifications.py.
    Column("notify", Text, nullable=False, server_default=""),
    # Complete sources.list lines, one a line, SERIES standing for the series' name. "": the chroot's own lines.
    Column("apt_lines", Text, nullable=False, server_default=""),
    # OpenPGP public keys that apt trusts for those lines, each as base64, one a line.
    Column("trusted_keys", Text, nullable=False, server_default=""),
    Column("changed_at", Double),  # When it was last said that something was published there; see depwaits.py.
    UniqueConstraint("distribution_id", "name"),
)

archive_account = Table(
    "archive_account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("architecture", String(64), nullable=False),
    Column("virtualised", Boolean, nullable=False),
    Column("used_s", Double, nullable=False, server_default="0"),  # This and the next: sharing.Account.
    Column("level_s", Double, nullable=False, server_default="0"),
    Column("band", Integer, nullable=False, server_default="0"),  # Of its last build to begin.
    UniqueConstraint("archive_id", "architecture", "virtualised"),
    Index(None, "architecture", "virtualised", "band", "level_s"),
)

source = Table(
    "source",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("name", String(255), nullable=False, index=True),
    Column("version", String(255), nullable=False),
    Column("component", String(64), nullable=False, server_default="main"),
    Column("pocket", String(16), nullable=False, server_default="RELEASE"),
    Column("urgency", String(16), nullable=False, server_default="medium"),
    Column("architectures", Text, nullable=False),  # The .dsc's Architecture field.
    Column("dsc", Text, nullable=False, server_default=""),  # Name of the .dsc among its files.
    # Its build relationship fields, one a line: "Build-Depends: foo, bar". None: accepted before they were kept.
    Column("relations", Text),
    Column("created_at", Double, nullable=False),
    Column("superseded_at", Double),  # None: this is the newest of its name.
    UniqueConstraint("archive_id", "series_id", "name", "version"),
)

source_binary = Table(
    "source_binary",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("name", String(255), nullable=False, index=True),  # A binary package that it builds.
    UniqueConstraint("source_id", "name"),
)

# What all builds of a source package need of a builder, whatever its version; see needs.py.
source_need = Table(
    "source_need",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("name", String(255), nullable=False),
    tags_column(),
    UniqueConstraint("archive_id", "name"),
)

source_file = Table(
    "source_file",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("stored_file_id", ForeignKey("stored_file.id"), nullable=False, index=True),
    UniqueConstraint("source_id", "name"),
    Index(None, "name"),
)

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
    UniqueConstraint("archive_id", "name"),
)
