"""Oxford's 102 flowers as published (https://www.robots.ox.ac.uk/~vgg/data/flowers/102, readme there).

`jpg/image_00001.jpg`, ...; `imagelabels.mat` with `labels`, a class from 1 to 102 for each image; `setid.mat` with
`trnid`, `valid` and `tstid`, numbers of images. Classes are named as torchvision names them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from i2idist import storage
from i2idist.data.images import Array, Picture, open_picture
from i2idist.data.layouts.archives import damaged, find
from i2idist.data.layouts.narrow import with_labels, with_pairs
from i2idist.data.layouts.source import Source, images, origin, reader, source, stored_order
from i2idist.data.modalities import opponents
from i2idist.data.pack import Sample

TEN = (
    "passion flower", "petunia", "rose", "wallflower", "watercress", "water lily", "cyclamen", "foxglove",
    "frangipani", "hibiscus",
)  # fmt: skip
"""The ten most frequent classes, which mix-and-match networks use (thesis, section 4.5.3)."""

_CLASSES = 102
_PARTS = {"train": "trnid", "val": "valid", "test": "tstid"}
_SWAPPED = {"train": "tstid", "val": "valid", "test": "trnid"}
_WANTED = "jpg/image_00001.jpg, imagelabels.mat, setid.mat"


def flowers(src: str) -> Source:
    """All 102 classes in the published parts."""
    return _flowers(src, _PARTS)


def ten(src: str) -> Source:
    """The ten classes of mix-and-match networks.

    Reading: `tstid`, the largest part, is train, and `trnid` test, since the other way round only 100 images train.
    """
    return with_labels(_flowers(src, _SWAPPED), TEN)


def opponent(src: str) -> Source:
    """The same ten as opponent colours theta1, theta2 and theta3; training has pairs of images of their own."""
    of = ten(src)
    samples = [
        replace(s, images={name: partial(_theta, s.images["image"], name, s.origin) for name in _THETAS})
        for s in of.samples
    ]
    return with_pairs(replace(of, role="multimodal", domains=_THETAS, samples=samples), ["theta2", "theta3"])


_THETAS = ("theta1", "theta2", "theta3")


def _theta(image: Picture | Callable[[], Picture], name: str, where: str) -> Array:
    pixels = open_picture(image() if callable(image) else image, where)
    return opponents(pixels[..., :3])[name]


def _flowers(src: str, parts: Mapping[str, str]) -> Source:
    from torchvision.datasets import Flowers102  # takes a while to import

    urls = find(src, ["imagelabels.mat", "setid.mat"], "the flowers")
    labels = _numbers(urls["imagelabels.mat"], ["labels"])["labels"]
    sets = _numbers(urls["setid.mat"], list(parts.values()))
    split_of = {int(number): split for split, name in parts.items() for number in sets[name]}
    if labels.min() < 1 or labels.max() > _CLASSES:
        raise damaged(urls["imagelabels.mat"], f"its labels aren't 1 to {_CLASSES}")
    samples = []
    for path in images(src):
        number = path.stem.removeprefix("image_")
        if number != path.stem and number.isdigit():
            if int(number) not in split_of or int(number) > len(labels):
                raise damaged(urls["setid.mat"], f"it doesn't list {path.name}")
            samples.append(_sample(src, path, split_of[int(number)], int(labels[int(number) - 1]) - 1))
    samples.sort(key=lambda sample: (sample.split, stored_order(sample.key, sample.split)))
    return source("labelled", ("image",), samples, src, _WANTED, Flowers102.classes)


def _sample(src: str, path: PurePosixPath, split: str, label: int) -> Sample:
    return Sample(path.stem, split, {"image": reader(src, path)}, label, origin(src, path))


def _numbers(url: str, names: list[str]) -> dict[str, NDArray[np.int64]]:
    """Whole numbers by name in a MATLAB 5 file."""
    from scipy import io as scipy_io  # takes a while to import

    try:
        found = scipy_io.loadmat(io.BytesIO(storage.read_bytes(url)), variable_names=names)
        return {name: found[name].astype(np.int64).reshape(-1) for name in names}
    except Exception as error:  # SciPy raises many kinds for files that aren't what they seem
        raise damaged(url, f"it can't be read as MATLAB 5 with {', '.join(names)} ({error})") from error
