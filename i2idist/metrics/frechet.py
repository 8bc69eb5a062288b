"""The Fréchet distance of two sets of features, each taken as a normal distribution.

Heusel et al. 2017, arXiv:1706.08500 (FID); TransferGAN, Eq. 2.5. Which network and layer gave the features decides what
the number means: with the Inception of 2015 it is the FID, with another network it has another name.
"""

from __future__ import annotations

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.moments import Moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)), Eq. 2.5, with unbiased covariances.

    Args:
        a: moments of one set.
        b: moments of the other, of the same features.

    Returns:
        The squared distance, >= 0, the same in either order.

    Raises:
        ConfigError: different numbers of features, or fewer than two samples in a set.
    """
    if len(a.mean) != len(b.mean):
        raise ConfigError(f"Features of width {len(a.mean)} and {len(b.mean)} can't be compared: use one network.")
    traces = a.covariance().trace() + b.covariance().trace()
    # With S_a = A A', S_b = B B': the eigenvalues of S_a S_b are the squared singular values of A' B.
    cross = torch.linalg.svdvals(_root(a).T @ _root(b)).sum()
    return max(0.0, float((a.mean - b.mean).square().sum() + traces - 2 * cross))


def _root(moments: Moments) -> Tensor:
    """A matrix A, (F, R), with A A' the covariance; R is the largest rank that so many samples can have."""
    values, vectors = torch.linalg.eigh(moments.covariance())
    rank = min(len(values), moments.count - 1)
    root: Tensor = vectors[:, -rank:] * values[-rank:].clamp_min(0).sqrt()
    return root
