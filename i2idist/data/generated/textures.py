"""Handbags of two colours, flat or textured: the red | black and flat | textured bags of UDIT, drawn.

A bag's shape, colour and texture are drawn apart: the same shape can be asked for in all four kinds. A texture darkens
the bag's own colour (stripes, checks, dots), so that colour and texture are told apart by different features; within a
kind shapes, shades, patterns, their angle and period vary.
"""

from __future__ import annotations

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw

from i2idist.data.generated import _shapes
from i2idist.data.generated._draws import Bytes, Floats, Rng, rng_of, shrink, to_bytes
from i2idist.data.generated.edges import lighting, placed, shadow

COLOURS = {"blue": 0.6, "red": 0.0}
"""Hues by the colour's name, in the order of their labels."""
TEXTURES = ("flat", "textured")
"""Textures, in the order of their labels."""

_SHADES = {"body": 1.0, "flap": 0.85, "trim": 0.7, "metal": 0.45}
"""How light each part of a bag is, relative to its body."""
_DEPTH = 0.6
"""How much of the light a texture takes where it is darkest."""


def _stripes(u: Floats, v: Floats) -> Floats:
    return np.sin(u)


def _checks(u: Floats, v: Floats) -> Floats:
    return np.asarray(np.sin(u) * np.sin(v) * 2.0, dtype=np.float32)


def _dots(u: Floats, v: Floats) -> Floats:
    return np.asarray(np.cos(u) + np.cos(v) - 0.6, dtype=np.float32)


_PATTERNS = (_stripes, _checks, _dots)


def _pattern(rng: Rng, size: tuple[int, int]) -> Floats:
    """Factors in [1 - _DEPTH, 1] of a regular pattern, (H, W, 1)."""
    height, width = size
    angle, period = rng.uniform(0, math.pi), min(size) * rng.uniform(0.14, 0.2)
    y, x = np.mgrid[:height, :width].astype(np.float32) * np.float32(2 * math.pi / period)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    wave = _PATTERNS[int(rng.integers(0, len(_PATTERNS)))](u + rng.uniform(0, 6), v + rng.uniform(0, 6))
    dark = (0.5 + 1.2 * wave).clip(0.0, 1.0)
    return np.asarray(1.0 - _DEPTH * dark, dtype=np.float32)[..., None]


def _colour(rng: Rng, name: str) -> Floats:
    """A shade of a colour: (3,) in [0, 1]."""
    hue = (COLOURS[name] + rng.uniform(-0.035, 0.035)) % 1
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.6, 0.95), rng.uniform(0.6, 0.98)), dtype=np.float32)


def _bag(rng: Rng, size: tuple[int, int]) -> tuple[Floats, Floats]:
    """How light each pixel of a bag is, and how much of it the bag covers: (H, W) each, in [0, 1]."""
    scale = max(3, math.ceil(128 / min(size)))
    shades, mask = (Image.new("L", (size[1] * scale, size[0] * scale)) for _ in range(2))
    for part in placed(rng, _shapes.bag(rng), size):
        points = [tuple(point) for point in part.outline * scale]
        shade = round(255 * _SHADES[part.colour])
        ImageDraw.Draw(shades).polygon(points, fill=shade, outline=shade // 2, width=scale // 2)
        ImageDraw.Draw(mask).polygon(points, fill=255)
    return shrink(shades, size), shrink(mask, size)


def bag(key: tuple[str | int, ...], size: tuple[int, int], colour: str, texture: str) -> Bytes:
    """A bag on a white floor.

    Args:
        key: names the shape; equal keys give equal shapes at any size, whatever their colour and texture.
        size: (H, W) in pixels.
        colour: a key of COLOURS.
        texture: one of TEXTURES.

    Returns:
        (H, W, 3) bytes.
    """
    shade, inside = _bag(rng_of(*key, "shape"), size)
    surface = rng_of(*key, colour, texture)
    painted = shade[..., None] * _colour(surface, colour) * lighting(surface, inside, size)
    if texture == "textured":
        painted = painted * _pattern(surface, size)
    return to_bytes(painted + (1.0 - inside[..., None]) * shadow(inside))
