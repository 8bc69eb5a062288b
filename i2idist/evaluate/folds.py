"""How rows become a value: folds, fed on the driver in the order of the inputs.

Here are those that are functions of means over inputs, with bootstrap intervals; those of whole sets are `set_folds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from i2idist.errors import DataError
from i2idist.evaluate.seen import Estimate, Rows, column
from i2idist.metrics import classification, depth, segmentation
from i2idist.metrics.bootstrap import bootstrap_interval
from i2idist.metrics.scores import conditional_inception_score, divergences

RESAMPLES = 2000
BOOTSTRAP = f"95 % percentile bootstrap over inputs, {RESAMPLES} resamples"


class Fold(Protocol):
    """Gathers rows and gives the value; `interval` says how its interval is made."""

    @property
    def interval(self) -> str:
        """In words."""
        ...

    def add(self, rows: Rows, real: bool) -> None:
        """Take the rows of some inputs, or of some `real` images."""
        ...

    def take_reals(self, other: Any) -> None:
        """Take the real images of another fold of the same kind, which has all of them."""
        ...

    def estimate(self, seed: int) -> Estimate:
        """The value of all rows; `seed` keys what is drawn for it."""
        ...


class Gathered:
    """A fold that needs all rows at once, and so a protocol that bounds them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._parts: dict[bool, list[Rows]] = {False: [], True: []}

    def add(self, rows: Rows, real: bool) -> None:
        """See `Fold`."""
        self._parts[real].append(rows)

    def take_reals(self, other: Any) -> None:
        """See `Fold`."""
        self._parts[True] = other._parts[True]

    def column(self, name: str, *, real: bool = False) -> Tensor:
        """One tensor of all rows, in order.

        Raises:
            DataError: there are none.
        """
        if not self._parts[real]:
            raise DataError(f"There are no {'real images' if real else 'translations'} to evaluate on.")
        return column(self._parts[real], name)


class MeanOverInputs(Gathered):
    """The mean over inputs of `value` (N,), with a bootstrap interval; 8 bytes an input."""

    interval = BOOTSTRAP

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        return mean_of(self.column("value"), seed)


def mean_of(each: Tensor, seed: int, details: Mapping[str, float] | None = None) -> Estimate:
    """The mean of values of inputs, (N,), with a bootstrap interval where there are two or more."""
    each = each.double()
    made = Estimate(float(each.mean()), details=details or {}, each=each)
    if len(each) < 2:
        return made
    return made.within(bootstrap_interval(each, seed=seed, resamples=RESAMPLES), BOOTSTRAP)


class ConditionalScore(Gathered):
    """MUNIT's CIS of `probabilities` (inputs, samples, classes), and its IS beside it."""

    interval = BOOTSTRAP

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        probabilities = self.column("probabilities")
        details = {"is": float(divergences(probabilities.flatten(0, 1)).mean())}
        return mean_of(conditional_inception_score(probabilities), seed, details)


class OfMeans(Gathered):
    """A function of the means over inputs of `value` (N, S), with a bootstrap interval; and others beside it."""

    interval = BOOTSTRAP

    def __init__(
        self, headline: Callable[[Tensor], Tensor], details: Callable[[Tensor], Mapping[str, float]] = lambda means: {}
    ) -> None:
        """`headline` maps (R, S) means to (R,) values, `details` (S,) means to values by name."""
        super().__init__()
        self._headline, self._details = headline, details

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        each = self.column("value").double()
        means = each.mean(0)
        made = Estimate(float(self._headline(means[None])), details=self._details(means))
        if len(each) < 2:
            return made
        ends = bootstrap_interval(each, seed=seed, resamples=RESAMPLES, statistic=self._headline)
        return made.within(ends, self.interval)


def miou() -> OfMeans:
    """Mean IoU of confusion counts, (N, classes * classes), and each class's beside it."""

    def details(means: Tensor) -> dict[str, float]:
        return _by_number("iou", segmentation.iou(_squares(means)))

    return OfMeans(lambda means: segmentation.mean_iou(_squares(means)), details)


def pixels() -> OfMeans:
    """The share of pixels on the diagonal of confusion counts, (N, classes * classes)."""
    return OfMeans(lambda means: segmentation.global_accuracy(_squares(means)))


def class_errors() -> OfMeans:
    """The mean over classes of the classifier's error, of `errors_by_class`'s rows; each class's beside it."""

    def details(means: Tensor) -> dict[str, float]:
        return _by_number("class", classification.classifier_error(means))

    return OfMeans(lambda means: classification.classifier_error(means).nanmean(-1), details)


def _by_number(name: str, values: Tensor) -> dict[str, float]:
    """Values by class, without those that aren't defined."""
    return {f"{name}-{number}": float(value) for number, value in enumerate(values) if value == value}


def _squares(counts: Tensor) -> Tensor:
    classes = round(counts.shape[-1] ** 0.5)
    return counts.reshape(*counts.shape[:-1], classes, classes)


def depths(measure: str = "delta_1") -> OfMeans:
    """A measure of depths of sums over pixels, (N, 6); the others beside it."""

    def details(means: Tensor) -> dict[str, float]:
        found = depth.depth_errors(means)
        return {name.replace("_", "-"): float(value) for name, value in found.items() if name != measure}

    return OfMeans(lambda means: depth.depth_errors(means)[measure], details)
