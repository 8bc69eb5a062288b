"""Satellite-like photographs <-> street maps, paired: each photograph has one right map.

a: the land as seen from above: textured ground, woods, water, asphalt, lit roofs with shadows. 3 channels.
b: the map of it in six flat colours, no anti-aliasing, so that the share of rightly coloured pixels means something.
   3 channels.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from i2idist.data.generated._draws import Bytes, Floats, Points, Rng, rng_of, smooth_noise, to_bytes

PALETTE = {
    "land": (240, 236, 224),
    "park": (184, 224, 160),
    "water": (150, 196, 236),
    "street": (255, 255, 180),
    "avenue": (248, 176, 80),
    "building": (196, 184, 176),
}
"""The map's colours. Any two differ by more than 32 in some channel: at most one is within 16 of a pixel."""

_CLASSES = list(PALETTE)
_LAND, _PARK, _WATER, _STREET, _AVENUE, _BUILDING = range(len(_CLASSES))
_GROUND = np.array(
    [
        (0.52, 0.49, 0.36),
        (0.20, 0.33, 0.16),
        (0.12, 0.24, 0.34),
        (0.36, 0.36, 0.38),
        (0.66, 0.65, 0.63),
        (0.0, 0.0, 0.0),
    ],
    dtype=np.float32,
)
_ROUGHNESS = np.array([0.055, 0.075, 0.015, 0.02, 0.02, 0.025], dtype=np.float32)
_ROOFS = np.array([(0.68, 0.32, 0.24), (0.78, 0.74, 0.70), (0.56, 0.28, 0.30), (0.84, 0.62, 0.50)], dtype=np.float32)


_SQUARE = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


class _Plan:
    """A drawing of the classes and of the roofs. The origin is the image's middle, the unit its shorter side."""

    def __init__(self, size: tuple[int, int], scale: int) -> None:
        height, width = size
        self.half = np.array([width, height]) / min(size) / 2
        self.classes = Image.new("L", (width * scale, height * scale), _LAND)
        self.roofs = Image.new("L", self.classes.size)
        self._side = min(size) * scale
        self._draw, self._draw_roof = ImageDraw.Draw(self.classes), ImageDraw.Draw(self.roofs)

    def _pixels(self, points: Points) -> list[tuple[float, ...]]:
        return [tuple(point) for point in ((points + self.half) * self._side).tolist()]

    def sees(self, points: Points) -> bool:
        """Whether the points' bounding box touches the image."""
        return bool((points.max(0) > -self.half).all() and (points.min(0) < self.half).all())

    def fill(self, points: Points, what: int) -> None:
        """Fill an outline (n, 2) with a class."""
        self._draw.polygon(self._pixels(points), fill=what)

    def line(self, points: Points, what: int, wide: float) -> None:
        """Draw a straight line (2, 2) of a class."""
        self._draw.line(self._pixels(points), fill=what, width=max(2, round(wide * self._side)))

    def building(self, points: Points, roof: int) -> None:
        """Fill an outline (n, 2) with a building and its kind of roof."""
        self.fill(points, _BUILDING)
        self._draw_roof.polygon(self._pixels(points), fill=roof)


