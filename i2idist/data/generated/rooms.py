"""Furnished rooms, rendered: what a colour, a depth and an infrared camera see, and what is what.

rgb: colours and patterns are drawn apart from what they are on, light and camera from both, so that a colour tells
   little about a class. 3 channels.
depth: along the optical axis, 16 bits, 65535 being 10 m. 1 channel.
segmentation: a label map, the level of a pixel being its place in CLASSES. 1 channel.
nir: what an infrared camera with its own light sees: reflectance depends on the material alone, so patterns and dyes
   don't show. 1 channel.

Windows, doors and pictures are nearly flat: colour tells them best. Furniture against a wall of its colour is told
apart by depth. So each modality knows something that others don't.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from i2idist.data.generated import _casting
from i2idist.data.generated._casting import Bodies
from i2idist.data.generated._draws import Bytes, Floats, Rng, luma, rng_of, to_bytes
from i2idist.data.generated._roomplan import CEILING, FLOOR, Lamp, Scene, furnished
from i2idist.data.generated._workshop import CLASSES as CLASSES
from i2idist.data.generated._workshop import PATTERNS, Surface
from i2idist.data.modalities import depth_levels

_GAMMA = 1 / 2.2
_SHINE = 1.5
"""A lamp's light has halved so many metres from it."""


@dataclass(frozen=True)
class Views:
    """The modalities of a scene: rgb (H, W, 3) bytes, depth (H, W) uint16, segmentation (H, W) and nir (H, W) bytes."""

    rgb: Bytes
    depth: NDArray[np.uint16]
    segmentation: Bytes
    nir: Bytes


@dataclass(frozen=True)
class _Hits:
    """What rays hit: depths and surfaces (H, W), points, normals and local places (3, H, W), and lights' reach."""

    depth: Floats
    surface: Bodies
    points: Floats
    normals: Floats
    places: Floats


def _hits(scene: Scene, camera: _casting.Camera) -> _Hits:
    depth, seen = _casting.visible(scene.bodies, camera)
    points = camera.eye[:, None, None] + camera.rays() * depth
    normals, places = _casting.normals(scene.bodies, seen, points)
    surface = np.array([body.surface for body in scene.bodies], dtype=np.int16)[seen]
    surface = np.where((seen == 0) & (normals[2] > 0.5), np.int16(FLOOR), surface)
    surface = np.where((seen == 0) & (normals[2] < -0.5), np.int16(CEILING), surface)
    return _Hits(depth, surface, points, normals, places)


def _share(pattern: str, u: Floats, v: Floats) -> Floats:
    """How much of a surface's second colour shows at (u, v), in periods: in [0, 1]."""
    if pattern == "planks":
        row = np.floor(u)
        board = np.floor(v * 0.12 + row * 0.37)
        gap = (u - row < 0.06) * 0.6
        return np.asarray(np.maximum((row * 0.618 + board * 0.414) % 1.0 * 0.7, gap), dtype=np.float32)
    if pattern == "checks":
        return np.asarray((np.floor(u) + np.floor(v)) % 2, dtype=np.float32)
    if pattern == "stripes":
        return np.asarray(np.floor(u) % 2, dtype=np.float32)
    if pattern == "grain":
        return np.asarray(0.4 + 0.4 * np.sin(2 * math.pi * (v + 0.3 * np.sin(0.5 * u))), dtype=np.float32)
    wave = np.sin(4.1 * u + 1.0) * np.sin(3.7 * v + 0.5) + 0.6 * np.sin(7.3 * v + 2.6 * u)
    return np.asarray((0.5 + 1.2 * wave).clip(0.0, 1.0), dtype=np.float32)


def _albedo(surfaces: list[Surface], hits: _Hits) -> Floats:
    """The visible reflectance of what is seen, (H, W, 3)."""
    colours = np.array([s.colour for s in surfaces], dtype=np.float32)
    seconds = np.array([s.second for s in surfaces], dtype=np.float32)
    periods = np.array([s.period for s in surfaces], dtype=np.float32)[hits.surface]
    patterns = np.array([s.pattern for s in surfaces])[hits.surface]
    level = np.abs(hits.normals[2]) > 0.7
    u = np.where(level, hits.places[0], hits.places[0] + hits.places[1]) / periods
    v = np.where(level, hits.places[1], hits.places[2]) / periods
    share = np.zeros(hits.depth.shape, dtype=np.float32)
    for number, pattern in enumerate(PATTERNS[1:], 1):
        here = patterns == number
        if here.any():
            share[here] = _share(pattern, u[here], v[here])
    first = colours[hits.surface]
    return np.asarray(first + share[..., None] * (seconds[hits.surface] - first))


