"""What hangs on walls and ceilings. It throws no shadow."""

from __future__ import annotations

from dataclasses import replace

from i2idist.data.generated._casting import Body
from i2idist.data.generated._workshop import Item, Workshop, box, filling


def ceiling_lamp(shop: Workshop, height: float) -> Item:
    """A globe or a disc under the ceiling."""
    rng = shop.rng
    shade = shop.surface("lamp", "plastic", shop.colour(pale=True), glow=rng.uniform(0.5, 1.2))
    if rng.random() < 0.5:
        r, drop = rng.uniform(0.14, 0.22), rng.uniform(0.25, 0.5)
        cord = shop.surface("lamp", "plastic", (0.2, 0.2, 0.2))
        bodies = [
            filling("ellipsoid", shade, (-r, -r, height - drop - r), (r, r, height - drop + r)),
            filling("cylinder", cord, (-0.012, -0.012, height - drop), (0.012, 0.012, height)),
        ]
    else:
        r = rng.uniform(0.22, 0.35)
        bodies = [filling("cylinder", shade, (-r, -r, height - 0.1), (r, r, height))]
    return Item(tuple(_unshadowing(bodies)), 2 * r, 2 * r)


def _unshadowing(bodies: list[Body]) -> list[Body]:
    """The bodies, throwing no shadow."""
    return [replace(body, blocks=False) for body in bodies]


def _framed(frame: int, width: float, low: float, high: float, thick: float, out: float) -> list[Body]:
    """Four bars around an opening on a wall at y = 0, standing out by `out`."""
    x = width / 2
    return [
        box(frame, (-x - thick, -out, low - thick), (-x, 0.0, high + thick)),
        box(frame, (x, -out, low - thick), (x + thick, 0.0, high + thick)),
        box(frame, (-x, -out, low - thick), (x, 0.0, low)),
        box(frame, (-x, -out, high), (x, 0.0, high + thick)),
    ]


def window(shop: Workshop, height: float) -> Item:
    """Panes that daylight comes through, a frame with a crossbar, a sill, perhaps curtains."""
    rng = shop.rng
    width, low = rng.uniform(0.9, 1.8), rng.uniform(0.75, 1.0)
    high = min(height - 0.25, low + rng.uniform(1.0, 1.4))
    day = rng.uniform(0.75, 1.0)
    sky = (day * rng.uniform(0.75, 0.95), day * rng.uniform(0.85, 0.97), day)
    pane = shop.surface("window", "glass", sky, "blotches", second=tuple(0.8 * c for c in sky), period=0.7, glow=1.6)  # type: ignore[arg-type]
    frame = shop.surface("window", "paint", shop.colour(pale=True)) if rng.random() < 0.7 else shop.hard("window")
    bodies = _framed(frame, width, low, high, 0.07, 0.06)
    bodies.append(box(pane, (-width / 2, -0.01, low), (width / 2, 0.0, high)))
    bars = 1 if width < 1.3 else 2
    for number in range(bars):
        at = -width / 2 + width * (number + 1) / (bars + 1)
        bodies.append(box(frame, (at - 0.03, -0.05, low), (at + 0.03, 0.0, high)))
    bodies.append(box(frame, (-width / 2 - 0.1, -0.16, low - 0.1), (width / 2 + 0.1, 0.0, low - 0.05)))
    if rng.random() < 0.4:
        cloth = shop.surface("window", "fabric", shop.colour(), "stripes", period=0.12)
        for side in (-1, 1):
            at = side * (width / 2 + 0.12)
            bodies.append(box(cloth, (at - 0.17, -0.14, 0.15), (at + 0.17, -0.08, high + 0.15)))
    return Item(tuple(_unshadowing(bodies)), width + 0.5, 0.2)


def door(shop: Workshop) -> Item:
    """A door leaf with panels and a handle in its frame."""
    rng = shop.rng
    width, high = rng.uniform(0.8, 0.95), rng.uniform(1.98, 2.08)
    leaf, frame = shop.hard("door"), shop.hard("door")
    metal = shop.surface("door", "metal", (0.75, 0.72, 0.66))
    x = width / 2
    bodies = [box(leaf, (-x, -0.03, 0.0), (x, 0.0, high))]
    bodies += [
        box(leaf, (-x + 0.14, -0.045, a * high), (x - 0.14, 0.0, b * high)) for a, b in ((0.08, 0.42), (0.55, 0.93))
    ]
    bodies += _framed(frame, width, 0.0, high, 0.09, 0.06)
    side = float(rng.choice([-1, 1])) * (x - 0.08)
    bodies.append(box(metal, (side - 0.06, -0.1, 1.0), (side + 0.06, -0.05, 1.05)))
    return Item(tuple(_unshadowing(bodies)), width + 0.2, 0.12)


def picture(shop: Workshop) -> Item:
    """A picture in a frame, landscape or portrait, plain or full of shapes."""
    rng = shop.rng
    width, tall = rng.uniform(0.5, 1.3), rng.uniform(0.5, 0.95)
    low = rng.uniform(1.3, 1.5) - 0.2 * tall
    pattern = str(rng.choice(["blotches", "blotches", "checks", "stripes"]))
    colour, second, period = shop.colour(), shop.colour(), rng.uniform(0.2, 0.5)
    canvas = shop.surface("picture", "paper", colour, pattern, second=second, period=period)
    frame = shop.surface("picture", "wood", shop.colour())
    bodies = [
        box(canvas, (-width / 2, -0.025, low), (width / 2, 0.0, low + tall)),
        *_framed(frame, width, low, low + tall, 0.05, 0.05),
    ]
    return Item(tuple(_unshadowing(bodies)), width + 0.15, 0.08)
