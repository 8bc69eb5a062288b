"""Maximum mean discrepancies of two sets of features: KID and KMMD.

Both need all features at once (a kernel joins every sample with every other), so a protocol bounds the number of
samples; the memory beside the features is a block of the kernel matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks
from i2idist.randomness import key_of, permutation

_ROWS_AT_ONCE = 512

Kernel = Callable[[Tensor, Tensor], Tensor]
"""(N, F), (M, F) -> (N, M)."""


class Kid(NamedTuple):
    """The mean of the estimates on subsets, and their standard deviation."""

    mean: float
    std: float


def kid(x: Tensor, y: Tensor, *, seed: int, subsets: int = 100, subset_size: int = 1000) -> Kid:
    """The kernel inception distance (Binkowski et al. 2018, arXiv:1801.01401); unbiased, so at times below 0.

    It is the squared maximum mean discrepancy with the kernel (x'y / F + 1)^3, averaged over random subsets. As with
    the Fréchet distance the network that gave the features belongs to the name.

    Args:
        x: (N, F) features of one set.
        y: (M, F) features of the other.
        seed: of the subsets.
        subsets: how many are drawn.
        subset_size: samples of each set in a subset, drawn without replacement.

    Returns:
        Mean and standard deviation (of the subsets, not of their mean).

    Raises:
        ConfigError: fewer samples than a subset has, subsets too small or none, different features, or numbers that
            aren't finite.
    """
    x, y = _pair(x, y, "KID", least=subset_size)
    if subsets < 1 or subset_size < 2:
        raise ConfigError(f"KID needs subsets of 2 samples at least, not {subsets} of {subset_size}.")

    def chosen(features: Tensor, side: str, number: int) -> Tensor:
        return features[permutation(key_of(seed, "kid", side, number), len(features))[:subset_size]]

    estimates = torch.stack([_unbiased(chosen(x, "x", i), chosen(y, "y", i)) for i in range(subsets)])
    return Kid(estimates.mean().item(), estimates.std(correction=0).item())


def kmmd(real: Tensor, fake: Tensor, *, sigma: float = 1.0) -> float:
    """The kernel maximum mean discrepancy with a Gaussian kernel, as MineGAN reports it beside BSA (section 3.5).

    Reading, since neither states bandwidth or estimator: k(x, y) = exp(-|x - y|^2 / (2 sigma^2 s^2)), s being the root
    mean square distance of two different real samples, so that one sigma serves any network; the square root of the
    estimate that includes each sample's kernel with itself, which is never negative and 0 for equal sets.

    Args:
        real: (N, F) features of real images; they set the scale.
        fake: (M, F) features of generated ones.
        sigma: the bandwidth in units of s.

    Returns:
        A number in [0, sqrt(2)].

    Raises:
        ConfigError: fewer than two samples in a set, different features, numbers that aren't finite, a sigma that isn't
            positive, or real samples that are all the same.
    """
    real, fake = _pair(real, fake, "KMMD", least=2)
    kernel = gaussian(real, sigma)
    within, across = _mean(kernel, real, real) + _mean(kernel, fake, fake), _mean(kernel, real, fake)
    return math.sqrt(max(0.0, float(within - 2 * across)))


def gaussian(real: Tensor, sigma: float = 1.0) -> Kernel:
    """KMMD's kernel, with the scale that real features (N, F) set.

    Raises:
        ConfigError: a sigma that isn't positive, or real samples that are all the same or fewer than two.
    """
    real = checks.matrix(real, "KMMD", least=2)
    centre = real.mean(0)  # distances don't change, and lose no digits to a large common mean
    scale = 2 * float(real.var(0).sum())  # the mean of |x - x'|^2 over pairs of different samples
    if sigma <= 0 or scale <= 0:
        raise ConfigError(f"KMMD needs a positive sigma, not {sigma}, and real samples that differ.")
    return lambda x, y: torch.exp(_squared_distances(x - centre, y - centre) / (-2 * sigma**2 * scale))


def polynomial(x: Tensor, y: Tensor) -> Tensor:
    """KID's kernel, (x'y / F + 1)^3: (N, F), (M, F) -> (N, M)."""
    return ((x @ y.T) / x.shape[1] + 1).pow(3)


def influences(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """How much each sample of `x` moves the squared discrepancy of `x` and `y`, to first order and up to a constant.

    Args:
        kernel: of the discrepancy.
        x: (N, F) features of one set.
        y: (M, F) features of the other.

    Returns:
        (N,) float64.

    Raises:
        ConfigError: different features, numbers that aren't finite, or no sample.
    """
    x, y = _pair(x, y, "A discrepancy", least=1)
    return 2 * checks.in_chunks(
        len(x), _ROWS_AT_ONCE, lambda part: kernel(x[part], x).mean(1) - kernel(x[part], y).mean(1)
    )


def _unbiased(x: Tensor, y: Tensor) -> Tensor:
    """MMD^2 without the kernels of samples with themselves, of two sets of equal size n: a scalar."""
    n = len(x)
    of_x, of_y, across = (polynomial(a, b) for a, b in ((x, x), (y, y), (x, y)))
    others = of_x.sum() - of_x.trace() + of_y.sum() - of_y.trace()
    return others / (n * (n - 1)) - 2 * across.mean()


def _mean(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """The mean of the kernel over all of (N, F) with all of (M, F), by blocks of rows: a scalar."""
    rows = checks.in_chunks(len(x), _ROWS_AT_ONCE, lambda part: kernel(x[part], y).mean(1))
    return rows.mean()


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, F), (M, F) -> (N, M)."""
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp_min(0)


def _pair(x: Tensor, y: Tensor, what: str, least: int) -> tuple[Tensor, Tensor]:
    """Two float64 matrices of the same features, if they are such, of `least` samples at least.

    Raises:
        ConfigError: they aren't.
    """
    x, y = checks.matrix(x, what, least), checks.matrix(y, what, least)
    if x.shape[1] != y.shape[1]:
        raise ConfigError(f"{what}: features of width {x.shape[1]} and {y.shape[1]}; use one network.")
    return x, y