def _openness(scene: Scene, hits: _Hits) -> Floats:
    """How much of the light from everywhere reaches a point, (H, W): less in corners and near the floor."""
    half = np.array(scene.bodies[0].half, dtype=np.float32)
    open_ = np.ones(hits.depth.shape, dtype=np.float32)
    for axis in range(3):
        for distance in (hits.points[axis], 2 * half[axis] - hits.points[axis]):
            facing = 1 - np.abs(hits.normals[axis])
            open_ *= 1 - 0.4 * facing * np.exp(-distance.clip(0) / 0.25)
    return open_


def _from(lamp: Lamp, scene: Scene, hits: _Hits) -> Floats:
    """A lamp's light on what is seen, (H, W)."""
    way = lamp.place[:, None, None] - hits.points
    far = (way * way).sum(0)
    facing = (way * hits.normals).sum(0) / np.sqrt(far + 1e-6)
    light = np.asarray(facing.clip(0) / (1 + far / _SHINE**2))
    if lamp.shades:
        turned = facing > 0
        light[turned] *= _casting.lit(scene.bodies, lamp.place, hits.points[:, turned])
    return light


def _shrunk(image: Floats, scale: int) -> Floats:
    """Means of squares of `scale` pixels a side."""
    height, width = image.shape[0] // scale, image.shape[1] // scale
    return np.asarray(image.reshape(height, scale, width, scale, *image.shape[2:]).mean((1, 3)))


def _photograph(scene: Scene, hits: _Hits, rng: Rng, scale: int) -> Bytes:
    light = scene.ambient * _openness(scene, hits)[..., None]
    for lamp in scene.lamps:
        light = light + lamp.colour * _from(lamp, scene, hits)[..., None]
    glow = np.array([s.glow for s in scene.surfaces], dtype=np.float32)[hits.surface][..., None]
    radiance = _albedo(scene.surfaces, hits) * (light + 0.8 * glow * np.quantile(luma(light), 0.8))
    bright = np.float32(rng.uniform(0.4, 0.75)) / np.quantile(luma(radiance), 0.8).astype(np.float32)
    image = _shrunk((radiance * bright).clip(0, 1) ** np.float32(_GAMMA), scale)
    return to_bytes(image + 0.01 * rng.standard_normal(image.shape, dtype=np.float32))


def _infrared(scene: Scene, hits: _Hits, eye: Floats, rng: Rng, scale: int) -> Bytes:
    reflectance = np.array([s.infrared for s in scene.surfaces], dtype=np.float32)[hits.surface]
    way = eye[:, None, None] - hits.points
    far = (way * way).sum(0)
    facing = (way * hits.normals).sum(0).clip(0) / np.sqrt(far)
    light = 0.25 * _openness(scene, hits) + 0.75 * facing / (1 + far / 16.0)
    image = _shrunk((1.3 * reflectance * light).clip(0, 1) ** np.float32(_GAMMA), scale)
    return to_bytes(image + 0.015 * rng.standard_normal(image.shape, dtype=np.float32))


def views(key: tuple[str | int, ...], size: tuple[int, int]) -> Views:
    """A room in all modalities.

    Args:
        key: names the room; equal keys give the same room, from the same place, at any size.
        size: (H, W) in pixels.
    """
    scene = furnished(rng_of(*key, "room"))
    scale = max(2, math.ceil(96 / min(size)))
    camera = scene.camera((size[0] * scale, size[1] * scale))
    hits = _hits(scene, camera)
    middle = (slice(scale // 2, None, scale), slice(scale // 2, None, scale))
    kinds = np.array([s.kind for s in scene.surfaces], dtype=np.uint8)
    grain = rng_of(*key, "grain")
    return Views(
        _photograph(scene, hits, grain, scale),
        depth_levels(hits.depth[middle]),
        kinds[hits.surface[middle]],
        _infrared(scene, hits, camera.eye, grain, scale),
    )
