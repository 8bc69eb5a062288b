"""Adversarial losses on logits, one value a sample: (N, ...) -> (N,). All are minimised."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from i2idist.losses.reduction import sample_mean, widen


def log_real(logits: Tensor) -> Tensor:
    """-log D(x) with D = sigmoid(logits): a discriminator's loss on real samples (Goodfellow et al. 2014, Eq. 1)."""
    return sample_mean(-logsigmoid(widen(logits)))


def log_fake(logits: Tensor) -> Tensor:
    """-log(1 - D(x)) with D = sigmoid(logits): a discriminator's loss on fakes (Goodfellow et al. 2014, Eq. 1)."""
    return sample_mean(-logsigmoid(-widen(logits)))


def non_saturating(logits: Tensor) -> Tensor:
    """-log D(x) on fakes: the generator's loss, with a gradient where D rejects (Goodfellow et al. 2014, section 3)."""
    return log_real(logits)


def minimax(logits: Tensor) -> Tensor:
    """log(1 - D(x)) on fakes: the generator's side of the minimax game (Goodfellow et al. 2014, Eq. 1)."""
    return -log_fake(logits)


def least_squares_real(logits: Tensor) -> Tensor:
    """(D(x) - 1)^2 with D = logits: D's loss on real samples, G's on fakes (LSGAN, arXiv:1611.04076, Eq. 9)."""
    return sample_mean((widen(logits) - 1).square())


def least_squares_fake(logits: Tensor) -> Tensor:
    """D(x)^2 with D = logits: a discriminator's loss on fakes (LSGAN, arXiv:1611.04076, Eq. 9)."""
    return sample_mean(widen(logits).square())


def wasserstein_real(values: Tensor) -> Tensor:
    """-f(x): a critic's loss on real samples, a generator's on fakes (WGAN, arXiv:1701.07875, Eq. 2)."""
    return sample_mean(-widen(values))


def wasserstein_fake(values: Tensor) -> Tensor:
    """f(x): a critic's loss on fakes (WGAN, arXiv:1701.07875, Eq. 2)."""
    return sample_mean(widen(values))


def hinge_real(logits: Tensor) -> Tensor:
    """max(0, 1 - D(x)): a discriminator's loss on real samples (SNGAN, arXiv:1802.05957, Eq. 16)."""
    return sample_mean(relu(1 - widen(logits)))


def hinge_fake(logits: Tensor) -> Tensor:
    """max(0, 1 + D(x)): a discriminator's loss on fakes (SNGAN, arXiv:1802.05957, Eq. 16)."""
    return sample_mean(relu(1 + widen(logits)))


def over_scales(loss: Callable[[Tensor], Tensor], logits: Sequence[Tensor]) -> Tensor:
    """The sum of a loss over a discriminator's scales: (N,)."""
    return torch.stack([loss(scale) for scale in logits]).sum(0)


def multiscale_real(logits: Sequence[Tensor]) -> Tensor:
    """`least_squares_real`, the sum over a discriminator's scales: (N,)."""
    return over_scales(least_squares_real, logits)


def multiscale_fake(logits: Sequence[Tensor]) -> Tensor:
    """`least_squares_fake`, the sum over a discriminator's scales: (N,)."""
    return over_scales(least_squares_fake, logits)
