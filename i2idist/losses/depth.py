"""Losses on depth maps, one value a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from i2idist.losses.reduction import sample_mean, widen


def berhu(x: Tensor, y: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean reverse Huber loss (Mix-and-match networks, Eq. 4.6; Laina et al. 2016, arXiv:1606.00373).

    |d| up to c and (d^2 + c^2) / 2c beyond, where d = x - y and c is a fifth of the image's largest |d|, a constant.

    Args:
        x: (N, ...).
        y: the same shape.
        known: the same shape, bool: which values count; None: all.

    Returns:
        (N,); 0 for a sample of which nothing is known.
    """
    d = (widen(x) - widen(y)).abs()
    if known is not None:
        d = d * known
    c = d.detach().flatten(1).amax(1).reshape(-1, *[1] * (d.dim() - 1)) / 5
    beyond = (d.square() + c.square()) / (2 * c).clamp_min(torch.finfo(d.dtype).tiny)
    each = torch.where(d <= c, d, beyond)
    if known is None:
        return sample_mean(each)
    return each.flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
