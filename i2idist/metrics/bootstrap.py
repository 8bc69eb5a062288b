"""Confidence intervals by the percentile bootstrap over inputs (Efron 1979; Efron and Tibshirani 1993, chapter 13).

Inputs are drawn with replacement, all values of an input together, since outputs for one input are not independent.
The draws are keyed by the seed alone: equal values in equal order give the same interval on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks
from i2idist.randomness import key_of, sample_keys, uniform

_DRAWS_AT_ONCE = 1 << 20


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


def bootstrap_interval(
    values: Tensor,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 2000,
    statistic: Callable[[Tensor], Tensor] = lambda means: means[:, 0],
) -> Interval:
    """The percentile interval of the mean over inputs, or of a function of several means.

    A ratio or a sum over classes is a function of means: for the mean IoU, give each input's confusion counts as a row
    and the mean IoU of (R, ...) counts as `statistic`.

    Args:
        values: (N,), one value an input, or (N, S), several.
        seed: of the draws.
        level: the share of resamples inside, in (0, 1).
        resamples: how often N inputs are drawn.
        statistic: (R, S) means, one row a resample, -> (R,); NaN where it isn't defined, which is left out.

    Returns:
        The interval; of no width where there is one input only.

    Raises:
        ConfigError: no value, one that isn't finite, a level or a number of resamples that can't be, or a statistic
            that isn't defined on any resample.
    """
    rows = checks.matrix(values[:, None] if values.dim() == 1 else values, "Values of inputs")
    if not 0 < level < 1 or resamples < 1:
        raise ConfigError(f"An interval needs a level in (0, 1) and resamples, not {level} and {resamples}.")
    key, at_once = key_of(seed, "bootstrap"), max(1, _DRAWS_AT_ONCE // len(rows))

    def compute(part: slice) -> Tensor:
        numbers = torch.arange(resamples)[part]
        drawn = (uniform(sample_keys(key, numbers), (len(rows),), torch.float64) * len(rows)).long()
        return statistic(_times_drawn(drawn, len(rows)) @ rows / len(rows))

    found = checks.in_chunks(resamples, at_once, compute)
    tail = (1 - level) / 2
    low, high = torch.nanquantile(found, torch.tensor([tail, 1 - tail], dtype=found.dtype)).tolist()
    if low != low:
        raise ConfigError("The statistic is not defined on any resample: the values don't hold what it needs.")
    return Interval(low, high)


def _times_drawn(drawn: Tensor, inputs: int) -> Tensor:
    """How often each input was drawn: (R, N) numbers of inputs -> (R, N) float64."""
    counts = torch.zeros(len(drawn), inputs, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
