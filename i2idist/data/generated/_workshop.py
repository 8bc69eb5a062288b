"""What rooms are furnished from: surfaces of many looks, and items made of bodies.

An item has a frame of its own: it stands on the floor at the origin, its back at +y, its front at -y.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, replace

from i2idist.data.generated._casting import Body, Shape, Vector
from i2idist.data.generated._draws import Rng

CLASSES = (
    "floor", "wall", "ceiling", "bed", "table", "chair", "sofa", "cabinet", "window", "door", "picture", "lamp",
)  # fmt: skip
"""What a pixel can show, in the order of the label map's levels."""

INFRARED = {
    "fabric": 0.72, "wood": 0.55, "paint": 0.85, "metal": 0.3, "glass": 0.06, "plastic": 0.42, "stone": 0.2,
    "paper": 0.95,
}  # fmt: skip
"""Near-infrared reflectance by material, whatever the visible colour: dyes and most pigments don't show there."""

PATTERNS = ("plain", "planks", "checks", "stripes", "grain", "blotches")


@dataclass(frozen=True)
class Surface:
    """What a body looks like.

    Attributes:
        kind: index into CLASSES.
        colour: red, green and blue of the visible reflectance, in [0, 1].
        infrared: reflectance there, in [0, 1].
        pattern: index into PATTERNS.
        second: the pattern's other colour.
        period: of the pattern, in metres.
        glow: light that it gives off itself, as a share of its colour.
    """

    kind: int
    colour: Vector
    infrared: float
    pattern: int = 0
    second: Vector = (0.0, 0.0, 0.0)
    period: float = 0.2
    glow: float = 0.0


class Workshop:
    """Makes bodies and keeps the surfaces that they refer to."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.surfaces: list[Surface] = []

    def colour(self, *, pale: bool = False) -> Vector:
        """Any colour, half of them dull; pale ones are light."""
        rng = self.rng
        saturation = rng.uniform(0.0, 0.25) if rng.random() < 0.45 else rng.uniform(0.25, 0.85)
        value = rng.uniform(0.7, 0.95) if pale else rng.uniform(0.2, 0.95)
        return colorsys.hsv_to_rgb(rng.random(), saturation * (0.5 if pale else 1.0), value)

    def brown(self) -> Vector:
        """A colour of wood."""
        rng = self.rng
        return colorsys.hsv_to_rgb(rng.uniform(0.05, 0.11), rng.uniform(0.3, 0.65), rng.uniform(0.3, 0.85))

    def surface(
        self,
        kind: str,
        material: str,
        colour: Vector,
        pattern: str = "plain",
        *,
        second: Vector | None = None,
        period: float = 0.2,
        glow: float = 0.0,
    ) -> int:
        """A new surface; its infrared reflectance varies about its material's. Returns its number."""
        infrared = min(1.0, max(0.02, INFRARED[material] + self.rng.normal(0.0, 0.05)))
        other = second or tuple(0.75 * channel for channel in colour)
        number = PATTERNS.index(pattern)
        self.surfaces.append(Surface(CLASSES.index(kind), colour, infrared, number, other, period, glow))  # type: ignore[arg-type]
        return len(self.surfaces) - 1

    def hard(self, kind: str) -> int:
        """Wood, painted or not, sometimes plastic."""
        draw = self.rng.random()
        if draw < 0.5:
            return self.surface(kind, "wood", self.brown(), "grain", period=self.rng.uniform(0.03, 0.08))
        return self.surface(kind, "wood" if draw < 0.8 else "plastic", self.colour())

    def soft(self, kind: str) -> int:
        """Cloth, plain or patterned."""
        pattern = str(self.rng.choice(["plain", "plain", "stripes", "checks", "blotches"]))
        colour, second = self.colour(), self.colour()
        return self.surface(kind, "fabric", colour, pattern, second=second, period=self.rng.uniform(0.12, 0.4))


@dataclass(frozen=True)
class Item:
    """A piece of furniture: its bodies, and the width and depth that it takes on the floor."""

    bodies: tuple[Body, ...]
    width: float
    depth: float


def filling(shape: Shape, surface: int, low: Vector, high: Vector) -> Body:
    """A body that fills the space between two corners."""
    centre = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
    half = tuple((b - a) / 2 for a, b in zip(low, high, strict=True))
    return Body(shape, centre, half, surface)  # type: ignore[arg-type]


def box(surface: int, low: Vector, high: Vector) -> Body:
    """A box between two corners."""
    return filling("box", surface, low, high)


def trim(surface: int, low: Vector, high: Vector) -> Body:
    """A box on or in something larger, whose shadow is not worth its time."""
    return replace(box(surface, low, high), blocks=False)


def turned(item: Item, x: float, y: float, yaw: float) -> list[Body]:
    """The item's bodies, turned by `yaw` and standing at (x, y)."""
    return [body.moved((x, y, 0.0), yaw) for body in item.bodies]


def footprint(item: Item, yaw: float) -> tuple[float, float]:
    """Half the width and depth along the world's axes that the turned item takes."""
    c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
    return (c * item.width + s * item.depth) / 2, (s * item.width + c * item.depth) / 2
