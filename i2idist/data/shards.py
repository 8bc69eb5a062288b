"""Shards: WebDataset-compatible tar files with fixed headers, each with an index of byte ranges.

Members of a sample stand together, named `KEY.DOMAIN.EXTENSION` (`KEY.EXTENSION` in a pool of one domain), then
`KEY.cls` or `KEY.attributes.json` where it is labelled. The same samples give the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic import dataclasses as pydantic_dataclasses

from i2idist.data.manifest import Name, Pool, Shard
from i2idist.errors import ShardError

INDEX_VERSION = 1
KEY_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]*(/[A-Za-z0-9_][A-Za-z0-9_-]*)*$"
MAX_KEY = 200
_KEY = re.compile(KEY_PATTERN)
_BLOCK = 512
_END = b"\0" * (2 * _BLOCK)
_STRICT = ConfigDict(extra="forbid", strict=True)

Label = int | tuple[float, ...] | None
"""A class, a vector of attributes, or none."""


@pydantic_dataclasses.dataclass(frozen=True, config=_STRICT)
class Column:
    """One domain's files in a shard, by sample: where the bytes lie in the tar, and their CRC-32. Absent: size 0.

    `channels`, `bits` and `size` (height, width; None where they differ) say what the present ones are.
    """

    extensions: list[str]
    offsets: list[int]
    sizes: list[int]
    crc32: list[int]
    channels: list[int]
    bits: list[int]
    size: Annotated[tuple[int, int], Field(strict=False)] | None


@pydantic_dataclasses.dataclass(frozen=True, config=_STRICT)
class ShardIndex:
    """What a shard holds.

    Attributes:
        version: of this format.
        source: hash of what the shard was packed from, by which a pack that was cut off finds what is done.
        tar_bytes: size of the tar.
        tar_sha256: its SHA-256.
        keys: the samples' names.
        labels: their labels, if they have any.
        columns: their images, by domain.
    """

    version: int
    source: str
    tar_bytes: int
    tar_sha256: str
    keys: list[str]
    labels: list[int] | list[Annotated[tuple[float, ...], Field(strict=False)]] | None
    columns: dict[Name, Column]

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.keys)

    def label(self, row: int) -> Label:
        """The label of a sample."""
        return None if self.labels is None else self.labels[row]


_ADAPTER = TypeAdapter(ShardIndex)


def safe_key(key: str) -> bool:
    """Whether `key` may name a sample: words of letters, digits, `_` and `-`, joined by `/`."""
    return len(key) <= MAX_KEY and _KEY.fullmatch(key) is not None


def member_name(key: str, domain: str, extension: str, domains: Sequence[str]) -> str:
    """The name of a sample's image in the tar."""
    return f"{key}.{extension}" if len(domains) == 1 else f"{key}.{domain}.{extension}"


def _header(name: str, size: int) -> bytes:
    """Fixed owner, mode and time, so that the bytes depend on the content alone."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


class TarWriter:
    """Writes a tar file and hashes it on the way."""

    def __init__(self, path: Path) -> None:
        """Create the file at `path`."""
        self.size = 0
        self._file = path.open("wb")
        self._hash = hashlib.sha256()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def add(self, name: str, data: bytes) -> int:
        """Append a member; returns the offset of its bytes."""
        self._write(_header(name, len(data)))
        offset = self.size
        self._write(data + b"\0" * (-len(data) % _BLOCK))
        return offset

    def close(self) -> str:
        """Finish the file; returns its SHA-256."""
        self._write(_END)
        self._file.close()
        return self._hash.hexdigest()


def to_json(index: ShardIndex) -> bytes:
    """The bytes of an index file."""
    return _ADAPTER.dump_json(index) + b"\n"


def parse_index(data: bytes, url: str) -> ShardIndex:
    """Check and parse an index; `url` is for messages.

    Raises:
        ShardError: malformed, of another version, or with keys that could leave a folder.
    """
    try:
        index: ShardIndex = _ADAPTER.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ShardError(f"Index {url} is malformed at '{place}': {first['msg']}. Restore it or pack again.") from error
    if index.version != INDEX_VERSION:
        raise ShardError(f"Index {url} has version {index.version}; this i2idist reads {INDEX_VERSION}. Pack again.")
    for key in index.keys:
        if not safe_key(key):
            raise ShardError(f"Index {url} names a sample {key!r}, which could leave its folder. Don't trust it.")
    lengths = {len(part) for c in index.columns.values() for part in (c.extensions, c.offsets, c.sizes, c.crc32)}
    if lengths - {len(index)} or (index.labels is not None and len(index.labels) != len(index)):
        raise ShardError(f"Index {url} has columns of different lengths. Restore it or pack again.")
    return index


def check_index(index: ShardIndex, shard: Shard, pool: Pool, url: str) -> None:
    """Hold an index against what the manifest says of its shard.

    Raises:
        ShardError: other sample counts or domains, or byte ranges outside the shard.
    """
    if (index.tar_bytes, index.tar_sha256) != (shard.bytes, shard.sha256):
        raise ShardError(f"Index {url} belongs to another shard than the manifest's. Restore it or pack again.")
    if len(index) != shard.count or sorted(index.columns) != sorted(pool.domains):
        raise ShardError(
            f"Index {url} lists {len(index)} samples of {sorted(index.columns)}; the manifest says {shard.count} of "
            f"{sorted(pool.domains)}. Restore it or pack again."
        )
    for column in index.columns.values():
        ends = zip(column.offsets, column.sizes, strict=True)
        if any(offset < 0 or size < 0 or offset + size > shard.bytes for offset, size in ends):
            raise ShardError(f"Index {url} points outside its shard of {shard.bytes} bytes. Restore it or pack again.")


def check_bytes(data: bytes | memoryview, column: Column, row: int, where: str) -> None:
    """Hold an image's bytes against the index.

    Raises:
        ShardError: they differ.
    """
    found = zlib.crc32(data)
    if found != column.crc32[row]:
        raise ShardError(
            f"{where} is damaged: CRC-32 expected {column.crc32[row]:08x}, found {found:08x}. "
            "Restore the shard from a copy, or pack the dataset again."
        )


def members(path: Path, url: str) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each member of a tar file; `url` is for messages.

    Raises:
        ShardError: truncated, malformed, or a member that isn't a plain file inside its folder.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if not info.isfile() or info.name.startswith("/") or ".." in info.name.split("/"):
                    raise ShardError(
                        f"Shard {url} holds {info.name!r}, which is not a plain file inside its folder. Don't trust it."
                    )
                if info.offset_data + info.size > path.stat().st_size:
                    raise ShardError(f"Shard {url} ends inside member {info.name}: it is truncated. Restore it.")
                yield info.name, info.offset_data, info.size
    except (tarfile.TarError, MemoryError, OverflowError) as error:  # a header may claim any size
        raise ShardError(f"Shard {url} is not a readable tar file ({error!r}). Restore it or pack again.") from error


def hash_file(path: Path) -> str:
    """The SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def label_member(key: str, label: Label) -> tuple[str, bytes] | None:
    """Name and bytes of the member that holds a sample's label."""
    if label is None:
        return None
    if isinstance(label, int):
        return f"{key}.cls", str(label).encode()
    return f"{key}.attributes.json", json.dumps(list(label)).encode()
