"""Writing the shards of one pool, keeping those that an earlier, interrupted pack finished."""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from i2idist import storage
from i2idist.data.images import Format
from i2idist.data.manifest import Pool, Shard
from i2idist.data.shards import (
    INDEX_VERSION,
    Column,
    Label,
    ShardIndex,
    TarWriter,
    hash_file,
    label_member,
    member_name,
    parse_index,
    to_json,
)
from i2idist.errors import ShardError

Files = Mapping[str, tuple[bytes, Format]]
"""A sample's images as they are stored, by domain."""


@dataclass(frozen=True)
class Prepared:
    """A sample that workers have read, and encoded unless it is likely to be stored already."""

    key: str
    label: Label
    source: bytes
    files: Files | None
    encode: Callable[[], Files]


@dataclass
class _Column:
    extensions: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    crc32: list[int] = field(default_factory=list)
    formats: set[Format] = field(default_factory=set)

    def add(self, offset: int, data: bytes, found: Format | None) -> None:
        self.extensions.append(found.extension if found else "")
        self.offsets.append(offset)
        self.sizes.append(len(data))
        self.crc32.append(zlib.crc32(data))
        self.formats |= {found} if found else set()

    def done(self) -> Column:
        sizes = {(f.height, f.width) for f in self.formats}
        return Column(
            self.extensions,
            self.offsets,
            self.sizes,
            self.crc32,
            channels=sorted({f.channels for f in self.formats}),
            bits=sorted({f.bits for f in self.formats}),
            size=sizes.pop() if len(sizes) == 1 else None,
        )


class ShardWriter:
    """A shard being written to a scratch file."""

    def __init__(self, path: Path, domains: Sequence[str]) -> None:
        """Begin a shard at `path`, of samples with images in `domains`."""
        self.path = path
        self.tar = TarWriter(path)
        self._domains = domains
        self._columns = {domain: _Column() for domain in domains}
        self._keys: list[str] = []
        self._labels: list[Label] = []
        self._source: list[bytes] = []

    def add(self, sample: Prepared, files: Files) -> None:
        """Append a sample, whose images are `files`."""
        for domain, column in self._columns.items():
            if domain in files:
                data, found = files[domain]
                name = member_name(sample.key, domain, found.extension, self._domains)
                column.add(self.tar.add(name, data), data, found)
            else:
                column.add(0, b"", None)
        label = label_member(sample.key, sample.label)
        if label:
            self.tar.add(*label)
        self._keys.append(sample.key)
        self._labels.append(sample.label)
        self._source.append(sample.source)

    def done(self, options: str) -> ShardIndex:
        """Finish the tar; `options` says, with the samples' sources, what it was made from."""
        sha256 = self.tar.close()
        labels = None if self._labels[:1] in ([], [None]) else self._labels
        return ShardIndex(
            version=INDEX_VERSION,
            source=source_of(options, self._source),
            tar_bytes=self.tar.size,
            tar_sha256=sha256,
            keys=self._keys,
            labels=labels,  # type: ignore[arg-type]  # pack holds all labels to one kind
            columns={domain: column.done() for domain, column in self._columns.items()},
        )


def source_of(options: str, sources: Sequence[bytes]) -> str:
    """The hash that an index gives as its shard's source."""
    return hashlib.sha256(options.encode() + b"".join(sources)).hexdigest()


class PoolWriter:
    """Takes a pool's samples in order and writes `SPLIT/POOL-00000.tar` and so on."""

    def __init__(
        self, dest: str, split: str, pool: str, domains: Sequence[str], *, shard_bytes: int, scratch: Path
    ) -> None:
        """Look for finished shards of an earlier pack of `dest`."""
        self._dest, self._stem = dest, f"{split}/{pool}"
        self._domains = tuple(domains)
        self._shard_bytes = shard_bytes
        self._options = f"{INDEX_VERSION} {shard_bytes} {self._stem} {' '.join(domains)}\n"
        self._scratch = scratch / f"{split}-{pool}.tar"
        self._open: ShardWriter | None = None
        self._shards: list[Shard] = []
        self.columns: list[Mapping[str, Column]] = []
        self._waiting: list[Prepared] = []
        self._finished: deque[tuple[Shard, ShardIndex]] = deque()
        while found := self._find_finished(len(self._finished)):
            self._finished.append(found)
        self.likely_stored = sum(shard.count for shard, _ in self._finished)

    def _name(self, number: int) -> str:
        return f"{self._stem}-{number:05d}.tar"

    def _find_finished(self, number: int) -> tuple[Shard, ShardIndex] | None:
        url = storage.join(self._dest, self._name(number))
        index_url = url.removesuffix(".tar") + ".json"
        if not (storage.exists(url) and storage.exists(index_url)):
            return None
        data = storage.read_bytes(index_url)
        try:
            index = parse_index(data, index_url)
        except ShardError:
            return None  # written by another version, or harmed: it is made anew
        storage.download(url, self._scratch)
        if hash_file(self._scratch) != index.tar_sha256:
            return None
        return _shard(self._name(number), index, data), index

    def add(self, sample: Prepared) -> None:
        """Take the next sample."""
        if not self._finished:
            self._append(sample)
            return
        self._waiting.append(sample)
        if len(self._waiting) == self._finished[0][0].count:
            self._settle()

    def _settle(self) -> None:
        """Keep the next finished shard if the waiting samples made it, else write anew from here."""
        waiting, self._waiting = self._waiting, []
        shard, index = self._finished.popleft()
        if source_of(self._options, [sample.source for sample in waiting]) == index.source:
            self._shards.append(shard)
            self.columns.append(index.columns)
            return
        self._finished.clear()
        for sample in waiting:
            self._append(sample)

    def _append(self, sample: Prepared) -> None:
        self._open = self._open or ShardWriter(self._scratch, self._domains)
        self._open.add(sample, sample.files or sample.encode())
        if self._open.tar.size >= self._shard_bytes:
            self._finish_shard(self._open)
            self._open = None

    def _finish_shard(self, open_shard: ShardWriter) -> None:
        """Store the tar, then its index: a shard without an index is not finished."""
        index = open_shard.done(self._options)
        name, data = self._name(len(self._shards)), to_json(index)
        shard = _shard(name, index, data)
        storage.delete(storage.join(self._dest, shard.index_name))
        storage.upload(open_shard.path, storage.join(self._dest, name))
        storage.write_bytes(storage.join(self._dest, shard.index_name), data)
        self._shards.append(shard)
        self.columns.append(index.columns)

    def close(self) -> Pool:
        """Finish the last shard, remove those of an earlier pack that no sample filled, and list the pool."""
        self._finished.clear()
        for sample in self._waiting:
            self._append(sample)
        if self._open:
            self._finish_shard(self._open)
        number = len(self._shards)
        while storage.exists(storage.join(self._dest, self._name(number))):
            storage.delete(storage.join(self._dest, self._name(number)))
            storage.delete(storage.join(self._dest, self._name(number).removesuffix(".tar") + ".json"))
            number += 1
        return Pool(self._domains, tuple(self._shards))


def _shard(name: str, index: ShardIndex, data: bytes) -> Shard:
    return Shard(name, len(index), index.tar_bytes, index.tar_sha256, len(data), hashlib.sha256(data).hexdigest())
