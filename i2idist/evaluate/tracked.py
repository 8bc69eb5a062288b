"""Records to MLflow: each value under `eval/NAME`, with its interval; the table and the whole records as files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from i2idist.evaluate.record import Record, table
from i2idist.model import ModelCard
from i2idist.translate.job import Model

_UNUSUAL = re.compile(r"[^\w.-]+")


def default_uri(model: Model, uri: str | None = None, root: str | None = None) -> str:
    """Where a model's values are logged: the MLflow that is named, else the one beside the runs that it came from.

    Raises:
        ConfigError: there is none, since runs are in an object store.
    """
    from i2idist.tracking.place import tracking_uri

    return tracking_uri(uri, _root(model, root))


def _root(model: Model, root: str | None) -> str | None:
    """Where runs are: as named, else beside the run that made the model."""
    run_url = model.card.lineage.get("run_url")
    beside = str(run_url).rstrip("/").rpartition("/")[0] if run_url else None
    return root or os.environ.get("I2IDIST_RUNS") or beside


def log_records(records: Sequence[Record], model: Model, uri: str) -> str:
    """Log values of one model on the MLflow run that made it; on one of the model's own, where there is none.

    Returns:
        The MLflow run's id.

    Raises:
        TrackingError: MLflow can't be reached, or refuses.
    """
    from i2idist.tracking.evaluation import Values, log_values  # MLflow takes seconds to import

    names = sorted(record.name for record in records)
    stem = f"evaluation/{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]}"
    whole = json.dumps([record.as_json() for record in records], indent=1)
    values = Values(
        metrics={key: value for record in records for key, value in metrics_of(record).items()},
        step=_images(model.card),
        files={f"{stem}.md": table(records), f"{stem}.json": whole},
        dataset=_dataset(records[0].conditions["dataset"]),
    )
    identity = f"evaluation-{model.card.weights_sha256}"
    return log_values(values, run_id=model.run_id, identity=identity, name=f"evaluation of {model.label}", uri=uri)


def note_records(
    records: Sequence[Record], model: Model, mlflow_run_id: str | None, root: str | None, say: Callable[[str], None]
) -> None:
    """Note values of one model in the catalog, if one is named or there already; one that is away costs a warning."""
    from i2idist.catalog import hooks  # as above

    about = records[0].conditions["dataset"]
    values = [
        {
            "name": record.name,
            "value": record.estimate.value,
            "low": record.estimate.low,
            "high": record.estimate.high,
            "model": model.uri,
            "model_version": model.version,
            "weights_sha256": model.card.weights_sha256,
            "dataset_url": about["url"],
            "dataset_digest": about["digest"],
            "run_url": model.card.lineage.get("run_url"),
            "mlflow_run_id": mlflow_run_id,
        }
        for record in records
    ]
    hooks.evaluation(values, root=_root(model, root), say=say)


def metrics_of(record: Record) -> dict[str, float]:
    """The value, the ends of its interval and its details, by the names that MLflow shows."""
    found, name = record.estimate, f"eval/{record.name}"
    ends = {"low": found.low, "high": found.high}
    values = {name: found.value, **{f"{name}/{end}": value for end, value in ends.items() if value is not None}}
    return values | {f"{name}/{_UNUSUAL.sub('-', key)}": value for key, value in found.details.items()}


def _images(card: ModelCard) -> int:
    """Images that training had seen, by the checkpoint's name."""
    found = re.fullmatch(r"images-(\d+)", str(card.lineage.get("checkpoint")))
    return int(found[1]) if found else 0


def _dataset(about: Mapping[str, Any]) -> dict[str, Any]:
    return {key: about[key] for key in ("name", "digest", "url", "domain", "images")}
