"""The local launcher: one process, this one, and no Ray."""

from __future__ import annotations

from collections.abc import Callable

import torch

from i2idist.errors import RunError
from i2idist.experiment import Resources
from i2idist.launch.signals import Interruption
from i2idist.launch.worker import Job, work
from i2idist.train.loop import Event


def run(job: Job, resources: Resources, tell: Callable[[Event], None], interruption: Interruption) -> None:
    """Train `job` here.

    Args:
        job: the run.
        resources: its device is used.
        tell: called with each event.
        interruption: stops the run with a checkpoint.

    Raises:
        I2IError: what the training raised.
    """
    with interruption:
        work(job, device=_device(resources), tell=tell, interrupted=interruption)


def _device(resources: Resources) -> torch.device:
    found = torch.cuda.is_available()
    if resources.device == "cuda" and not found:
        raise RunError("resources.device=cuda, but torch sees no CUDA device here: use resources.device=auto or cpu.")
    return torch.device("cuda", 0) if found and resources.device != "cpu" else torch.device("cpu")
