"""Where something came from, and what became of it: from an image to model, run, config, code and data; and back.

The catalog gives the references; runs, models and translations say the rest themselves (see `references`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import or_

from i2idist import storage
from i2idist.catalog.models import Dataset, Evaluation, Job, Translation
from i2idist.catalog.places import ancestors, is_place, place
from i2idist.catalog.references import (
    Link,
    check_key,
    dataset_link,
    is_model,
    is_run,
    last,
    model_link,
    run_link,
    translation_job,
)
from i2idist.catalog.store import Catalog
from i2idist.errors import CatalogError, StorageError

Use = TypeVar("Use", Translation, Evaluation)

_DEPTH = 5
"""Folders above a file that are looked into for what it belongs to, where the catalog doesn't know."""
_RUNS = 500
"""Runs, the newest, whose records are read to find those that trained on a dataset."""
_AT_ONCE = 16
"""Runs that are read at once."""


@dataclass(frozen=True)
class Lineage:
    """What `trace` found.

    Attributes:
        subject: what was asked about.
        origins: what it came from, the nearest first.
        uses: what was made from it.
    """

    subject: Link
    origins: tuple[Link, ...]
    uses: tuple[Link, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "subject": self.subject.as_dict(),
            "origins": [link.as_dict() for link in self.origins],
            "uses": [link.as_dict() for link in self.uses],
        }


def trace(catalog: Catalog, uri: str) -> Lineage:
    """Follow the references from `uri`, both ways.

    Args:
        catalog: the catalog.
        uri: an image (`SHARD.tar#KEY` or `SHARD.tar/KEY`) or shard of a translation, or its folder; a value by name; a
            model, registered or saved; a run by name, folder, checkpoint or MLflow id; a dataset by name, digest,
            folder or a file in it.

    Raises:
        CatalogError: nobody knows it.
    """
    problem = None
    for look in _LOOKS:
        try:
            lineage = look(catalog, uri)
        except StorageError as error:  # what the catalog knows can be told all the same
            problem = error
            continue
        if lineage:
            return lineage
    if problem:
        raise problem
    rows = catalog.find(uri)  # names the nearest where there is nothing
    raise CatalogError(
        f"The {type(rows[0]).__name__.lower()} '{uri}' has no folder, so its lineage is unknown: see `i2idist show`."
    )


def _folders(uri: str) -> list[str]:
    """The place that `uri` names and the folders above it; none for a mere name, wherever the command is run."""
    url = uri.partition("#")[0]
    is_named = is_place(url) and ("/" in url or storage.exists(url))
    return ancestors(place(url)) if is_named else []


# From a translation.


def _of_translation(catalog: Catalog, uri: str) -> Lineage | None:
    above = _folders(uri)
    mine = or_(Translation.out_url.in_(above), Translation.job_digest == uri)
    row = max(catalog.translations(mine, limit=None), key=lambda row: len(row.out_url), default=None)
    if row is None:
        return _of_outputs(catalog, above[0]) if above else None
    return _of_row(catalog, row, uri)


def _of_row(catalog: Catalog, row: Translation, uri: str) -> Lineage:
    """The lineage of a translation, or of a file in it."""
    url, _, member = uri.partition("#")
    origins = tuple(_origins(catalog, row))
    inside = place(url).removeprefix(f"{row.out_url}/")
    if not inside.strip("/") or inside == place(url):
        return Lineage(_translation(row), origins, ())
    return Lineage(_image(catalog, row, inside, member), (_translation(row), *origins), ())


def _of_unlisted_translation(catalog: Catalog, uri: str) -> Lineage | None:
    """One that the catalog doesn't know, as its folder describes it."""
    for url in _folders(uri)[:_DEPTH]:
        job = translation_job(url)
        if job:
            made = job["model"]
            row = Translation(
                job_digest=job["digest"],
                model=made["uri"],
                model_version=made["version"],
                run_url=made["lineage"].get("run_url"),
                dataset_url=job["dataset_url"],
                dataset_digest=job["dataset_digest"],
                out_url=url,
                options=job["options"],
            )
            return _of_row(catalog, row, uri)
    return None


def _of_outputs(catalog: Catalog, url: str) -> Lineage | None:
    """A folder that translations were put into, and that is nothing else."""
    rows = catalog.translations(Translation.out_url.startswith(f"{url}/", autoescape=True))
    if not rows or is_run(url) or is_model(url) or dataset_link(url):
        return None
    return Lineage(Link("folder", last(url), {"url": url}), (), tuple(map(_translation, rows)))


