"""Keyed randomness and image arithmetic that the generators share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from i2idist.randomness import key_of

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Points = NDArray[np.float64]
Rng = np.random.Generator


def rng_of(*key: str | int) -> Rng:
    """A generator keyed by what it draws: equal keys give equal numbers, whatever was drawn before."""
    return np.random.Generator(np.random.Philox(key=key_of(*key) & 0xFFFFFFFFFFFFFFFF))


def to_bytes(image: Floats) -> Bytes:
    """Round [0, 1] to 0..255, clipping."""
    return (image.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def upsampled(grid: Floats, size: tuple[int, int]) -> Floats:
    """Smoothly enlarge a small (h, w) grid to `size` (H, W)."""
    height, width = size
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def smooth_noise(rng: Rng, size: tuple[int, int], cells: int) -> Floats:
    """Band-limited noise of about unit variance: normals on a grid, `cells` along the shorter side, enlarged."""
    height, width = size
    cell = max(1.0, min(size) / cells)
    grid = rng.standard_normal((max(2, round(height / cell)), max(2, round(width / cell))), dtype=np.float32)
    return upsampled(grid, size)


def shrink(canvas: Image.Image, size: tuple[int, int]) -> Floats:
    """Average a supersampled canvas down to `size` (H, W): [0, 1] floats, (H, W) or (H, W, 3)."""
    height, width = size
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX), dtype=np.float32) / 255.0


def spline(points: Points, *, closed: bool, steps: int = 8) -> Points:
    """A smooth curve through `points` (n, 2), by Catmull and Rom: (n * steps, 2); ((n - 1) * steps + 1, 2) if open."""
    if closed:
        p = np.concatenate([points[-1:], points, points[:2]])
    else:
        p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, here, after, last = p[:-3], p[1:-2], p[2:-1], p[3:]
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    bend = 2 * here + (after - before) * t + (2 * before - 5 * here + 4 * after - last) * t**2
    cubic = (3 * here - before - 3 * after + last) * t**3
    curve = np.asarray((bend + cubic) / 2).transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def luma(rgb: Floats) -> Floats:
    """Perceived lightness of (..., 3) colours in [0, 1]: the Rec. 601 weights."""
    return rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
