"""Mean variance: how much generated images vary, place by place (MineGAN, section 3.5, beside KMMD; higher is better).

Neither MineGAN nor the work on BSA that it follows gives a formula. Reading: the variance over images of each number of
an image, averaged over all numbers of an image. On pixels in [-1, 1] it is `mean variance of pixels`; on a network's
features it carries that network's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks


class Variances:
    """The count, mean (D,) and m2 (D,), the sums of squared deviations, of D numbers; float64 on the CPU.

    As `Moments`, without what joins two numbers: memory for pixels, too, is that of two images.
    """

    def __init__(self, numbers: int) -> None:
        """Begin with no image."""
        self.count = 0
        self.mean = torch.zeros(numbers, dtype=torch.float64)
        self.m2 = torch.zeros(numbers, dtype=torch.float64)

    @classmethod
    def of(cls, images: Tensor) -> Self:
        """The variances of one batch, (N, ...), which may be empty."""
        variances = cls(math.prod(images.shape[1:]))
        if len(images):
            variances.update(images)
        return variances

    def update(self, images: Tensor) -> None:
        """Add images, or features: (N, ...), all dimensions but the first holding D numbers.

        Raises:
            ConfigError: another D, no image, or a number that isn't finite.
        """
        x = checks.matrix(images.detach().cpu().reshape(len(images), -1), "Mean variance")
        mean = x.mean(0)
        self._combine(len(x), mean, (x - mean).square().sum(0))

    def merge(self, other: Variances) -> None:
        """Add the images of `other`. The last bits depend on the order of merging: merge in the order of items.

        Raises:
            ConfigError: another number of numbers.
        """
        if other.count:
            self._combine(other.count, other.mean, other.m2)

    def _combine(self, count: int, mean: Tensor, m2: Tensor) -> None:
        if mean.shape != self.mean.shape:
            raise ConfigError(f"Mean variance: {len(mean)} numbers an image, and {len(self.mean)} before.")
        total, delta = self.count + count, mean - self.mean
        self.m2 += m2 + delta.square() * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total

    def state(self) -> dict[str, Tensor]:
        """All there is as tensors, not copied: count () int64, mean (D,), m2 (D,)."""
        return {"count": torch.tensor(self.count), "mean": self.mean, "m2": self.m2}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """What `state` gave, in tensors of its own."""
        variances = cls(len(state["mean"]))
        variances.count = int(state["count"])
        variances.mean.copy_(state["mean"])
        variances.m2.copy_(state["m2"])
        return variances


def mean_variance(variances: Variances) -> float:
    """The mean over numbers of the unbiased variance over images.

    Raises:
        ConfigError: fewer than two images.
    """
    if variances.count < 2:
        raise ConfigError(f"A mean variance needs 2 images at least, not {variances.count}.")
    return (variances.m2.mean() / (variances.count - 1)).item()
