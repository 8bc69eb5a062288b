"""A training's side of tracking: events in, and nothing that could stop or slow it."""

from __future__ import annotations

import base64
import io
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from i2idist import storage
from i2idist.tracking.delivery import Delivery
from i2idist.tracking.journal import Journal, Line, left_behind, merged, parsed
from i2idist.tracking.page import About, accepted, start_line
from i2idist.tracking.server import Server, Target, connected, unreachable
from i2idist.tracking.settings import Tracking, chained, shown
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
        raise unreachable(uri, error) from chained(error, uri)


def start_tracking(
    settings: Tracking,
    uri: str | None,
    folder_url: str,
    about: About,
    record: Record | None,
    confirm: Callable[[], None] = lambda: None,
) -> Tracker:
    """Begin or continue tracking a run.

    Args:
        settings: how.
        uri: the tracking URI; None: offline. At another one than before, the run goes on in a new MLflow run.
        folder_url: the run folder; an undelivered journal goes there.
        about: what the run page says.
        record: what an earlier launch's `Tracker.record` was; None for a new run.
        confirm: raises where the run is another process's by now; nothing is delivered then.

    Raises:
        TrackingError: the MLflow run must be found or created, and MLflow doesn't answer.
    """
    journal_url = storage.join(folder_url, JOURNAL)
    left = left_behind(journal_url)
    target = _target(settings, uri, about.name, record, left)
    return Tracker(settings, target, journal_url, about, record, left, confirm)


def _target(settings: Tracking, uri: str | None, name: str, record: Record | None, left: Sequence[Line]) -> Target:
    record = record or {}
    is_there = uri is None or record.get("uri") in (None, shown(uri))
    return Target(
        uri or "",
        settings.experiment,
        name,
        record.get("id") or uuid.uuid4().hex,
        settings.parent,
        left[0]["time"] if left else None,
        record.get("run_id") if is_there else None,
    )


def _server(target: Target) -> Server | None:
    """The server, connected where the MLflow run must be found or created; None for a run that is offline."""
    if not target.uri:
        return None
    server = Server(target)
    if target.run_id is None:
        connected(server)
    return server


class Tracker:
    """Tracks one launch of a run, on rank 0."""

    def __init__(
        self,
        settings: Tracking,
        target: Target,
        journal_url: str,
        about: About,
        record: Record | None,
        left: Sequence[Line],
        confirm: Callable[[], None],
    ) -> None:
        """Made by `start_tracking`; `left` is what an earlier launch left undelivered."""
        self._settings, self._target, self._left = settings, target, left
        self._record = record or {}
        self._is_ended = False
        self._restore_environment = _set_environment()
        try:
            server = _server(target)
            self._journal = Journal(journal_url)  # last: it replaces what was left there
        except BaseException:
            self._restore_environment()
            raise
        self._journal.append(start_line(about))
        self._delivery = Delivery(self._journal, server, confirm) if server else None
        self._sampler = Sampler(self._metrics) if settings.system_metrics else None

    @property
    def run_id(self) -> str | None:
        """The MLflow run's id; None while it is offline."""
        return self._target.run_id

    @property
    def pictures(self) -> bool:
        """Whether pictures are wanted."""
        return self._settings.pictures

    @property
    def waits_for(self) -> str | None:
        """What `close` would wait for, and how long, in words; None where MLflow answered when it was last told."""
        if self._delivery is None or self._delivery.failure is None:
            return None
        return f"{self._settings.wait_s:g} s for MLflow at {shown(self._target.uri)} ({self._delivery.failure})"

    def record(self) -> dict[str, Any]:
        """What the run must remember for the next launch."""
        target = self._target
        uri = shown(target.uri) if target.uri else self._record.get("uri")
        return _record(target, uri)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold: the MLflow run, and what it hasn't been told."""
        return {"run_id": self.run_id, "journal": self._journal.undelivered()}

    def restore(self, state: Mapping[str, Any] | None, images: int) -> None:
        """Take over what was undelivered at `images`, where training goes on. Later steps will be taken again."""
        carried = parsed(state["journal"]) if state else []
        lines = (line for line in self._left if line.get("images", images + 1) <= images)
        for line in merged(carried, lines):
            if line["kind"] in ("metrics", "image"):
                self._journal.append(line)
        self._left = ()

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
        named = {accepted(key): value for key, value in values.items()}
        self._journal.append({"kind": "metrics", "images": images, "time": when, "values": named})

    def picture(self, key: str, picture: Image, images: int) -> None:
        """Journal a picture, reduced where it is larger than a run page shows."""
        picture.thumbnail((_LARGEST_PIXELS, _LARGEST_PIXELS))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        png = base64.b64encode(buffer.getvalue()).decode()
        self._journal.append({"kind": "image", "images": images, "time": time.time(), "key": key, "png": png})

    def end(self, status: str) -> None:
        """Training ended. What MLflow hasn't been told is in the run folder from now on, even if we are killed.

        Args:
            status: MLflow's name for how it ended: FINISHED or KILLED.

        Raises:
            StorageError: the run folder can't be written.
        """
        self._end(status)
        self._journal.keep()

    def _end(self, status: str) -> None:
        self._is_ended = True
        self._stop_sampling()
        self._journal.append({"kind": "end", "time": time.time(), "status": status})

    def close(self, *, failed: bool = False, keep: bool = True) -> str | None:
        """End tracking: waits for an MLflow that is away, for a stated time. Without an `end` before, the run FAILED.

        Args:
            failed: whether an error is on its way, which shouldn't wait long.
            keep: whether the run, and with it the MLflow run, is still ours to tell of.

        Returns:
            Where the undelivered journal lies, in words; None where everything is delivered, or nothing was to be.

        Raises:
            StorageError: the undelivered journal can't be put into the run folder.
        """
        wait_s = min(self._settings.wait_s, _AFTER_ERROR_S) if failed else self._settings.wait_s
        try:
            self._stop_sampling()
            if keep and not self._is_ended:
                self._end("FAILED")
            if self._delivery:
                self._delivery.finish(wait_s if keep else 0.0)
        finally:
            self._restore_environment()
            where = self._journal.close(keep)
        return _undelivered(where, self._target, self._delivery) if where else None

    def _stop_sampling(self) -> None:
        if self._sampler:
            self._sampler.close()


def _record(target: Target, uri: str | None) -> dict[str, Any]:
    return {"id": target.identity, "uri": uri, "experiment": target.experiment, "run_id": target.run_id}


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
    target = _target(settings, uri, name, record, lines)
    with _environment():
        server = Server(target)
        connected(server)
        try:
            server.deliver(lines)
        except Exception as error:
            raise unreachable(uri, error) from chained(error, uri)
    storage.delete(journal_url)
    return _record(target, shown(uri))


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
