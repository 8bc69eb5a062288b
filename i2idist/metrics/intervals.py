"""Confidence intervals of what is no mean over inputs, from influences or from groups left out.

A bootstrap of such values isn't sound: drawing with replacement repeats samples, which shifts a Fréchet distance, an
unbiased kernel estimate or an entropy by more than it varies. The infinitesimal jackknife (Jaeckel 1972; Efron 1982,
"The Jackknife, the Bootstrap and Other Resampling Plans", chapter 6) needs no resample: an influence says how much a
sample moves the value, and the variance of the value is that of influences over their number. The jackknife over groups
(chapter 2) needs the value without each group alone.

Both tell how the value varies with the samples, not how far it is off for their number: the bias of a Fréchet distance
is the same for all sets of a size.
"""

from __future__ import annotations

import math

from torch import Tensor

from i2idist.metrics import checks
from i2idist.metrics.bootstrap import Interval

GROUPS = 8
_NORMAL_975 = 1.959964
_STUDENT_975 = 2.364624  # with GROUPS - 1 degrees of freedom


def influence_interval(value: float, *influences: Tensor, extra_variance: float = 0.0) -> Interval:
    """The normal 95 % interval of a value by its samples' influences.

    Args:
        value: the value.
        influences: of each independent set its samples' influences, (N,), up to a constant; as many as the value's
            samples, or a random part of them as `scaled` to all.
        extra_variance: of what else is random in the value.

    Raises:
        ConfigError: a set with fewer than two samples, or an influence that isn't finite.
    """
    variances = [float(checks.matrix(each[:, None], "Influences", least=2).var()) / len(each) for each in influences]
    width = _NORMAL_975 * math.sqrt(sum(variances) + extra_variance)
    return Interval(value - width, value + width)


def scaled(influences: Tensor, count: int) -> Tensor:
    """Influences (N,) of some of `count` samples, with the variance of a mean over all of these."""
    return influences * math.sqrt(len(influences) / count)


def group_interval(value: float, without: Tensor) -> Interval:
    """Student's 95 % interval of a value by the jackknife over groups of nearly equal size.

    Args:
        value: of all samples.
        without: (GROUPS,) the value of all but each group.
    """
    spread = (without - without.mean()).square().sum() * (GROUPS - 1) / GROUPS
    width = _STUDENT_975 * float(spread.sqrt())
    return Interval(value - width, value + width)
