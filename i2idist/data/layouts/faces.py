"""CelebA, as published (http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html) or as on Kaggle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from i2idist import storage
from i2idist.data.layouts.source import Source, files, key, only_images, origin, reader, source, stored_order
from i2idist.data.pack import Sample
from i2idist.errors import DataError

_ALIGNED = "img_align_celeba"
_PARTS = {"0": "train", "1": "val", "2": "test"}


def _rows(src: str, listed: Sequence[PurePosixPath], name: str) -> Iterator[tuple[str, list[str]]]:
    """Rows of a list, each with the words that name it in messages; none where there is no list.

    Lists are as published (.txt, spaces) or as on Kaggle (.csv), in any folder (`Anno/`, `Eval/`).
    """
    found = [path for path in listed if path.name in (f"{name}.txt", f"{name}.csv")]
    if found:
        url = origin(src, found[0])
        for number, line in enumerate(storage.read_bytes(url).decode(errors="replace").splitlines(), 1):
            row = line.replace(",", " ").split()
            if row:
                yield f"{url}, line {number}", row


def _attributes(src: str, listed: Sequence[PurePosixPath]) -> tuple[list[str], dict[str, tuple[float, ...]]]:
    """Names of the attributes, and each image's by its name without extension."""
    rows = list(_rows(src, listed, "list_attr_celeba"))
    if rows and len(rows[0][1]) == 1 and rows[0][1][0].isdecimal():
        (where, (promised,)), *rows = rows
        if int(promised) != len(rows) - 1:
            raise DataError(f"{where} promises {promised} rows, and {len(rows) - 1} follow. Download the list again.")
    if not rows:
        raise DataError(f"{src} has no list_attr_celeba.txt (or .csv). Put it beside the image folder.")
    head = rows[0][1]
    names = head[1:] if head[0] == "image_id" else head
    values = {}
    for where, row in rows[1:]:
        if len(row) != len(names) + 1 or not set(row[1:]) <= {"1", "-1", "0"}:
            raise DataError(f"{where}: the row for {row[0]} isn't {len(names)} times 1 or -1. Mend it.")
        values[PurePosixPath(row[0]).stem] = tuple(1.0 if word == "1" else 0.0 for word in row[1:])
    return names, values


def _partition(src: str, listed: Sequence[PurePosixPath]) -> dict[str, str]:
    """The split of each listed image, by its name without extension."""
    found = {}
    for where, row in _rows(src, listed, "list_eval_partition"):
        if row[0] == "image_id":
            continue
        if len(row) != 2 or row[1] not in _PARTS:
            raise DataError(f"{where}: '{' '.join(row)}' isn't a file and 0 (train), 1 (val) or 2 (test). Mend it.")
        found[PurePosixPath(row[0]).stem] = _PARTS[row[1]]
    return found


def _check_listed(src: str, paths: Sequence[PurePosixPath], listed: Mapping[str, object], name: str) -> None:
    """Each image has its row in a list, and each row its image."""
    for path in paths:
        if path.stem not in listed:
            raise DataError(f"{origin(src, path)} is not in {name}. Add its row, or remove it.")
    missing = sorted(listed.keys() - {path.stem for path in paths})
    if missing and paths:
        raise DataError(
            f"{src} lacks {len(missing)} images that {name} lists, the first being {missing[0]}. Unpack the images "
            "again, or remove their rows."
        )


def celeba(src: str) -> Source:
    """CelebA: `img_align_celeba/*.jpg`, `list_attr_celeba.txt`, `list_eval_partition.txt`. Attributes are 0 or 1.

    Images outside `img_align_celeba` (the uncropped ones) are left out where there is such a folder. Without the
    partition, all is `train`.
    """
    listed = files(src)
    names, values = _attributes(src, listed)
    parts = _partition(src, listed)
    paths = only_images(listed)
    paths = [path for path in paths if _ALIGNED in path.parts] or paths
    _check_listed(src, paths, values, "list_attr_celeba")
    if parts:
        _check_listed(src, paths, parts, "list_eval_partition")
    found = [(parts.get(path.stem, "train"), path) for path in paths]
    found.sort(key=lambda one: (one[0], stored_order(one[1], one[0])))
    samples = [
        Sample(key(PurePosixPath(path.name)), split, {"image": reader(src, path)}, values[path.stem], origin(src, path))
        for split, path in found
    ]
    return source("labelled", ("image",), samples, src, "img_align_celeba/*.jpg and list_attr_celeba.txt", names)
