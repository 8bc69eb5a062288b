"""The folder layouts that people have, as samples to pack. Sources may lie in any storage.

Splits are the folders `train`, `val` (or `valid`, `validation`) and `test`. Training images are put in the order of a
hash of their path, because readers shuffle in blocks and a folder is often sorted by class; other splits keep the order
of names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import PurePosixPath

from i2idist import storage
from i2idist.data.images import Array, open_picture
from i2idist.data.manifest import Role
from i2idist.data.pack import Sample
from i2idist.errors import ConfigError, DataError, SampleError, nearest

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".npy"}
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Source:
    """A folder understood: what `pack` needs to know, and how many samples there are."""

    role: Role
    domains: tuple[str, ...]
    labels: tuple[str, ...]
    count: int
    samples: Iterable[Sample]


def _images(src: str) -> list[PurePosixPath]:
    found = (PurePosixPath(name) for name in storage.walk(src))
    return [path for path in found if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")]


def _key(path: PurePosixPath) -> str:
    """A key from a path without its extension: other characters become `_`."""
    return _words(path.with_suffix(""))


def _words(stem: PurePosixPath) -> str:
    return "/".join(re.sub(r"^-|[^A-Za-z0-9_-]", "_", word) for word in stem.parts)


def _stored_order(path: PurePosixPath, split: str) -> tuple[str, str]:
    mixed = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest() if split == "train" else ""
    return mixed, str(path)


def _reader(src: str, path: PurePosixPath) -> Callable[[], bytes]:
    return partial(storage.read_bytes, storage.join(src, str(path)))


def _origin(src: str, path: PurePosixPath) -> str:
    return storage.join(src, str(path))


def _by_split(paths: Sequence[PurePosixPath]) -> list[tuple[str, PurePosixPath, PurePosixPath]]:
    """Split, path and path below the split's folder, in the order of storage; without split folders all is `train`."""
    if any(path.parts[0] in _SPLITS for path in paths):
        named = [path for path in paths if path.parts[0] in _SPLITS and len(path.parts) > 1]
        found = [(_SPLITS[path.parts[0]], path, PurePosixPath(*path.parts[1:])) for path in named]
    else:
        found = [("train", path, path) for path in paths]
    return sorted(found, key=lambda one: (one[0], _stored_order(one[1], one[0])))


def _source(
    role: Role, domains: Sequence[str], samples: list[Sample], src: str, wanted: str, labels: Sequence[str] = ()
) -> Source:
    if not samples:
        raise DataError(f"{src} has no images in this layout, which is {wanted}. Check the folder, or choose another.")
    return Source(role, tuple(domains), tuple(labels), len(samples), samples)


