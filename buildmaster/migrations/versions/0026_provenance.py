"""What a build's statement of provenance needs to say, and builds that repeat others."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attestation_key",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attestation_key"),
        sa.UniqueConstraint("key_id", name="uq_attestation_key_key_id"),
    )
    op.create_table(
        "attestation",
        sa.Column("build_id", sa.Integer, nullable=False),
        sa.Column("stored_file_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], name="fk_attestation_build_id"),
        sa.ForeignKeyConstraint(["stored_file_id"], ["stored_file.id"], name="fk_attestation_stored_file_id"),
        sa.PrimaryKeyConstraint("build_id", name="pk_attestation"),
    )
    op.create_index("ix_attestation_stored_file_id", "attestation", ["stored_file_id"])
    op.add_column("build", sa.Column("chroot_sha256", sa.String(64), nullable=False, server_default=""))
    op.add_column("build", sa.Column("builder_version", sa.String(255), nullable=False, server_default=""))
    op.add_column("build", sa.Column("reproduces_id", sa.Integer))
    op.create_index("ix_build_reproduces_id", "build", ["reproduces_id"])


def downgrade() -> None:
    op.drop_index("ix_build_reproduces_id", "build")
    for column in ("reproduces_id", "builder_version", "chroot_sha256"):
        op.drop_column("build", column)
    op.drop_table("attestation")
    op.drop_table("attestation_key")
