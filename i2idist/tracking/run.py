"""A training's side of tracking: events in, and nothing that could stop or slow it."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from i2idist import storage
from i2idist.errors import TrackingError
from i2idist.tracking.delivery import Delivery
from i2idist.tracking.journal import Journal, Line, left_behind, merged
from i2idist.tracking.server import Server, Target, connected, unreachable
from i2idist.tracking.settings import Tracking, shown
from i2idist.tracking.system import Sampler

if TYPE_CHECKING:
    from PIL.Image import Image

Record = Mapping[str, Any]
"""What a run remembers of its tracking: `id`, `uri`, `experiment`, `run_id`."""

JOURNAL = "mlflow.jsonl"
"""The undelivered journal's name in a run folder."""

_LOG = logging.getLogger("i2idist")
_NOT_METRICS = {"event", "images", "step", "time", "stage", "stall_s"}
_AFTER_ERROR_S = 5.0
_LARGEST_PIXELS = 1024
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # we try again ourselves, for as long as training lasts
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True, kw_only=True)
class About:
    """What the run page says about a run.

    Attributes:
        name: the run's name.
        params: the flattened experiment.
        tags: code revision, package versions, where the run is, and the like.
        experiment: the resolved experiment, YAML.
        dataset: name, digest and URL of the data, and its manifest's summary; None: none.
    """

    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    experiment: str
    dataset: Mapping[str, Any] | None = None


def require_server(uri: str | None) -> None:
    """Refuse to begin where the server at `uri` doesn't answer. Databases are looked at when they are opened.

    Raises:
        TrackingError: it doesn't.
    """
    if uri is None or not uri.startswith(("http://", "https://")):
        return
    try:
        Server(Target(uri, "", "", "")).reach()
    except OSError as error:
        raise unreachable(uri, error) from error


def start_tracking(
    settings: Tracking, uri: str | None, folder_url: str, about: About, record: Record | None
) -> Tracker:
    """Begin or continue tracking a run.

    Args:
        settings: how.
        uri: the tracking URI; None: offline.
        folder_url: the run folder; an undelivered journal goes there.
        about: what the run page says.
        record: what an earlier launch's `Tracker.record` was; None for a new run.

    Raises:
        TrackingError: the MLflow run must be created, and MLflow doesn't answer.
    """
    journal_url = storage.join(folder_url, JOURNAL)
    left = left_behind(journal_url)
    tracker = Tracker(settings, uri, journal_url, about, record, left)
    tracker.begin()
    return tracker


