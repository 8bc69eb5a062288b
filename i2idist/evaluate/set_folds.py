"""Folds whose value is one of whole sets of outputs and real images, not a mean over inputs.

Their intervals come of influences and of groups left out, see `metrics.intervals`. Outputs of one input stay together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from i2idist.data.transforms import to_unit
from i2idist.errors import DataError
from i2idist.evaluate.folds import RESAMPLES, Gathered
from i2idist.evaluate.seen import Estimate, Rows
from i2idist.metrics import kernel
from i2idist.metrics.bootstrap import bootstrap_interval
from i2idist.metrics.classification import reverse_classification
from i2idist.metrics.classifier import train_classifier
from i2idist.metrics.critic import independent_wasserstein, wasserstein
from i2idist.metrics.frechet import frechet_distance, frechet_influences
from i2idist.metrics.intervals import GROUPS, group_interval, influence_interval, scaled
from i2idist.metrics.moments import Moments
from i2idist.metrics.scores import inception_influences, inception_score
from i2idist.metrics.variance import Variances, mean_variance
from i2idist.randomness import key_of, permutation, sample_keys, uniform

_AT_ONCE = 1024
KEPT = 2000
"""Features that are kept of each set, whatever its size, for the interval of a Fréchet distance."""
_JACKKNIFE = "95 % normal interval by the infinitesimal jackknife over inputs and real images"
_NOT_BIAS = "without the bias that sets of finite size have"


class _Features:
    """Moments of features, and a random few of them; the memory is that of a covariance, whatever the number."""

    def __init__(self) -> None:
        self._waiting: list[Tensor] = []
        self._moments: Moments | None = None
        self._kept: list[Tensor] = []
        self._draws: list[Tensor] = []
        self.inputs = 0

    def add(self, features: Tensor) -> None:
        """Take (N, F) or (N, K, F); moments are fed some thousand at once, at places that the chunks decide."""
        self._waiting.append(features.flatten(0, -2))
        self._keep(features)
        if sum(map(len, self._waiting)) >= _AT_ONCE:
            self._flush()

    def moments(self, what: str) -> Moments:
        self._flush()
        if self._moments is None:
            raise DataError(f"There are no {what} to evaluate on.")
        return self._moments

    def influences(self, other: Moments) -> Tensor:
        """Of inputs, scaled from those that were kept to all."""
        kept = torch.cat(self._kept)
        each = frechet_influences(self.moments("features"), other, kept.flatten(0, -2))
        return scaled(each.reshape(len(kept), -1).mean(1), self.inputs)

    def _keep(self, features: Tensor) -> None:
        """Keep those inputs of all so far whose draws are the lowest."""
        numbers = torch.arange(self.inputs, self.inputs + len(features))
        self.inputs += len(features)
        self._kept.append(features)
        self._draws.append(uniform(sample_keys(key_of(0, "kept features"), numbers), (), torch.float64))
        most = max(2, KEPT // features[0, ..., 0].numel())
        if sum(map(len, self._draws)) >= 2 * most:
            draws = torch.cat(self._draws)
            rows = draws.topk(most, largest=False).indices
            self._draws, self._kept = [draws[rows]], [torch.cat(self._kept)[rows]]

    def _flush(self) -> None:
        if self._waiting:
            features = torch.cat(self._waiting)
            self._moments = self._moments or Moments(features.shape[1])
            self._moments.update(features)
            self._waiting = []


class Frechet:
    """The Fréchet distance of outputs' and reals' `features`: (N, K, F) and (N, F).

    Of a generator, `lower-bound` is that of the reals it may have learnt from, `train` (N,) bool, and all reals
    (TransferGAN, section 2.3.5 of Wang's thesis).
    """

    interval = f"{_JACKKNIFE}, {KEPT:,} of each at most; {_NOT_BIAS}; none where a covariance is singular"

    def __init__(self) -> None:
        """Begin with none."""
        self._fakes, self._reals, self._train = _Features(), _Features(), _Features()

    def add(self, rows: Rows, real: bool) -> None:
        """See `Fold`."""
        (self._reals if real else self._fakes).add(rows["features"])
        train = rows.get("train")
        if train is not None and bool(train.any()):
            self._train.add(rows["features"][train])

    def take_reals(self, other: Any) -> None:
        """See `Fold`."""
        self._reals, self._train = other._reals, other._train

    def _lower_bound(self, reals: Moments) -> dict[str, float]:
        """Where only some of the reals are `train`."""
        if not 1 < self._train.inputs < self._reals.inputs:
            return {}
        return {"lower-bound": frechet_distance(self._train.moments("training images"), reals)}

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        fakes, reals = self._fakes.moments("translations"), self._reals.moments("real images")
        cautions = (("translations", fakes.caution()), ("real images", reals.caution()))
        notes = tuple(f"{what}: {caution}" for what, caution in cautions if caution)
        made = Estimate(frechet_distance(fakes, reals), details=self._lower_bound(reals), notes=notes)
        if notes or self._fakes.inputs < 2:
            return made
        ends = influence_interval(made.value, self._fakes.influences(reals), self._reals.influences(fakes))
        return made.within((max(0.0, ends.low), ends.high), self.interval)


def _of_inputs(influences: Tensor, features: Tensor) -> Tensor:
    """Influences of outputs as the means of their inputs', (N, K, F) being the outputs' features."""
    return influences.reshape(len(features), -1).mean(1)


class Kernel(Gathered):
    """The unbiased polynomial discrepancy of `features`, (N, K, F) and (N, F), the mean over random subsets."""

    interval = f"{_JACKKNIFE}, and of the draw of subsets"

    def __init__(self, subset_size: int, subsets: int = 100) -> None:
        """With so many subsets of so many samples."""
        super().__init__()
        self._size, self._subsets = subset_size, subsets

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        features, reals = self.column("features").double(), self.column("features", real=True).double()
        fakes = features.flatten(0, 1)
        found = kernel.kid(fakes, reals, seed=seed, subsets=self._subsets, subset_size=self._size)
        made = Estimate(found.mean, details={"std-of-subsets": found.std})
        if len(features) < 2:
            return made
        moved = _of_inputs(kernel.influences(kernel.polynomial, fakes, reals), features)
        by_reals = kernel.influences(kernel.polynomial, reals, fakes)
        ends = influence_interval(made.value, moved, by_reals, extra_variance=found.std**2 / self._subsets)
        return made.within(ends, self.interval)


class Gaussian(Gathered):
    """The discrepancy of `features`, (N, K, F) and (N, F), with a Gaussian kernel."""

    interval = f"{_JACKKNIFE}, of the square, the kernel's scale taken as known; {_NOT_BIAS}"

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        features, reals = self.column("features").double(), self.column("features", real=True).double()
        fakes = features.flatten(0, 1)
        made = Estimate(kernel.kmmd(reals, fakes))
        if len(features) < 2:
            return made
        scale = kernel.gaussian(reals)
        moved = _of_inputs(kernel.influences(scale, fakes, reals), features)
        low, high = influence_interval(made.value**2, moved, kernel.influences(scale, reals, fakes))
        return made.within((max(0.0, low) ** 0.5, high**0.5), self.interval)


class InceptionScore(Gathered):
    """Exp of the mean divergence of `probabilities` (N, K, classes) over ten splits of inputs in random order."""

    interval = "95 % normal interval by the infinitesimal jackknife over inputs"

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        probabilities = self.column("probabilities")
        probabilities = probabilities[permutation(key_of(seed, "splits"), len(probabilities))]
        found = inception_score(probabilities.flatten(0, 1))
        made = Estimate(found.mean, details={"std-of-splits": found.std})
        if len(probabilities) < 2:
            return made
        moved = _of_inputs(inception_influences(probabilities.flatten(0, 1)), probabilities)
        return made.within(influence_interval(made.value, moved), self.interval)


class ReverseClassification(Gathered):
    """How a classifier that is trained on translations reads real images: `images` uint8, and `labels`."""

    interval = f"95 % percentile bootstrap over real images, {RESAMPLES} resamples, of the one classifier"

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
        ends = bootstrap_interval(each, seed=seed, resamples=RESAMPLES)
        return Estimate(float(each.mean())).within(ends, self.interval)


class IndependentCritic(Gathered):
    """The Wasserstein distance that a critic of its own sees between `images` uint8 of both kinds."""

    interval = "95 % normal interval over held-out outputs and real images, of the one critic"

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        reals, fakes = to_unit(self.column("images", real=True).numpy()), to_unit(self.column("images").numpy())
        scores = independent_wasserstein(reals, fakes, seed=seed)
        made = Estimate(wasserstein(*scores))
        if min(map(len, scores)) < 2:
            return made
        return made.within(influence_interval(made.value, *scores), self.interval)


class MeanVariance:
    """The mean variance of pixels, of the chunks' own sums in groups of inputs."""

    interval = f"95 % interval by the jackknife over {GROUPS} groups of inputs; none below {GROUPS} inputs"

    def __init__(self) -> None:
        """Begin with none."""
        self._groups: list[Variances] = []

    def add(self, rows: Rows, real: bool) -> None:
        """See `Fold`."""
        found = [Variances.from_state({name: rows[name][group] for name in rows}) for group in range(GROUPS)]
        self._groups = self._groups or [Variances(len(one.mean)) for one in found]
        for mine, theirs in zip(self._groups, found, strict=True):
            mine.merge(theirs)

    def take_reals(self, other: Any) -> None:
        """It looks at none."""

    def estimate(self, seed: int) -> Estimate:
        """See `Fold`."""
        if not self._groups:
            raise DataError("There are no translations to evaluate on.")
        made = Estimate(mean_variance(self._all_but(None)))
        if not all(group.count for group in self._groups) or made.value == 0:
            return made
        without = torch.tensor([mean_variance(self._all_but(group)) for group in range(GROUPS)], dtype=torch.float64)
        low, high = group_interval(made.value, without)
        return made.within((max(0.0, low), high), self.interval)

    def _all_but(self, left_out: int | None) -> Variances:
        whole = Variances(len(self._groups[0].mean))
        for number, group in enumerate(self._groups):
            if number != left_out:
                whole.merge(group)
        return whole
