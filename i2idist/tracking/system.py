"""System metrics: how busy the machine of rank 0 is, under the keys that MLflow's page for them shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import psutil
import torch

_EVERY_S = 10.0


class Sampler:
    """A thread that measures every ten seconds.

    Attributes:
        images: the images that measurements are logged at.
    """

    def __init__(self, log: Callable[[Mapping[str, float], int, float], None]) -> None:
        """Measure, and `log` values, images and time."""
        self.images = 0
        self._log = log
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        latest = -1
        process = psutil.Process()
        psutil.cpu_percent()  # the first call of a thread measures nothing: the next measures since this one
        while not self._ended.wait(_EVERY_S):
            images = self.images
            if images != latest:  # a point for each step, so that a step taken again is known
                self._log(_measured(process), images, time.time())
            latest = images


def _measured(process: psutil.Process) -> dict[str, float]:
    memory = psutil.virtual_memory()
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.percent,
        "process_memory_usage_megabytes": process.memory_info().rss / 1e6,
    }
    if torch.cuda.is_available():
        values["gpu_0_memory_usage_megabytes"] = torch.cuda.memory_allocated() / 1e6
    return {f"system/{key}": float(value) for key, value in values.items()}
