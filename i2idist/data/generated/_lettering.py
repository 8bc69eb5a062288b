"""Two ways to letter a digit: set in a font, or painted with a brush."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import ImageDraw, ImageFont

from i2idist.data.generated._draws import Points, Rng, spline

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

_THICK = (0.15, 0.21)  # like handwriting's, as a fraction of the digit's height

_Path = tuple[bool, tuple[tuple[float, float], ...]]
"""A stroke of a brush: whether it is smooth, and the points that it goes through, (x, y) in the digit's box, y down."""


def _bend(*points: tuple[float, float]) -> _Path:
    return True, points


def _line(*points: tuple[float, float]) -> _Path:
    return False, points


_STROKES: dict[int, tuple[tuple[_Path, ...], ...]] = {
    0: ((_bend((0.5, 0), (0.12, 0.25), (0.1, 0.6), (0.4, 1), (0.75, 0.9), (0.9, 0.5), (0.82, 0.15), (0.5, 0)),),),
    1: (
        (_line((0.5, 0), (0.5, 1)),),
        (_line((0.58, 0), (0.42, 1)),),
        (_line((0.4, 0), (0.4, 1)), _line((0.6, 0), (0.6, 1))),
        (_line((0.65, 0), (0.35, 1)), _line((0.45, 0.1), (0.6, 0.95))),
        (_line((0.2, 0.28), (0.55, 0), (0.55, 1)),),
        (_line((0.4, 0), (0.45, 1)), _line((0.15, 1), (0.9, 1))),
        (_line((0.25, 0.25), (0.5, 0), (0.5, 1)), _line((0.2, 1), (0.85, 1))),
    ),
    2: (
        (_bend((0.12, 0.25), (0.4, 0), (0.78, 0.1), (0.75, 0.4), (0.4, 0.75), (0.1, 1)), _line((0.1, 1), (0.92, 1))),
        (_bend((0.12, 0.2), (0.5, 0), (0.8, 0.2), (0.6, 0.6), (0.25, 0.95), (0.12, 0.85), (0.3, 0.8), (0.9, 1)),),
    ),
    3: (
        (
            _bend((0.12, 0.12), (0.5, 0), (0.82, 0.18), (0.65, 0.42), (0.4, 0.47)),
            _bend((0.4, 0.47), (0.7, 0.53), (0.88, 0.75), (0.6, 0.98), (0.1, 0.9)),
        ),
        (
            _line((0.15, 0), (0.85, 0), (0.45, 0.42)),
            _bend((0.45, 0.42), (0.85, 0.6), (0.8, 0.9), (0.4, 1), (0.1, 0.9)),
        ),
    ),
    4: (
        (_line((0.55, 0), (0.05, 0.65), (0.95, 0.65)), _line((0.72, 0.35), (0.7, 1))),
        (_line((0.25, 0), (0.1, 0.55), (0.9, 0.55)), _line((0.82, 0.05), (0.6, 1))),
        (_line((0.68, 1), (0.68, 0), (0.02, 0.7), (0.98, 0.7)),),
    ),
    5: (
        (
            _line((0.85, 0), (0.25, 0), (0.2, 0.42)),
            _bend((0.2, 0.42), (0.55, 0.38), (0.88, 0.62), (0.7, 0.93), (0.35, 1), (0.1, 0.9)),
        ),
    ),
    6: (
        (
            _bend(
                (0.75, 0.02), (0.35, 0.2), (0.12, 0.6), (0.25, 0.95), (0.65, 1), (0.88, 0.75), (0.6, 0.52), (0.25, 0.62)
            ),
        ),
        (_bend((0.6, 0), (0.25, 0.35), (0.12, 0.75), (0.4, 1), (0.8, 0.85), (0.7, 0.6), (0.4, 0.58), (0.16, 0.75)),),
    ),
    7: (
        (_line((0.1, 0), (0.88, 0), (0.4, 1)),),
        (_line((0.1, 0.05), (0.85, 0), (0.45, 1)), _line((0.25, 0.5), (0.85, 0.48))),
        (_bend((0.1, 0.12), (0.45, 0.02), (0.85, 0.05), (0.6, 0.5), (0.4, 1)), _line((0.2, 0.52), (0.85, 0.48))),
    ),
    8: (
        (
            _bend((0.5, 0.46), (0.2, 0.25), (0.5, 0), (0.8, 0.22), (0.5, 0.46)),
            _bend((0.5, 0.46), (0.12, 0.75), (0.5, 1), (0.88, 0.75), (0.5, 0.46)),
        ),
        (
            _bend((0.82, 0.1), (0.45, 0), (0.22, 0.22), (0.6, 0.55), (0.75, 0.85), (0.4, 1)),
            _bend((0.4, 1), (0.18, 0.8), (0.5, 0.5), (0.85, 0.12)),
        ),
    ),
    9: (
        (_bend((0.85, 0.3), (0.5, 0.5), (0.15, 0.28), (0.45, 0), (0.82, 0.15), (0.85, 0.5), (0.65, 1)),),
        (
            _bend((0.85, 0.28), (0.5, 0.48), (0.15, 0.28), (0.45, 0), (0.82, 0.15), (0.9, 0.6)),
            _bend((0.9, 0.6), (0.75, 0.95), (0.4, 1), (0.1, 0.92)),
        ),
        (
            _bend((0.8, 0.2), (0.45, 0), (0.2, 0.2), (0.4, 0.42), (0.75, 0.25)),
            _bend((0.75, 0.25), (0.95, 0.75), (0.6, 1), (0.15, 0.98)),
        ),
    ),
}
"""How people write each digit, a few ways each."""


