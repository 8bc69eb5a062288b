"""An MLflow run as journalled lines come to it, in order, each once.

MLflow itself drops a metric that comes again with the same timestamp, which makes trying again safe. Steps that a
resumed training takes again get new timestamps: they are left out where MLflow has the step already.
"""

from __future__ import annotations

import base64
import io
import socket
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from i2idist.errors import TrackingError
from i2idist.tracking.journal import Line
from i2idist.tracking.settings import chained, shown, without_password

IDENTITY = "i2idist.id"
"""The tag by which a run is found again, whoever created it."""

METRICS_AT_ONCE, _PARAMS = 1000, 100
"""What MLflow takes at once."""
_VALUE = 5000  # characters of a parameter or tag
CONNECT_S = 3.0
_PORTS = {"http": 80, "https": 443}


@dataclass
class Target:
    """The MLflow run that lines go to.

    Attributes:
        uri: the tracking server or database.
        experiment: the MLflow experiment.
        name: the run's name.
        identity: the value of its `IDENTITY` tag.
        parent: the MLflow run that it is nested under.
        began: when it began, if that wasn't now; seconds since 1970.
        run_id: its id; None until it was found or created.
        is_new: whether it was created here, and so holds nothing yet.
    """

    uri: str
    experiment: str
    name: str
    identity: str
    parent: str | None = None
    began: float | None = None
    run_id: str | None = None
    is_new: bool = False


@dataclass
class _Known:
    """What MLflow holds of a run that was tracked before."""

    params: Mapping[str, str] = field(default_factory=dict)
    steps: set[tuple[str, int]] = field(default_factory=set)
    pictures: dict[tuple[str, int], int] = field(default_factory=dict)


