"""Two domains: pix2pix's pictures of two halves, CycleGAN's two folders, and what is made of several such folders."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from pathlib import PurePosixPath

from i2idist import storage
from i2idist.data.images import Array, open_picture
from i2idist.data.layouts.source import (
    SPLITS,
    Source,
    images,
    images_by_split,
    key,
    origin,
    reader,
    source,
    stored_order,
)
from i2idist.data.pack import Sample
from i2idist.errors import SampleError

_FOLDERS = {f"{word}{side}": (split, side.lower()) for word, split in SPLITS.items() for side in "AB"}
_STYLE = re.compile(r"(\w+)2photo")


def _two_halves(where: str) -> tuple[Array, Array]:
    pixels = open_picture(storage.read_bytes(where), where)
    width = pixels.shape[1]
    if width % 2:
        raise SampleError(f"{where} is {width} pixels wide; two images side by side need an even width.")
    return pixels[:, : width // 2], pixels[:, width // 2 :]


def side_by_side(src: str) -> Source:
    """pix2pix (facades, maps, edges2shoes, edges2handbags): a file shows a (left half) and b (right half).

    `[SPLIT/]NAME.jpg`.
    """
    halves = lru_cache(maxsize=32)(_two_halves)  # both halves are asked for in turn, by a few threads

    def half(where: str, side: int) -> Array:
        return halves(where)[side]

    samples = []
    for split, path, below in images_by_split(src):
        where = origin(src, path)
        pictures = {"a": partial(half, where, 0), "b": partial(half, where, 1)}
        samples.append(Sample(key(below), split, pictures, origin=where))
    return source("paired", ("a", "b"), samples, src, "[train|val|test/]NAME.jpg with two images side by side")


def _in_two_folders(src: str) -> list[tuple[str, str, PurePosixPath]]:
    """Split, domain and path of each image below trainA, trainB, testA, ..., in the order of storage."""
    found = [(*_FOLDERS[path.parts[0]], path) for path in images(src) if path.parts[0] in _FOLDERS]
    found = [one for one in found if len(one[2].parts) > 1]
    return sorted(found, key=lambda one: (one[0], one[1], stored_order(one[2], one[0])))


def two_folders(src: str) -> Source:
    """CycleGAN and DRIT (winter2summer, cat2dog): two unpaired pools a split. `trainA/NAME.jpg`, `trainB/...`."""
    samples = [
        Sample(key(PurePosixPath(*path.parts[1:])), split, {domain: reader(src, path)}, origin=origin(src, path))
        for split, domain, path in _in_two_folders(src)
    ]
    return source("unpaired", ("a", "b"), samples, src, "trainA/, trainB/, testA/, testB/")


def two_folders_of_classes(src: str) -> Source:
    """Two unpaired pools of known composition (UDIT's biased sets). `trainA/CLASS/NAME.jpg`, `trainB/CLASS/...`."""
    found = [one for one in _in_two_folders(src) if len(one[2].parts) > 2]
    classes = sorted({path.parts[1] for _, _, path in found})
    samples = [
        Sample(
            key(PurePosixPath(*path.parts[1:])),
            split,
            {domain: reader(src, path)},
            classes.index(path.parts[1]),
            origin(src, path),
        )
        for split, domain, path in found
    ]
    return source("unpaired", ("a", "b"), samples, src, "trainA/CLASS/NAME.jpg, trainB/CLASS/NAME.jpg", classes)


def artworks(src: str) -> Source:
    """CycleGAN's painters: `monet2photo/trainA/*.jpg`, `cezanne2photo/...`, one class each, and class `photo`.

    Every one of these sets comes with the same photos (trainB, testB): those of the first by name are taken.
    """
    found = []
    for path in images(src):
        style = _STYLE.fullmatch(path.parts[0])
        if style and len(path.parts) > 2 and path.parts[1] in _FOLDERS:
            split, domain = _FOLDERS[path.parts[1]]
            found.append((split, style[1] if domain == "a" else "photo", path))
    photos_of = min((path.parts[0] for _, name, path in found if name == "photo"), default="")
    found = [one for one in found if one[1] != "photo" or one[2].parts[0] == photos_of]
    found.sort(key=lambda one: (one[0], stored_order(one[2], one[0])))
    classes = sorted({name for _, name, _ in found})
    samples = [
        Sample(
            f"{name}/{key(PurePosixPath(*path.parts[2:]))}",
            split,
            {"image": reader(src, path)},
            classes.index(name),
            origin(src, path),
        )
        for split, name, path in found
    ]
    wanted = "monet2photo/trainA/NAME.jpg, monet2photo/trainB/..., cezanne2photo/trainA/..., ..."
    return source("labelled", ("image",), samples, src, wanted, classes)
