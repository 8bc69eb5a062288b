"""What tracking sees and keeps of a training while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from i2idist.data.batches import Batch
from i2idist.errors import I2IError
from i2idist.tracking.run import Tracker
from i2idist.train.loop import Watcher
from i2idist.train.trainer import Trainer

_LOG = logging.getLogger("i2idist")


class TrackingWatcher(Watcher):
    """Draws pictures when training gives it a look, and keeps the undelivered journal in checkpoints."""

    def __init__(self, tracker: Tracker, inputs: Callable[[], Batch], seed: int) -> None:
        """Track with `tracker`; pictures show the first inputs of what `inputs` reads, with codes keyed by `seed`."""
        self._tracker = tracker
        self._pictures: Any = None
        if tracker.pictures:
            from i2idist.tracking.pictures import Pictures  # brings matplotlib

            self._pictures = Pictures(inputs, seed)

    def state(self) -> Mapping[str, Any]:
        """The undelivered journal."""
        return {"tracking": self._tracker.state()}

    def restore(self, rest: Mapping[str, Any], images: int) -> None:
        """Take the undelivered journal over."""
        self._tracker.restore(rest.get("tracking"), images)

    def look(self, trainer: Trainer, final: bool) -> None:
        """Draw the fixed inputs' translations and the attention to them; in the end, the way between two codes."""
        if self._pictures is None:
            return
        try:
            if final:
                drawn = {"interpolation": self._pictures.interpolation(trainer)}
            else:
                drawn = {"translations": self._pictures.grid(trainer), "attention": self._pictures.attention(trainer)}
        except I2IError as error:  # images that can't be shown, or read, are no reason to stop training
            _LOG.warning("No pictures for MLflow: %s", error)
            self._pictures = None
            return
        for key, picture in drawn.items():
            if picture is not None:
                self._tracker.picture(key, picture, trainer.images)
