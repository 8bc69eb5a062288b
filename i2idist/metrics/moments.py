"""Mean and covariance of features, gathered batch by batch and merged from parts.

The sums are Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances":
they centre each batch on its own mean, so nothing is lost where means are large against deviations, as happens to
E[xx'] - mm'. The memory is F x F float64 numbers however many images there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks


class Moments:
    """The count, mean (F,) and m2 (F, F), the sum of outer products of deviations from the mean; float64 on the CPU."""

    def __init__(self, features: int) -> None:
        """Begin with no sample of `features` features."""
        self.count = 0
        self.mean = torch.zeros(features, dtype=torch.float64)
        self.m2 = torch.zeros(features, features, dtype=torch.float64)

    @classmethod
    def of(cls, features: Tensor) -> Self:
        """The moments of one matrix of features, (N, F)."""
        moments = cls(features.shape[-1])
        moments.update(features)
        return moments

    def update(self, features: Tensor) -> None:
        """Add a batch of features.

        Args:
            features: (N, F) float, any device.

        Raises:
            ConfigError: another F, no sample, or a number that is not finite.
        """
        x = checks.matrix(features.detach().cpu(), "Features")
        self._check_width(x.shape[1])
        mean = x.mean(0)
        self._combine(len(x), mean, x - mean)

    def merge(self, other: Moments) -> None:
        """Add the samples of `other`. The last bits depend on the order of merging: merge in the order of items.

        Raises:
            ConfigError: another number of features.
        """
        self._check_width(len(other.mean))
        if other.count:
            self.m2 += other.m2
            self._combine(other.count, other.mean, other.mean.new_zeros(0, len(other.mean)))

    def _combine(self, count: int, mean: Tensor, deviations: Tensor) -> None:
        """Add `count` samples with a mean and deviations from it; the means' difference is one deviation more."""
        total = self.count + count
        delta = mean - self.mean
        shift = delta * math.sqrt(self.count * count / total)
        rows = torch.cat([deviations, shift[None]])
        self.m2.addmm_(rows.T, rows)
        self.mean += delta * (count / total)
        self.count = total

    def covariance(self) -> Tensor:
        """The unbiased covariance, (F, F).

        Raises:
            ConfigError: fewer than two samples.
        """
        if self.count < 2:
            raise ConfigError(f"A covariance needs 2 samples at least, not {self.count}.")
        return self.m2 / (self.count - 1)

    def caution(self) -> str | None:
        """What a record should say beside a value made of these moments; None where there is nothing to say."""
        if self.count > len(self.mean):
            return None
        return f"{self.count} samples for {len(self.mean)} features: the covariance is singular, the value biased"

    def state(self) -> dict[str, Tensor]:
        """All there is as tensors, not copied: count () int64, mean (F,), m2 (F, F)."""
        return {"count": torch.tensor(self.count), "mean": self.mean, "m2": self.m2}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """What `state` gave, in tensors of its own.

        Raises:
            ConfigError: names or shapes that `state` doesn't give.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        width = state["mean"].numel() if "mean" in state else 0
        if shapes != {"count": (), "mean": (width,), "m2": (width, width)}:
            raise ConfigError(f"These are no moments: {shapes}; expected count (), mean (F,), m2 (F, F).")
        moments = cls(width)
        moments.count = int(state["count"])
        moments.mean.copy_(state["mean"])
        moments.m2.copy_(state["m2"])
        return moments

    def _check_width(self, width: int) -> None:
        if width != len(self.mean):
            raise ConfigError(f"Features of width {width} don't belong to moments of width {len(self.mean)}.")
