"""Freiburg Forest as published (http://deepscene.cs.uni-freiburg.de; facts from its readme of 2018).

`train|test/{rgb,depth_gray,nir_gray,GT_color}/ID.EXT` or `ID_WORD.EXT` (`_Clipped`, `_mask`). Label maps are colours.
The readme asks for a common size: depth, infrared and label map are brought to the photograph's.

Domains rgb, depth, segmentation and nir. Depths keep their levels, whose unit the readme doesn't say. Classes are those
of mix-and-match networks (thesis, Table 4.8), which count trees as vegetation, as the readme's numbers do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from i2idist import storage
from i2idist.data.images import Array, open_picture
from i2idist.data.layouts.source import SPLITS, Source, images, origin, source, stored_order, words
from i2idist.data.modalities import VOID
from i2idist.data.pack import Sample
from i2idist.data.transforms import resize, resize_to_nearest
from i2idist.errors import DataError

CLASSES = ("sky", "trail", "grass", "vegetation", "obstacle")

_COLOURS = {
    (0, 120, 255): "sky",
    (170, 170, 170): "trail",
    (0, 255, 0): "grass",
    (102, 102, 51): "vegetation",
    (0, 60, 0): "vegetation",
    (0, 0, 0): "obstacle",
}
_FOLDERS = {"rgb": "rgb", "depth_gray": "depth", "GT_color": "segmentation", "nir_gray": "nir"}
_WANTED = "train/rgb/ID.jpg, train/depth_gray/ID.png, train/GT_color/ID.png, train/nir_gray/ID.tif, test/..."

Resize = Callable[[Array, tuple[int, int]], Array]


def forest(src: str) -> Source:
    """Freiburg Forest: photographs, depth, near infrared and label maps of five classes."""
    found: dict[tuple[str, str], dict[str, PurePosixPath]] = {}
    for path in images(src):
        if len(path.parts) == 3 and path.parts[0] in SPLITS and path.parts[1] in _FOLDERS:
            name = path.name.partition(".")[0].partition("_")[0]
            found.setdefault((SPLITS[path.parts[0]], name), {})[_FOLDERS[path.parts[1]]] = path
    samples = [_view(src, split, name, paths) for (split, name), paths in found.items()]
    samples.sort(key=lambda sample: (sample.split, stored_order(sample.key, sample.split)))
    return source("multimodal", tuple(_FOLDERS.values()), samples, src, _WANTED, CLASSES)


def _view(src: str, split: str, name: str, paths: dict[str, PurePosixPath]) -> Sample:
    if "rgb" not in paths:
        raise DataError(f"{src}/{split}/rgb has no {name}, which other folders have. Unpack the archive again.")
    photo = origin(src, paths["rgb"])
    shown: dict[str, Callable[[], Array]] = {"rgb": partial(_pixels, photo)}
    for domain, change in (("depth", resize_to_nearest), ("nir", resize)):
        if domain in paths:
            shown[domain] = partial(_at_size_of, photo, origin(src, paths[domain]), change)
    if "segmentation" in paths:
        shown["segmentation"] = partial(_labels, photo, origin(src, paths["segmentation"]))
    return Sample(words(PurePosixPath(name)), split, shown, origin=photo)


def _pixels(url: str) -> Array:
    return open_picture(storage.read_bytes(url), url)


def _at_size_of(photo: str, url: str, change: Resize) -> Array:
    """The first channel of an image, brought to the photograph's size: (H, W)."""
    pixels = _pixels(url)[..., :1].transpose(2, 0, 1)
    return np.asarray(change(np.ascontiguousarray(pixels), _pixels(photo).shape[:2])[0])


def _labels(photo: str, url: str) -> Array:
    """Class levels (H, W) of a coloured label map, at the photograph's size; other colours are void."""
    colours = _pixels(url)[..., :3]
    levels = np.full(colours.shape[:2], VOID, dtype=np.uint8)
    for colour, name in _COLOURS.items():
        levels[(colours == colour).all(-1)] = CLASSES.index(name)
    return np.asarray(resize_to_nearest(levels[None], _pixels(photo).shape[:2])[0])
