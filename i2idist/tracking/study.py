"""A search in MLflow: its own run, which holds plots and recipes, above the runs of its trials."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from i2idist.tracking.place import connect, mlflow_errors
from i2idist.tracking.server import Server, Target, connected
from i2idist.tracking.settings import Tracking

_VALUE = 5000  # characters of a parameter or tag
_PARAMS = 100  # what MLflow takes at once


@dataclass(frozen=True, kw_only=True)
class AboutStudy:
    """What the run of a search says.

    Attributes:
        name: the study's.
        identity: by which its run is found again.
        params: what is searched, and how.
        note: for its description, Markdown.
        definition: the search, YAML.
    """

    name: str
    identity: str
    params: Mapping[str, Any]
    note: str
    definition: str


def begin_study(settings: Tracking, uri: str, about: AboutStudy) -> str:
    """The MLflow run of a search, made where it isn't there; running from now on.

    Returns:
        Its id.

    Raises:
        TrackingError: MLflow can't be reached, or refuses.
    """
    target = Target(uri, settings.experiment, about.name, about.identity, settings.parent)
    run_id = connected(Server(target))
    with mlflow_errors(f"begin the study {about.name}", uri):
        client = connect(uri)
        known = client.get_run(run_id).data.params
        params = [Param(key, str(value)[:_VALUE]) for key, value in about.params.items() if key not in known]
        for start in range(0, len(params), _PARAMS):
            client.log_batch(run_id, params=params[start : start + _PARAMS])
        tags = {"i2idist.study": about.name, "mlflow.source.name": "i2idist tune", "mlflow.source.type": "JOB"}
        tags |= {} if known else {"mlflow.note.content": about.note}
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        client.log_text(run_id, about.definition, "search.yaml")
        client.update_run(run_id, status="RUNNING")
    return run_id


def note_trial(uri: str, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """Add to a trial's run what its study knows of it.

    Raises:
        TrackingError, SourceError: MLflow can't be reached, or doesn't know the run.
    """
    with mlflow_errors(f"note a trial on run {run_id}", uri):
        client, now = connect(uri), int(time.time() * 1000)
        client.log_batch(
            run_id,
            metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
            tags=[RunTag(key, value[:_VALUE]) for key, value in tags.items()],
        )


def log_study(uri: str, run_id: str, folder: Path, metrics: Mapping[str, float], status: str, note: str) -> None:
    """Replace the files of a search's run, and say how it stands.

    Args:
        uri: the tracking server or database.
        run_id: the run.
        folder: whose content becomes artifacts.
        metrics: how many trials ended how, and the best values.
        status: MLflow's name for how it stands: RUNNING, FINISHED or KILLED.
        note: its description, Markdown.

    Raises:
        TrackingError, SourceError: MLflow can't be reached, or doesn't know the run.
    """
    with mlflow_errors(f"log the study on run {run_id}", uri):
        client, now = connect(uri), int(time.time() * 1000)
        client.log_artifacts(run_id, str(folder))
        client.log_batch(run_id, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()])
        client.set_tag(run_id, "mlflow.note.content", note)
        if status == "RUNNING":
            client.update_run(run_id, status=status)
        else:
            client.set_terminated(run_id, status)
