"""Opponent colours: images in three domains of which two are differences of colour channels (thesis, Eq. 4.14).

Of photographs: crops of the pictures that scikit-learn and matplotlib carry, each picture a class. Every picture is cut
into tiles, and a crop lies in one tile of its split: no pixel is in two splits.
Of flowers: drawn ones of ten kinds that differ in form and in colour, so that a classifier can tell whether a colour
image that was made of one difference is right; kinds are called after those of the thesis (section 4.5.3), which they
resemble.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from i2idist.data.generated._draws import Bytes, Floats, Rng, rng_of, smooth_noise, to_bytes

PHOTOGRAPHS = ("china", "flower", "portrait")
"""Classes of the photographs: scikit-learn's china.jpg and flower.jpg, matplotlib's grace_hopper.jpg."""

TILES = (4, 6)
"""Rows and columns of tiles that a photograph is cut into."""

_SIDES = (56, 84)
"""Least and greatest side of a crop, in pixels of the photograph; tiles have 85 at least."""
_TRIES, _LIVELY = 8, 22.0
"""Crops whose colours deviate less are drawn anew, so many times."""


@dataclass(frozen=True)
class _Kind:
    """A kind of flower.

    Attributes:
        petals: how many a whorl has.
        whorls: circles of petals, one in the other.
        pointed: how pointed a petal is.
        parted: where petals part, as a share of their length.
        tip: hue, saturation and value at the tips of petals.
        heart: the same at their foot.
        eye: the same in the flower's middle.
        eye_size: of that middle, as a share of the flower's radius.
        count: flowers in a picture.
    """

    petals: int
    whorls: int
    pointed: float
    parted: float
    tip: tuple[float, float, float]
    heart: tuple[float, float, float]
    eye: tuple[float, float, float]
    eye_size: float
    count: int = 1


FLOWERS = {
    "passionflower": _Kind(10, 1, 1.0, 0.25, (0.72, 0.30, 0.95), (0.75, 0.75, 0.55), (0.20, 0.70, 0.75), 0.22),
    "petunia": _Kind(5, 1, 0.25, 0.85, (0.86, 0.80, 0.80), (0.83, 0.85, 0.40), (0.15, 0.50, 0.80), 0.08),
    "rose": _Kind(5, 4, 0.3, 0.75, (0.98, 0.80, 0.80), (0.97, 0.90, 0.50), (0.98, 0.85, 0.45), 0.08),
    "wallflower": _Kind(4, 1, 0.35, 0.45, (0.10, 0.90, 0.95), (0.06, 0.90, 0.70), (0.20, 0.60, 0.50), 0.12, 5),
    "watercress": _Kind(5, 1, 0.3, 0.60, (0.04, 0.85, 0.95), (0.12, 0.95, 0.90), (0.02, 0.90, 0.50), 0.15),
    "waterlily": _Kind(9, 2, 1.2, 0.15, (0.90, 0.22, 0.98), (0.92, 0.10, 0.95), (0.14, 0.85, 0.95), 0.16),
    "cyclamen": _Kind(5, 1, 0.8, 0.10, (0.92, 0.65, 0.90), (0.94, 0.85, 0.60), (0.93, 0.80, 0.45), 0.10, 2),
    "foxglove": _Kind(4, 1, 0.15, 0.90, (0.80, 0.45, 0.85), (0.80, 0.15, 0.90), (0.80, 0.70, 0.35), 0.30, 6),
    "frangipani": _Kind(5, 1, 0.5, 0.30, (0.13, 0.08, 0.98), (0.14, 0.85, 0.98), (0.12, 0.95, 0.95), 0.05),
    "hibiscus": _Kind(5, 1, 0.3, 0.55, (0.00, 0.75, 0.92), (0.98, 0.90, 0.45), (0.16, 0.80, 0.95), 0.09),
}  # fmt: skip
"""Kinds of flowers, in the order of their labels."""


@cache
def _photograph(name: str) -> Image.Image:
    if name == "portrait":
        from matplotlib import cbook  # late, like all that is slow to import: most runs read, and draw none

        return Image.open(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))).convert("RGB")
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(f"{name}.jpg"))


def split_of(row: int, column: int) -> str:
    """The split that a tile belongs to: of 24, 16 are train, 4 val and 4 test, spread over the picture."""
    return {0: "val", 3: "test"}.get((column + 2 * row) % 6, "train")


def _tile(name: str, row: int, column: int) -> Image.Image:
    picture = _photograph(name)
    width, height = picture.width / TILES[1], picture.height / TILES[0]
    return picture.crop(
        (round(column * width), round(row * height), round((column + 1) * width), round((row + 1) * height))
    )


def _cut(rng: Rng, name: str, size: tuple[int, int], split: str) -> Bytes:
    tiles = [(row, column) for row, column in np.ndindex(*TILES) if split_of(row, column) == split]
    tile = _tile(name, *tiles[int(rng.integers(0, len(tiles)))])
    scale = rng.uniform(*_SIDES) / max(size)
    width, height = size[1] * scale, size[0] * scale
    left, top = rng.uniform(0, tile.width - width), rng.uniform(0, tile.height - height)
    box = (left, top, left + width, top + height)
    pixels = np.asarray(tile.resize((size[1], size[0]), Image.Resampling.BICUBIC, box))
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def crop(key: tuple[str | int, ...], size: tuple[int, int], label: int, split: str) -> Bytes:
    """A piece of a photograph, mirrored or not; dull pieces are rare.

    Args:
        key: names the crop.
        size: (H, W) in pixels.
        label: index into PHOTOGRAPHS.
        split: train, val or test, whose tiles it is cut from.

    Returns:
        (H, W, 3) bytes.
    """
    rng = rng_of(*key)
    for _ in range(_TRIES):
        pixels = _cut(rng, PHOTOGRAPHS[label], size, split)
        if pixels.std((0, 1)).mean() > _LIVELY:
            break
    return np.ascontiguousarray(pixels)


def _shade(rng: Rng, colour: tuple[float, float, float], hue: float) -> Floats:
    """A colour near the given one, its hue moved, as (3,) in [0, 1]."""
    h, s, v = colour
    saturation, value = s * rng.uniform(0.8, 1.15), v * rng.uniform(0.85, 1.05)
    return np.array(colorsys.hsv_to_rgb((h + hue) % 1, min(1.0, saturation), min(1.0, value)), dtype=np.float32)


def _ground(rng: Rng, size: tuple[int, int]) -> Floats:
    """Leaves out of focus, (H, W, 3)."""
    leaf = _shade(rng, (rng.uniform(0.2, 0.4), 0.55, rng.uniform(0.25, 0.6)), 0.0)
    light = 1 + 0.35 * smooth_noise(rng, size, 4) + 0.15 * smooth_noise(rng, size, 12)
    warm = 0.06 * smooth_noise(rng, size, 5)
    return np.asarray(leaf * light[..., None] + warm[..., None] * np.array([1.0, 0.3, -0.6], dtype=np.float32))


def _places(rng: Rng, kind: _Kind) -> list[tuple[float, float, float]]:
    """Where the flowers are and how large: right, down and radius, as shares of the shorter side."""
    if kind.count == 1:
        return [(rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), rng.uniform(0.36, 0.48))]
    radius = 0.42 / math.sqrt(kind.count)
    spots = []
    for number in range(kind.count):
        angle = 2.4 * number + rng.uniform(0, 0.8)
        away = 0.3 * math.sqrt((number + 0.5) / kind.count) + rng.uniform(-0.03, 0.03)
        spots.append((away * math.cos(angle), away * math.sin(angle), radius * rng.uniform(0.9, 1.2)))
    return spots


def _bloom(rng: Rng, image: Floats, kind: _Kind, place: tuple[float, float, float], hue: float) -> None:
    """Paint a flower of a kind onto an image (H, W, 3)."""
    height, width, _ = image.shape
    right, down, radius = (share * min(height, width) for share in place)
    y, x = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
    x, y = x - width / 2 - right, y - height / 2 - down
    lean, flat = rng.uniform(0, math.pi), rng.uniform(0.75, 1.0)
    u, v = x * math.cos(lean) + y * math.sin(lean), (y * math.cos(lean) - x * math.sin(lean)) / flat
    away, angle = np.sqrt(u * u + v * v), np.arctan2(v, u)
    tip, heart, eye = (_shade(rng, colour, hue) for colour in (kind.tip, kind.heart, kind.eye))
    turn = rng.uniform(0, 2 * math.pi)
    for whorl in range(kind.whorls):
        reach = radius * (1 - 0.8 * whorl / max(2, kind.whorls))
        phase = (angle + turn + whorl * math.pi / kind.petals) * kind.petals / (2 * math.pi)
        across = 2 * np.abs(phase - np.round(phase))  # 0 along a petal's middle, 1 between petals
        edge = reach * (kind.parted + (1 - kind.parted) * np.cos(across * math.pi / 2).clip(0) ** kind.pointed)
        cover = (edge - away + 0.5).clip(0, 1)[..., None]
        mix = (away / reach).clip(0, 1)[..., None] ** 1.3
        petal = (heart + (tip - heart) * mix) * (1.05 - 0.35 * across[..., None] ** 3) * (0.85 + 0.15 * mix)
        image += cover * (petal - image)
    cover = (kind.eye_size * radius - away + 0.5).clip(0, 1)[..., None]
    image += cover * (eye * (0.85 + 0.3 * rng.random((height, width, 1), dtype=np.float32)) - image)


def flower(key: tuple[str | int, ...], size: tuple[int, int], label: int) -> Bytes:
    """A drawn flower, or several, before leaves.

    Args:
        key: names the picture; equal keys give the same place, turn and light for any label.
        size: (H, W) in pixels.
        label: index into FLOWERS.

    Returns:
        (H, W, 3) bytes.
    """
    rng, kind = rng_of(*key), list(FLOWERS.values())[label]
    scale = max(2, math.ceil(96 / min(size)))
    canvas = (size[0] * scale, size[1] * scale)
    image, hue = _ground(rng, canvas), rng.normal(0.0, 0.015)
    for place in _places(rng, kind):
        _bloom(rng, image, kind, place, hue)
    shrunk = image.reshape(size[0], scale, size[1], scale, 3).mean((1, 3))
    light = rng.uniform(0.8, 1.1) * (1 + 0.08 * smooth_noise(rng, size, 3))[..., None]
    return to_bytes(shrunk * light + 0.01 * rng.standard_normal(shrunk.shape, dtype=np.float32))
