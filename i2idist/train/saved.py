"""A method in the midst of its training, as its saved model will be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from i2idist.train.precision import forward_precision
from i2idist.train.trainer import Trainer


@contextmanager
def as_saved(trainer: Trainer) -> Iterator[None]:
    """Translate as the saved model would: with averaged parameters where they are kept, and in evaluation mode."""
    device = next(trainer.method.parameters()).device
    trainer.method.eval()
    try:
        with ExitStack() as stack:
            for ema in trainer.averaged().values():
                stack.enter_context(ema.applied())
            stack.enter_context(torch.no_grad())
            stack.enter_context(forward_precision(trainer.training, device))
            yield
    finally:
        trainer.method.train()
