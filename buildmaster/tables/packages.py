"""Files, what is built for, archives, and the source packages in them."""

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
)

from buildmaster.tables.schema import metadata, tags_column

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
    Column("forgotten_at", Double),  # When its files were given up; see retention.py. None: they are here.
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
