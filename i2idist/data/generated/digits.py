"""Handwritten digits <-> street-style digits, unpaired.

a: the real scans of scikit-learn's `load_digits` (Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten
   Digits"), 8x8 counts of ink, enlarged to crisp strokes. White on black, 1 channel.
b: digits typeset in matplotlib's bundled fonts as on house numbers: coloured, slanted, with parts of neighbouring
   digits, uneven light, blur and noise. 3 channels.

Both have digits of like height, place and stroke width, so that a translator with skip connections can keep a digit and
need only change its style.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.datasets import load_digits

from i2idist.data.generated._draws import Bytes, Floats, Rng, luma, rng_of, shrink, smooth_noise, to_bytes

SCANS = {"train": 1297, "val": 100, "test": 400}
"""Scans in each split; together all 1797, no scan in two."""

FONTS = {
    "DejaVuSans.ttf": 0.12,
    "DejaVuSans-Bold.ttf": 0.19,
    "DejaVuSans-Oblique.ttf": 0.11,
    "DejaVuSans-BoldOblique.ttf": 0.19,
    "DejaVuSerif.ttf": 0.09,
    "DejaVuSerif-Bold.ttf": 0.17,
    "DejaVuSerif-BoldItalic.ttf": 0.11,
    "STIXGeneral.ttf": 0.12,
    "STIXGeneralBol.ttf": 0.20,
    "STIXGeneralBolIta.ttf": 0.16,
    "cmb10.ttf": 0.18,
    "cmr10.ttf": 0.07,
    "cmss10.ttf": 0.11,
    "cmtt10.ttf": 0.11,
}
"""Fonts whose digits stay legible when 20 pixels high, and their stroke width as a fraction of that height. Monospaced
DejaVu is left out because its dotted zero reads as an eight, cmmi10 because it has old-style figures."""

DIGIT_HEIGHT = 0.72
"""Height of a digit in both domains, as a fraction of the image's shorter side; street digits vary about it."""
MIN_CONTRAST = 0.35
"""Least difference in luma between a street digit and its background, before light and noise."""
CLUTTER = 0.4
"""Chance of a neighbouring digit on each side of a street digit."""

_WIDENING = 1.1  # a form's boxes made writers write narrowly; fonts don't
_INK = 16.0  # `load_digits` counts the inked pixels of 4x4 blocks
_FONT_FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def scans() -> tuple[Floats, NDArray[np.int64]]:
    """All scans and their digits: (1797, 8, 8) in [0, 1], the share of ink in each cell, and (1797,) in 0..9."""
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


def scans_of(split: str) -> NDArray[np.int64]:
    """The scans of a split, as indices into `scans()`; the splits are disjoint and don't depend on any seed."""
    names = list(SCANS)
    start = sum(SCANS[name] for name in names[: names.index(split)])
    return scan_order()[start : start + SCANS[split]]


def _field(counts: Floats) -> Floats:
    """How far inside a stroke each cell is: (12, 12) counts -> (12, 12), positive on ink.

    Ink ends where the counts cross the middle of their neighbourhood's range, not one half: thin strokes, which fill no
    cell, stay whole, and small loops stay open.
    """
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


@lru_cache(maxsize=1024)
def _font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FONT_FOLDER / name, pixels, layout_engine=ImageFont.Layout.BASIC)


@cache
def _height_per_pixel(name: str) -> float:
    """Height of the font's digits divided by its nominal size."""
    left, top, right, bottom = _font(name, 400).getbbox("0")
    return (bottom - top) / 400


def _ink_mask(rng: Rng, digit: int, canvas: tuple[int, int]) -> Image.Image:
    """A digit in the middle of a canvas (H, W), perhaps with neighbours, upright: white on black."""
    height, width = canvas
    side = min(canvas)
    name = str(rng.choice(list(FONTS)))
    tall = side * DIGIT_HEIGHT * rng.uniform(0.9, 1.05)
    extra = max(0.0, rng.uniform(0.15, 0.21) - FONTS[name]) * tall / 2
    font = _font(name, round((tall - 2 * extra) / _height_per_pixel(name)))
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)

    def put(text: str, anchor: float, edge: float) -> tuple[float, float]:
        """Draw so that the point at fraction `edge` of the ink's width is at x = `anchor`; the ink's left and right."""
        left, top, right, bottom = font.getbbox(text)
        x = anchor - (left + (right - left) * edge)
        draw.text((x, (height - top - bottom) / 2), text, fill=255, font=font, stroke_width=extra)
        return x + left - extra, x + right + extra

    left, right = put(str(digit), width / 2, 0.5)
    gap = tall * rng.uniform(0.08, 0.2) + extra
    others = rng.integers(0, 10, 2)
    near = rng.random(2) < CLUTTER
    if near[0]:
        put(str(others[0]), min(left - gap, width / 2 - 0.35 * side), 1.0)
    if near[1]:
        put(str(others[1]), max(right + gap, width / 2 + 0.35 * side), 0.0)
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


def street(rng: Rng, size: tuple[int, int]) -> tuple[Bytes, int]:
    """One street-style digit.

    Args:
        rng: where every choice comes from.
        size: (H, W) in pixels.

    Returns:
        (H, W, 3) bytes, and the digit in the middle.
    """
    digit = int(rng.integers(0, 10))
    scale = max(1, math.ceil(64 / min(size)))
    mask = _placed(rng, _ink_mask(rng, digit, (size[0] * scale, size[1] * scale)))
    ink = ndimage.gaussian_filter(shrink(mask, size), rng.uniform(0.1, 0.7) * min(size) / 32)[..., None]
    foreground, background = colours(rng)
    image = (background + (foreground - background) * ink) * _light(rng, size)
    grain = rng.standard_normal((*size, 3), dtype=np.float32)
    return to_bytes(image + rng.uniform(0.005, 0.03) * grain), digit
