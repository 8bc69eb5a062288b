"""Pixelwise distances, one value a sample."""

from __future__ import annotations

from torch import Tensor

from i2idist.losses.reduction import sample_mean, widen


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference: (N, ...), (N, ...) -> (N,)."""
    return sample_mean((widen(x) - widen(y)).abs())


def l2(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference: (N, ...), (N, ...) -> (N,)."""
    return sample_mean((widen(x) - widen(y)).square())
