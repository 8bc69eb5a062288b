"""The catalog's tables: what neither MLflow, nor a dataset's manifest, nor a run's folder knows.

Rows point to those (a dataset's URL, a run's URL, an MLflow run) and don't repeat what they say. Both databases hold
the same tables; times are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Double, ForeignKey, MetaData, String, TypeDecorator, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

JOB_STATES = ("pending", "running", "stopping", "done", "stopped", "failed", "lost")
"""`lost`: the process that ran it ended without a word, which shows when the same run is launched again."""
OPEN_STATES = ("pending", "running", "stopping")
"""States of a job that hasn't ended."""
TRANSLATION_STATES = ("running", "done", "failed")
SHARD_STATES = ("running", "done", "failed")

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names on both databases, so that migrations can speak of them."""


class Utc(TypeDecorator[datetime]):
    """A moment in UTC. SQLite forgets time zones, so that they're put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """With the time zone, UTC."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Document = JSON().with_variant(JSONB(), "postgresql")


def now() -> datetime:
    """This moment, UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Base of the tables."""

    metadata = MetaData(naming_convention=NAMES)

    def as_dict(self) -> dict[str, Any]:
        """The row by column, JSON-able: times as ISO 8601 with seconds, None for what isn't set yet."""
        values = {column.key: vars(self).get(column.key) for column in self.__table__.columns}
        return {
            key: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
            for key, value in values.items()
        }


class Dataset(Base):
    """One version of a dataset at one place: its manifest, at `url`, holds the rest."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("digest", "url"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(index=True)
    name: Mapped[str] = mapped_column(String(64), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(32))
    counts: Mapped[dict[str, Any]] = mapped_column(Document)
    created: Mapped[datetime] = mapped_column(Utc, default=now)


class Job(Base):
    """Something that was launched: one row a launch, so a run that is resumed has several.

    Attributes:
        kind: train, resume, translate, tune, ...: the command.
        name: of the run, or of what else it makes.
        state: one of JOB_STATES.
        experiment: what this launch was given; the run's folder holds what the run was given last.
        submission_id: of Ray Jobs, where it was submitted.
        address: of the cluster that it was submitted to.
        mlflow_run_id: where its metrics are.
        run_url: the run's folder.
        study: the search that it belongs to.
        error: what ended it, if something did.
    """

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    name: Mapped[str] = mapped_column(index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    experiment: Mapped[dict[str, Any] | None] = mapped_column(Document)
    submission_id: Mapped[str | None] = mapped_column(index=True)
    address: Mapped[str | None]
    mlflow_run_id: Mapped[str | None] = mapped_column(index=True)
    run_url: Mapped[str | None] = mapped_column(index=True)
    study: Mapped[str | None] = mapped_column(index=True)
    error: Mapped[str | None]
    created: Mapped[datetime] = mapped_column(Utc, default=now)
    updated: Mapped[datetime] = mapped_column(Utc, default=now, onupdate=now)


class Translation(Base):
    """A dataset translated by a model version; its folder holds the images.

    Attributes:
        job_digest: of the weights, the dataset, the codes and the options: the same work has the same.
        model: the model's URI as it was asked for, or its folder.
        model_version: what an alias was resolved to.
        run_url: the run that made the model, where that was known.
        out_url: the folder of the outputs.
    """

    __tablename__ = "translations"
    __table_args__ = (UniqueConstraint("job_digest", "out_url"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_digest: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(index=True)
    model_version: Mapped[str | None] = mapped_column(String(64))
    run_url: Mapped[str | None] = mapped_column(index=True)
    dataset_url: Mapped[str]
    dataset_digest: Mapped[str] = mapped_column(String(64), index=True)
    out_url: Mapped[str] = mapped_column(index=True)
    options: Mapped[dict[str, Any]] = mapped_column(Document)
    state: Mapped[str] = mapped_column(String(16))
    created: Mapped[datetime] = mapped_column(Utc, default=now)
    updated: Mapped[datetime] = mapped_column(Utc, default=now, onupdate=now)


class Evaluation(Base):
    """A protocol's value of a model; MLflow has its whole record. The newest one of a name and model.

    Attributes:
        name: equal for values that may be compared.
        low: the lower end of its interval, where it has one.
        high: the upper end.
        model: the model's URI, its alias resolved, or its folder.
        run_url: the run that made the model, where that was known.
        mlflow_run_id: where its record is.
    """

    __tablename__ = "evaluations"
    __table_args__ = (UniqueConstraint("name", "weights_sha256", "model"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    value: Mapped[float] = mapped_column(Double)
    low: Mapped[float | None] = mapped_column(Double)
    high: Mapped[float | None] = mapped_column(Double)
    model: Mapped[str] = mapped_column(index=True)
    model_version: Mapped[str | None] = mapped_column(String(64))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    run_url: Mapped[str | None] = mapped_column(index=True)
    dataset_url: Mapped[str]
    dataset_digest: Mapped[str] = mapped_column(String(64), index=True)
    mlflow_run_id: Mapped[str | None]
    created: Mapped[datetime] = mapped_column(Utc, default=now)
    updated: Mapped[datetime] = mapped_column(Utc, default=now, onupdate=now)


class Shard(Base):
    """A shard of a translation: how far it is, how many images it holds, and the digest of its file."""

    __tablename__ = "translation_shards"

    translation_id: Mapped[int] = mapped_column(ForeignKey("translations.id", ondelete="CASCADE"), primary_key=True)
    shard: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    count: Mapped[int]
    digest: Mapped[str | None] = mapped_column(String(64))
    updated: Mapped[datetime] = mapped_column(Utc, default=now, onupdate=now)
