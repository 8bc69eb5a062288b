"""What tracking sees and keeps of a training while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from i2idist.data.batches import Batch
from i2idist.errors import I2IError
from i2idist.tracking.evolution import Evolution, is_moment
from i2idist.tracking.pictures import Pictures
from i2idist.tracking.run import Tracker
from i2idist.tracking.samples import Samples
from i2idist.train.loop import Watcher
from i2idist.train.trainer import Trainer

_LOG = logging.getLogger("i2idist")


class TrackingWatcher(Watcher):
    """Draws pictures when training gives it a look, and keeps the undelivered journal in checkpoints."""

    def __init__(self, tracker: Tracker, inputs: Callable[[], Batch], training: Callable[[], Batch], seed: int) -> None:
        """Track with `tracker`.

        Args:
            tracker: takes the pictures.
            inputs: reads what pictures of a translator show.
            training: reads the images among which those nearest to a generator's are looked for.
            seed: keys the codes.
        """
        self._tracker, self._training, self._seed = tracker, training, seed
        self._evolution = Evolution()
        self._pictures = Pictures(inputs, seed) if tracker.pictures else None

    def state(self) -> Mapping[str, Any]:
        """The undelivered journal, and what a strip of a generator's evolution shows so far."""
        return {"tracking": self._tracker.state(), "evolution": self._evolution.state()}

    def restore(self, rest: Mapping[str, Any], images: int) -> None:
        """Take the undelivered journal over."""
        self._tracker.restore(rest.get("tracking"), images)
        self._evolution.restore(rest.get("evolution", []))

    def wants(self, trainer: Trainer) -> bool:
        """Whether a generator's evolution has a moment now."""
        return self._pictures is not None and trainer.method.generates and is_moment(trainer.steps)

    def look(self, trainer: Trainer, final: bool) -> None:
        """Draw what the method makes of the fixed inputs, or codes; in the end, the way between two codes."""
        if self._pictures is None:
            return
        try:
            drawn = self._drawn(self._pictures, trainer, final)
        except I2IError as error:  # images that can't be shown, or read, are no reason to stop training
            _LOG.warning("No pictures for MLflow: %s", error)
            self._pictures = None
            return
        for key, picture in drawn.items():
            if picture is not None:
                self._tracker.picture(key, picture, trainer.images)

    def _drawn(self, pictures: Pictures, trainer: Trainer, final: bool) -> dict[str, Any]:
        if trainer.method.generates:
            samples = Samples(trainer, self._seed)
            if final:
                return {"interpolation": samples.interpolation(), "nearest": samples.nearest(self._training())}
            return {"samples": samples.grid(), "evolution": samples.evolution(self._evolution)}
        if final:
            return {"interpolation": pictures.interpolation(trainer)}
        return {"translations": pictures.grid(trainer), "attention": pictures.attention(trainer)}
