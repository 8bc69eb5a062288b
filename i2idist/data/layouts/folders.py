"""Folders of images: by class, by modality, or plain."""

from __future__ import annotations

from pathlib import PurePosixPath

from i2idist.data.layouts.source import Source, by_split, images, images_by_split, key, origin, reader, source, words
from i2idist.data.pack import Sample


def class_folders(src: str) -> Source:
    """A folder for each class. `[SPLIT/]CLASS/NAME.jpg`; classes are numbered by name."""
    found = [one for one in images_by_split(src) if len(one[2].parts) > 1]
    classes = sorted({below.parts[0] for _, _, below in found})
    samples = [
        Sample(key(below), split, {"image": reader(src, path)}, classes.index(below.parts[0]), origin(src, path))
        for split, path, below in found
    ]
    return source("labelled", ("image",), samples, src, "[train|val|test/]CLASS/NAME.jpg", classes)


def folder(src: str) -> Source:
    """Images without labels. `[SPLIT/]NAME.jpg`."""
    samples = [
        Sample(key(below), split, {"image": reader(src, path)}, origin=origin(src, path))
        for split, path, below in by_split(images(src))
    ]
    return source("images", ("image",), samples, src, "[train|val|test/]NAME.jpg")


def modality_folders(src: str) -> Source:
    """RGB-D and the like: a folder for each kind of image, a sample's files named alike. `[SPLIT/]rgb/NAME.png`."""
    groups: dict[tuple[str, PurePosixPath], dict[str, PurePosixPath]] = {}
    for split, path, below in images_by_split(src):
        if len(below.parts) > 1:
            stem = PurePosixPath(*below.parts[1:]).with_suffix("")
            groups.setdefault((split, stem), {})[below.parts[0]] = path
    names = {name for group in groups.values() for name in group}
    domains = sorted(names, key=lambda name: (name != "rgb", name != "depth", name))
    samples = [
        Sample(
            words(stem),
            split,
            {name: reader(src, group[name]) for name in domains if name in group},
            origin=", ".join(origin(src, path) for path in group.values()),
        )
        for (split, stem), group in groups.items()
    ]
    return source("multimodal", domains, samples, src, "[train|val|test/]rgb/NAME.png, .../depth/NAME.png")
