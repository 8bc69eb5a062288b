"""Where MLflow's records are, and how its errors reach a person."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from i2idist.errors import SourceError, TrackingError
from i2idist.tracking.credentials import use_credentials
from i2idist.tracking.run import require_server
from i2idist.tracking.settings import SQLITE, chained, located, shown, without_password

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
_DEFAULT = threading.Lock()
_OF_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # else MLflow leads with chats


def tracking_uri(uri: str | None = None, root: str | None = None) -> str:
    """The tracking server or database.

    Args:
        uri: what was asked for; None: `MLFLOW_TRACKING_URI`, else a SQLite file beside local runs.
        root: where runs are; None: `I2IDIST_RUNS`, or ./runs.

    Raises:
        ConfigError: none is named, and runs are in an object store, which holds no SQLite file.
    """
    found = located(uri, root or os.environ.get("I2IDIST_RUNS") or "runs")
    if found.startswith(SQLITE):
        Path(found.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    return found


def client_of(uri: str) -> MlflowClient:
    """A client of the tracking server and of its registry."""
    use_credentials(uri)
    with _alone(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process at a time for each SQLite file: MLflow makes its tables on first use, and fails if two do at once."""
    if not uri.startswith(SQLITE):
        yield
        return
    with Path(f"{uri.removeprefix(SQLITE)}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The MLflow experiment `name`, made where absent; beside a SQLite file its artifacts lie in `mlartifacts`."""
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    beside = Path(uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts"
    artifacts = beside.as_uri() if uri.startswith(SQLITE) else None
    try:
        return str(client.create_experiment(name, artifacts, tags=_OF_TRAINING))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        found = client.get_experiment_by_name(name)  # another process was quicker
        if found is None:
            raise
        return str(found.experiment_id)


def connect(uri: str) -> MlflowClient:
    """A client, once it is known that somebody listens: MLflow itself would try for minutes.

    Raises:
        TrackingError: nobody does.
    """
    require_server(uri)
    return client_of(uri)


@contextmanager
def mlflow_errors(action: str, uri: str) -> Iterator[None]:
    """Turn what MLflow raises into an error that says what was tried, and where.

    Raises:
        SourceError: MLflow doesn't know what was named.
        TrackingError: anything else.
    """
    try:
        yield
    except MlflowException as error:
        kind = SourceError if error.error_code in ABSENT else TrackingError
        reason = without_password(str(error.message), uri)
        raise kind(f"Can't {action} (MLflow at {shown(uri)}): {reason}") from chained(error, uri)
    except OSError as error:
        reason = without_password(str(error), uri)
        raise TrackingError(f"Can't {action}: {reason}. Is the tracking server {shown(uri)} running?") from chained(
            error, uri
        )


@contextmanager
def default_tracking(uri: str) -> Iterator[None]:
    """Make `uri` MLflow's own default for a moment: parts of its SQLite store ask that, not their client.

    MLflow asks the environment, unless the program has called `mlflow.set_tracking_uri`. Both are put back. One thread
    at a time.
    """
    with _DEFAULT:
        yield from _switched(uri)


def _switched(uri: str) -> Iterator[None]:
    environment, before = os.environ.get("MLFLOW_TRACKING_URI"), mlflow.get_tracking_uri()
    os.environ["MLFLOW_TRACKING_URI"] = uri
    is_fixed = mlflow.get_tracking_uri() != uri
    if is_fixed:
        mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        if is_fixed:
            mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_TRACKING_URI")
        if environment is not None:
            os.environ["MLFLOW_TRACKING_URI"] = environment
