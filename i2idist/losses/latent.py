"""Losses on latent codes, one value a sample."""

from __future__ import annotations

from torch import Tensor

from i2idist.losses.reduction import widen


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)), summed over the code: (N, Z), (N, Z) -> (N,), in nats."""
    mean, log_variance = widen(mean), widen(log_variance)
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