class Tracker:
    """Tracks one launch of a run, on rank 0."""

    def __init__(
        self,
        settings: Tracking,
        uri: str | None,
        journal_url: str,
        about: About,
        record: Record | None,
        left: Sequence[Line],
    ) -> None:
        """Made by `start_tracking`; `left` is what an earlier launch left undelivered."""
        record = record or {}
        self._settings, self._left = settings, left
        self._journal = Journal(journal_url)
        self._target = Target(
            uri or "",
            settings.experiment,
            about.name,
            record.get("id") or uuid.uuid4().hex,
            settings.parent,
            left[0]["time"] if left else None,
            record.get("run_id"),
        )
        self._delivery: Delivery | None = None
        self._restore_environment = _set_environment()
        self._sampler = Sampler(self._metrics) if settings.system_metrics else None
        self._journal.append(_start_line(about))

    def begin(self) -> None:
        """Connect where the MLflow run must be created, and start delivering.

        Raises:
            TrackingError: MLflow doesn't answer.
        """
        if not self._target.uri:
            return
        server = Server(self._target)
        if self._target.run_id is None:
            try:
                connected(server)
            except TrackingError:
                self._restore_environment()
                raise
        self._delivery = Delivery(self._journal, server)

    @property
    def run_id(self) -> str | None:
        """The MLflow run's id; None while it is offline."""
        return self._target.run_id

    @property
    def pictures(self) -> bool:
        """Whether pictures are wanted."""
        return self._settings.pictures

    def record(self) -> dict[str, Any]:
        """What the run must remember for the next launch."""
        target = self._target
        uri = shown(target.uri) if target.uri else None
        return {"id": target.identity, "uri": uri, "experiment": target.experiment, "run_id": target.run_id}

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold: the run, how far it is delivered, and what isn't."""
        return {
            "run_id": self.run_id,
            "delivered_images": self._journal.mark,
            "journal": self._journal.undelivered(),
        }

    def restore(self, state: Mapping[str, Any] | None, images: int) -> None:
        """Take over what was undelivered at `images`, where training goes on. Later steps will be taken again."""
        carried = state["journal"] if state else []
        lines = (line for line in self._left if line.get("images", images + 1) <= images)
        for line in merged(carried, lines):
            if line["kind"] in ("metrics", "image"):
                self._journal.append(line)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Journal the metrics of an event of training."""
        if self._sampler:
            self._sampler.images = event["images"]
        if event["event"] not in ("metrics", "validation"):
            return
        prefix = "validation/" if event["event"] == "validation" else ""
        values = {
            key if key.startswith("eval/") else f"{prefix}{key}": float(value)
            for key, value in event.items()
            if key not in _NOT_METRICS and isinstance(value, (int, float))
        }
        self._metrics(values, event["images"], event["time"])

    def _metrics(self, values: Mapping[str, float], images: int, when: float) -> None:
        safe = {re.sub(r"[^\w.\-/ ]", "_", key)[:250]: value for key, value in values.items()}
        self._journal.append({"kind": "metrics", "images": images, "time": when, "values": safe})

    def picture(self, key: str, picture: Image, images: int) -> None:
        """Journal a picture, reduced where it is larger than a run page shows."""
        picture.thumbnail((_LARGEST_PIXELS, _LARGEST_PIXELS))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        png = base64.b64encode(buffer.getvalue()).decode()
        self._journal.append({"kind": "image", "images": images, "time": time.time(), "key": key, "png": png})

    def close(self, status: str, *, failed: bool = False, keep: bool = True) -> str | None:
        """End tracking: waits for an MLflow that is away, for a stated time.

        Args:
            status: MLflow's name for how it ended: FINISHED, FAILED or KILLED.
            failed: whether an error is on its way, which shouldn't wait long.
            keep: whether the run folder is still ours to put the undelivered journal into.

        Returns:
            Where the undelivered journal lies, in words; None where everything is delivered, or nothing was to be.

        Raises:
            StorageError: the undelivered journal can't be put into the run folder.
        """
        wait_s = min(self._settings.wait_s, _AFTER_ERROR_S) if failed else self._settings.wait_s
        try:
            if self._sampler:
                self._sampler.close()
            self._journal.append({"kind": "end", "time": time.time(), "status": status})
            if self._delivery:
                self._delivery.finish(wait_s)
        finally:
            self._restore_environment()
            where = self._journal.close(keep)
        return _undelivered(where, self._target, self._delivery) if where else None


def _undelivered(where: str, target: Target, delivery: Delivery | None) -> str | None:
    if delivery is None:
        _LOG.info("MLflow was told nothing: %s has it all.", where)
        return None
    return (
        f"MLflow at {shown(target.uri)} has not been told everything ({delivery.failure or 'it is slow'}). "
        f"What is missing lies in {where}: `i2idist resume {target.name}` delivers it."
    )


def deliver_rest(
    settings: Tracking, uri: str | None, folder_url: str, name: str, record: Record | None
) -> Record | None:
    """Deliver what a run that ended left undelivered.

    Returns:
        The run's new record, where something was delivered; else None.

    Raises:
        TrackingError: MLflow is away, or refuses; the journal stays.
        StorageError: the journal can't be read or deleted.
    """
    journal_url = storage.join(folder_url, JOURNAL)
    lines = left_behind(journal_url) if uri else []
    if not uri or not lines:
        return None
    record = dict(record or {"id": uuid.uuid4().hex})
    target = Target(
        uri, settings.experiment, name, record["id"], settings.parent, lines[0]["time"], record.get("run_id")
    )
    with _environment():
        server = Server(target)
        connected(server)
        try:
            server.deliver(lines)
        except Exception as error:
            raise unreachable(uri, error) from error
    storage.delete(journal_url)
    return {**record, "uri": shown(uri), "experiment": settings.experiment, "run_id": target.run_id}


def _start_line(about: About) -> Line:
    return {
        "kind": "start",
        "time": time.time(),
        "params": dict(about.params),
        "tags": dict(about.tags),
        "experiment": about.experiment,
        "dataset": described_dataset(about.dataset) if about.dataset else None,
    }


def described_dataset(about: Mapping[str, Any]) -> dict[str, str]:
    """As MLflow describes a dataset; its digests end after 36 characters, so the whole one is in the profile."""
    kind = (
        "s3" if about["url"].startswith("s3://") else "generated" if about["url"].startswith("generated:") else "local"
    )
    profile = {key: value for key, value in about.items() if key not in ("name", "url")}
    return {
        "name": about["name"],
        "digest": about["digest"][:36],
        "source_type": kind,
        "source": json.dumps({"uri": about["url"]}),
        "profile": json.dumps(profile),
    }


def _set_environment() -> Callable[[], None]:
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)

    def restore() -> None:
        for name in added:
            os.environ.pop(name, None)

    return restore


@contextmanager
def _environment() -> Iterator[None]:
    restore = _set_environment()
    try:
        yield
    finally:
        restore()
