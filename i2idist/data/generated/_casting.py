"""Ray casting of simple bodies: boxes, upright cylinders and ellipsoids, each turned about the vertical.

Every body is a unit shape in a frame of its own, so that one routine serves eye rays and shadow rays alike. Lengths are
metres; the world is right-handed with z up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from i2idist.data.generated._draws import Floats

Shape = Literal["box", "cylinder", "ellipsoid"]
SHAPES: tuple[Shape, ...] = ("box", "cylinder", "ellipsoid")
Vector = tuple[float, float, float]
Bodies = NDArray[np.int16]

_NEAR = 0.02
"""Nothing nearer to the eye is seen, in metres."""
_FAR = np.float32(1e6)
_TINY = np.float32(1e-9)
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))


@dataclass(frozen=True)
class Body:
    """A solid.

    Attributes:
        shape: which unit shape: the cube, the cylinder or the ball within [-1, 1]^3.
        centre: of the body, in metres.
        half: half its width, depth and height before turning, in metres.
        yaw: how far it is turned about the vertical, in radians.
        surface: what it is made of: an index into a list of the caller.
        blocks: whether it throws a shadow.
    """

    shape: Shape
    centre: Vector
    half: Vector
    surface: int
    yaw: float = 0.0
    blocks: bool = True

    def moved(self, by: Vector, yaw: float) -> Body:
        """The body as part of something that is turned by `yaw` about its own origin and then moved."""
        c, s = math.cos(yaw), math.sin(yaw)
        x, y, z = self.centre
        centre = (c * x - s * y + by[0], s * x + c * y + by[1], z + by[2])
        return replace(self, centre=centre, yaw=self.yaw + yaw)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without roll.

    Attributes:
        eye: where it stands.
        right: unit vector to the right of the image.
        down: unit vector to the bottom of the image.
        ahead: unit vector along the optical axis.
        half_width: half the image's width at distance 1.
        size: (H, W) in pixels.
    """

    eye: Floats
    right: Floats
    down: Floats
    ahead: Floats
    half_width: float
    size: tuple[int, int]

    @staticmethod
    def looking(eye: Vector, target: Vector, angle: float, size: tuple[int, int]) -> Camera:
        """A camera at `eye` that looks at `target`; its shorter side sees `angle` radians."""
        ahead = np.array(target) - np.array(eye)
        ahead /= np.linalg.norm(ahead)
        right = np.array([ahead[1], -ahead[0], 0.0]) / math.hypot(ahead[0], ahead[1])
        down = np.cross(ahead, right)
        half = math.tan(angle / 2) * size[1] / min(size)
        place, axes = np.array(eye, dtype=np.float32), np.stack([right, down, ahead]).astype(np.float32)
        return Camera(place, axes[0], axes[1], axes[2], half, size)

    @property
    def pixel(self) -> float:
        """A pixel's side at distance 1."""
        return 2 * self.half_width / self.size[1]

    def rays(self) -> Floats:
        """Directions through the middles of all pixels, (3, H, W), 1 along the axis: a hit's parameter is its depth."""
        height, width = self.size
        x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * np.float32(self.pixel)
        y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) * np.float32(self.pixel)
        across = self.right[:, None] * x
        along = self.down[:, None] * y + self.ahead[:, None]
        return np.asarray(along[:, :, None] + across[:, None, :])

    def windows(self, bodies: Sequence[Body]) -> list[tuple[slice, slice] | None]:
        """Rows and columns outside which each body can't be seen; None for those behind the camera."""
        rotations = np.stack([_rotation(body.yaw) * body.half for body in bodies])
        middles = np.array([body.centre for body in bodies]) - self.eye
        corners = _CORNERS @ rotations.transpose(0, 2, 1) + middles[:, None]  # (bodies, 8, 3)
        axes = np.stack([self.down, self.right, self.ahead], 1)
        down, right, depth = np.moveaxis(corners @ axes, 2, 0)
        inside = np.where(depth > _NEAR, depth, np.nan) * self.pixel
        places = np.stack([down / inside, right / inside], 1) + np.array(self.size)[:, None] / 2
        cut, behind = depth.min(1) <= _NEAR, depth.max(1) <= _NEAR
        low = np.where(cut[:, None], 0, np.floor(places.min(2) - 0.5)).clip(0).astype(int)
        high = np.where(cut[:, None], self.size, np.ceil(places.max(2) + 0.5)).clip(0).astype(int)
        return [
            None if hidden else (slice(a[0], b[0]), slice(a[1], b[1]))
            for hidden, a, b in zip(behind, low.tolist(), high.tolist(), strict=True)
        ]


