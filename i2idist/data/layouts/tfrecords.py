"""TensorFlow's record files of images, without TensorFlow.

A file is records of: length (8 bytes, little-endian), its checksum (4), the data, its checksum (4). The data is a
`tf.train.Example` in the wire format of protocol buffers; only the nesting that holds bytes is understood. Checksums
aren't looked at: pictures are decoded when they are packed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from i2idist import storage
from i2idist.data.layouts.archives import damaged
from i2idist.data.layouts.wire import Span, fields

_NAME, _IMAGE = b"image/file_name", b"image/encoded_image"
_HEAD, _TAIL = 12, 4


@dataclass(frozen=True)
class Record:
    """An image in a record file.

    Attributes:
        number: of the record in its file.
        name: the image's file name, without folders; empty where there is none.
        read: reads its encoded bytes.
    """

    number: int
    name: str
    read: Callable[[], bytes]


def records(url: str) -> Iterator[Record]:
    """The images of a record file, in order. The file is read once here, and each image's part when it is packed.

    Raises:
        DataError: it is damaged or cut off, or a record holds no image.
        StorageError: it can't be read.
    """
    data = storage.read_bytes(url)
    try:
        for number, span in enumerate(_records(data)):
            found = _features(data, span)
            if _IMAGE not in found:
                raise ValueError(f"record {number} has no {_IMAGE.decode()}")
            name = data[slice(*found[_NAME])].decode(errors="replace") if _NAME in found else ""
            yield Record(number, name.rsplit("/", 1)[-1], partial(storage.read_bytes, url, *found[_IMAGE]))
    except ValueError as error:
        raise damaged(url, str(error)) from error


def _records(data: bytes) -> Iterator[Span]:
    at = 0
    while at < len(data):
        if len(data) - at < _HEAD:
            raise ValueError(f"it is cut off in the record at byte {at}")
        (length,) = struct.unpack_from("<Q", data, at)
        start = at + _HEAD
        at = start + length + _TAIL
        if at > len(data):
            raise ValueError(f"it is cut off in the record at byte {start - _HEAD}")
        yield start, start + length


def _features(data: bytes, example: Span) -> dict[bytes, Span]:
    """Where the bytes of an example's features lie: Example.features.feature[name].bytes_list.value[0]."""
    found: dict[bytes, Span] = {}
    for features in _parts(data, example, 1):
        for entry in _parts(data, features, 1):
            for name, feature in zip(_parts(data, entry, 1), _parts(data, entry, 2), strict=False):
                values = [value for kind in _parts(data, feature, 1) for value in _parts(data, kind, 1)]
                found |= {data[slice(*name)]: value for value in values[:1]}
    return found


def _parts(data: bytes, message: Span, number: int) -> Iterator[Span]:
    """The fields of a message that have a number."""
    for found, value in fields(data, message):
        if isinstance(value, int):
            raise ValueError(f"a message at byte {message[0]} isn't of an example of images")
        if found == number:
            yield value
