"""Furniture that stands on the floor."""

from __future__ import annotations

from collections.abc import Callable

from i2idist.data.generated._casting import Body
from i2idist.data.generated._workshop import Item, Workshop, box, filling, trim


def _legs(surface: int, width: float, depth: float, height: float, thick: float) -> list[Body]:
    """Four legs under the corners of a top."""
    x, y = width / 2 - thick, depth / 2 - thick
    half = thick / 2
    return [
        filling("box", surface, (sx * x - half, sy * y - half, 0.0), (sx * x + half, sy * y + half, height))
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]


def bed(shop: Workshop) -> Item:
    """A single or double bed: frame, mattress, blanket, pillows at the back, headboard."""
    rng = shop.rng
    width, depth = float(rng.choice([0.95, 1.4, 1.7])) * rng.uniform(0.95, 1.05), rng.uniform(1.9, 2.1)
    frame, top = rng.uniform(0.2, 0.3), rng.uniform(0.42, 0.56)
    wood, sheet, cover = shop.hard("bed"), shop.surface("bed", "fabric", shop.colour(pale=True)), shop.soft("bed")
    x, y = width / 2, depth / 2
    bodies = [
        box(wood, (-x, -y, 0.08), (x, y, frame)),
        box(sheet, (-x + 0.03, -y + 0.03, frame), (x - 0.03, y - 0.05, top)),
        box(cover, (-x - 0.01, -y, frame - 0.06), (x + 0.01, y - rng.uniform(0.5, 0.8), top + 0.04)),
        box(wood, (-x - 0.03, y - 0.05, 0.0), (x + 0.03, y, rng.uniform(0.75, 1.15))),
    ]
    for middle in (0.0,) if width < 1.2 else (-width / 4, width / 4):
        half = min(0.33, width / 2.6) if width < 1.2 else width / 5
        low, high = (middle - half, y - 0.48, top - 0.05), (middle + half, y - 0.08, top + 0.14)
        bodies.append(filling("ellipsoid", sheet, low, high))
    return Item(tuple(bodies), width + 0.06, depth)


def sofa(shop: Workshop) -> Item:
    """A sofa or an armchair: base, cushions, back, arms, perhaps a throw pillow."""
    rng = shop.rng
    seats = int(rng.choice([1, 2, 3, 3]))
    arm, width, depth = rng.uniform(0.14, 0.24), 0.62 * seats, rng.uniform(0.82, 0.98)
    seat, back, side = rng.uniform(0.4, 0.46), rng.uniform(0.75, 0.92), rng.uniform(0.56, 0.66)
    cloth, x, y = shop.soft("sofa"), width / 2 + arm, depth / 2
    bodies = [
        box(cloth, (-x, -y + 0.02, 0.06), (x, y, seat - 0.14)),
        box(cloth, (-x, y - 0.24, 0.06), (x, y, back)),
        box(cloth, (-x, -y, 0.06), (-x + arm, y, side)),
        box(cloth, (x - arm, -y, 0.06), (x, y, side)),
    ]
    for number in range(seats):
        left = -width / 2 + 0.62 * number
        bodies.append(box(cloth, (left + 0.015, -y + 0.01, seat - 0.14), (left + 0.605, y - 0.22, seat)))
    if rng.random() < 0.6:
        pillow = shop.soft("sofa")
        middle = rng.uniform(-width / 2 + 0.2, width / 2 - 0.2)
        low, high = (middle - 0.2, y - 0.42, seat), (middle + 0.2, y - 0.2, seat + 0.36)
        bodies.append(filling("ellipsoid", pillow, low, high))
    return Item(tuple(bodies), 2 * x, depth)


def chair(shop: Workshop) -> Item:
    """A chair with a solid or a slatted back."""
    rng = shop.rng
    width, seat, back = rng.uniform(0.4, 0.48), rng.uniform(0.43, 0.48), rng.uniform(0.82, 1.02)
    hard = shop.hard("chair")
    top = hard if rng.random() < 0.5 else shop.soft("chair")
    x = width / 2
    bodies = [
        *_legs(hard, width, width, seat, 0.05),
        box(top, (-x, -x, seat - 0.05), (x, x, seat + 0.02)),
    ]
    if rng.random() < 0.6:
        bodies.append(box(top, (-x, x - 0.05, seat + 0.1), (x, x, back)))
    else:
        bodies += [box(hard, (at - 0.025, x - 0.045, seat), (at + 0.025, x, back)) for at in (-x + 0.03, 0.0, x - 0.03)]
        bodies.append(box(hard, (-x, x - 0.05, back - 0.12), (x, x, back)))
    return Item(tuple(bodies), width, width)