def _two_halves(where: str) -> tuple[Array, Array]:
    pixels = open_picture(storage.read_bytes(where), where)
    width = pixels.shape[1]
    if width % 2:
        raise SampleError(f"{where} is {width} pixels wide; two images side by side need an even width.")
    return pixels[:, : width // 2], pixels[:, width // 2 :]


def side_by_side(src: str) -> Source:
    """pix2pix: each file shows a (left half) and b (right half). `[SPLIT/]NAME.jpg`."""
    halves = lru_cache(maxsize=32)(_two_halves)  # both halves are asked for in turn, by a few threads

    def half(where: str, side: int) -> Array:
        return halves(where)[side]

    samples = []
    for split, path, below in _by_split(_images(src)):
        where = _origin(src, path)
        images = {"a": partial(half, where, 0), "b": partial(half, where, 1)}
        samples.append(Sample(_key(below), split, images, origin=where))
    return _source("paired", ("a", "b"), samples, src, "[train|val|test/]NAME.jpg with two images side by side")


def two_folders(src: str) -> Source:
    """CycleGAN: two unpaired pools a split. `trainA/NAME.jpg`, `trainB/NAME.jpg`, `testA/...`."""
    folders = {f"{word}{side}": (split, side.lower()) for word, split in _SPLITS.items() for side in "AB"}
    found = []
    for path in _images(src):
        if path.parts[0] in folders and len(path.parts) > 1:
            split, domain = folders[path.parts[0]]
            found.append((split, domain, path))
    found.sort(key=lambda one: (one[0], one[1], _stored_order(one[2], one[0])))
    samples = [
        Sample(_key(PurePosixPath(*path.parts[1:])), split, {domain: _reader(src, path)}, origin=_origin(src, path))
        for split, domain, path in found
    ]
    return _source("unpaired", ("a", "b"), samples, src, "trainA/, trainB/, testA/, testB/")


def class_folders(src: str) -> Source:
    """A folder for each class. `[SPLIT/]CLASS/NAME.jpg`; classes are numbered by name."""
    found = [one for one in _by_split(_images(src)) if len(one[2].parts) > 1]
    classes = sorted({below.parts[0] for _, _, below in found})
    samples = [
        Sample(_key(below), split, {"image": _reader(src, path)}, classes.index(below.parts[0]), _origin(src, path))
        for split, path, below in found
    ]
    return _source("labelled", ("image",), samples, src, "[train|val|test/]CLASS/NAME.jpg", classes)


def folder(src: str) -> Source:
    """Images without labels. `[SPLIT/]NAME.jpg`."""
    samples = [
        Sample(_key(below), split, {"image": _reader(src, path)}, origin=_origin(src, path))
        for split, path, below in _by_split(_images(src))
    ]
    return _source("images", ("image",), samples, src, "[train|val|test/]NAME.jpg")


def modality_folders(src: str) -> Source:
    """RGB-D and the like: a folder for each kind of image, a sample's files named alike. `[SPLIT/]rgb/NAME.png`."""
    groups: dict[tuple[str, PurePosixPath], dict[str, PurePosixPath]] = {}
    for split, path, below in _by_split(_images(src)):
        if len(below.parts) > 1:
            stem = PurePosixPath(*below.parts[1:]).with_suffix("")
            groups.setdefault((split, stem), {})[below.parts[0]] = path
    names = {name for group in groups.values() for name in group}
    domains = sorted(names, key=lambda name: (name != "rgb", name != "depth", name))
    samples = [
        Sample(
            _words(stem),
            split,
            {name: _reader(src, group[name]) for name in domains if name in group},
            origin=", ".join(_origin(src, path) for path in group.values()),
        )
        for (split, stem), group in groups.items()
    ]
    return _source("multimodal", domains, samples, src, "[train|val|test/]rgb/NAME.png, .../depth/NAME.png")


def _rows(src: str, name: str) -> Iterator[tuple[str, list[str]]]:
    """Rows of a CelebA list, each with the words that name it in messages; none where there is no list.

    Lists are as published (.txt, spaces) or as on Kaggle (.csv).
    """
    for file in (f"{name}.txt", f"{name}.csv"):
        url = storage.join(src, file)
        if storage.exists(url):
            for number, line in enumerate(storage.read_bytes(url).decode(errors="replace").splitlines(), 1):
                words = line.replace(",", " ").split()
                if words and not (len(words) == 1 and words[0].isdigit()):
                    yield f"{url}, line {number}", words
            return


def _attributes(src: str) -> tuple[list[str], dict[str, tuple[float, ...]]]:
    rows = list(_rows(src, "list_attr_celeba"))
    if not rows:
        raise DataError(f"{src} has no list_attr_celeba.txt (or .csv). Put it beside the image folder.")
    head = rows[0][1]
    names = head[1:] if head[0] == "image_id" else head
    values = {}
    for where, row in rows[1:]:
        if len(row) != len(names) + 1 or not set(row[1:]) <= {"1", "-1", "0"}:
            raise DataError(f"{where}: the row for {row[0]} isn't {len(names)} times 1 or -1. Mend it.")
        values[row[0]] = tuple(float(word == "1") for word in row[1:])
    return names, values


def _partition(src: str) -> dict[str, str]:
    """The split of each listed file."""
    splits = {"0": "train", "1": "val", "2": "test"}
    found = {}
    for where, row in _rows(src, "list_eval_partition"):
        if row[0] == "image_id":
            continue
        if len(row) != 2 or row[1] not in splits:
            raise DataError(f"{where}: '{' '.join(row)}' isn't a file and 0 (train), 1 (val) or 2 (test). Mend it.")
        found[row[0]] = splits[row[1]]
    return found


def celeba(src: str) -> Source:
    """CelebA: `img_align_celeba/*.jpg`, `list_attr_celeba.txt`, `list_eval_partition.txt`. Attributes are 0 or 1."""
    names, values = _attributes(src)
    parts = _partition(src)
    found = [(parts.get(path.name, "train"), path) for path in _images(src)]
    found.sort(key=lambda one: (one[0], _stored_order(one[1], one[0])))
    for _, path in found:
        if path.name not in values:
            raise DataError(f"{_origin(src, path)} is not in list_attr_celeba. Add its row, or remove it.")
    samples = [
        Sample(
            _key(PurePosixPath(path.name)), split, {"image": _reader(src, path)}, values[path.name], _origin(src, path)
        )
        for split, path in found
    ]
    return _source("labelled", ("image",), samples, src, "img_align_celeba/*.jpg and list_attr_celeba.txt", names)


LAYOUTS: dict[str, Callable[[str], Source]] = {
    "side-by-side": side_by_side,
    "trainA-trainB": two_folders,
    "class-folders": class_folders,
    "celeba": celeba,
    "rgb-d": modality_folders,
    "folder": folder,
}


def read_layout(src: str, layout: str) -> Source:
    """Understand the folder at `src`; images are read later, by `pack`.

    Raises:
        ConfigError: there is no such layout.
        DataError: the folder isn't in this layout.
        StorageError: the storage can't be reached.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"There is no layout '{layout}'.{nearest(layout, LAYOUTS)}")
    return LAYOUTS[layout](src)
