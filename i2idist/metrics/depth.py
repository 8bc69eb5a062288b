"""Depth: the share of pixels within a factor, and root mean squared errors (Mix-and-match networks, Eq. 4.15).

Eq. 4.15 averages over the pixels of all images, so the state that travels is each image's sums over pixels; they add
up. Pixels without a measurement, whose true depth is not positive or not finite, are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks

FACTOR = 1.25
MEASURES = ("delta_1", "delta_2", "delta_3", "rmse_linear", "rmse_log")


def depth_sums(predicted: Tensor, truth: Tensor, *, floor: float = 1e-3) -> Tensor:
    """Each image's sums over its measured pixels.

    Args:
        predicted: (N, 1, H, W) depths in the unit of `truth`, such as metres.
        truth: the same shape.
        floor: predictions below are raised to it, since ratios and logarithms need positive depths; in the same unit.

    Returns:
        (N, 6) float64: the number of pixels, those within 1.25, 1.25^2 and 1.25^3, squared errors, squared errors of
        natural logarithms.

    Raises:
        ConfigError: different shapes, a prediction that isn't finite, or a floor that isn't positive.
    """
    checks.same_shape(predicted, truth, "Depth errors")
    if floor <= 0:
        raise ConfigError(f"The least depth must be positive, not {floor}.")
    p = checks.finite(predicted, "Predicted depths").double().clamp_min(floor).flatten(1)
    measured = (torch.isfinite(truth) & (truth > 0)).flatten(1)
    t = truth.double().flatten(1).where(measured, p)
    ratio = torch.maximum(p / t, t / p)
    within = [(ratio < FACTOR**k) & measured for k in (1, 2, 3)]
    sums = [measured, *within, (p - t).square(), (p.log() - t.log()).square()]
    return torch.stack([each.double().sum(1) for each in sums], 1)


def depth_errors(sums: Tensor) -> dict[str, Tensor]:
    """The measures of Eq. 4.15.

    Args:
        sums: (..., 6), sums or means of `depth_sums`'s rows.

    Returns:
        Of each of `MEASURES` (...) float64: `delta_k` is the share of pixels with max(y/y', y'/y) < 1.25^k, in [0, 1];
        `rmse_linear` has the unit of depths, `rmse_log` none. NaN where no pixel was measured.

    Raises:
        ConfigError: no pixel was measured at all.
    """
    pixels = sums[..., 0]
    if not pixels.any():
        raise ConfigError("No depth was measured: no true depth is positive and finite.")
    means = [sums[..., column] / pixels for column in range(1, 6)]
    return dict(zip(MEASURES, [*means[:3], *(mean.sqrt() for mean in means[3:])], strict=True))
