"""Furnished rooms as bodies: the plan of a room, what stands where, lamps and camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from i2idist.data.generated import _fittings, _furniture
from i2idist.data.generated._casting import Body, Camera, Vector
from i2idist.data.generated._draws import Floats, Rng
from i2idist.data.generated._workshop import Item, Surface, Workshop, footprint, trim, turned

WALL, FLOOR, CEILING = range(3)
"""Surfaces of the hollow that every room is; those of furniture follow."""

_THEMES: tuple[tuple[str, ...], ...] = (
    ("bed", "cabinet", "lamp", "chair"),
    ("sofa", "cabinet", "lamp", "sofa"),
    ("set", "cabinet", "lamp"),
    ("bed", "table", "chair", "cabinet"),
    ("set", "sofa", "cabinet", "lamp"),
)
"""What rooms are for; a set is a table with chairs about it."""
_EXTRA = ("cabinet", "chair", "chair", "lamp", "table", "sofa", "chair")
_TRIES = 14
_TALL = 1.2
"""Furniture higher than this doesn't stand before a window, in metres."""
_CLEAR = 0.06

Rectangle = tuple[float, float, float, float]
"""Left, near, right and far edge on the floor, in metres."""


@dataclass(frozen=True)
class Lamp:
    """A point light: where, its colour times its strength, and whether bodies shade it."""

    place: Floats
    colour: Floats
    shades: bool


@dataclass(frozen=True)
class Scene:
    """A room to be rendered.

    Attributes:
        bodies: the hollow first.
        surfaces: what the bodies refer to; WALL, FLOOR and CEILING first.
        lamps: the lights.
        ambient: colour and strength of the light from everywhere.
        eye: where the camera stands.
        target: what it looks at.
        angle: what the image's shorter side sees, in radians.
    """

    bodies: list[Body]
    surfaces: list[Surface]
    lamps: list[Lamp]
    ambient: Floats
    eye: Vector
    target: Vector
    angle: float

    def camera(self, size: tuple[int, int]) -> Camera:
        """The camera of an image of `size`."""
        return Camera.looking(self.eye, self.target, self.angle, size)


