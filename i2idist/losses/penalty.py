"""Gradient penalties on critics, one value a sample. They need a backward pass that can be differentiated."""

from __future__ import annotations

import torch
from torch import Tensor

from i2idist.losses.reduction import widen


def between(real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """Points on the lines from fakes to real samples, to take gradients at (Gulrajani et al. 2017, Algorithm 1).

    Args:
        real: (N, ...).
        fake: (N, ...).
        epsilon: (N, 1, ...) uniform in [0, 1): the share of the real sample.

    Returns:
        (N, ...), a leaf that requires gradients.
    """
    return (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()


def gradient_penalty(values: Tensor, x: Tensor) -> Tensor:
    """(|grad_x f(x)| - 1)^2, which holds a critic near 1-Lipschitz (Gulrajani et al. 2017, arXiv:1704.00028, Eq. 3).

    Args:
        values: (N, ...), the critic's values f(x); those of a sample are added up.
        x: (N, ...), what they were computed from.

    Returns:
        (N,).
    """
    (gradient,) = torch.autograd.grad(values.sum(), x, create_graph=True)
    penalty: Tensor = (widen(gradient).flatten(1).norm(dim=1) - 1).square()
    return penalty