class Lettering(ABC):
    """One hand or one font that draws the digits of a number."""

    @abstractmethod
    def put(self, digit: int, anchor: float, edge: float) -> tuple[float, float]:
        """Draw a digit, the point at fraction `edge` of its width being at x = `anchor`; returns its left and right."""


@lru_cache(maxsize=1024)
def _font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # late: see digits.scans

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(file, pixels, layout_engine=ImageFont.Layout.BASIC)


@cache
def _height_per_pixel(name: str) -> float:
    """Height of the font's digits divided by its nominal size."""
    _, top, _, bottom = _font(name, 400).getbbox("0")
    return (bottom - top) / 400


class Typeset(Lettering):
    """Digits set in one of FONTS; thin fonts are made bolder."""

    def __init__(self, rng: Rng, draw: ImageDraw.ImageDraw, middle: float, tall: float) -> None:
        """Choose a font for digits `tall` pixels high, whose middle is at y = `middle`."""
        name = str(rng.choice(list(FONTS)))
        self._extra = max(0.0, rng.uniform(*_THICK) - FONTS[name]) * tall / 2
        self._font = _font(name, round((tall - 2 * self._extra) / _height_per_pixel(name)))
        self._draw, self._middle = draw, middle

    def put(self, digit: int, anchor: float, edge: float) -> tuple[float, float]:
        """See Lettering."""
        left, top, right, bottom = self._font.getbbox(str(digit))
        x = anchor - (left + (right - left) * edge)
        corner = (x, self._middle - (top + bottom) / 2)
        self._draw.text(corner, str(digit), fill=255, font=self._font, stroke_width=self._extra)
        return x + left - self._extra, x + right + self._extra


class Painted(Lettering):
    """Digits painted with a round brush, no two alike."""

    def __init__(self, rng: Rng, draw: ImageDraw.ImageDraw, middle: float, tall: float) -> None:
        """Choose a brush for digits `tall` pixels high, whose middle is at y = `middle`."""
        self._thick = tall * rng.uniform(*_THICK)
        self._box = np.array([rng.uniform(0.5, 0.75), 1.0]) * (tall - self._thick)
        self._rng, self._draw, self._middle = rng, draw, middle

    def put(self, digit: int, anchor: float, edge: float) -> tuple[float, float]:
        """See Lettering."""
        ways = _STROKES[digit]
        strokes = [self._path(*stroke) for stroke in ways[int(self._rng.integers(0, len(ways)))]]
        points = np.concatenate(strokes)
        left, right = float(points[:, 0].min()), float(points[:, 0].max())
        shift = np.array([anchor - left - (right - left) * edge, self._middle - self._box[1] / 2])
        radius = self._thick / 2
        for stroke in strokes:
            self._stroke(stroke + shift, radius)
        return left + shift[0] - radius, right + shift[0] + radius

    def _path(self, smooth: bool, points: tuple[tuple[float, float], ...]) -> Points:
        shaken = np.array(points) * self._box + self._rng.normal(0.0, 0.03 * self._box[1], (len(points), 2))
        return spline(shaken, closed=False) if smooth else shaken

    def _stroke(self, points: Points, radius: float) -> None:
        path = [tuple(point) for point in points.tolist()]
        self._draw.line(path, fill=255, width=round(2 * radius))
        for x, y in path:
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
