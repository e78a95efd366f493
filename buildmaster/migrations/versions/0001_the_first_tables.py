"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "builder",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("url", sa.String(length=1024), nullable=False),
        sa.Column("architecture", sa.String(length=64), nullable=False),
        sa.Column("virtualised", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("manual", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("cleanliness", sa.String(length=16), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("version", sa.String(length=255), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_builder")),
        sa.UniqueConstraint("name", name=op.f("uq_builder_name")),
        sa.UniqueConstraint("url", name=op.f("uq_builder_url")),
    )
    op.create_table(
        "distribution",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_distribution")),
        sa.UniqueConstraint("name", name=op.f("uq_distribution_name")),
    )
    op.create_table(
        "stored_file",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("sha1", sa.String(length=40), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stored_file")),
        sa.UniqueConstraint("sha256", name=op.f("uq_stored_file_sha256")),
    )
    with op.batch_alter_table("stored_file", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_stored_file_sha1"), ["sha1"], unique=False)

    op.create_table(
        "archive",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("distribution_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("private", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("relative_score", sa.Integer(), server_default="0", nullable=False),
        sa.Column("virtualised", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("apt_lines", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["distribution_id"], ["distribution.id"], name=op.f("fk_archive_distribution_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archive")),
        sa.UniqueConstraint("distribution_id", "name", name=op.f("uq_archive_distribution_id_name")),
    )
    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("distribution_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("nominated_architecture", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["distribution_id"], ["distribution.id"], name=op.f("fk_series_distribution_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("distribution_id", "name", name=op.f("uq_series_distribution_id_name")),
    )
    op.create_table(
        "series_architecture",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("architecture", sa.String(length=64), nullable=False),
        sa.Column("chroot_file_id", sa.Integer(), nullable=True),
        sa.Column("chroot_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("chroot_set_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["chroot_file_id"], ["stored_file.id"], name=op.f("fk_series_architecture_chroot_file_id")
        ),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_series_architecture_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series_architecture")),
        sa.UniqueConstraint("series_id", "architecture", name=op.f("uq_series_architecture_series_id_architecture")),
    )
    op.create_table(
        "source",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=255), nullable=False),
        sa.Column("component", sa.String(length=64), server_default="main", nullable=False),
        sa.Column("pocket", sa.String(length=16), server_default="RELEASE", nullable=False),
        sa.Column("urgency", sa.String(length=16), server_default="medium", nullable=False),
        sa.Column("architectures", sa.Text(), nullable=False),
        sa.Column("dsc", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("superseded_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name=op.f("fk_source_archive_id")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_source_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
        sa.UniqueConstraint(
            "archive_id", "series_id", "name", "version", name=op.f("uq_source_archive_id_series_id_name_version")
        ),
    )
    op.create_table(
        "build",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("series_architecture_id", sa.Integer(), nullable=False),
        sa.Column("arch_indep", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("dependencies", sa.Text(), server_default="", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("builder_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("log_file_id", sa.Integer(), nullable=True),
        sa.Column("log_name", sa.String(length=512), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["builder_id"], ["builder.id"], name=op.f("fk_build_builder_id")),
        sa.ForeignKeyConstraint(["log_file_id"], ["stored_file.id"], name=op.f("fk_build_log_file_id")),
        sa.ForeignKeyConstraint(
            ["series_architecture_id"], ["series_architecture.id"], name=op.f("fk_build_series_architecture_id")
        ),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_build_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build")),
    )
    with op.batch_alter_table("build", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_build_series_architecture_id_state"), ["series_architecture_id", "state"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_build_source_id"), ["source_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_build_state_id"), ["state", "id"], unique=False)

    op.create_table(
        "source_file",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("stored_file_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_source_file_source_id")),
        sa.ForeignKeyConstraint(["stored_file_id"], ["stored_file.id"], name=op.f("fk_source_file_stored_file_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_file")),
        sa.UniqueConstraint("source_id", "name", name=op.f("uq_source_file_source_id_name")),
    )
    with op.batch_alter_table("source_file", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_source_file_stored_file_id"), ["stored_file_id"], unique=False)

    op.create_table(
        "build_file",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("stored_file_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], name=op.f("fk_build_file_build_id")),
        sa.ForeignKeyConstraint(["stored_file_id"], ["stored_file.id"], name=op.f("fk_build_file_stored_file_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_file")),
        sa.UniqueConstraint("build_id", "name", name=op.f("uq_build_file_build_id_name")),
    )
    with op.batch_alter_table("build_file", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_build_file_stored_file_id"), ["stored_file_id"], unique=False)

    op.create_table(
        "build_queue",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("architecture", sa.String(length=64), nullable=False),
        sa.Column("virtualised", sa.Boolean(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("manual_score", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("queued_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.Double(), server_default="0", nullable=False),
        sa.Column("builder_id", sa.Integer(), nullable=True),
        sa.Column("lost_by_id", sa.Integer(), nullable=True),
        sa.Column("expected_s", sa.Double(), server_default="300", nullable=False),
        sa.Column("cancelled_at", sa.Double(), nullable=True),
        sa.Column("stage", sa.String(length=255), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], name=op.f("fk_build_queue_build_id")),
        sa.ForeignKeyConstraint(["builder_id"], ["builder.id"], name=op.f("fk_build_queue_builder_id")),
        sa.ForeignKeyConstraint(["lost_by_id"], ["builder.id"], name=op.f("fk_build_queue_lost_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_queue")),
        sa.UniqueConstraint("build_id", name=op.f("uq_build_queue_build_id")),
        sa.UniqueConstraint("builder_id", name=op.f("uq_build_queue_builder_id")),
    )
    with op.batch_alter_table("build_queue", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_build_queue_architecture_virtualised_builder_id_score"),
            ["architecture", "virtualised", "builder_id", "score"],
            unique=False,
        )
