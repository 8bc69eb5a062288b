"""Outlines of everyday objects: parts given back to front as polygons in the unit square (x right, y down).

Each part names a `colour` role; parts of one role share a colour. Shape alone is decided here: `edges` paints it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from i2idist.data.generated._draws import Points, Rng, spline


@dataclass(frozen=True)
class Part:
    """One region of an object: its outline (n, 2) and the role whose colour fills it."""

    outline: Points
    colour: str


def curve(*points: tuple[float, float]) -> Points:
    """A smooth closed outline through `points`: (n, 2)."""
    return spline(np.array(points), closed=True)


def polygon(*points: tuple[float, float]) -> Points:
    """A closed outline with straight sides: (len(points), 2)."""
    return np.array(points)


def disc(x: float, y: float, rx: float, ry: float) -> Points:
    """An ellipse: (40, 2)."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def ring(x: float, y: float, rx: float, ry: float, thick: float) -> Points:
    """The upper half of an elliptic band, as of a handle standing on the line y: (48, 2)."""
    angle = np.linspace(np.pi, 2 * np.pi, 24)
    outer = np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)
    inner = np.stack([x + (rx - thick) * np.cos(angle), y + (ry - thick) * np.sin(angle)], 1)
    return np.concatenate([outer, inner[::-1]])


def shoe(rng: Rng) -> list[Part]:
    """A low shoe or an ankle boot, toe to the right, with a sole, perhaps a heel and laces."""
    toe, ankle = rng.uniform(0.52, 0.62), rng.uniform(0.16, 0.42)
    throat, heel = rng.uniform(0.40, 0.5), rng.uniform(0.0, 0.1)
    floor, sole = 0.80, rng.uniform(0.04, 0.09)
    under = floor - sole
    upper = curve(
        (0.10, under - heel), (0.09, (ankle + under) / 2), (0.12, ankle), (0.25, ankle + 0.02), (throat, ankle + 0.02),
        (throat + 0.08, toe - 0.05), (0.78, toe + 0.02), (0.92, toe + 0.1), (0.93, under), (0.55, under),
        (0.35, under - heel),
    )  # fmt: skip
    bottom = polygon(
        (0.07, under - heel), (0.36, under - heel), (0.55, under), (0.95, under), (0.95, floor), (0.5, floor),
        (0.34, floor - heel + sole * 0.3), (0.32, floor), (0.08, floor),
    )  # fmt: skip
    parts = [Part(upper, "body"), Part(bottom, "sole")]
    if rng.random() < 0.6:
        cap = curve((0.72, under), (0.70, toe + 0.1), (0.80, toe + 0.03), (0.91, toe + 0.11), (0.93, under))
        parts.append(Part(cap, "trim"))
    if ankle < 0.34:
        parts.append(
            Part(polygon((0.11, ankle), (throat, ankle), (throat, ankle + 0.08), (0.10, ankle + 0.08)), "trim")
        )
    for k in range(int(rng.integers(0, 4))):
        x, y = throat - 0.05 + 0.06 * k, max(ankle + 0.12, toe - 0.14) + 0.045 * k
        parts.append(Part(polygon((x, y), (x + 0.1, y - 0.03), (x + 0.11, y + 0.005), (x + 0.01, y + 0.035)), "lace"))
    return parts


def bag(rng: Rng) -> list[Part]:
    """A handbag: a body that widens downwards or not, a handle, a flap or a pocket, a clasp."""
    top, bottom = rng.uniform(0.36, 0.46), rng.uniform(0.80, 0.9)
    wide, narrow = rng.uniform(0.34, 0.42), rng.uniform(0.24, 0.36)
    handle = rng.uniform(0.12, 0.22)
    body = polygon((0.5 - narrow, top), (0.5 + narrow, top), (0.5 + wide, bottom - 0.06), (0.5 + wide - 0.05, bottom),
                   (0.5 - wide + 0.05, bottom), (0.5 - wide, bottom - 0.06))  # fmt: skip
    parts = [Part(ring(0.5, top + 0.02, handle, rng.uniform(0.2, 0.3), 0.05), "trim"), Part(body, "body")]
    if rng.random() < 0.6:
        low = rng.uniform(0.45, 0.65) * (bottom - top) + top
        flap = curve((0.5 - narrow, top), (0.5, top - 0.01), (0.5 + narrow, top), (0.5 + narrow * 0.8, low - 0.04),
                     (0.5, low + 0.03), (0.5 - narrow * 0.8, low - 0.04))  # fmt: skip
        parts.append(Part(flap, "flap"))
        parts.append(Part(disc(0.5, low, 0.045, 0.045), "metal"))
    else:
        y, half = (top + bottom) / 2 + 0.02, narrow * rng.uniform(0.5, 0.8)
        pocket = polygon((0.5 - half, y), (0.5 + half, y), (0.5 + half, bottom - 0.07), (0.5 - half, bottom - 0.07))
        parts.append(Part(pocket, "flap"))
        parts.append(Part(polygon((0.5 - narrow, top), (0.5 + narrow, top), (0.5 + narrow, top + 0.06),
                                  (0.5 - narrow, top + 0.06)), "trim"))  # fmt: skip
    return parts