def _rotation(yaw: float) -> NDArray[np.float64]:
    """The matrix that turns by `yaw` about the vertical."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _local(body: Body, vectors: Floats) -> Floats:
    """Directions (3, ...) of the world in a body's own frame, where it is a unit shape."""
    matrix = (_rotation(body.yaw).T / np.array(body.half)[:, None]).astype(np.float32)
    return np.asarray((matrix @ vectors.reshape(3, -1)).reshape(vectors.shape))


def _slab(origin: Floats, ray: Floats) -> tuple[Floats, Floats]:
    """Where a line is between the planes -1 and 1 of each axis: its parameters on entry and exit, like `ray`."""
    inverse = np.asarray(1 / (ray + _TINY), dtype=np.float32)
    middle, reach = np.asarray(origin * inverse), np.abs(inverse)
    return np.asarray(-middle - reach), np.asarray(reach - middle)


def _round(origin: Floats, ray: Floats) -> tuple[Floats, Floats]:
    """Where a line is within 1 of the axis, or of the middle, that the first axis's coordinates are measured from."""
    a = (ray * ray).sum(0) + _TINY
    b = (origin * ray).sum(0)
    root = b * b - a * ((origin * origin).sum(0) - 1)
    half = np.sqrt(np.maximum(root, 0))
    return np.where(root > 0, (-b - half) / a, _FAR), np.where(root > 0, (-b + half) / a, -_FAR)


def interval(body: Body, eye: Floats, rays: Floats) -> tuple[Floats, Floats]:
    """Where lines from `eye` along `rays` (3, ...) are in a body: on entry and on exit; nowhere if entry > exit."""
    ray = _local(body, rays)
    origin = _local(body, eye - np.array(body.centre, dtype=np.float32)).reshape(3, *[1] * (rays.ndim - 1))
    if body.shape == "ellipsoid":
        return _round(origin, ray)
    if body.shape == "box":
        enter, leave = _slab(origin, ray)
        return enter.max(0), leave.min(0)
    (low, high), (enter, leave) = _slab(origin[2], ray[2]), _round(origin[:2], ray[:2])
    return np.maximum(low, enter), np.minimum(high, leave)


def visible(bodies: list[Body], camera: Camera) -> tuple[Floats, Bodies]:
    """What each pixel sees.

    Returns:
        Depths along the optical axis (H, W), and which body it is (H, W). The first body is the hollow that contains
        all: its inside is seen where nothing else is.
    """
    rays = camera.rays()
    depth = interval(bodies[0], camera.eye, rays)[1]
    seen = np.zeros(camera.size, dtype=np.int16)
    for number, (body, window) in enumerate(zip(bodies, camera.windows(bodies), strict=True)):
        if window is None or number == 0:
            continue
        enter, leave = interval(body, camera.eye, rays[:, *window])
        nearer = (enter < leave) & (enter > _NEAR) & (enter < depth[window])
        np.copyto(depth[window], enter, where=nearer)
        np.copyto(seen[window], np.int16(number), where=nearer)
    return depth, seen


def lit(bodies: list[Body], lamp: Floats, points: Floats) -> NDArray[np.bool_]:
    """Whether nothing stands between a lamp (3,) and points (3, N) of surfaces; the hollow blocks nothing."""
    rays = points - lamp[:, None]
    dark = np.zeros(points.shape[1], dtype=bool)
    for body in bodies[1:]:
        if body.blocks:
            enter, leave = interval(body, lamp, rays)
            dark |= (enter < leave) & (enter < 0.995) & (leave > 0)
    return ~dark


def normals(bodies: list[Body], seen: Bodies, points: Floats) -> tuple[Floats, Floats]:
    """Outward unit normals of the seen bodies at `points` (3, H, W), and the points from their middles, unturned.

    Returns:
        Normals of the world (3, H, W), inward in the hollow; and local places in metres (3, H, W).
    """
    table = np.array([[*b.centre, *b.half, math.cos(b.yaw), math.sin(b.yaw)] for b in bodies], dtype=np.float32)
    shape = np.array([SHAPES.index(b.shape) for b in bodies])[seen]
    cx, cy, cz, *half, c, s = np.moveaxis(table[seen], -1, 0)
    x, y, z = points[0] - cx, points[1] - cy, points[2] - cz
    place = np.stack([c * x + s * y, c * y - s * x, z])
    unit = place / np.stack(half)
    size = np.abs(unit)
    flat = np.where(size == size.max(0), unit, 0)
    upright = size[2] ** 2 > (unit[:2] ** 2).sum(0)
    side = np.where(upright, np.stack([0 * unit[0], 0 * unit[0], unit[2]]), np.stack([*unit[:2], 0 * unit[0]]))
    normal = np.where(shape == 0, flat, np.where(shape == 1, side, unit)) / np.stack(half)
    normal = np.stack([c * normal[0] - s * normal[1], s * normal[0] + c * normal[1], normal[2]])
    normal = normal / np.sqrt((normal * normal).sum(0))
    return np.where(seen == 0, -normal, normal), place
