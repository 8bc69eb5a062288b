"""How Ray's workers hear that a machine is taken away, in time to leave with a checkpoint.

Two ways: SIGTERM to a worker's process, and Ray's own word that a node drains, which it does when whoever runs the
machine asks (SIGTERM to `ray start`, a spot notice passed on, `ray drain-node`).
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import ray.train
from ray.train.torch import TorchConfig

from i2idist.train.loop import Leaving

_ASK_S = 2.0
"""How often workers ask Ray, which costs them a round trip."""

_told = threading.Event()


def listen() -> None:
    """Take SIGTERM as a notice; a second one ends the process as before. In a worker's main thread."""
    before = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        if _told.is_set() and callable(before):
            before(number, frame)
        _told.set()

    signal.signal(signal.SIGTERM, handle)


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray names it in private
    """Torch's, whose workers listen for SIGTERM: training runs in a thread, which can't."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Begin to listen, before the process group is made."""
        worker_group.execute(listen)
        super().on_start(worker_group, backend_config)


class Listening(TorchConfig):
    """Torch's backend, with `listen` in each worker."""

    @property
    def backend_cls(self) -> type[_Backend]:
        """What sets workers up."""
        return _Backend


class Notices(Leaving):
    """What a worker on Ray hears."""

    def __init__(self) -> None:
        """Begin now."""
        self._is_first = ray.train.get_context().get_world_rank() == 0
        self._asked = time.monotonic()

    def due(self) -> bool:
        """At once where this process was told; on the first rank now and then, so that all ask Ray together."""
        return _told.is_set() or (self._is_first and time.monotonic() - self._asked > _ASK_S)

    def decide(self) -> bool:
        """Whether this process was told, or Ray drains any worker's node."""
        self._asked = time.monotonic()
        return ray.train.get_preemption_info() is not None or _told.is_set()