def vase(rng: Rng) -> list[Part]:
    """A vase turned about its axis, with bands of glaze."""
    from scipy.interpolate import PchipInterpolator  # late: see digits.scans

    heights = np.array([0.10, 0.20, 0.36, 0.56, 0.76, 0.90])
    radii = np.array([rng.uniform(0.1, 0.2), rng.uniform(0.06, 0.13), rng.uniform(0.12, 0.26), rng.uniform(0.2, 0.34),
                      rng.uniform(0.12, 0.26), rng.uniform(0.1, 0.18)])  # fmt: skip
    y = np.linspace(heights[0], heights[-1], 60)
    r = PchipInterpolator(heights, radii)(y)
    outline = np.concatenate([np.stack([0.5 - r, y], 1), np.stack([0.5 + r, y], 1)[::-1]])
    parts = [Part(outline, "body")]
    for _ in range(int(rng.integers(1, 3))):
        first = int(rng.integers(12, 40))
        rows = slice(first, first + int(rng.integers(6, 14)))
        band = np.concatenate([np.stack([0.5 - r[rows], y[rows]], 1), np.stack([0.5 + r[rows], y[rows]], 1)[::-1]])
        parts.append(Part(band, "flap" if len(parts) == 1 else "trim"))
    parts.append(Part(disc(0.5, heights[0], float(r[0]), 0.03), "metal"))
    return parts


def car(rng: Rng) -> list[Part]:
    """A car from the side: body, cabin with two windows, wheels."""
    belt, roof, floor = rng.uniform(0.46, 0.52), rng.uniform(0.26, 0.34), 0.72
    start, rear, front = rng.uniform(0.12, 0.26), rng.uniform(0.04, 0.1), rng.uniform(0.04, 0.12)
    stop = rng.uniform(0.66, 0.8)
    lean = stop - rng.uniform(0.1, 0.16)
    cabin = polygon((start, belt), (start + rear, roof), (lean, roof), (stop, belt))
    body = curve((0.05, floor - 0.02), (0.05, belt + 0.06), (start - 0.04, belt), (0.4, belt - 0.01), (stop, belt),
                 (0.93, belt + front), (0.96, floor - 0.04), (0.75, floor), (0.3, floor))  # fmt: skip
    middle, inset = (start + rear + lean) / 2, 0.035
    left = polygon((start + 0.07, belt - 0.01), (start + rear + inset, roof + inset), (middle - 0.015, roof + inset),
                   (middle - 0.015, belt - 0.01))  # fmt: skip
    right = polygon((middle + 0.015, belt - 0.01), (middle + 0.015, roof + inset), (lean - 0.01, roof + inset),
                    (stop - 0.07, belt - 0.01))  # fmt: skip
    wheel = rng.uniform(0.085, 0.115)
    parts = [Part(cabin, "body"), Part(body, "body"), Part(left, "glass"), Part(right, "glass")]
    if rng.random() < 0.6:
        parts.append(Part(polygon((0.07, 0.6), (0.94, 0.6), (0.95, 0.64), (0.07, 0.64)), "trim"))
    for x in (0.24, 0.76):
        parts += [Part(disc(x, floor, wheel, wheel), "tyre"), Part(disc(x, floor, wheel * 0.5, wheel * 0.5), "metal")]
    return parts
