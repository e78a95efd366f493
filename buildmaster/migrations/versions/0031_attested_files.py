"""What statements of provenance are about: found when builds have forgotten their results."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attested_file",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("build_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], name="fk_attested_file_build_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attested_file"),
        sa.UniqueConstraint("build_id", "name", name="uq_attested_file_build_id_name"),
    )
    op.create_index("ix_attested_file_sha256", "attested_file", ["sha256"])
    op.execute(
        "INSERT INTO attested_file (build_id, name, sha256) "
        "SELECT attestation.build_id, build_file.name, stored_file.sha256 FROM attestation "
        "JOIN build_file ON build_file.build_id = attestation.build_id "
        "JOIN stored_file ON stored_file.id = build_file.stored_file_id"
    )


def downgrade() -> None:
    op.drop_table("attested_file")
