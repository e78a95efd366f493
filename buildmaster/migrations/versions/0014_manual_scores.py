"""A score that a person gave is the build's, and not only its place's in the queue."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("build", sa.Column("manual_score", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE build SET manual_score = (SELECT score FROM build_queue WHERE build_queue.build_id = build.id)"
        " WHERE id IN (SELECT build_id FROM build_queue WHERE manual_score)"
    )


def downgrade() -> None:
    op.drop_column("build", "manual_score")