def _meets(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


class _Plan:
    """A room while it is furnished: x runs to the right, y from the camera's wall to the far one."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.shop = Workshop(rng)
        self.width, self.length = rng.uniform(3.0, 4.6), rng.uniform(3.2, 4.8)
        self.height = rng.uniform(2.4, 2.8)
        self.eye: Vector = (rng.uniform(0.2, 0.8) * self.width, rng.uniform(0.12, 0.5), rng.uniform(1.25, 1.95))
        self.taken: list[Rectangle] = [(self.eye[0] - 0.6, 0.0, self.eye[0] + 0.6, self.eye[1] + 0.9)]
        self.panes: list[Rectangle] = []
        self.hung: dict[str, list[tuple[float, float]]] = {"far": [], "left": [], "right": []}
        self.bodies = self._shell()
        self.lamps: list[Lamp] = []

    def _shell(self) -> list[Body]:
        rng, shop = self.rng, self.shop
        paper = str(rng.choice(["plain", "plain", "plain", "stripes"]))
        shop.surface("wall", "paint", shop.colour(pale=True), paper, period=rng.uniform(0.12, 0.3))
        self._floor()
        shop.surface("ceiling", "paint", tuple(0.85 + 0.15 * c for c in shop.colour(pale=True)))  # type: ignore[arg-type]
        half = (self.width / 2, self.length / 2, self.height / 2)
        skirting = shop.surface("wall", "paint", shop.colour(pale=True))
        low, thick = 0.09, 0.02
        return [
            Body("box", half, half, WALL),
            trim(skirting, (0.0, self.length - thick, 0.0), (self.width, self.length, low)),
            trim(skirting, (0.0, 0.0, 0.0), (thick, self.length, low)),
            trim(skirting, (self.width - thick, 0.0, 0.0), (self.width, self.length, low)),
        ]

    def _floor(self) -> None:
        rng, shop, kind = self.rng, self.shop, self.rng.random()
        if kind < 0.5:
            shop.surface("floor", "wood", shop.brown(), "planks", period=rng.uniform(0.1, 0.18))
        elif kind < 0.75:
            shop.surface("floor", "stone", shop.colour(pale=True), "checks", period=rng.uniform(0.3, 0.5))
        else:
            shop.surface("floor", "fabric", shop.colour(), "plain")

    def _free(self, place: Rectangle, height: float) -> bool:
        inside = place[0] >= 0 and place[1] >= 0 and place[2] <= self.width and place[3] <= self.length
        if height > _TALL and any(_meets(place, pane) for pane in self.panes):
            return False
        return inside and not any(_meets(place, other) for other in self.taken)

    def _put(self, item: Item, x: float, y: float, yaw: float) -> bool:
        """Stand an item somewhere, if there is room."""
        across, along = footprint(item, yaw)
        place = (x - across, y - along, x + across, y + along)
        height = max(body.centre[2] + body.half[2] for body in item.bodies)
        if not self._free(place, height):
            return False
        self.taken.append((place[0] - _CLEAR, place[1] - _CLEAR, place[2] + _CLEAR, place[3] + _CLEAR))
        self.bodies += turned(item, x, y, yaw)
        return True

    def _at(self, wall: str, along: float, depth: float) -> tuple[float, float, float]:
        """Place and turn of something of a depth with its back to a wall."""
        if wall == "far":
            return along, self.length - depth / 2 - 0.03, 0.0
        if wall == "left":
            return depth / 2 + 0.03, along, math.pi / 2
        return self.width - depth / 2 - 0.03, along, -math.pi / 2

    def hang(self, item: Item, *, keeps: float = 0.0, pane: bool = False) -> tuple[float, float, float] | None:
        """Hang an item on a wall where nothing hangs yet; returns its place and turn.

        Args:
            item: what.
            keeps: how much of the floor before it stays free, in metres.
            pane: whether tall furniture stays away.
        """
        for _ in range(_TRIES):
            wall = str(self.rng.choice(["far", "far", "left", "right"]))
            extent = self.width if wall == "far" else self.length
            least = 0.0 if wall == "far" else 0.25 * self.length
            half = item.width / 2 + 0.05
            if extent - least <= 2 * half:
                continue
            along = self.rng.uniform(least + half, extent - half)
            if any(a < along + half and along - half < b for a, b in self.hung[wall]):
                continue
            self.hung[wall].append((along - half, along + half))
            x, y, yaw = self._at(wall, along, -0.06)
            self.bodies += turned(item, x, y, yaw)
            before = Item((), item.width, 2 * max(keeps, 0.4))
            across, deep = footprint(before, yaw)
            (self.panes if pane else self.taken if keeps else []).append((x - across, y - deep, x + across, y + deep))
            return x, y, yaw
        return None

    def stand(self, kind: str) -> None:
        """Stand a piece of furniture against a wall, if there is room."""
        item = _furniture.STANDING[kind](self.shop)
        for _ in range(_TRIES):
            wall = str(self.rng.choice(["far", "far", "left", "right"]))
            half = item.width / 2 + 0.04
            near = half if wall == "far" else max(half, 0.2 * self.length)
            far = (self.width if wall == "far" else self.length) - half
            if far <= near:
                continue
            x, y, yaw = self._at(wall, self.rng.uniform(near, far), item.depth)
            if self._put(item, x, y, yaw):
                if kind == "sofa" and item.width > 1.2 and self.rng.random() < 0.7:
                    self._before(x, y, yaw, item.depth)
                elif kind == "lamp":
                    self._glow(x, y, item)
                return

    def _before(self, x: float, y: float, yaw: float, depth: float) -> None:
        """A low table before a sofa."""
        low = _furniture.table(self.shop, low=True)
        away = depth / 2 + low.depth / 2 + self.rng.uniform(0.3, 0.45)
        self._put(low, x + away * math.sin(yaw), y - away * math.cos(yaw), yaw)

    def _glow(self, x: float, y: float, item: Item) -> None:
        shade = item.bodies[-1]
        surface = self.shop.surfaces[shade.surface]
        place = np.array([x, y, shade.centre[2]], dtype=np.float32)
        self.lamps.append(Lamp(place, np.array([0.5, 0.4, 0.28], dtype=np.float32) * surface.glow, shades=False))

    def dining(self) -> None:
        """A table in the open with chairs about it."""
        rng, item = self.rng, _furniture.table(self.shop)
        for _ in range(_TRIES):
            x, y = rng.uniform(0.2, 0.8) * self.width, rng.uniform(0.4, 0.8) * self.length
            yaw = float(rng.choice([0.0, math.pi / 2])) + rng.normal(0.0, 0.08)
            if self._put(item, x, y, yaw):
                self._chairs(x, y, yaw, item)
                return

    def _chairs(self, x: float, y: float, yaw: float, table: Item) -> None:
        rng = self.rng
        sides = [(-0.25, 1), (0.25, 1), (-0.25, -1), (0.25, -1)] if table.width > 1.3 else [(0.0, 1), (0.0, -1)]
        places = [(shift * table.width, side * (table.depth / 2 + 0.26), 0.0) for shift, side in sides]
        places += [(side * (table.width / 2 + 0.28), 0.0, 1.0) for side in (1, -1)]
        chair = _furniture.chair(self.shop)
        c, s = math.cos(yaw), math.sin(yaw)
        for right, back, end in places:
            if rng.random() < 0.2:
                continue
            outward = (math.copysign(1.0, right), 0.0) if end else (0.0, math.copysign(1.0, back))
            turn = yaw + math.atan2(-outward[0], outward[1]) + rng.normal(0.0, 0.2)
            self._put(chair, x + c * right - s * back, y + s * right + c * back, turn)

    def rug(self) -> None:
        """A flat cloth on the floor, which is floor."""
        rng = self.rng
        cloth = self.shop.soft("floor")
        half = (rng.uniform(0.6, 1.1), rng.uniform(0.8, 1.2), 0.008)
        centre = (rng.uniform(0.3, 0.7) * self.width, rng.uniform(0.4, 0.7) * self.length, 0.008)
        self.bodies.append(Body("box", centre, half, cloth, rng.normal(0.0, 0.1), blocks=False))

    def daylight(self) -> None:
        """A window, and the light that falls through it."""
        rng = self.rng
        place = self.hang(_fittings.window(self.shop, self.height), pane=True)
        if place is not None:
            x, y, yaw = place
            inward = np.array([x + 0.5 * math.sin(yaw), y - 0.5 * math.cos(yaw), 1.5], dtype=np.float32)
            colour = np.array([0.9, 0.97, 1.05], dtype=np.float32) * np.float32(rng.uniform(0.2, 1.1))
            self.lamps.append(Lamp(inward, colour, shades=False))

    def electric(self) -> None:
        """The main light under the ceiling, with or without a lamp that is seen."""
        rng = self.rng
        x, y = rng.uniform(0.25, 0.75) * self.width, rng.uniform(0.25, 0.75) * self.length
        warm = rng.uniform(0.0, 1.0)
        colour = np.array([1.0, 1.0 - 0.18 * warm, 1.0 - 0.4 * warm], dtype=np.float32) * rng.uniform(0.6, 1.6)
        lamp = np.array([x, y, self.height - rng.uniform(0.3, 0.6)], dtype=np.float32)
        self.lamps.append(Lamp(lamp, colour.astype(np.float32), shades=True))
        if rng.random() < 0.75:
            self.bodies += turned(_fittings.ceiling_lamp(self.shop, self.height), x, y, 0.0)

    def furnish(self) -> None:
        """Fill the room."""
        rng = self.rng
        self.electric()
        for _ in range(int(rng.choice([0, 1, 1, 2]))):
            self.daylight()
        if rng.random() < 0.6:
            self.hang(_fittings.door(self.shop), keeps=0.9)
        for _ in range(int(rng.integers(0, 4))):
            self.hang(_fittings.picture(self.shop))
        if rng.random() < 0.35:
            self.rug()
        theme = _THEMES[int(rng.integers(0, len(_THEMES)))]
        more = [str(kind) for kind in rng.choice(_EXTRA, int(rng.integers(0, 4)))]
        for kind in (*theme, *more):
            if kind == "set":
                self.dining()
            else:
                self.stand(kind)


def furnished(rng: Rng) -> Scene:
    """A room with furniture, lamps and camera."""
    plan = _Plan(rng)
    plan.furnish()
    target = (
        rng.uniform(0.25, 0.75) * plan.width,
        rng.uniform(0.6, 0.95) * plan.length,
        rng.uniform(0.4, 1.15),
    )
    ambient = np.array([1.0, 1.0, 1.0], dtype=np.float32) + rng.normal(0.0, 0.05, 3).astype(np.float32)
    return Scene(
        plan.bodies,
        plan.shop.surfaces,
        plan.lamps,
        (ambient * np.float32(rng.uniform(0.12, 0.4))).astype(np.float32),
        plan.eye,
        target,
        math.radians(rng.uniform(60.0, 80.0)),
    )
