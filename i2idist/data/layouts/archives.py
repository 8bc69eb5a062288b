"""Published files that hold many images each: finding them, and unpacking them within limits."""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from typing import IO

from i2idist import storage
from i2idist.data.layouts.source import files, origin
from i2idist.errors import DataError

MAX_BYTES = 2 << 30
"""Files that hold more, packed or unpacked, are refused; the largest published, SVHN's extra_32x32.mat, has 1.6 GB."""

_OPENERS: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open}  # type: ignore[dict-item]


def find(src: str, names: Sequence[str], what: str, *, optional: Sequence[str] = ()) -> dict[str, str]:
    """URLs of files by name, wherever they lie below `src`, also as NAME.gz; those unpacked are preferred.

    Some mirrors write `train-images.idx3-ubyte` for `train-images-idx3-ubyte`.

    Args:
        src: a path or URL.
        names: of the files.
        what: how messages call the dataset.
        optional: further names, which may be absent.

    Raises:
        DataError: one is absent, or there are two of it.
    """
    listed = [(path.name.replace(".idx", "-idx"), path) for path in files(src)]
    found = {}
    for name in (*names, *optional):
        unpacked_ones = [path for called, path in listed if called == name]
        paths = unpacked_ones or [path for called, path in listed if called == f"{name}.gz"]
        if len(paths) > 1:
            places = ", ".join(origin(src, path) for path in paths)
            raise DataError(f"{name} is there {len(paths)} times: {places}. Give a folder that holds one.")
        if paths:
            found[name] = origin(src, paths[0])
        elif name not in optional:
            raise DataError(f"{src} has no {name}, which {what} needs. Download it again, or check the folder.")
    return found


def unpacked(url: str) -> bytes:
    """The bytes of a file, unpacked if it ends in .gz or .bz2.

    Raises:
        DataError: it is damaged or cut off, or holds more than `MAX_BYTES`.
        StorageError: it can't be read.
    """
    if storage.size(url) > MAX_BYTES:
        raise _too_large(url)
    data = storage.read_bytes(url)
    opener = next((opener for ending, opener in _OPENERS.items() if url.endswith(ending)), None)
    if opener is not None:
        try:
            with opener(io.BytesIO(data)) as file:
                data = file.read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise damaged(url, str(error)) from error
    if len(data) > MAX_BYTES:
        raise _too_large(url)
    return data


def _too_large(url: str) -> DataError:
    return DataError(f"{url} holds more than {MAX_BYTES} bytes. It isn't the published file: replace it.")


def damaged(url: str, why: str) -> DataError:
    """The error for a file that isn't what was published."""
    return DataError(f"{url} is damaged, or isn't the published file: {why}. Download it again.")
