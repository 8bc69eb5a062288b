"""Handwritten digits <-> street-style digits, unpaired.

a: the real scans of scikit-learn's `load_digits` (Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten
   Digits"), 8x8 counts of ink, enlarged to crisp strokes. White on black, 1 channel.
b: digits as on house numbers, typeset in matplotlib's bundled fonts or painted with a brush: coloured, slanted, with
   parts of neighbouring digits, uneven light, blur and noise. 3 channels.

Both have digits of like height, place and stroke width, so that a translator with skip connections can keep a digit and
need only change its style.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from i2idist.data.generated._draws import Bytes, Floats, Rng, luma, rng_of, shrink, smooth_noise, to_bytes
from i2idist.data.generated._lettering import Painted, Typeset

SCANS = {"train": 1297, "val": 100, "test": 400}
"""Scans in each split; together all 1797, no scan in two."""

DIGIT_HEIGHT = 0.72
"""Height of a digit in both domains, as a fraction of the image's shorter side; street digits vary about it."""
MIN_CONTRAST = 0.35
"""Least difference in luma between a street digit and its background, before light and noise."""
PAINTED = 0.5
"""Share of street digits that are painted with a brush; the others are typeset. Fonts alone know one 1 and one 9, and a
classifier trained on them misreads a quarter of all handwriting, however it is coloured."""
CLUTTER = 0.3
"""Chance of a neighbouring digit on each side of a street digit."""

CLASSES: dict[str, tuple[int, ...]] = {
    "all": tuple(range(10)),
    **{str(digit): (digit,) for digit in range(10)},
    **{f"no-{digit}": tuple(other for other in range(10) if other != digit) for digit in range(10)},
}
"""Digits by the name of the choice: all, one of them, or all but one, as for a generator that is to learn the last."""

_WIDENING = 1.1  # a form's boxes made writers write narrowly; fonts don't
_INK = 16.0  # `load_digits` counts the inked pixels of 4x4 blocks


@cache
def scans() -> tuple[Floats, NDArray[np.int64]]:
    """All scans and their digits: (1797, 8, 8) in [0, 1], the share of ink in each cell, and (1797,) in 0..9."""
    from sklearn.datasets import load_digits  # late, like all that is slow to import: most runs read, and draw none

    bunch = load_digits()
    return (bunch.images / _INK).astype(np.float32), bunch.target.astype(np.int64)


@cache
def scan_order() -> NDArray[np.int64]:
    """A fixed order of all scans in which every run has the ten digits in nearly equal parts: (1797,) indices."""
    digits = scans()[1]
    rng = rng_of("digits", "scan order")
    turn = np.empty(len(digits))
    for digit in range(10):
        of_digit = np.flatnonzero(digits == digit)
        turn[of_digit] = (rng.permutation(len(of_digit)) + rng.random()) / len(of_digit)
    return np.argsort(turn, kind="stable")


def scans_of(split: str, among: tuple[int, ...] = CLASSES["all"]) -> NDArray[np.int64]:
    """The scans of a split that show a digit of `among`, as indices into `scans()`.

    The splits are disjoint and don't depend on any seed.
    """
    names = list(SCANS)
    start = sum(SCANS[name] for name in names[: names.index(split)])
    found = scan_order()[start : start + SCANS[split]]
    return found[np.isin(scans()[1][found], among)]


def _field(counts: Floats) -> Floats:
    """How far inside a stroke each cell is: (12, 12) counts -> (12, 12), positive on ink.

    Ink ends where the counts cross the middle of their neighbourhood's range, not one half: thin strokes, which fill no
    cell, stay whole, and small loops stay open.
    """
    from scipy import ndimage

    low, high = ndimage.minimum_filter(counts, 3), ndimage.maximum_filter(counts, 3)
    middle = np.where(high < 0.3, 0.5, (low + high) / 2)
    return np.asarray(counts - ndimage.gaussian_filter(middle, 0.7), dtype=np.float32)


