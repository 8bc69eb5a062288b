"""Outputs against the true image, pixel by pixel: for tasks with one right answer, or with one known among many."""

from __future__ import annotations

from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks

LEVELS = 16


def pixel_accuracy(outputs: Tensor, truth: Tensor, *, levels: int = LEVELS) -> Tensor:
    """The share of pixels whose colour is within `levels` of 256 of the true one (UNIT, section 4, map dataset).

    Reading: a pixel counts where every channel of it is within, the boundary included; both images are rounded to the
    levels that their files would hold.

    Args:
        outputs: (N, C, H, W) or (N, K, C, H, W) float in [-1, 1].
        truth: (N, C, H, W) float in [-1, 1].
        levels: the largest difference that still counts.

    Returns:
        (N,) float64 in [0, 1], the mean over an input's outputs.

    Raises:
        ConfigError: shapes that don't belong together, or numbers that aren't finite.
    """
    outputs = _outputs_of(outputs, truth)
    apart = (_levels(outputs) - _levels(truth)[:, None]).abs().amax(2)
    return (apart <= levels).double().flatten(1).mean(1)


def best_of_l1(outputs: Tensor, truth: Tensor) -> Tensor:
    """The mean absolute difference of the output that comes nearest to the truth; its K belongs to the metric's name.

    Args:
        outputs: (N, K, C, H, W) float in [-1, 1].
        truth: (N, C, H, W) float in [-1, 1].

    Returns:
        (N,) float64 in [0, 2].

    Raises:
        ConfigError: shapes that don't belong together, or numbers that aren't finite.
    """
    outputs = _outputs_of(outputs, truth)
    return (outputs.double() - truth.double()[:, None]).abs().flatten(2).mean(2).amin(1)


def _levels(images: Tensor) -> Tensor:
    return ((images.float() + 1) * 127.5).round().clamp(0, 255)


def _outputs_of(outputs: Tensor, truth: Tensor) -> Tensor:
    """Outputs as (N, K, C, H, W), if they fit the truth."""
    outputs = checks.samples_of(outputs, len(truth), 3, "Outputs")
    if outputs.shape[2:] != truth.shape[1:]:
        raise ConfigError(f"Outputs of {tuple(outputs.shape[2:])} can't be compared with images {tuple(truth.shape)}.")
    return checks.finite(outputs, "Outputs")
