"""What training and translation tell Prometheus, through the exporter of the Ray node that they run on.

Names are those below with `ray_` before them; the run and the job are labels. The runbook in `cluster/` says where
nodes are scraped and which queries help.
"""

from __future__ import annotations

import os
import time
from typing import Any

from ray.util.metrics import Counter, Gauge

from i2idist.catalog.hooks import SUBMISSION
from i2idist.train.comm import communication_s
from i2idist.train.loop import Event

_TRAINING = {
    "images": "Images drawn by all workers since the run began.",
    "images_per_second": "Images of all workers a second, since this launch began.",
    "step_seconds": "Time of a step, data and communication included, on average since the last log.",
    "data_wait_fraction": "Share of the time that rank 0 waited for data since this launch began.",
    "communication_seconds": "Time of a step that rank 0 spent in reductions over workers; on CUDA, in starting them.",
    "checkpoint_age_seconds": "Time since the newest checkpoint of this launch, or since it began.",
}


class TrainingMeters:
    """Keeps a training's meters up to date from its events, on rank 0."""

    def __init__(self, run: str) -> None:
        """The meters of the run `run`, of the job that this process belongs to."""
        labels = {"run": run, "job": os.environ.get(SUBMISSION, "")}
        self._gauges = {name: _gauge(f"i2idist_training_{name}", about, labels) for name, about in _TRAINING.items()}
        self._saved = time.time()
        self._last: tuple[int, float, float] | None = None

    def on_event(self, event: Event) -> None:
        """Something happened in training."""
        now = time.time()
        if event["event"] in ("checkpoint", "resumed"):
            self._saved = now
        self._set("checkpoint_age_seconds", now - self._saved)
        self._set("images", event["images"])
        if event["event"] == "metrics":
            self._set("images_per_second", event["images_per_s"])
            self._set("data_wait_fraction", event["data_wait_fraction"])
            self._set_step(event["step"], event["time"])

    def _set_step(self, step: int, when: float) -> None:
        """A step's time and its communication, between this log and the last."""
        spent = communication_s()
        if self._last and step > self._last[0]:
            steps = step - self._last[0]
            self._set("step_seconds", (when - self._last[1]) / steps)
            self._set("communication_seconds", (spent - self._last[2]) / steps)
        self._last = (step, when, spent)

    def _set(self, name: str, value: float) -> None:
        self._gauges[name].set(value)


class WorkMeters:
    """Counts what an actor of a pool does: translations and evaluations, item by item."""

    def __init__(self) -> None:
        """The meters of this actor, of the job that it belongs to."""
        labels = {"job": os.environ.get(SUBMISSION, "")}
        self._images = _counter("i2idist_work_images", "Images that were worked on.", labels)
        self._items = _counter("i2idist_work_items", "Items of work, such as shards, that were finished.", labels)
        self._rate = _gauge("i2idist_work_images_per_second", "Images a second of the item under way.", labels)
        self._stages = _counter("i2idist_work_stage_seconds", "Seconds spent in a stage of work.", labels, "stage")
        self._begin()

    def _begin(self) -> None:
        self._done, self._since = 0, time.monotonic()

    def report(self, done: int) -> None:
        """The item under way is so far."""
        if done > self._done:
            self._images.inc(done - self._done)
            self._done = done
            self._rate.set(done / max(1e-6, time.monotonic() - self._since))

    def finished(self, result: Any) -> None:
        """The item is done; where its result says how long the stages took, they are counted."""
        self._items.inc(1)
        for stage, seconds in getattr(result, "seconds", {}).items():
            if seconds > 0:
                self._stages.inc(seconds, {"stage": stage})
        self._begin()


def _gauge(name: str, about: str, labels: dict[str, str]) -> Gauge:
    gauge = Gauge(name, about, tuple(labels))
    gauge.set_default_tags(labels)
    return gauge


def _counter(name: str, about: str, labels: dict[str, str], *more: str) -> Counter:
    counter = Counter(name, about, (*labels, *more))
    counter.set_default_tags(labels)
    return counter