def handwritten(index: int, size: tuple[int, int]) -> tuple[Bytes, int]:
    """One scan as an image.

    Args:
        index: the scan, 0..1796.
        size: (H, W) in pixels.

    Returns:
        (H, W) bytes, white strokes on black, and the digit written.
    """
    counts, digits = scans()
    field = Image.fromarray(_field(np.pad(counts[index], 2)))
    height, width = size
    cell = DIGIT_HEIGHT * min(size) / 8  # pixels
    wide = cell * _WIDENING
    matrix = (1 / wide, 0.0, 6 - width / wide / 2, 0.0, 1 / cell, 6 - height / cell / 2)
    inside = field.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=-1.0)
    return to_bytes(np.asarray(inside, dtype=np.float32) * cell + 0.5), int(digits[index])


def _ink_mask(rng: Rng, digit: int, canvas: tuple[int, int]) -> Image.Image:
    """A digit in the middle of a canvas (H, W), perhaps with neighbours, upright: white on black."""
    height, width = canvas
    side = min(canvas)
    tall = side * DIGIT_HEIGHT * rng.uniform(0.9, 1.05)
    mask = Image.new("L", (width, height))
    lettering = Painted if rng.random() < PAINTED else Typeset
    letters = lettering(rng, ImageDraw.Draw(mask), height / 2, tall)
    left, right = letters.put(digit, width / 2, 0.5)
    gap, margin = tall * rng.uniform(0.12, 0.24), 0.38 * side
    others, near = rng.integers(0, 10, 2), rng.random(2) < CLUTTER
    if near[0]:
        letters.put(int(others[0]), min(left - gap, width / 2 - margin), 1.0)
    if near[1]:
        letters.put(int(others[1]), max(right + gap, width / 2 + margin), 0.0)
    return mask


def _placed(rng: Rng, mask: Image.Image) -> Image.Image:
    """The mask turned, slanted, stretched and shifted a little about its middle."""
    width, height = mask.size
    angle, slant = rng.normal(0.0, 0.06), rng.uniform(-0.15, 0.15)
    stretch = rng.uniform(1.0, 1.3)
    shift = rng.uniform(-0.04, 0.04, 2) * min(width, height)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    inverse = np.array([[1.0 / stretch, slant], [0.0, 1.0]]) @ turn
    middle = np.array([width / 2, height / 2])
    offset = middle - inverse @ (middle + shift)
    matrix = (*inverse[0], offset[0], *inverse[1], offset[1])
    return mask.transform(mask.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def colours(rng: Rng) -> tuple[Floats, Floats]:
    """Ink and background, (3,) each in [0, 1], whose luma differs by MIN_CONTRAST or more."""
    while True:
        pair = rng.random((2, 3), dtype=np.float32)
        grey = luma(pair)
        if abs(grey[0] - grey[1]) >= MIN_CONTRAST:
            return pair[0], pair[1]


def _light(rng: Rng, size: tuple[int, int]) -> Floats:
    """Uneven light: a gradient and a faint stain, (H, W, 1) factors about 1."""
    height, width = size
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.25)
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    slope = strength * (x * math.cos(angle) + y * math.sin(angle))
    return np.asarray(1.0 + slope + 0.03 * smooth_noise(rng, size, 4), dtype=np.float32)[..., None]


def street(rng: Rng, size: tuple[int, int], among: tuple[int, ...] = CLASSES["all"]) -> tuple[Bytes, int]:
    """One street-style digit.

    Args:
        rng: where every choice comes from.
        size: (H, W) in pixels.
        among: which digits it may be; neighbours may be any.

    Returns:
        (H, W, 3) bytes, and the digit in the middle.
    """
    from scipy import ndimage

    digit = among[int(rng.integers(0, len(among)))]
    scale = max(2, math.ceil(96 / min(size)))
    mask = _placed(rng, _ink_mask(rng, digit, (size[0] * scale, size[1] * scale)))
    ink = ndimage.gaussian_filter(shrink(mask, size), rng.uniform(0.1, 0.7) * min(size) / 32)[..., None]
    foreground, background = colours(rng)
    image = (background + (foreground - background) * ink) * _light(rng, size)
    grain = rng.standard_normal((*size, 3), dtype=np.float32)
    return to_bytes(image + rng.uniform(0.005, 0.03) * grain), digit