def table(shop: Workshop, low: bool = False) -> Item:
    """A table: four legs, or round on a foot; a low one before a sofa."""
    rng = shop.rng
    height = rng.uniform(0.36, 0.46) if low else rng.uniform(0.7, 0.78)
    width, depth = rng.uniform(0.8, 1.1) if low else rng.uniform(1.1, 1.8), rng.uniform(0.5, 0.7 if low else 0.95)
    hard, thick = shop.hard("table"), rng.uniform(0.04, 0.07)
    if rng.random() < 0.35:
        r = depth / 1.6
        bodies = [
            filling("cylinder", hard, (-r, -r, height - thick), (r, r, height)),
            filling("cylinder", hard, (-0.06, -0.06, 0.0), (0.06, 0.06, height)),
            filling("cylinder", hard, (-r / 2, -r / 2, 0.0), (r / 2, r / 2, 0.05)),
        ]
        width = depth = 2 * r
    else:
        top = box(hard, (-width / 2, -depth / 2, height - thick), (width / 2, depth / 2, height))
        bodies = [top, *_legs(hard, width, depth, height, rng.uniform(0.05, 0.09))]
    return Item(tuple(bodies), width, depth)


def cabinet(shop: Workshop) -> Item:
    """A wardrobe, a sideboard or open shelves with things in them."""
    rng = shop.rng
    kind = int(rng.integers(0, 3))
    width, depth, height = (
        (rng.uniform(0.9, 1.6), rng.uniform(0.5, 0.65), rng.uniform(1.8, 2.2)),
        (rng.uniform(0.8, 1.6), rng.uniform(0.4, 0.5), rng.uniform(0.6, 1.0)),
        (rng.uniform(0.8, 1.2), rng.uniform(0.28, 0.38), rng.uniform(1.3, 2.0)),
    )[kind]
    hard, x, y = shop.hard("cabinet"), width / 2, depth / 2
    if kind == 2:
        return Item(tuple(_shelves(shop, hard, width, depth, height)), width, depth)
    bodies = [box(hard, (-x, -y + 0.02, 0.0), (x, y, height))]
    front, knob = shop.hard("cabinet"), shop.surface("cabinet", "metal", (0.7, 0.7, 0.68))
    doors = max(2, round(width / 0.5))
    for number in range(doors):
        left, right = (-x + width * (number + part) / doors for part in (0, 1))
        bodies.append(trim(front, (left + 0.02, -y, 0.06), (right - 0.02, -y + 0.025, height - 0.04)))
        at = right - 0.07 if number % 2 == 0 else left + 0.07
        middle = min(1.0, 0.6 * height)
        bodies.append(trim(knob, (at - 0.015, -y - 0.03, middle - 0.07), (at + 0.015, -y, middle + 0.07)))
    return Item(tuple(bodies), width, depth + 0.03)


def _shelves(shop: Workshop, hard: int, width: float, depth: float, height: float) -> list[Body]:
    rng, x, y = shop.rng, width / 2, depth / 2
    bodies = [
        box(hard, (-x, -y, 0.0), (-x + 0.03, y, height)),
        box(hard, (x - 0.03, -y, 0.0), (x, y, height)),
        box(hard, (-x, y - 0.02, 0.0), (x, y, height)),
    ]
    boards = max(3, round(height / 0.38))
    for number in range(boards + 1):
        z = number * (height - 0.03) / boards
        bodies.append(trim(hard, (-x, -y, z), (x, y, z + 0.03)))
        if number < boards and rng.random() < 0.8:
            left, wide = rng.uniform(-x + 0.05, 0.0), rng.uniform(0.2, 0.9) * x
            books = shop.surface("cabinet", "paper", shop.colour(), "stripes", second=shop.colour(), period=0.08)
            top = z + 0.03 + rng.uniform(0.4, 0.85) * (height / boards - 0.05)
            bodies.append(trim(books, (left, -y + 0.06, z + 0.03), (left + wide, y - 0.02, top)))
    return bodies


def floor_lamp(shop: Workshop) -> Item:
    """A foot, a pole and a shade that glows."""
    rng = shop.rng
    height, r = rng.uniform(1.35, 1.75), rng.uniform(0.17, 0.25)
    metal = shop.surface("lamp", "metal", (0.25, 0.25, 0.26) if rng.random() < 0.5 else (0.75, 0.7, 0.6))
    shade = shop.surface("lamp", "paper", shop.colour(pale=True), glow=rng.uniform(0.2, 1.0))
    bodies = (
        filling("cylinder", metal, (-0.15, -0.15, 0.0), (0.15, 0.15, 0.04)),
        filling("cylinder", metal, (-0.025, -0.025, 0.0), (0.025, 0.025, height)),
        filling("cylinder", shade, (-r, -r, height - 0.18), (r, r, height + 0.14)),
    )
    return Item(bodies, 2 * r, 2 * r)


STANDING: dict[str, Callable[[Workshop], Item]] = {
    "bed": bed, "sofa": sofa, "table": table, "chair": chair, "cabinet": cabinet, "lamp": floor_lamp,
}  # fmt: skip
"""What stands on the floor, by its class."""
