"""Values of an evaluation, in MLflow: on the run that made the model, or on one of their own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag
from mlflow.exceptions import MlflowException

from i2idist.tracking.page import described_dataset
from i2idist.tracking.place import ABSENT, connect, experiment_id, mlflow_errors
from i2idist.tracking.server import IDENTITY, METRICS_AT_ONCE
from i2idist.tracking.settings import Tracking


@dataclass(frozen=True, kw_only=True)
class Values:
    """What is logged.

    Attributes:
        metrics: by name.
        step: images that the model had seen, where that is known; else 0.
        files: texts by path among the run's artifacts.
        dataset: name, digest and URL of the data, and more about it.
    """

    metrics: Mapping[str, float]
    step: int
    files: Mapping[str, str]
    dataset: Mapping[str, Any]


def log_values(values: Values, *, run_id: str | None, identity: str, name: str, uri: str) -> str:
    """Log values on a run.

    Args:
        values: what to log.
        run_id: the run that made the model; where it is None or unknown to this MLflow, a run of the model's own is
            found by `identity`, or made.
        identity: stands for the model.
        name: of a run that is made.
        uri: the tracking server or database.

    Returns:
        The run's id.

    Raises:
        TrackingError: MLflow can't be reached, or refuses.
    """
    with mlflow_errors(f"log the evaluation of {name}", uri):
        client = connect(uri)
        found = run_id if run_id and _is_known(client, run_id) else _own_run(client, uri, identity, name)
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, values.step) for key, value in values.metrics.items()]
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            client.log_batch(found, metrics=metrics[start : start + METRICS_AT_ONCE])
        dataset = Dataset(**described_dataset(values.dataset))
        client.log_inputs(found, [DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])])
        for path, text in values.files.items():
            client.log_text(found, text, path)
    return found


def _is_known(client: MlflowClient, run_id: str) -> bool:
    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in (*ABSENT, "INVALID_PARAMETER_VALUE"):
            raise
        return False
    return True


def _own_run(client: MlflowClient, uri: str, identity: str, name: str) -> str:
    experiment = experiment_id(client, uri, Tracking().experiment)
    runs = client.search_runs([experiment], f"tags.`{IDENTITY}` = '{identity}'", max_results=1)
    if runs:
        return str(runs[0].info.run_id)
    run = client.create_run(experiment, run_name=name)
    client.log_batch(run.info.run_id, tags=[RunTag(IDENTITY, identity)])
    client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)
