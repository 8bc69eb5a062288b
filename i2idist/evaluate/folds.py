"""How rows become a value: folds, fed on the driver in the order of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from i2idist.data.transforms import to_unit
from i2idist.errors import DataError
from i2idist.evaluate.seen import Estimate, Rows, column
from i2idist.metrics import depth, segmentation
from i2idist.metrics.bootstrap import bootstrap_interval
from i2idist.metrics.classification import classifier_error, reverse_classification
from i2idist.metrics.classifier import train_classifier
from i2idist.metrics.critic import independent_wasserstein, wasserstein
from i2idist.metrics.frechet import frechet_distance
from i2idist.metrics.kernel import kid, kmmd
from i2idist.metrics.moments import Moments
from i2idist.metrics.scores import conditional_inception_score, divergences, inception_score
from i2idist.metrics.variance import Variances, mean_variance

RESAMPLES = 2000
_AT_ONCE = 1024
_BOOTSTRAP = f"95 % percentile bootstrap over inputs, {RESAMPLES} resamples"


class Fold(Protocol):
    """Gathers rows and gives the value."""

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


def _interval(each: Tensor, seed: int, statistic: Callable[[Tensor], Tensor]) -> tuple[float | None, float | None, str]:
    if len(each) < 2:
        return None, None, ""
    low, high = bootstrap_interval(each, seed=seed, resamples=RESAMPLES, statistic=statistic)
    return low, high, _BOOTSTRAP


class MeanOverInputs(Gathered):
    """The mean over inputs of `value` (N,), with a bootstrap interval; 8 bytes an input."""

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        each = self.column("value").double()
        low, high, interval = _interval(each, seed, lambda means: means[:, 0])
        return Estimate(float(each.mean()), low, high, interval, each=each)


class OfMeans(Gathered):
    """A function of the means over inputs of `value` (N, S), with a bootstrap interval; and others beside it."""

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
        low, high, interval = _interval(each, seed, self._headline)
        return Estimate(float(self._headline(means[None])), low, high, interval, details=self._details(means))


def miou() -> OfMeans:
    """Mean IoU of confusion counts, (N, classes * classes); global accuracy and each class's IoU beside it."""

    def headline(means: Tensor) -> Tensor:
        return segmentation.mean_iou(_squares(means))

    def details(means: Tensor) -> dict[str, float]:
        counts = _squares(means)
        found = {
            f"iou-{number}": float(value) for number, value in enumerate(segmentation.iou(counts)) if value == value
        }
        return {"global-accuracy": float(segmentation.global_accuracy(counts)), **found}

    return OfMeans(headline, details)


def _squares(counts: Tensor) -> Tensor:
    classes = round(counts.shape[-1] ** 0.5)
    return counts.reshape(*counts.shape[:-1], classes, classes)


def depths() -> OfMeans:
    """The share of depths within 1.25 of sums over pixels, (N, 6); the other measures beside it."""

    def details(means: Tensor) -> dict[str, float]:
        return {name.replace("_", "-"): float(value) for name, value in depth.depth_errors(means).items()}

    return OfMeans(lambda means: depth.depth_errors(means)["delta_1"], details)


class _InOrder:
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
            raise DataError(f"There are no {what} to evaluate on.")
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
        self._fakes, self._reals = _InOrder(), _InOrder()

    def add(self, rows: Rows, real: bool) -> None:
        """See `Fold`."""
        (self._reals if real else self._fakes).add(rows["features"])

    def take_reals(self, other: Any) -> None:
        """See `Fold`."""
        self._reals = other._reals

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        fakes, reals = self._fakes.moments("translations"), self._reals.moments("real images")
        cautions = (("translations", fakes.caution()), ("real images", reals.caution()))
        notes = tuple(f"{what}: {caution}" for what, caution in cautions if caution)
        return Estimate(frechet_distance(fakes, reals), notes=notes)


class Kernel(Gathered):
    """The unbiased polynomial discrepancy of `features`, the mean over random subsets."""

    def __init__(self, subset_size: int, subsets: int = 100) -> None:
        """With so many subsets of so many samples."""
        super().__init__()
        self._size, self._subsets = subset_size, subsets

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        fakes, reals = self.column("features"), self.column("features", real=True)
        found = kid(fakes, reals, seed=seed, subsets=self._subsets, subset_size=self._size)
        return Estimate(found.mean, details={"std-of-subsets": found.std})


class Gaussian(Gathered):
    """The discrepancy of `features` with a Gaussian kernel."""

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        return Estimate(kmmd(self.column("features", real=True), self.column("features")))


class InceptionScore(Gathered):
    """Exp of the mean divergence of `probabilities` (N, classes) over ten splits."""

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        found = inception_score(self.column("probabilities"))
        return Estimate(found.mean, details={"std-of-splits": found.std})


class ConditionalScore(Gathered):
    """MUNIT's CIS of `probabilities` (inputs, samples, classes), and its IS beside it."""

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        probabilities = self.column("probabilities")
        each = conditional_inception_score(probabilities)
        low, high, interval = _interval(each, seed, lambda means: means[:, 0])
        details = {"is": float(divergences(probabilities.flatten(0, 1)).mean())}
        return Estimate(float(each.mean()), low, high, interval, details, each=each)


class ErrorByClass(Gathered):
    """The mean over classes of the classifier's error on `scores` (N, classes) of images that `labels` (N,) name."""

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        errors = classifier_error(self.column("scores"), self.column("labels"))
        details = {f"class-{number}": float(error) for number, error in enumerate(errors) if error == error}
        return Estimate(float(errors.nanmean()), details=details)


class ReverseClassification(Gathered):
    """How a classifier that is trained on translations reads real images: `images` uint8, and `labels`."""

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        labels, real_labels = self.column("labels"), self.column("labels", real=True)
        classes = int(torch.cat([labels, real_labels]).max()) + 1
        each = reverse_classification(
            lambda images, known: train_classifier(images, known, seed=seed, classes=classes),
            to_unit(self.column("images").numpy()),
            labels,
            to_unit(self.column("images", real=True).numpy()),
            real_labels,
        )
        return Estimate(float(each.mean()))


class IndependentCritic(Gathered):
    """The Wasserstein distance that a critic of its own sees between `images` uint8 of both kinds."""

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        reals, fakes = to_unit(self.column("images", real=True).numpy()), to_unit(self.column("images").numpy())
        return Estimate(wasserstein(*independent_wasserstein(reals, fakes, seed=seed)))


class MeanVariance:
    """The mean variance of pixels, of the chunks' own sums."""

    def __init__(self) -> None:
        """Begin with none."""
        self._all: Variances | None = None

    def add(self, rows: Rows, real: bool) -> None:
        """See `Fold`."""
        found = Variances.from_state(rows)
        self._all = self._all or Variances(len(found.mean))
        self._all.merge(found)

    def take_reals(self, other: Any) -> None:
        """It looks at none."""

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        if self._all is None:
            raise DataError("There are no translations to evaluate on.")
        return Estimate(mean_variance(self._all))
