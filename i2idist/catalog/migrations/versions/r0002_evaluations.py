"""Values of evaluations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
INDEXES = ("name", "model", "run_url", "dataset_digest")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("model_version", sa.String(64)),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("run_url", sa.String),
        sa.Column("dataset_url", sa.String, nullable=False),
        sa.Column("dataset_digest", sa.String(64), nullable=False),
        sa.Column("mlflow_run_id", sa.String),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("updated", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.UniqueConstraint("name", "weights_sha256", "model", name="uq_evaluations_name_weights_sha256_model"),
    )
    for column in INDEXES:
        op.create_index(f"ix_evaluations_{column}", "evaluations", [column])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("evaluations")
