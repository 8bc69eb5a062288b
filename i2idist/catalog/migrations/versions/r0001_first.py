"""Datasets, jobs, translations and their shards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "datasets",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("counts", DOCUMENT, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
        sa.UniqueConstraint("digest", "url", name="uq_datasets_digest_url"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("experiment", DOCUMENT),
        sa.Column("submission_id", sa.String),
        sa.Column("address", sa.String),
        sa.Column("mlflow_run_id", sa.String),
        sa.Column("run_url", sa.String),
        sa.Column("study", sa.String),
        sa.Column("error", sa.String),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("updated", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_table(
        "translations",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job_digest", sa.String(64), nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("model_version", sa.String(64)),
        sa.Column("run_url", sa.String),
        sa.Column("dataset_url", sa.String, nullable=False),
        sa.Column("dataset_digest", sa.String(64), nullable=False),
        sa.Column("out_url", sa.String, nullable=False),
        sa.Column("options", DOCUMENT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("updated", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_translations"),
        sa.UniqueConstraint("job_digest", "out_url", name="uq_translations_job_digest_out_url"),
    )
    op.create_table(
        "translation_shards",
        sa.Column("translation_id", sa.Integer, nullable=False),
        sa.Column("shard", sa.String, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64)),
        sa.Column("updated", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("translation_id", "shard", name="pk_translation_shards"),
        sa.ForeignKeyConstraint(
            ["translation_id"],
            ["translations.id"],
            name="fk_translation_shards_translation_id",
            ondelete="CASCADE",
        ),
    )
    for table, column in INDEXES:
        op.create_index(f"ix_{table}_{column}", table, [column])


INDEXES = (
    ("datasets", "url"),
    ("datasets", "name"),
    ("jobs", "kind"),
    ("jobs", "name"),
    ("jobs", "state"),
    ("jobs", "submission_id"),
    ("jobs", "mlflow_run_id"),
    ("jobs", "run_url"),
    ("jobs", "study"),
    ("translations", "model"),
    ("translations", "run_url"),
    ("translations", "dataset_digest"),
    ("translations", "out_url"),
)


def downgrade() -> None:
    """Drop them."""
    for table in ("translation_shards", "translations", "jobs", "datasets"):
        op.drop_table(table)
