"""`Catalog`: what is written to the experiment database, and found in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from i2idist.catalog import engine as engines
from i2idist.catalog import schema
from i2idist.catalog.models import (
    JOB_STATES,
    OPEN_STATES,
    SHARD_STATES,
    TRANSLATION_STATES,
    Base,
    Dataset,
    Evaluation,
    Job,
    Shard,
    Translation,
    now,
)
from i2idist.catalog.places import place
from i2idist.errors import CatalogError, nearest

LIMIT = 50
BEING_SENT = timedelta(minutes=5)
"""How long a submission may be on its way to a cluster."""
PREFIX = 6
"""Digits of a digest that name its row."""


class Catalog:
    """The experiment database: datasets, jobs, translations, evaluations, and where to read on about each.

    One process may use it from several threads, and several processes at once. Every method raises `CatalogError` where
    the database can't be reached.
    """

    def __init__(self, url: str | None = None) -> None:
        """Open the catalog, making or upgrading its tables.

        Args:
            url: `sqlite:///FILE` or `postgresql://...`; None: see `default_url`.

        Raises:
            CatalogError: it can't be reached, or is of a newer version than this code.
        """
        self._url = engines.parse(url or engines.default_url())
        self._engine = engines.open_engine(self._url)
        try:
            with engines.errors(self._url):
                schema.ensure(self._engine)
        except CatalogError:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Nothing more to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    @property
    def url(self) -> str:
        """Which database it is, without a password."""
        return engines.shown(self._url)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    # What happened.

    def record_dataset(self, url: str, name: str, digest: str, role: str, counts: Mapping[str, Any]) -> None:
        """Note a dataset; one that is known, by digest and place, stays as it is.

        Args:
            url: its folder.
            name: as in its manifest.
            digest: of its manifest, 64 hexadecimal digits.
            role: how its images relate.
            counts: samples, by split and domain.
        """
        values = {"url": place(url), "name": name, "digest": digest, "role": role, "counts": dict(counts)}
        with self._writing() as session:
            session.execute(self._insert(Dataset).values(**values).on_conflict_do_nothing())

    def start_job(
        self,
        kind: str,
        name: str,
        *,
        experiment: Mapping[str, Any] | None = None,
        submission_id: str | None = None,
        address: str | None = None,
        mlflow_run_id: str | None = None,
        run_url: str | None = None,
        study: str | None = None,
    ) -> int:
        """Note a launch or submission, as `pending`; for the columns see `models.Job`.

        A submission's row is continued by the launch that it leads to: that of the same submission, kind and name.

        Returns:
            The job's number.
        """
        values = {
            "experiment": experiment and dict(experiment),
            "submission_id": submission_id,
            "address": address,
            "mlflow_run_id": mlflow_run_id,
            "run_url": run_url and place(run_url),
            "study": study,
        }
        with self._writing() as session:
            job = (
                submission_id
                and session.scalars(
                    select(Job)
                    .where(Job.submission_id == submission_id, Job.kind == kind, Job.name == name)
                    .where(Job.state.in_(OPEN_STATES))
                    .order_by(Job.id.desc())
                ).first()
            )
            if not job:
                job = Job(kind=kind, name=name, state="pending")
                session.add(job)
            for key, value in values.items():
                if value is not None:
                    setattr(job, key, value)
            session.flush()
            return job.id

    def update_job(
        self, id: int, *, state: str | None = None, mlflow_run_id: str | None = None, error: str | None = None
    ) -> None:
        """Note how a job goes. One that runs, or has run, shows that earlier ones of its run are over: they are `lost`.

        Args:
            id: the job's number.
            state: one of `JOB_STATES`; None: as it is.
            mlflow_run_id: where its metrics are, once that is known.
            error: what ended it.

        Raises:
            CatalogError: no such job or state.
        """
        _check("state of a job", state, JOB_STATES)
        with self._writing() as session:
            job = session.get(Job, id)
            if job is None:
                raise CatalogError(f"The catalog {self.url} has no job {id}.")
            job.state, job.mlflow_run_id = state or job.state, mlflow_run_id or job.mlflow_run_id
            job.error, job.updated = error or job.error, now()
            if job.run_url and state in ("running", "done", "stopped"):
                earlier = (Job.run_url == job.run_url, Job.id < id, Job.state.in_(OPEN_STATES))
                session.execute(update(Job).where(*earlier).values(state="lost"))

    def stopping(self, run_url: str) -> None:
        """Note that somebody asked a run to stop."""
        with self._writing() as session:
            open_jobs = (Job.run_url == place(run_url), Job.state.in_(OPEN_STATES))
            session.execute(update(Job).where(*open_jobs).values(state="stopping"))

    def refresh_submissions(
        self, found: Mapping[str, tuple[str, str | None]], address: str
    ) -> dict[str, dict[str, Any]]:
        """Take over what the cluster at `address` says of its jobs, where no launch has noted how they ended.

        A job that was asked to stop and ended in order has stopped. One that is open and unknown to the cluster is
        lost; it is found again if the cluster comes back.

        Args:
            found: state and error, by submission id.
            address: of the cluster.

        Returns:
            The submissions that are known here, by id; the first row of each, should it have led to several.
        """
        with self._reading() as session:
            unknown = (Job.address == address) & Job.state.in_((*OPEN_STATES, "lost"))
            wanted = (Job.submission_id.is_not(None), or_(Job.submission_id.in_(list(found)), unknown))
            rows = session.scalars(select(Job).where(*wanted).order_by(Job.id.desc())).all()
        known = {str(row.submission_id): row for row in rows}
        for id, row in known.items():
            state, error = found.get(id) or ("lost", f"The cluster at {address} doesn't know the job.")
            state = _merged(row.state, state)
            is_new = id not in found and now() - row.created < BEING_SENT
            if state != row.state and not is_new:
                self.update_job(row.id, state=state, error=error)
                row.state, row.error = state, error or row.error
        return {id: row.as_dict() for id, row in known.items()}

    def start_translation(
        self,
        job_digest: str,
        model: str,
        model_version: str | None,
        dataset_url: str,
        dataset_digest: str,
        out_url: str,
        options: Mapping[str, Any],
        *,
        run_url: str | None = None,
    ) -> int:
        """Note a translation; one of the same digest at the same place is continued. See `models.Translation`.

        Returns:
            The translation's number.
        """
        values = {
            "model": place(model),
            "model_version": model_version,
            "dataset_url": place(dataset_url),
            "dataset_digest": dataset_digest,
            "options": dict(options),
            "run_url": run_url and place(run_url),
            "state": "running",
        }
        insert = self._insert(Translation).values(job_digest=job_digest, out_url=place(out_url), **values)
        keys = ["job_digest", "out_url"]
        with self._writing() as session:
            session.execute(insert.on_conflict_do_update(index_elements=keys, set_={**values, "updated": now()}))
            own = (Translation.job_digest == job_digest, Translation.out_url == place(out_url))
            return session.scalars(select(Translation.id).where(*own)).one()

    def record_shard(self, translation_id: int, shard: str, state: str, count: int, digest: str | None) -> None:
        """Note how a shard of a translation stands, replacing what was noted before.

        Args:
            translation_id: from `start_translation`.
            shard: its path below the translation's folder.
            state: one of `SHARD_STATES`.
            count: images that it holds.
            digest: SHA-256 of its file, once that is whole.
        """
        _check("state of a shard", state, SHARD_STATES)
        values = {"state": state, "count": count, "digest": digest, "updated": now()}
        insert = self._insert(Shard).values(translation_id=translation_id, shard=shard, **values)
        with self._writing() as session:
            session.execute(insert.on_conflict_do_update(index_elements=["translation_id", "shard"], set_=values))

    def finish_translation(self, id: int, state: str) -> None:
        """Note how a translation ended: one of `TRANSLATION_STATES`.

        Raises:
            CatalogError: no such translation or state.
        """
        _check("state of a translation", state, TRANSLATION_STATES)
        with self._writing() as session:
            row = session.get(Translation, id)
            if row is None:
                raise CatalogError(f"The catalog {self.url} has no translation {id}.")
            row.state, row.updated = state, now()

    def record_evaluation(
        self,
        name: str,
        value: float,
        low: float | None,
        high: float | None,
        *,
        model: str,
        model_version: str | None,
        weights_sha256: str,
        dataset_url: str,
        dataset_digest: str,
        run_url: str | None = None,
        mlflow_run_id: str | None = None,
    ) -> None:
        """Note a value, replacing what was noted of the same name and model; see `models.Evaluation`."""
        values = {
            "value": value,
            "low": low,
            "high": high,
            "model_version": model_version,
            "run_url": run_url and place(run_url),
            "dataset_url": place(dataset_url),
            "dataset_digest": dataset_digest,
            "mlflow_run_id": mlflow_run_id,
        }
        keys = {"name": name, "weights_sha256": weights_sha256, "model": place(model)}
        insert = self._insert(Evaluation).values(**keys, **values)
        with self._writing() as session:
            update_to = {**values, "updated": now()}
            session.execute(insert.on_conflict_do_update(index_elements=list(keys), set_=update_to))

    # What is known.

    def find_job(self, name: str) -> Job:
        """The newest job of a name or submission id.

        Raises:
            CatalogError: there is none; names the nearest.
        """
        found = self.jobs(or_(Job.name == name, Job.submission_id == name), limit=1)
        if found:
            return found[0]
        known = {text for job in self.jobs(limit=1000) for text in (job.name, job.submission_id) if text}
        raise CatalogError(f"The catalog {self.url} has no job '{name}'.{nearest(name, known)}")

    def datasets(self, *where: ColumnElement[bool], limit: int | None = LIMIT) -> list[Dataset]:
        """Datasets, the newest first."""
        with self._reading() as session:
            return list(session.scalars(select(Dataset).where(*where).order_by(Dataset.id.desc()).limit(limit)))

    def jobs(self, *where: ColumnElement[bool], limit: int | None = LIMIT) -> list[Job]:
        """Jobs, the newest first."""
        with self._reading() as session:
            return list(session.scalars(select(Job).where(*where).order_by(Job.id.desc()).limit(limit)))

    def runs(self, limit: int | None = LIMIT) -> list[Job]:
        """The newest job of each run, the newest first."""
        newest = select(func.max(Job.id)).where(Job.run_url.is_not(None)).group_by(Job.run_url)
        return self.jobs(Job.id.in_(newest), limit=limit)

    def translations(self, *where: ColumnElement[bool], limit: int | None = LIMIT) -> list[Translation]:
        """Translations, the newest first."""
        with self._reading() as session:
            query = select(Translation).where(*where).order_by(Translation.id.desc()).limit(limit)
            return list(session.scalars(query))

    def evaluations(self, *where: ColumnElement[bool], limit: int | None = LIMIT) -> list[Evaluation]:
        """Values of evaluations, the newest first."""
        with self._reading() as session:
            query = select(Evaluation).where(*where).order_by(Evaluation.updated.desc(), Evaluation.id.desc())
            return list(session.scalars(query.limit(limit)))

    def shards(self, translation_id: int) -> list[Shard]:
        """A translation's shards by name."""
        with self._reading() as session:
            own = Shard.translation_id == translation_id
            return list(session.scalars(select(Shard).where(own).order_by(Shard.shard)))

    def find(self, text: str) -> list[Dataset | Job | Translation | Evaluation]:
        """Everything that `text` names: by name, number of a submission, URL, or the first digits of a digest.

        Raises:
            CatalogError: nothing; names the nearest.
        """
        url = place(text)
        job = or_(Job.name == text, Job.submission_id == text, Job.mlflow_run_id == text, Job.run_url == url)
        found: list[Dataset | Job | Translation | Evaluation] = [
            *self.datasets(or_(Dataset.name == text, Dataset.url == url, _begins(Dataset.digest, text))),
            *self.jobs(job),
            *self.translations(or_(Translation.out_url == url, _begins(Translation.job_digest, text))),
            *self.evaluations(or_(Evaluation.name == text, Evaluation.model == url)),
        ]
        if found:
            return found
        raise CatalogError(f"The catalog {self.url} knows nothing named '{text}'.{nearest(text, self._names())}")

    def _names(self) -> set[str]:
        """What can be asked for, the newest thousand of each kind."""
        names = {text for row in self.datasets(limit=1000) for text in (row.name, row.url)}
        names |= {text for job in self.jobs(limit=1000) for text in (job.name, job.submission_id) if text}
        names |= {row.name for row in self.evaluations(limit=1000)}
        return names | {row.out_url for row in self.translations(limit=1000)}

    def _insert(self, table: type[Base]) -> Any:
        """An insert that may be told what to do about a row that is there: both databases have it, SQL doesn't."""
        return (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with engines.errors(self._url), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with engines.errors(self._url), Session(engines.reading(self._engine), expire_on_commit=False) as session:
            yield session


def _merged(noted: str, told: str) -> str:
    """The state of a job by what a catalog has noted and its cluster tells."""
    if noted not in (*OPEN_STATES, "lost"):
        return noted
    if noted == "stopping":
        return {"pending": noted, "running": noted, "done": "stopped"}.get(told, told)
    return told


def _begins(column: InstrumentedAttribute[str], text: str) -> ColumnElement[bool]:
    """Whether a digest begins with `text`, if that is long enough to mean one."""
    is_digest = len(text) >= PREFIX and all(letter in "0123456789abcdef" for letter in text)
    return column.startswith(text) if is_digest else column == text


def _check(what: str, value: str | None, known: Collection[str]) -> None:
    if value is not None and value not in known:
        raise CatalogError(f"'{value}' is no {what}.{nearest(value, known)}")
