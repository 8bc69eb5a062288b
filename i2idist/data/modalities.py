"""What the levels of stored depths, label maps and opponent colours mean, wherever the images come from."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from i2idist.data.images import Array

DEPTH_METRES = 10.0
"""The depth that the greatest 16-bit level stands for; 0 is unknown. So stored depths fill their range in rooms."""

VOID = 255
"""The level of pixels of a label map that have no class; its classes are levels from 0."""

NYU_13 = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip
"""The classes of NYUv2's 13-class task (Couprie et al. 2013), in the order of published label files, which count from 1
and write 0 where there is none."""


def depth_levels(metres: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Depths in metres as stored levels; what isn't positive is unknown, what is farther than DEPTH_METRES is there."""
    levels = (metres * (65535 / DEPTH_METRES) + 0.5).clip(1, 65535)
    return np.where(metres > 0, levels, 0).astype(np.uint16)


def counted_from_one(labels: Array, classes: int) -> NDArray[np.uint8]:
    """Published label maps, whose classes are 1 to `classes`, as levels from 0; others are VOID."""
    return np.where((labels >= 1) & (labels <= classes), labels.astype(np.int64) - 1, VOID).astype(np.uint8)


def opponents(rgb: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """The opponent colours of an image (H, W, 3), Eq. 4.14 of mix-and-match networks.

    Returns:
        theta1, R - G, and theta2, G - B, (H, W) each, a difference d of bytes stored as (d + 255) / 2, so that readers
        give d / 255; and theta3, the image itself.
    """
    red, green, blue = np.moveaxis(rgb.astype(np.int16), 2, 0)
    return {
        "theta1": ((red - green + 256) // 2).astype(np.uint8),
        "theta2": ((green - blue + 256) // 2).astype(np.uint8),
        "theta3": rgb,
    }


def class_colors(classes: int) -> NDArray[np.uint8]:
    """Colours of classes, as far apart as so many can be, and white for levels beyond: (classes + 1, 3)."""
    bright = [colorsys.hsv_to_rgb(n / (classes - 1), 0.85, (1.0, 0.6)[n % 2]) for n in range(classes - 1)]
    return np.round(np.array([(0.0, 0.0, 0.0), *bright, (1.0, 1.0, 1.0)]) * 255).astype(np.uint8)