def _of_evaluation(catalog: Catalog, uri: str) -> Lineage | None:
    """A value by its name: the newest, where several models have one."""
    rows = catalog.evaluations(Evaluation.name == uri, limit=None)
    if not rows:
        return None
    problem = f"{len(rows)} models have a value of this name; this is the newest." if len(rows) > 1 else None
    return Lineage(Link("evaluation", uri, rows[0].as_dict(), problem), tuple(_origins(catalog, rows[0])), ())


def _evaluation(row: Evaluation) -> Link:
    return Link("evaluation", row.name, row.as_dict())


def _translation(row: Translation) -> Link:
    return Link("translation", last(row.out_url), row.as_dict())


def _image(catalog: Catalog, row: Translation, inside: str, member: str) -> Link:
    """A file of a translation, with what is known of the shard that it is or lies in."""
    shards = catalog.shards(row.id) if row.id else []
    if ".tar/" in inside:
        inside, member = inside.split(".tar/", 1)[0] + ".tar", inside.split(".tar/", 1)[1]
    facts: dict[str, Any] = {"url": f"{row.out_url}/{inside}"} | ({"key": member} if member else {})
    for shard in shards:
        if inside in (shard.shard, f"{shard.shard.removesuffix('.tar')}.json"):
            problem = check_key(f"{row.out_url}/{shard.shard}", member) if member else None
            return Link("image" if member else "shard", member or inside, facts | {"shard": shard.as_dict()}, problem)
    known = f"none of its {len(shards)} shards" if shards else "no shard of it"
    return Link("image" if member else "file", member or inside, facts, f"The catalog lists {known} under this name.")


def _origins(catalog: Catalog, row: Translation | Evaluation) -> Iterator[Link]:
    if not row.dataset_url.startswith("samples:"):  # a generator makes them of nothing
        yield _dataset(catalog, row.dataset_digest, row.dataset_url)
    model = model_link(row.model, row.model_version)
    yield model
    yield from _origins_of_model(catalog, model, row.run_url)


# From a model.


def _of_model(catalog: Catalog, uri: str) -> Lineage | None:
    is_registered = uri.startswith("models:/") or re.fullmatch(r"runs:/[^/]+/.+", uri)
    if not is_registered and not any(map(is_model, _folders(uri)[:1])):
        return None
    model = model_link(place(uri))
    rows = catalog.translations(Translation.model.startswith(_stem(model), autoescape=True), limit=None)
    uses = [_translation(row) for row in rows if _is_of(row, model)]
    values = catalog.evaluations(Evaluation.model.startswith(_stem(model), autoescape=True), limit=None)
    uses += [_evaluation(row) for row in values if _is_of(row, model)]
    if model.problem and not uses:
        raise CatalogError(f"The catalog {catalog.url} knows nothing of {uri}, and: {model.problem}")
    return Lineage(model, tuple(_origins_of_model(catalog, model, None)), tuple(uses))


def _stem(model: Link) -> str:
    """What the URIs of all versions of a model begin with."""
    name = model.facts.get("registered")
    return f"models:/{name}" if name else str(model.facts["uri"])


def _is_of(row: Translation | Evaluation, model: Link) -> bool:
    if row.model == model.facts["uri"]:
        return True
    is_same_name = "registered" in model.facts and row.model.removeprefix(_stem(model))[:1] in ("/", "@")
    return is_same_name and row.model_version == model.facts.get("version")


def _origins_of_model(catalog: Catalog, model: Link, run_url: str | None) -> Iterator[Link]:
    """The run that made a model, and the data of that run."""
    url = run_url or _run_url(catalog, model)
    if url:
        run = run_link(url)
        yield run
        yield from _data_of(catalog, run)
    else:
        known = {key: model.facts[key] for key in ("mlflow_run_id", "dataset_digest") if model.facts.get(key)}
        problem = "Neither the model nor the catalog says where this run's folder is."
        yield Link("run", str(model.facts.get("run", "unknown")), known, problem)
        if "dataset_digest" in known:
            yield _dataset(catalog, known["dataset_digest"])


def _run_url(catalog: Catalog, model: Link) -> str | None:
    """The folder of the run that made a model: as it says, or as the catalog knows the run's name or MLflow id."""
    facts = model.facts
    if facts.get("run_url"):
        return place(facts["run_url"])
    for column, value in ((Job.mlflow_run_id, facts.get("mlflow_run_id")), (Job.name, facts.get("run"))):
        jobs = catalog.jobs(column == value, Job.run_url.is_not(None), limit=1) if value else []
        if jobs:
            return jobs[0].run_url
    return None