def _blob(rng: Rng, middle: Points, radius: float) -> Points:
    """A rounded random outline, (48, 2)."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = sum(rng.normal(0, 0.18 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3))
    r = radius * (1 + waves)
    return middle + np.stack([r * np.cos(angle), 0.8 * r * np.sin(angle)], 1)


def _cuts(rng: Rng, far: float) -> Points:
    """Where the roads of one direction lie: increasing, about a third of the image apart, beyond +-`far`."""
    steps = rng.uniform(0.3, 0.46, math.ceil(2 * far / 0.3) + 1)
    return np.asarray(steps.cumsum() - steps.sum() / 2)


def _blocks(rng: Rng, plan: _Plan, turn: Points, xs: Points, ys: Points) -> None:
    """Fill each block between roads with a park or with buildings."""
    for left, right in pairwise(xs):
        for top, bottom in pairwise(ys):
            corner, extent = np.array([left, top]), np.array([right - left, bottom - top])
            block = (corner + _SQUARE * extent) @ turn
            if not plan.sees(block):
                continue
            if rng.random() < 0.2:
                plan.fill(block, _PARK)
            else:
                _houses(rng, plan, block)


def _houses(rng: Rng, plan: _Plan, block: Points) -> None:
    """Buildings in the one to four lots of a block (4, 2)."""
    lots = rng.integers(1, 3, 2)
    axes = np.stack([block[1] - block[0], block[3] - block[0]])
    for lot in np.ndindex(*lots):
        low, high = rng.uniform(0.2, 0.3, (2, 2))
        roof, built = int(rng.integers(0, len(_ROOFS))), rng.random() < 0.75
        if built:
            plan.building(block[0] + ((low + _SQUARE * (1 - high - low) + lot) / lots) @ axes, roof)


def _waters(rng: Rng, plan: _Plan) -> None:
    """A river from border to border, a lake, or neither."""
    kind = rng.random()
    if kind < 0.45:
        along = np.linspace(-2, 2, 60) * plan.half.max()
        bend = rng.uniform(-0.3, 0.3) + 0.08 * np.sin(3 * along + rng.uniform(0, 6)) + rng.normal(0, 0.3) * along
        half = rng.uniform(0.06, 0.12) * np.hypot(1, np.gradient(bend, along))
        banks = np.concatenate([np.stack([along, bend - half], 1), np.stack([along, bend + half], 1)[::-1]])
        plan.fill(banks if rng.random() < 0.5 else banks[:, ::-1], _WATER)
    elif kind < 0.7:
        plan.fill(_blob(rng, rng.uniform(-0.4, 0.4, 2), rng.uniform(0.14, 0.26)), _WATER)


def _roads(rng: Rng, plan: _Plan, turn: Points, xs: Points, ys: Points) -> None:
    """Streets along all cuts, and over them at most one avenue of each direction."""
    far = np.array([-3.0, 3.0]) * plan.half.max()
    lines = [np.stack([np.full(2, x), far], 1) @ turn for x in xs] + [
        np.stack([far, np.full(2, y)], 1) @ turn for y in ys
    ]
    main = {int(rng.integers(0, len(xs))), len(xs) + int(rng.integers(0, len(ys)))}
    for line in lines:
        plan.line(line, _STREET, 0.06)
    for index in main:
        plan.line(lines[index], _AVENUE, 0.1)


def _draw_town(rng: Rng, plan: _Plan) -> None:
    """Blocks, then woods and water over them, then roads, which bridge the water."""
    angle = rng.uniform(-0.35, 0.35)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    far = float(np.hypot(*plan.half))
    xs, ys = _cuts(rng, far), _cuts(rng, far)
    _blocks(rng, plan, turn, xs, ys)
    if rng.random() < 0.5:
        plan.fill(_blob(rng, rng.uniform(-0.5, 0.5, 2), rng.uniform(0.12, 0.25)), _PARK)
    _waters(rng, plan)
    _roads(rng, plan, turn, xs, ys)


def _centres(image: Image.Image, scale: int) -> NDArray[np.uint8]:
    """The supersampled canvas at the middle of each pixel: classes can't be averaged."""
    return np.asarray(image)[scale // 2 :: scale, scale // 2 :: scale]


def _photograph(rng: Rng, classes: Bytes, roofs: Bytes, size: tuple[int, int]) -> Floats:
    """The land in natural colours, (H, W, 3): texture by class, shadows of buildings and trees, light of the day."""
    from scipy import ndimage

    unit = min(size) / 32
    colour = np.where((classes == _BUILDING)[..., None], _ROOFS[roofs], _GROUND[classes])
    fine, coarse = smooth_noise(rng, size, 32), smooth_noise(rng, size, 8)
    texture = _ROUGHNESS[classes] * (0.8 * fine + 0.6 * coarse)
    tall = ndimage.gaussian_filter((classes == _BUILDING).astype(np.float32), 0.3 * unit)
    reach = max(1, round(unit))
    shadow = np.clip(ndimage.shift(tall, (reach, reach), order=0) - tall, 0, 1)
    day = 1.0 + rng.uniform(-0.1, 0.1)
    tint = 1.0 + rng.uniform(-0.05, 0.05, 3).astype(np.float32)
    lit = (colour + texture[..., None]) * (1.0 - 0.45 * shadow[..., None]) * day * tint
    softened = ndimage.gaussian_filter(lit, (0.45, 0.45, 0))
    return np.asarray(softened + 0.012 * rng.standard_normal(lit.shape, dtype=np.float32), dtype=np.float32)


def pair(key: tuple[str | int, ...], size: tuple[int, int]) -> tuple[Bytes, Bytes, Bytes]:
    """A photograph and its map.

    Args:
        key: names the place; equal keys give the same town at any size.
        size: (H, W) in pixels.

    Returns:
        The photograph (H, W, 3) bytes, the map (H, W, 3) bytes in the colours of PALETTE alone, and the classes (H, W),
        indices into PALETTE.
    """
    scale = max(2, math.ceil(96 / min(size)))
    plan = _Plan(size, scale)
    _draw_town(rng_of(*key, "plan"), plan)
    classes, roofs = _centres(plan.classes, scale), _centres(plan.roofs, scale)
    colours = np.array(list(PALETTE.values()), dtype=np.uint8)
    return to_bytes(_photograph(rng_of(*key, "photograph"), classes, roofs, size)), colours[classes], classes