class Server:
    """An MLflow run, as seen by the one thread that delivers to it."""

    def __init__(self, target: Target) -> None:
        """Connects when it is first used."""
        self.target = target
        self._known: _Known | None = None
        self._client_: Any = None

    def connect(self) -> str:
        """Find the run, or create it; its id.

        Raises:
            OSError, mlflow.exceptions.MlflowException: MLflow is away, or refuses.
        """
        self.reach()
        if self.target.run_id is None:
            found = self._find()
            self.target.is_new = found is None
            self.target.run_id = found or self._create()
        return self.target.run_id

    def deliver(self, lines: Sequence[Line]) -> None:
        """Log journalled lines. After an error it may be called with the same lines again.

        Raises:
            OSError, mlflow.exceptions.MlflowException: MLflow is away, or refuses.
        """
        self.connect()
        known = self._known = self._known or (_Known() if self.target.is_new else self._look())
        for batch in _batches(lines):
            match batch[0]["kind"]:
                case "metrics":
                    self._metrics(batch, known)
                case "start":
                    self._start(batch[0], known)
                case "image":
                    self._image(batch[0], known)
                case "end":
                    self._client.set_terminated(self.target.run_id, batch[0]["status"], _milliseconds(batch[0]))

    @property
    def _client(self) -> Any:
        if self._client_ is None:
            from i2idist.tracking.place import client_of  # MLflow takes seconds to import: offline runs are spared that

            self._client_ = client_of(self.target.uri)
        return self._client_

    def reach(self) -> None:
        """Fail at once and for little where nobody listens: MLflow's own client would try for minutes."""
        url = urlsplit(self.target.uri)
        if url.scheme not in _PORTS:
            return
        proxy = urllib.request.getproxies().get(url.scheme)
        if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
            url = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
        address = (url.hostname or "", url.port or _PORTS.get(url.scheme, 80))
        socket.create_connection(address, timeout=CONNECT_S).close()

    def _find(self) -> str | None:
        experiment = self._client.get_experiment_by_name(self.target.experiment)
        if experiment is None:
            return None
        where = f"tags.`{IDENTITY}` = '{self.target.identity}'"
        runs = self._client.search_runs([experiment.experiment_id], where, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _create(self) -> str:
        from i2idist.tracking.place import experiment_id

        target, tags = self.target, {IDENTITY: self.target.identity}
        if target.parent:
            tags["mlflow.parentRunId"] = target.parent
        experiment = experiment_id(self._client, target.uri, target.experiment)
        began = None if target.began is None else int(target.began * 1000)
        return str(self._client.create_run(experiment, began, tags, target.name).info.run_id)

    def _look(self) -> _Known:
        run = self._client.get_run(self.target.run_id)
        histories = {key: self._client.get_metric_history(self.target.run_id, key) for key in run.data.metrics}
        paths = [Path(entry.path).name for entry in self._client.list_artifacts(self.target.run_id, "images")]
        return _Known(
            run.data.params,
            {(key, point.step) for key, points in histories.items() for point in points},
            {place: stamp for place, stamp in map(_parse_picture, paths) if place[0]},
        )

    def _metrics(self, lines: Sequence[Line], known: _Known) -> None:
        metrics = [point for line in lines for point in _points(line, known.steps)]
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self._client.log_batch(self.target.run_id, metrics=metrics[start : start + METRICS_AT_ONCE])

    def _start(self, line: Line, known: _Known) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        run_id, client = self.target.run_id, self._client
        params = {key: _text(value) for key, value in line["params"].items()}
        new = [Param(key, value) for key, value in params.items() if key not in known.params]
        tags = {key: _text(value) for key, value in line["tags"].items()}
        tags |= {f"changed.{k}": v for k, v in params.items() if known.params.get(k, v) != v}
        for start in range(0, len(new), _PARAMS):
            client.log_batch(run_id, params=new[start : start + _PARAMS])
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if line["dataset"]:
            inputs = [DatasetInput(Dataset(**line["dataset"]), [InputTag("mlflow.data.context", "training")])]
            client.log_inputs(run_id, inputs)
        client.log_text(run_id, line["experiment"], "experiment.yaml")
        client.update_run(run_id, status="RUNNING")

    def _image(self, line: Line, known: _Known) -> None:
        """As `MlflowClient.log_image` does it, but under a name that is the same when it comes again."""
        run_id, key, step = self.target.run_id, line["key"], line["images"]
        stamp = known.pictures.get((key, step), _milliseconds(line))
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{run_id}/{key}/{step}")
        stem = f"{key.replace('/', '~')}+step+{step}+timestamp+{stamp}+{name}"
        data = base64.b64decode(line["png"])
        small = Image.open(io.BytesIO(data)).convert("RGB")
        small.thumbnail((256, 256))
        with tempfile.TemporaryDirectory(prefix="i2idist-") as folder:
            full, thumbnail = Path(folder, f"{stem}.png"), Path(folder, f"{stem}+compressed.webp")
            full.write_bytes(data)
            small.save(thumbnail)
            for path in (full, thumbnail):
                self._client.log_artifact(run_id, str(path), "images")
            newest = full.rename(Path(folder, f"{key.replace('/', '~')}.png"))
            self._client.log_artifact(run_id, str(newest))
        self._client.set_tag(run_id, "mlflow.loggedImages", "true")
        self._describe_with(newest.name)

    def _describe_with(self, picture: str) -> None:
        """Show the newest picture in the run's description: on MLflow's own cards params push it out of sight."""
        run_id, name = self.target.run_id, "mlflow.note.content"
        link = f"![{picture}](get-artifact?path={picture}&run_uuid={run_id})"
        note = self._client.get_run(run_id).data.tags.get(name, "")
        if link not in note:
            self._client.set_tag(run_id, name, f"{note}\n\n{link}")


def _text(value: object) -> str:
    return str(value)[:_VALUE]


def _milliseconds(line: Line) -> int:
    return int(line["time"] * 1000)


def _batches(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Metrics that follow each other together, up to what MLflow takes at once; anything else alone."""
    batch: list[Line] = []
    count = 0
    for line in lines:
        points = len(line["values"]) if line["kind"] == "metrics" else METRICS_AT_ONCE
        if batch and (count + points > METRICS_AT_ONCE or batch[0]["kind"] != "metrics"):
            yield batch
            batch, count = [], 0
        batch.append(line)
        count += points
    if batch:
        yield batch


def _points(line: Line, known: set[tuple[str, int]]) -> list[Any]:
    from mlflow.entities import Metric

    step, stamp = line["images"], _milliseconds(line)
    return [Metric(key, value, stamp, step) for key, value in line["values"].items() if (key, step) not in known]


def _parse_picture(name: str) -> tuple[tuple[str, int], int]:
    """The key, step and timestamp in a picture's file name; an empty key for other files."""
    parts = name.split("+")
    if len(parts) < 6 or parts[1] != "step" or parts[3] != "timestamp":
        return ("", 0), 0
    return (parts[0].replace("~", "/"), int(parts[2])), int(parts[4])


def connected(server: Server) -> str:
    """Connect now; the run's id.

    Raises:
        TrackingError: MLflow is away, or refuses.
    """
    try:
        return server.connect()
    except Exception as error:
        raise unreachable(server.target.uri, error) from chained(error, server.target.uri)


def unreachable(uri: str, error: Exception) -> TrackingError:
    """What to say where MLflow is needed and doesn't answer."""
    return TrackingError(
        f"Can't reach MLflow at {shown(uri)}: {reason(error, uri)}. Start it (for a server on this machine: "
        "`mlflow server`), correct tracking.uri or MLFLOW_TRACKING_URI, or start with tracking.offline=true and "
        "deliver later."
    )


def reason(error: Exception, uri: str) -> str:
    """An error in words, without the password that `uri` holds."""
    return f"{type(error).__name__}: {without_password(str(error), uri)}"
