"""What a layout understands of a folder, and the tools that layouts share.

Splits are the folders `train`, `val` (or `valid`, `validation`) and `test`. Training images are put in the order of a
hash of their path, because readers shuffle in blocks and a folder is often sorted by class; other splits keep the order
of names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from i2idist import storage
from i2idist.data.manifest import Role
from i2idist.data.pack import Sample
from i2idist.errors import DataError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".npy"}
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def folder_of(key: str) -> str:
    """The scene of a key in most layouts: all of it but the last part, or itself where it has one part."""
    return key.rpartition("/")[0] or key


@dataclass(frozen=True)
class Source:
    """A folder understood: what `pack` needs to know.

    Attributes:
        role: how its images relate.
        domains: names of the kinds of images, source first.
        labels: names of the classes or attributes.
        count: how many samples there are; None where that isn't known before they are read.
        samples: what to pack, in the same order each time.
        scene: by a sample's key, the name of what it shows, which samples that show the same share.
    """

    role: Role
    domains: tuple[str, ...]
    labels: tuple[str, ...]
    count: int | None
    samples: Iterable[Sample]
    scene: Callable[[str], str] = folder_of


def files(src: str) -> list[PurePosixPath]:
    """Paths of all files below `src`, relative to it, sorted."""
    return [PurePosixPath(name) for name in storage.walk(src)]


def images(src: str) -> list[PurePosixPath]:
    """Those of the files that are images by their names."""
    return only_images(files(src))


def only_images(paths: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    """Those of `paths` that are images by their names."""
    return [path for path in paths if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")]


def key(path: PurePosixPath) -> str:
    """A key from a path without its extension: other characters become `_`."""
    return words(path.with_suffix(""))


def words(stem: PurePosixPath) -> str:
    """A key from a path that has no extension."""
    return "/".join(re.sub(r"^-|[^A-Za-z0-9_-]", "_", word) for word in stem.parts)


def hash_of(name: str) -> int:
    """An integer of 64 bits that says where a name stands among others in no order of theirs."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def stored_order(name: object, split: str) -> tuple[int, str]:
    """By what samples of a split are sorted: a hash of the name in training, else the name."""
    return hash_of(str(name)) if split == "train" else 0, str(name)


def reader(src: str, path: PurePosixPath) -> Callable[[], bytes]:
    """What reads the file at `path` below `src`."""
    return partial(storage.read_bytes, origin(src, path))


def origin(src: str, path: PurePosixPath) -> str:
    """How messages name the file at `path` below `src`: its URL."""
    return storage.join(src, str(path))


def by_split(paths: Sequence[PurePosixPath]) -> list[tuple[str, PurePosixPath, PurePosixPath]]:
    """Split, path and path below the split's folder, in the order of storage; without split folders all is `train`."""
    if any(path.parts[0] in SPLITS for path in paths):
        named = [path for path in paths if path.parts[0] in SPLITS and len(path.parts) > 1]
        found = [(SPLITS[path.parts[0]], path, PurePosixPath(*path.parts[1:])) for path in named]
    else:
        found = [("train", path, path) for path in paths]
    return sorted(found, key=lambda one: (one[0], stored_order(one[1], one[0])))


def images_by_split(src: str) -> list[tuple[str, PurePosixPath, PurePosixPath]]:
    """As `by_split`, of all images below `src`.

    Raises:
        DataError: splits are one folder further down, as in an archive that was unpacked there: all would be `train`.
    """
    paths = images(src)
    if not any(path.parts[0] in SPLITS for path in paths):
        for path in paths:
            if len(path.parts) > 2 and path.parts[1] in SPLITS:
                raise DataError(
                    f"{src} has a folder {path.parts[1]} inside {path.parts[0]}; splits are the first folders. Give "
                    f"{storage.join(src, path.parts[0])}, or move {path.parts[1]} up."
                )
    return by_split(paths)


def source(
    role: Role, domains: Sequence[str], samples: list[Sample], src: str, wanted: str, labels: Sequence[str] = ()
) -> Source:
    """The source of a list of samples.

    Raises:
        DataError: the list is empty; `wanted` says what there should be.
    """
    if not samples:
        raise DataError(f"{src} has no images in this layout, which is {wanted}. Check the folder, or choose another.")
    return Source(role, tuple(domains), tuple(labels), len(samples), samples)
