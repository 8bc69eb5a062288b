"""What measures are made of: images that a worker has seen, the small tensors it keeps of them, and the final estimate.

Workers see a few inputs at a time and keep `Rows`: per-input values, or features. The driver folds rows in the order of
the inputs, so the number of workers can't change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.classifier import Classifier
from i2idist.metrics.networks import FeatureNetwork

Rows = Mapping[str, Tensor]
"""What is kept of some images: tensors by name, on the CPU. A first axis counts inputs or outputs, if not said."""


@dataclass(frozen=True)
class Maps:
    """Stored levels, (N, C, H, W) int64 in 0..greatest, that no resizing mixed: the nearest pixel is taken.

    `classes` is their number where the model's outputs are such maps too.
    """

    levels: Tensor
    greatest: int
    classes: int | None = None


@dataclass(frozen=True)
class Attribute:
    """An attribute's columns in the data's labels, None where it isn't there, and in the classifier's logits."""

    of_labels: int | None
    of_logits: int


@dataclass(frozen=True)
class Seen:
    """Some inputs with their translations.

    Attributes:
        inputs: (N, C, H, W) float in [-1, 1].
        outputs: (N, K, C', H', W') float in [-1, 1].
        labels: what the outputs should be of: (N,) int64 classes, or (N, A) attributes, 0 or 1; the inputs' own, but
            for the label that is translated to. None where the data has none.
        targets: (N, C', H', W') float in [-1, 1], what the outputs should be; None where the data isn't paired.
        maps: the same as label maps or depths; likewise.
        places: (N,) int64, the inputs' places in the split.
        seed: the protocol's.
    """

    inputs: Tensor
    outputs: Tensor
    places: Tensor
    seed: int
    labels: Tensor | None = None
    targets: Tensor | None = None
    maps: Maps | None = None


@dataclass(frozen=True)
class Reals:
    """Some images of the target domain.

    Attributes:
        images: (N, C', H', W') float in [-1, 1].
        labels: as in `Seen`.
        seen_in_training: whether a generator may have learnt from them: they are of the split `train`.
    """

    images: Tensor
    labels: Tensor | None = None
    seen_in_training: bool = False


@dataclass(frozen=True)
class Tools:
    """Networks that a measure looks through: what its protocol needs is there, the rest is None."""

    network_or_none: FeatureNetwork | None = None
    classifier_or_none: Classifier | None = None
    attribute: Attribute | None = None
    own_or_none: Callable[[Tensor], Tensor] | None = None

    @property
    def network(self) -> FeatureNetwork:
        """The feature network."""
        assert self.network_or_none is not None, "the protocol names a network"
        return self.network_or_none

    @property
    def classifier(self) -> Classifier:
        """The classifier."""
        assert self.classifier_or_none is not None, "the protocol needs a classifier"
        return self.classifier_or_none

    @property
    def own(self) -> Callable[[Tensor], Tensor]:
        """The model's own classifier of its inputs: (N, C, H, W) -> (N, classes).

        Raises:
            ConfigError: it has none.
        """
        if self.own_or_none is None:
            raise ConfigError("The model classifies nothing itself: this protocol is for unit_adaptation.")
        return self.own_or_none


@dataclass(frozen=True)
class Estimate:
    """A protocol's value.

    Attributes:
        value: the value.
        low: lower end of its 95 % interval; None where the protocol has none.
        high: its upper end.
        interval: how the interval was made; empty without one.
        details: values beside it, by name.
        counts: how many inputs, outputs and reals it is of.
        notes: what a reader of the value must know.
        each: (inputs,) float64, where the value is a mean over inputs; for paired comparisons.
    """

    value: float
    low: float | None = None
    high: float | None = None
    interval: str = ""
    details: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    each: Tensor | None = None

    def within(self, ends: tuple[float, float], interval: str) -> Self:
        """The same with an interval, and how that was made."""
        return replace(self, low=ends[0], high=ends[1], interval=interval)


def column(parts: Sequence[Rows], name: str) -> Tensor:
    """One tensor of all parts, in their order."""
    return torch.cat([part[name] for part in parts])
