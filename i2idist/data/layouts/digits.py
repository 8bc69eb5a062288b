"""MNIST, SVHN and USPS in the files in which they are published, alone or as two unpaired domains.

MNIST: four idx files, gzipped or not (http://yann.lecun.com/exdb/mnist). SVHN: format 2, cropped digits, MATLAB 5
(http://ufldl.stanford.edu/housenumbers). USPS: LIBSVM's text, bzip2
(https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps).

Samples carry their digit as class. A file is held in memory while its images are packed.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from i2idist.data.images import Array
from i2idist.data.layouts.archives import MAX_BYTES, damaged, find, unpacked
from i2idist.data.layouts.source import Source, stored_order
from i2idist.data.pack import Sample

_DIGITS = tuple(str(digit) for digit in range(10))
_USPS_SIDE = 16

Read = Callable[[], tuple[Array, Array]]
"""Reads a split: images (N, H, W) or (N, H, W, 3) uint8, digits (N,) from 0 to 9."""


@dataclass(frozen=True)
class _Split:
    """A split, read when its samples are asked for."""

    name: str
    url: str
    read: Read

    def samples(self, domain: str) -> Iterator[Sample]:
        images, digits = self.read()
        for number in sorted(range(len(images)), key=lambda number: stored_order(f"{number:06d}", self.name)):
            where = f"{self.url}, image {number}"
            yield Sample(f"{number:06d}", self.name, {domain: images[number]}, int(digits[number]), where)


@dataclass(frozen=True)
class _Samples:
    """The samples of splits of one domain after another, as often as they are asked for."""

    splits: Sequence[tuple[str, _Split]]

    def __iter__(self) -> Iterator[Sample]:
        for domain, split in self.splits:
            yield from split.samples(domain)


def _labelled(splits: Sequence[_Split]) -> Source:
    return Source("labelled", ("image",), _DIGITS, None, _Samples([("image", split) for split in splits]))


def _unpaired(a: Sequence[_Split], b: Sequence[_Split]) -> Source:
    splits = [(domain, split) for domain, splits in (("a", a), ("b", b)) for split in splits]
    return Source("unpaired", ("a", "b"), _DIGITS, None, _Samples(splits))


def mnist(src: str) -> Source:
    """MNIST: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`, each also as `.gz`. Grey, 28x28."""
    return _labelled(_mnist(src))


def svhn(src: str) -> Source:
    """SVHN's cropped digits: `train_32x32.mat`, `test_32x32.mat`; `extra_32x32.mat`, if there, as split `extra`."""
    return _labelled(_svhn(src, optional=("extra",)))


def usps(src: str) -> Source:
    """USPS: `usps.bz2` and `usps.t.bz2`. Grey, 16x16."""
    return _labelled(_usps(src))


def mnist_svhn(src: str) -> Source:
    """MNIST as a and SVHN as b, unpaired; all their files lie below one folder."""
    return _unpaired(_mnist(src), _svhn(src))


def mnist_usps(src: str) -> Source:
    """MNIST as a and USPS as b, unpaired; all their files lie below one folder."""
    return _unpaired(_mnist(src), _usps(src))


def _mnist(src: str) -> list[_Split]:
    names = {
        split: (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        for split, part in (("train", "train"), ("test", "t10k"))
    }
    urls = find(src, [name for pair in names.values() for name in pair], "MNIST")
    return [
        _Split(split, urls[images], partial(_read_mnist, urls[images], urls[labels]))
        for split, (images, labels) in names.items()
    ]


def _read_mnist(images_url: str, labels_url: str) -> tuple[Array, Array]:
    images, labels = _idx(images_url, 3), _idx(labels_url, 1)
    return _checked(images, labels, images_url, labels_url)


def _idx(url: str, axes: int) -> Array:
    """An idx file of bytes: two zeros, type 8, the number of axes, their lengths, the values; big-endian."""
    data = unpacked(url)
    start = 4 + 4 * axes
    if len(data) < start or data[:4] != bytes((0, 0, 8, axes)):
        raise damaged(url, f"it doesn't begin as an idx file of {axes} axes of bytes")
    shape = struct.unpack(f">{axes}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise damaged(url, f"its header promises {math.prod(shape)} bytes of data, and {len(data) - start} follow")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _svhn(src: str, optional: Sequence[str] = ()) -> list[_Split]:
    names = {f"{split}_32x32.mat": split for split in ("train", "test", *optional)}
    urls = find(src, list(names)[:2], "SVHN (format 2)", optional=list(names)[2:])
    return [_Split(names[file], url, partial(_read_svhn, url)) for file, url in urls.items()]


def _read_svhn(url: str) -> tuple[Array, Array]:
    """X: (32, 32, 3, N) uint8; y: (N, 1), where 10 stands for the digit 0."""
    from scipy import io as scipy_io  # takes a while to import

    file = io.BytesIO(unpacked(url))
    try:
        kinds = {name: (shape, kind) for name, shape, kind in scipy_io.whosmat(file)}
        _check_mat(kinds)
        found = scipy_io.loadmat(file, variable_names=("X", "y"))
        images, labels = found["X"].transpose(3, 0, 1, 2), found["y"].reshape(-1)
    except Exception as error:  # SciPy raises many kinds for files that aren't what they seem
        raise damaged(url, f"it can't be read as MATLAB 5 ({error or type(error).__name__})") from error
    if not np.isin(labels, np.arange(1, 11)).all():
        raise damaged(url, "its labels aren't 1 to 10")
    return _checked(images, labels % 10, url, url)


def _check_mat(kinds: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """Refuse what isn't plain numbers of the published shape, before it is read."""
    shape, kind = kinds.get("X", ((), "absent"))
    if kind != "uint8" or len(shape) != 4 or shape[:3] != (32, 32, 3) or math.prod(shape) > MAX_BYTES:
        raise ValueError(f"X is {kind} of shape {tuple(shape)}, not uint8 of (32, 32, 3, N)")
    length, kind = kinds.get("y", ((), "absent"))
    if kind not in ("uint8", "double") or math.prod(length) != shape[3]:
        raise ValueError(f"y is {kind} of shape {tuple(length)}, not {shape[3]} numbers")


def _usps(src: str) -> list[_Split]:
    urls = find(src, ("usps.bz2", "usps.t.bz2"), "USPS")
    return [
        _Split(split, url, partial(_read_usps, url))
        for split, url in zip(("train", "test"), urls.values(), strict=True)
    ]


def _read_usps(url: str) -> tuple[Array, Array]:
    """A row of text for each image: `LABEL 1:v 2:v ... 256:v`, labels 1 to 10 for 0 to 9, values from -1 to 1."""
    from sklearn.datasets import load_svmlight_file  # takes a while to import

    pixels = _USPS_SIDE**2
    try:
        rows, labels = load_svmlight_file(io.BytesIO(unpacked(url)), n_features=pixels, zero_based=False)
    except (ValueError, OverflowError) as error:
        raise damaged(url, f"it isn't rows of a label and {pixels} values ({error})") from error
    values = rows.toarray()
    if not (np.abs(values) <= 1).all() or not np.isin(labels, np.arange(1, 11)).all():
        raise damaged(url, "its values aren't from -1 to 1, or its labels not 1 to 10")
    images = np.rint((values + 1) * 127.5).astype(np.uint8).reshape(-1, _USPS_SIDE, _USPS_SIDE)
    return _checked(images, labels - 1, url, url)


def _checked(images: Array, labels: Array, images_url: str, labels_url: str) -> tuple[Array, Array]:
    """As many labels as images, all of them digits."""
    if len(images) != len(labels) or not len(images):
        raise damaged(labels_url, f"it has {len(labels)} labels for {len(images)} images of {images_url}")
    if labels.max() > 9:
        raise damaged(labels_url, f"it has the label {labels.max()}, which is no digit")
    return images, labels
