"""Archives have accounts of builder time; the queue is in the order of their turns."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_PLACE = ["architecture", "virtualised", "builder_id", "tags"]
_BEFORE = "ix_build_queue_architecture_virtualised_builder_id_tags_score"
_ARCHIVE = "SELECT source.archive_id FROM source JOIN build ON build.source_id = source.id WHERE build.id = build_id"
_BAND = "CASE WHEN score >= 10000 THEN 3 WHEN score >= 4500 THEN 2 WHEN score >= 0 THEN 1 ELSE 0 END"


def upgrade() -> None:
    op.create_table(
        "archive_account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("architecture", sa.String(length=64), nullable=False),
        sa.Column("virtualised", sa.Boolean(), nullable=False),
        sa.Column("used_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("level_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("band", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name=op.f("fk_archive_account_archive_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archive_account")),
        sa.UniqueConstraint(
            "archive_id",
            "architecture",
            "virtualised",
            name=op.f("uq_archive_account_archive_id_architecture_virtualised"),
        ),
    )
    level = ["architecture", "virtualised", "band", "level_s"]
    op.create_index(op.f("ix_archive_account_architecture_virtualised_band_level_s"), "archive_account", level)
    op.add_column("archive", sa.Column("weight", sa.Double(), server_default="1", nullable=False))
    op.create_index(op.f("ix_source_name"), "source", ["name"])
    op.add_column("build_queue", sa.Column("archive_id", sa.Integer(), server_default="0", nullable=False))
    op.add_column("build_queue", sa.Column("band", sa.Integer(), server_default="0", nullable=False))
    op.add_column("build_queue", sa.Column("minus_score", sa.Integer(), server_default="0", nullable=False))
    op.add_column("build_queue", sa.Column("entered_at", sa.Double(), server_default="0", nullable=False))
    copies = f"archive_id = ({_ARCHIVE}), band = {_BAND}, minus_score = -score, entered_at = queued_at"
    op.execute(f"UPDATE build_queue SET {copies}")
    op.drop_index(op.f(_BEFORE), "build_queue")
    turns = [*_PLACE, "band", "archive_id", "minus_score", "id"]
    op.create_index("ix_build_queue_turns", "build_queue", turns)
    op.create_index("ix_build_queue_entered", "build_queue", [*_PLACE, "entered_at"])


def downgrade() -> None:
    op.drop_index("ix_build_queue_entered", "build_queue")
    op.drop_index("ix_build_queue_turns", "build_queue")
    op.create_index(op.f(_BEFORE), "build_queue", [*_PLACE, "score"])
    for column in ("entered_at", "minus_score", "band", "archive_id"):
        op.drop_column("build_queue", column)
    op.drop_index(op.f("ix_source_name"), "source")
    op.drop_column("archive", "weight")
    op.drop_table("archive_account")