# From a run.


def _of_run(catalog: Catalog, uri: str) -> Lineage | None:
    """A run by name, MLflow id or submission; or the one that a folder or checkpoint belongs to."""
    name = uri.removeprefix("runs:/")
    named = or_(Job.name == name, Job.mlflow_run_id == name, Job.submission_id == name, Job.run_url.in_(_folders(uri)))
    jobs = catalog.jobs(named, Job.run_url.is_not(None), limit=1)
    return _of_run_at(catalog, jobs[0].run_url) if jobs and jobs[0].run_url else None


def _of_unlisted_run(catalog: Catalog, uri: str) -> Lineage | None:
    """One that the catalog doesn't know."""
    url = next((url for url in _folders(uri)[:_DEPTH] if is_run(url)), None)
    return _of_run_at(catalog, url) if url else None


def _of_run_at(catalog: Catalog, url: str) -> Lineage:
    run = run_link(url)
    translations = catalog.translations(or_(Translation.run_url == url, Translation.run_url.is_(None)), limit=None)
    values = catalog.evaluations(or_(Evaluation.run_url == url, Evaluation.run_url.is_(None)), limit=None)
    uses = (*map(_translation, _made_by(catalog, url, translations)), *map(_evaluation, _made_by(catalog, url, values)))
    return Lineage(run, tuple(_data_of(catalog, run)), uses)


def _made_by(catalog: Catalog, run_url: str, rows: Sequence[Use]) -> list[Use]:
    """Of rows that name the run or none: those that say so, and those whose model says so; each is asked once."""
    models = {(row.model, row.model_version) for row in rows if row.run_url is None}
    made = {model for model in models if _run_url(catalog, model_link(*model)) == run_url}
    return [row for row in rows if row.run_url or (row.model, row.model_version) in made]


def _data_of(catalog: Catalog, run: Link) -> Iterator[Link]:
    if run.facts.get("dataset_url"):
        yield _dataset(catalog, run.facts.get("dataset_digest"), run.facts["dataset_url"])


# From a dataset.


def _dataset(catalog: Catalog, digest: str | None, url: str | None = None) -> Link:
    """A dataset as the catalog knows it: at this place if it is there, else wherever it is."""
    rows = catalog.datasets(Dataset.digest == digest, limit=None) if digest else []
    rows.sort(key=lambda row: row.url != (url and place(url)))
    if rows:
        return Link("dataset", rows[0].name, {**rows[0].as_dict(), "url": url or rows[0].url})
    problem = None if digest else "No worker has read it yet, so its digest isn't known."
    return Link("dataset", last(url or digest or "unknown"), {"url": url, "digest": digest}, problem)


def _of_dataset(catalog: Catalog, uri: str) -> Lineage | None:
    """A dataset by name or digest, or the one that a file or folder lies in."""
    above = {place(uri), *_folders(uri)}
    rows = catalog.datasets(or_(Dataset.name == uri, Dataset.digest == uri, Dataset.url.in_(above)), limit=None)
    row = max(rows, key=lambda row: (len(row.url) if row.url in above else 0, row.id), default=None)
    return _of_data(catalog, Link("dataset", row.name, row.as_dict())) if row else None


def _of_unlisted_dataset(catalog: Catalog, uri: str) -> Lineage | None:
    """One that the catalog doesn't know, as its manifest describes it."""
    found = next(filter(None, map(dataset_link, _folders(uri)[:_DEPTH])), None)
    return _of_data(catalog, found) if found else None


def _of_data(catalog: Catalog, dataset: Link) -> Lineage:
    digest = dataset.facts["digest"]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        runs = threads.map(run_link, [job.run_url for job in catalog.runs(limit=_RUNS) if job.run_url])
    used = [run for run in runs if run.facts.get("dataset_digest") == digest]
    translated = catalog.translations(Translation.dataset_digest == digest, limit=None)
    evaluated = catalog.evaluations(Evaluation.dataset_digest == digest, limit=None)
    return Lineage(dataset, (), (*used, *map(_translation, translated), *map(_evaluation, evaluated)))


_LOOKS: tuple[Callable[[Catalog, str], Lineage | None], ...] = (
    *(_of_translation, _of_evaluation, _of_model, _of_run, _of_dataset),
    *(_of_unlisted_translation, _of_unlisted_run, _of_unlisted_dataset),
)
"""Where a lineage is looked for: first what the catalog knows, then what folders say of themselves."""
