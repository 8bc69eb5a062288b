"""Means over each sample, in float32 at least."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """Half precision as float32; anything else unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def sample_mean(x: Tensor) -> Tensor:
    """The mean over all but the first dimension: (N, ...) -> (N,)."""
    return x.mean(dim=tuple(range(1, x.dim()))) if x.dim() > 1 else x
