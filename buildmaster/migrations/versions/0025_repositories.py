"""Archives that the farm publishes itself: who may upload, what is in them, what apt sees."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "repository",
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("binaries", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("keep_versions", sa.Integer, nullable=False, server_default="0"),
        sa.Column("hold", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("hold_deadline_s", sa.Double, nullable=False, server_default="0"),
        sa.Column("valid_s", sa.Double, nullable=False, server_default="0"),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_repository_archive_id"),
        sa.PrimaryKeyConstraint("archive_id", name="pk_repository"),
    )
    op.create_table(
        "archive_key",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("signs_from", sa.Double, nullable=False),
        sa.Column("signs_until", sa.Double),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_archive_key_archive_id"),
        sa.PrimaryKeyConstraint("id", name="pk_archive_key"),
        sa.UniqueConstraint("fingerprint", name="uq_archive_key_fingerprint"),
    )
    op.create_index("ix_archive_key_archive_id", "archive_key", ["archive_id"])
    op.create_table(
        "uploader",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_uploader_archive_id"),
        sa.PrimaryKeyConstraint("id", name="pk_uploader"),
        sa.UniqueConstraint("archive_id", "fingerprint", name="uq_uploader_archive_id_fingerprint"),
    )
    op.create_table(
        "upload",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("uploader_id", sa.Integer),
        sa.Column("source_id", sa.Integer),
        sa.Column("faults", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_upload_archive_id"),
        sa.ForeignKeyConstraint(["uploader_id"], ["uploader.id"], name="fk_upload_uploader_id"),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name="fk_upload_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
    )
    op.create_index("ix_upload_archive_id", "upload", ["archive_id"])
    op.create_table(
        "archive_dependency",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("depends_on_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_archive_dependency_archive_id"),
        sa.ForeignKeyConstraint(["depends_on_id"], ["archive.id"], name="fk_archive_dependency_depends_on_id"),
        sa.PrimaryKeyConstraint("id", name="pk_archive_dependency"),
        sa.UniqueConstraint("archive_id", "depends_on_id", name="uq_archive_dependency_archive_id_depends_on_id"),
    )
    op.create_table(
        "binary",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("source_id", sa.Integer, nullable=False),
        sa.Column("build_id", sa.Integer),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("architecture", sa.String(64), nullable=False),
        sa.Column("section", sa.String(255), nullable=False, server_default=""),
        sa.Column("debug", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("file_name", sa.String(255), nullable=False),
        sa.Column("stored_file_id", sa.Integer, nullable=False),
        sa.Column("control", sa.Text, nullable=False),
        sa.Column("contents_file_id", sa.Integer),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name="fk_binary_source_id"),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], name="fk_binary_build_id"),
        sa.ForeignKeyConstraint(["stored_file_id"], ["stored_file.id"], name="fk_binary_stored_file_id"),
        sa.ForeignKeyConstraint(["contents_file_id"], ["stored_file.id"], name="fk_binary_contents_file_id"),
        sa.PrimaryKeyConstraint("id", name="pk_binary"),
    )
    op.create_index("ix_binary_source_id", "binary", ["source_id"])
    op.create_index("ix_binary_build_id", "binary", ["build_id"])
    op.create_index("ix_binary_name", "binary", ["name"])
    op.create_index("ix_binary_stored_file_id", "binary", ["stored_file_id"])
    op.create_index("ix_binary_contents_file_id", "binary", ["contents_file_id"])
    op.create_table(
        "publication",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("pocket", sa.String(16), nullable=False),
        sa.Column("component", sa.String(64), nullable=False),
        sa.Column("source_id", sa.Integer, nullable=False),
        sa.Column("binary_id", sa.Integer),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("published_at", sa.Double),
        sa.Column("leaves_at", sa.Double),
        sa.Column("gone_at", sa.Double),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_publication_archive_id"),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name="fk_publication_series_id"),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name="fk_publication_source_id"),
        sa.ForeignKeyConstraint(["binary_id"], ["binary.id"], name="fk_publication_binary_id"),
        sa.PrimaryKeyConstraint("id", name="pk_publication"),
    )
    op.create_index("ix_publication_source_id", "publication", ["source_id"])
    op.create_index("ix_publication_binary_id", "publication", ["binary_id"])
    op.create_index(
        "ix_publication_archive_id_series_id_pocket_state",
        "publication",
        ["archive_id", "series_id", "pocket", "state"],
    )
    op.create_table(
        "suite",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("pocket", sa.String(16), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
        sa.Column("published_at", sa.Double),
        sa.Column("valid_until", sa.Double),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_suite_archive_id"),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name="fk_suite_series_id"),
        sa.PrimaryKeyConstraint("id", name="pk_suite"),
        sa.UniqueConstraint("archive_id", "series_id", "pocket", name="uq_suite_archive_id_series_id_pocket"),
    )
    op.create_table(
        "snapshot",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("taken_at", sa.Double, nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_snapshot_archive_id"),
        sa.PrimaryKeyConstraint("id", name="pk_snapshot"),
        sa.UniqueConstraint("archive_id", "name", name="uq_snapshot_archive_id_name"),
    )


def downgrade() -> None:
    for table in (
        "snapshot",
        "suite",
        "publication",
        "binary",
        "archive_dependency",
        "upload",
        "uploader",
        "archive_key",
        "repository",
    ):
        op.drop_table(table)
