"""Edges <-> coloured objects, paired: each drawing of shoes, bags, vases or cars has many valid colourings.

a: the outlines of the visible parts, dark on white, 1 channel.
b: the same object painted, lit from above, on a white floor with a soft shadow. 3 channels.

The colours are drawn apart from the shape, so that other colourings of the very same drawing can be asked for.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from i2idist.data.generated import _shapes
from i2idist.data.generated._draws import Bytes, Floats, Rng, rng_of, shrink, smooth_noise, to_bytes

FAMILIES = {"shoe": _shapes.shoe, "bag": _shapes.bag, "vase": _shapes.vase, "car": _shapes.car}
"""The kinds of object, in the order of their labels 0..3."""

FIXED = {"tyre": (0.12, 0.12, 0.13), "glass": (0.72, 0.84, 0.9)}
"""Colours that don't vary: these parts are what they are."""

Colour = tuple[float, float, float]
"""Red, green and blue in [0, 1]."""


def palette(rng: Rng) -> dict[str, Colour]:
    """A colour for every role: one main hue, the other parts near it, opposite to it, or neutral."""
    hue, saturation, value = rng.random(), rng.uniform(0.35, 0.95), rng.uniform(0.4, 0.95)
    colours = dict(FIXED)
    colours["body"] = colorsys.hsv_to_rgb(hue, saturation, value)
    for role in ("flap", "trim", "sole"):
        turn = rng.choice([0.0, 0.08, 0.5, rng.random()])
        colours[role] = colorsys.hsv_to_rgb((hue + turn) % 1, rng.uniform(0.1, 0.9), rng.uniform(0.25, 0.95))
    colours["lace"] = colorsys.hsv_to_rgb(hue, 0.1, float(rng.choice([0.15, 0.95])))
    colours["metal"] = colorsys.hsv_to_rgb(rng.uniform(0.08, 0.16), rng.uniform(0.0, 0.6), rng.uniform(0.6, 0.95))
    return colours


def placed(rng: Rng, parts: list[_shapes.Part], size: tuple[int, int]) -> list[_shapes.Part]:
    """The parts in pixels of an image of `size`: mirrored or not, turned, scaled and shifted a little."""
    height, width = size
    side = min(size) * rng.uniform(0.84, 0.98)
    angle = rng.normal(0.0, 0.04)
    mirror = rng.choice([-1.0, 1.0])
    turn = np.array([[math.cos(angle) * mirror, math.sin(angle)], [-math.sin(angle) * mirror, math.cos(angle)]])
    middle = np.array([width / 2, height / 2]) + rng.uniform(-0.02, 0.02, 2) * side
    return [_shapes.Part((part.outline - 0.5) @ turn * side + middle, part.colour) for part in parts]


def _drawing(parts: list[_shapes.Part], size: tuple[int, int], scale: int) -> Bytes:
    """The outlines of the visible parts, (H, W): later parts hide the lines of earlier ones."""
    canvas = Image.new("L", (size[1] * scale, size[0] * scale), 255)
    draw = ImageDraw.Draw(canvas)
    pen = round(scale * (1.0 + min(size) / 256))
    for part in parts:
        points = [tuple(point) for point in part.outline * scale]
        draw.polygon(points, fill=255)
        draw.line([*points, points[0], points[1]], fill=0, width=pen, joint="curve")
    return to_bytes(shrink(canvas, size))


def painted(
    rng: Rng,
    colours: Mapping[str, Colour],
    parts: list[_shapes.Part],
    size: tuple[int, int],
    scale: int,
    floor: Colour = (1.0, 1.0, 1.0),
) -> Bytes:
    """The parts in their roles' colours on a floor, (H, W, 3); `rng` draws the grain of the light."""
    canvas = Image.new("RGB", (size[1] * scale, size[0] * scale))
    mask = Image.new("L", canvas.size)
    paint, cover = ImageDraw.Draw(canvas), ImageDraw.Draw(mask)
    for part in parts:
        points = [tuple(point) for point in part.outline * scale]
        r, g, b = (round(255 * channel) for channel in colours[part.colour])
        paint.polygon(points, fill=(r, g, b), outline=(r * 3 // 5, g * 3 // 5, b * 3 // 5), width=scale // 2)
        cover.polygon(points, fill=255)
    inside = shrink(mask, size)[..., None]
    ground = (1.0 - inside) * shadow(inside[..., 0]) * np.array(floor, dtype=np.float32)
    return to_bytes(shrink(canvas, size) * lighting(rng, inside[..., 0], size) + ground)


def lighting(rng: Rng, inside: Floats, size: tuple[int, int]) -> Floats:
    """Light from above with a soft highlight and a faint grain: (H, W, 1) factors."""
    from scipy import ndimage

    depth = ndimage.gaussian_filter(inside, min(size) / 14)
    above = np.gradient(depth, axis=0) * min(size)
    light = 0.9 + 0.06 * above.clip(-4, 4) + 0.03 * smooth_noise(rng, size, 12)
    return np.asarray(light, dtype=np.float32)[..., None]


def shadow(inside: Floats) -> Floats:
    """Evenly lit, with the object's blurred shadow below it: (H, W, 1)."""
    from scipy import ndimage

    height = inside.shape[0]
    below = ndimage.shift(inside, (max(1, height // 20), 0), order=0)
    blurred = ndimage.gaussian_filter(below, (height / 40, height / 16))
    return np.asarray(1.0 - 0.25 * blurred, dtype=np.float32)[..., None]


def pair(key: tuple[str | int, ...], size: tuple[int, int], colouring: int = 0) -> tuple[Bytes, Bytes, int]:
    """A drawing, one of its colourings, and what it shows.

    Args:
        key: names the drawing; equal keys give equal drawings at any size.
        size: (H, W) in pixels.
        colouring: which of the drawing's colourings.

    Returns:
        Edges (H, W) bytes, the object (H, W, 3) bytes, and its label, an index into FAMILIES.
    """
    rng = rng_of(*key, "shape")
    label = int(rng.integers(0, len(FAMILIES)))
    shape = list(FAMILIES.values())[label]
    parts = placed(rng, shape(rng), size)
    scale = max(3, math.ceil(128 / min(size)))
    paint = rng_of(*key, "colour", colouring)
    return _drawing(parts, size, scale), painted(paint, palette(paint), parts, size, scale), label
