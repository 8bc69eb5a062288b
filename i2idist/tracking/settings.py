"""Where a run is tracked: the `tracking:` section of an experiment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from i2idist import storage
from i2idist.errors import ConfigError

ENVIRONMENT, SQLITE = "MLFLOW_TRACKING_URI", "sqlite:///"


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """How a run is tracked in MLflow. None of it changes what is trained.

    Attributes:
        uri: the tracking server or database; None: MLFLOW_TRACKING_URI, or `mlflow.db` beside local runs.
        experiment: the MLflow experiment that the run belongs to.
        offline: start without MLflow; what happens is kept in the run folder, to be delivered later.
        pictures: log translations of a few fixed inputs at the start, every `train.preview_every_images`, and whenever
            training validates or saves.
        parent: the MLflow run that this one is nested under.
        system_metrics: log processor, memory and device use as well.
        wait_s: how long the end of training waits for an MLflow that is away.
    """

    uri: str | None = None
    experiment: str = "i2idist"
    offline: bool = False
    pictures: bool = True
    parent: str | None = None
    system_metrics: bool = False
    wait_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what can't work, and passwords, which recipes and run folders would show to everyone.

        Raises:
            ConfigError: the URI holds a password, the experiment has no name, or `wait_s` is negative.
        """
        if self.uri and urlsplit(self.uri).password:
            raise ConfigError(
                "tracking.uri holds a password, which run folders and MLflow would show. Set MLFLOW_TRACKING_USERNAME "
                f"and MLFLOW_TRACKING_PASSWORD, or give the whole URI in {ENVIRONMENT}."
            )
        if not self.experiment.strip():
            raise ConfigError("tracking.experiment is empty: name an MLflow experiment.")
        if not self.wait_s >= 0:
            raise ConfigError(f"tracking.wait_s is {self.wait_s}: it must be 0 or more seconds.")


def resolve_uri(settings: Tracking, root: str) -> str | None:
    """The tracking URI of runs in `root`; None for a run that is offline.

    Raises:
        ConfigError: the runs are in an object store, where no database can be, and no URI is given.
    """
    return None if settings.offline else located(settings.uri, root)


def located(uri: str | None, root: str) -> str:
    """Where MLflow is: at `uri`, else MLFLOW_TRACKING_URI, else in a SQLite file beside the local runs in `root`.

    A SQLite file's path becomes absolute: workers have other working folders.

    Raises:
        ConfigError: the runs are in an object store, where no database can be, and no URI is given.
    """
    given = uri or os.environ.get(ENVIRONMENT)
    if given and given.startswith(SQLITE):
        return SQLITE + os.path.abspath(given.removeprefix(SQLITE))
    if given:
        return given.rstrip("/")
    if not storage.is_local(root):
        raise ConfigError(
            f"Runs in {root} need an MLflow server: set tracking.uri or {ENVIRONMENT}, or train with "
            "tracking.offline=true."
        )
    return f"{SQLITE}{storage.local_path(root).resolve()}/mlflow.db"


def shown(uri: str) -> str:
    """The URI for people and records: without a password."""
    return without_password(uri, uri)


def without_password(text: str, uri: str) -> str:
    """The text, such as that of an error of MLflow, without the password that `uri` holds."""
    password = urlsplit(uri).password
    return text.replace(f":{password}@", ":***@") if password else text


def chained(error: BaseException, uri: str) -> BaseException | None:
    """What to raise an error from; None where a traceback would show the password that `uri` holds."""
    return None if urlsplit(uri).password else error
