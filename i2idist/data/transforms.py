"""Resizing, random crops and flips, and the way from stored pixels to training's numbers.

Random choices are keyed by the sample's place in the draw stream, so they are the same on any worker.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i2idist.data.images import Array
from i2idist.randomness import bernoulli, uniform

_PIL_CHANNELS = (1, 3, 4)


def resize(pixels: Array, size: tuple[int, int]) -> Array:
    """Bicubic resize with antialiasing: (C, H, W) uint8 or uint16 to the same with `size` (height, width).

    8-bit images go through Pillow's integer arithmetic, which gives the same bits on every machine.
    """
    if pixels.shape[1:] == size:
        return pixels
    width_height = (size[1], size[0])
    if pixels.dtype == np.uint8 and len(pixels) in _PIL_CHANNELS:
        interleaved = np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        resized = np.asarray(Image.fromarray(interleaved).resize(width_height, Image.Resampling.BICUBIC))
        return np.ascontiguousarray(resized.reshape(*size, -1).transpose(2, 0, 1))
    planes = [
        np.asarray(Image.fromarray(plane.astype(np.float32)).resize(width_height, Image.Resampling.BICUBIC))
        for plane in pixels
    ]
    rounded: Array = np.rint(np.stack(planes)).clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return rounded


def resize_to_nearest(pixels: Array, size: tuple[int, int]) -> Array:
    """Each new pixel takes the one whose centre is nearest, so that no values mix: (C, H, W) -> (C, *size)."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(pixels.shape[1:], size, strict=True)
    )
    return pixels[:, rows[:, None], columns]


def random_crop(images: Array, size: tuple[int, int], keys: Tensor) -> Array:
    """A window of `size` (height, width) of each image, placed by its key: (N, C, H, W) -> (N, C, *size)."""
    height, width = images.shape[2:]
    if (height, width) == size:
        return images
    places = uniform(keys, (2,), torch.float64).numpy()
    tops = (places[:, 0] * (height - size[0] + 1)).astype(int)
    lefts = (places[:, 1] * (width - size[1] + 1)).astype(int)
    rows = [image[:, y : y + size[0], x : x + size[1]] for image, y, x in zip(images, tops, lefts, strict=True)]
    return np.stack(rows)


def random_flip(images: Array, keys: Tensor) -> Array:
    """Each image, mirrored left to right with probability 1/2 by its key: (N, C, H, W) -> the same shape."""
    mirrored = bernoulli(keys, 0.5, ()).numpy()
    return np.where(mirrored[:, None, None, None], images[..., ::-1], images)


def to_unit(images: Array) -> Tensor:
    """Stored pixels to float32 in [-1, 1]: 0 becomes -1, and 255 or 65535 becomes 1."""
    half = np.iinfo(images.dtype).max / 2
    return torch.from_numpy(images.astype(np.float32)).div_(half).sub_(1)


def to_levels(images: Tensor) -> Tensor:
    """Images of any shape in [-1, 1] as the levels that their files would hold, uint8."""
    return ((images + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_pixels(image: Tensor) -> Array:
    """(C, H, W) float in [-1, 1] -> (H, W, C) uint8, without the last axis for one channel."""
    levels = to_levels(image).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(levels[..., 0] if levels.shape[2] == 1 else levels)
