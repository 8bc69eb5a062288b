"""How rows become a value: folds, fed on the driver in the order of the inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from i2idist.errors import DataError
from i2idist.evaluate.seen import Estimate, Rows, column
from i2idist.metrics.bootstrap import bootstrap_interval
from i2idist.metrics.frechet import frechet_distance
from i2idist.metrics.moments import Moments

RESAMPLES = 2000
_AT_ONCE = 1024


class Fold(Protocol):
    """Gathers rows and gives the value."""

    def add(self, rows: Rows, real: bool) -> None:
        """Take the rows of some inputs, or of some `real` images."""
        ...

    def estimate(self, seed: int) -> Estimate:
        """The value of all rows; `seed` keys resampling."""
        ...


class MeanOverInputs:
    """The mean over inputs of `value` (N,), with a bootstrap interval; float64, 8 bytes an input."""

    def __init__(self, shown: Callable[[float], float] = lambda mean: mean) -> None:
        """`shown` is an increasing function of the mean, such as exp, that is reported in its place."""
        self._parts: list[Rows] = []
        self._shown = shown

    def add(self, rows: Rows, real: bool) -> None:
        """See `Fold`."""
        self._parts.append(rows)

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        each = column(self._parts, "value").double()
        low, high = bootstrap_interval(each, resamples=RESAMPLES, seed=seed)
        value, low, high = (self._shown(float(x)) for x in (each.mean(), low, high))
        interval = f"95 % percentile bootstrap over {len(each)} inputs, {RESAMPLES} resamples"
        if len(each) == 1:
            return Estimate(value, each=each, notes=("one input gives no interval",))
        return Estimate(value, low, high, interval, each=each)


class _Gathered:
    """Moments of rows, added a fixed number at a time however they come."""

    def __init__(self) -> None:
        self._waiting: list[Tensor] = []
        self._count = 0
        self._moments: Moments | None = None

    def add(self, features: Tensor) -> None:
        self._waiting.append(features)
        self._count += len(features)
        if self._count >= _AT_ONCE:
            self._flush()

    def moments(self, what: str) -> Moments:
        self._flush()
        if self._moments is None:
            raise DataError(f"There are no {what} to compare.")
        return self._moments

    def _flush(self) -> None:
        if self._count:
            features = torch.cat(self._waiting)
            self._moments = self._moments or Moments(features.shape[1])
            self._moments.update(features)
            self._waiting, self._count = [], 0


class Frechet:
    """The Fréchet distance of outputs' and reals' `features`: the memory is two covariances, whatever the number."""

    def __init__(self) -> None:
        """Begin with none."""
        self._fakes, self._reals = _Gathered(), _Gathered()

    def add(self, rows: Rows, real: bool) -> None:
        """See `Fold`."""
        (self._reals if real else self._fakes).add(rows["features"])

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        fakes, reals = self._fakes.moments("translations"), self._reals.moments("real images")
        cautions = (("translations", fakes.caution()), ("real images", reals.caution()))
        notes = tuple(f"{what}: {caution}" for what, caution in cautions if caution)
        return Estimate(frechet_distance(fakes, reals), notes=notes)


def exponential(mean: float) -> float:
    """E to the mean: how inception scores are reported."""
    return math.exp(mean)
