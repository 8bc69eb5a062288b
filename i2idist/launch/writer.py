"""Who writes the run folder during training: rank 0, under the lease; the other ranks only follow."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from i2idist import storage
from i2idist.errors import LeaseError, RunError, StorageError
from i2idist.experiment import flatten
from i2idist.launch.facts import DECIDE_BITS, unequal
from i2idist.launch.journal import LineFile, keep_until
from i2idist.launch.lease import Lease
from i2idist.launch.run_folder import RunFolder, now
from i2idist.tracking import About, Tracker
from i2idist.train.loop import Event, Outcome

_LOG = logging.getLogger("i2idist")
_POLL_S = 1.0


class Follower:
    """A rank that writes nothing of the run folder but its own log."""

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def launched(self, facts: dict[str, Any], data_digest: str, about: About) -> Tracker | None:
        """Training is about to start; what tracks it, on rank 0."""
        return None

    def on_event(self, event: Event) -> None:
        """Something happened; only rank 0 is told."""

    def should_stop(self) -> bool:
        """Whether to stop with a checkpoint."""
        return False

    def before_commit(self) -> None:
        """A checkpoint is about to become visible; only rank 0 writes them."""

    def finish(self, outcome: Outcome) -> None:
        """Training ended."""


class Writer(Follower):
    """Rank 0: keeps the events, the record and the result, and watches for requests to stop."""

    def __init__(
        self, folder: RunFolder, lease: Lease, tell: Callable[[Event], None], track: Callable[..., Tracker]
    ) -> None:
        """Write `folder` under `lease`, `tell` the driver each event; `track(about, record)` begins tracking."""
        self._folder, self._lease, self._tell, self._track = folder, lease, tell, track
        self._tracker: Tracker | None = None
        self._place = {"images": 0, "step": 0}
        self._started = time.time()
        self._metrics = LineFile(folder.metrics, before_upload=lease.confirm)
        self._begun = False
        self._stop = threading.Event()
        self._done = threading.Event()
        self._notes: list[str] = []
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        """Start watching."""
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End tracking, close the files and give the lease back."""
        self._done.set()
        self._watcher.join()
        with ExitStack() as stack:
            stack.callback(self._lease.release)
            stack.callback(self._metrics.close)
            self._end_tracking(error)

    def launched(self, facts: dict[str, Any], data_digest: str, about: About) -> Tracker | None:
        """Add this launch to the record, and begin to track it.

        Raises:
            RunError: the data isn't what the run was begun with.
            TrackingError: MLflow doesn't answer, and doesn't know the run yet.
        """
        record = self._folder.record()
        if record["data_digest"] not in (None, data_digest):
            raise RunError(
                f"The data of run '{self._folder.name}' changed: it began with digest {record['data_digest']}, and "
                f"data.url now has {data_digest}. Give back the old data, or start a new run."
            )
        self._notes = _notes(record["launches"][-1]["facts"] if record["launches"] else None, facts)
        record["data_digest"] = data_digest
        record["launches"].append({"at": now(), "facts": facts})
        # Written before the MLflow run is created, so that whoever continues after a crash between finds that run.
        record.setdefault("tracking", {"id": uuid.uuid4().hex})
        self._folder.write_record(record)
        self._tracker = self._track(about, record["tracking"])
        if record["tracking"] != self._tracker.record():
            self._folder.write_record({**record, "tracking": self._tracker.record()})
        return self._tracker

    def on_event(self, event: Event) -> None:
        """Keep an event and tell the driver.

        Raises:
            LeaseError: another process writes the run folder now.
        """
        self._lease.check()
        if not self._begun:
            self._begin(event)
        self._keep(event)
        for message in self._notes:
            self._note(message)
        self._notes = []

    def should_stop(self) -> bool:
        """Whether somebody asked the run to stop.

        Raises:
            LeaseError: another process writes the run folder now.
        """
        self._lease.check()
        return self._stop.is_set()

    def before_commit(self) -> None:
        """Make the events that lead to a checkpoint as lasting as itself.

        Raises:
            LeaseError: another process writes the run folder now, so this one must not commit.
            StorageError: the events couldn't be written.
        """
        self._lease.confirm()
        self._metrics.sync()

    def finish(self, outcome: Outcome) -> None:
        """Write the result."""
        self._lease.confirm()
        result = asdict(outcome) | {
            "run": self._folder.name,
            "mlflow_run_id": self._tracker.run_id if self._tracker else None,
            "checkpoint": storage.join(self._folder.checkpoints, outcome.checkpoint),
            "finished": now(),
            "seconds": round(time.time() - self._started, 3),
        }
        self._metrics.sync()
        if self._tracker:  # before the result, by which a run is known to have ended
            self._tracker.end("KILLED" if outcome.stopped == "stop" else "FINISHED")
        self._folder.write_result(result)

    def _begin(self, event: Event) -> None:
        """Steps past the checkpoint that training starts from will be taken, and recorded, again."""
        keep_until(self._metrics, event["images"] if event["event"] == "resumed" else -1)
        self._begun = True

    def _end_tracking(self, error: BaseException | None) -> None:
        if self._tracker is None:
            return
        lost = isinstance(error, LeaseError)  # then run folder and MLflow run are another process's
        if error is None and self._tracker.waits_for:
            self._note(f"Training ended. Waiting up to {self._tracker.waits_for}.")
        message = self._tracker.close(failed=error is not None, keep=not lost)
        if message:
            self._note(message)

    def _note(self, message: str) -> None:
        _LOG.warning("%s", message)
        self._keep({"event": "note", **self._place, "time": time.time(), "message": message})

    def _keep(self, event: Event) -> None:
        self._place = {"images": event["images"], "step": event["step"]}
        if self._tracker:
            self._tracker.on_event(event)
        self._metrics.append(event)
        if event["event"] != "metrics":
            _LOG.info("%s at %d images", event["event"], event["images"])
        self._tell(event)

    def _watch(self) -> None:
        while not self._done.wait(_POLL_S):
            try:
                if self._folder.stop_requested():
                    self._stop.set()
            except StorageError as error:
                _LOG.warning("%s", error)


def _notes(before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    """Why what follows may differ from an undisturbed run, or from other hardware, in the last bits."""
    differing = unequal(after)
    notes = [f"Workers differ, so the last bits depend on who does what: {differing}."] if differing else []
    if before is None:
        return notes
    old, new = flatten(before), flatten(after)
    changes = [f"{key} {old.get(key)} -> {new.get(key)}" for key in DECIDE_BITS if old.get(key) != new.get(key)]
    return [*notes, f"Continues within tolerance, not bit for bit: {', '.join(changes)}."] if changes else notes
