"""The Fréchet distance of two sets of features, each taken as a normal distribution.

Heusel et al. 2017, arXiv:1706.08500 (FID); TransferGAN, Eq. 2.5. Which network and layer gave the features decides what
the number means: with the Inception of 2015 it is the FID, with another network it has another name.
"""

from __future__ import annotations

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks
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


def frechet_influences(a: Moments, b: Moments, x: Tensor) -> Tensor:
    """How much each sample of a set moves its Fréchet distance from another, to first order and up to a constant.

    Of a sample with the deviation d from m_a it is 2 (m_a - m_b)' d + d' (I - T) d: T is the derivative of
    2 Tr (S_a S_b)^(1/2) by S_a, the matrix with T S_a T = S_b. Where the distance is 0 so is every influence.

    Args:
        a: moments of the set, of more samples than features.
        b: moments of the other.
        x: (N, F) some of the set's samples.

    Returns:
        (N,) float64.

    Raises:
        ConfigError: features of other widths, or too few samples for a covariance.
    """
    d = checks.matrix(x.detach().cpu(), "Features") - a.mean
    (values, vectors), root = _decomposed(a), _root(b)
    left, lengths, _ = torch.linalg.svd((vectors * values.sqrt()).T @ root, full_matrices=False)
    carried = (d @ vectors / values.sqrt()) @ (left * lengths.sqrt())  # its square is d' T d
    moved: Tensor = 2 * d @ (a.mean - b.mean) + d.square().sum(1) - carried.square().sum(1)
    return moved


def _root(moments: Moments) -> Tensor:
    """A matrix A, (F, R), with A A' the covariance."""
    values, vectors = _decomposed(moments)
    root: Tensor = vectors * values.sqrt()
    return root


def _decomposed(moments: Moments) -> tuple[Tensor, Tensor]:
    """The covariance's eigenvalues (R,) above rounding, with their vectors (F, R); R is the rank."""
    values, vectors = torch.linalg.eigh(moments.covariance())
    rank = min(len(values), moments.count - 1)
    values, vectors = values[-rank:], vectors[:, -rank:]
    kept = values > values[-1:].clamp_min(0) * len(vectors) * torch.finfo(values.dtype).eps
    return values[kept], vectors[:, kept]
