"""Writing the shards of one pool, keeping those that an earlier, interrupted pack finished.

A shard's name ends in a hash of its content, so that packs which write to one place at once never change each other's
files; what the published manifest doesn't list is removed in the end.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from i2idist import storage
from i2idist.data.images import Format
from i2idist.data.manifest import Manifest, Pool, Shard
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

_NAME = re.compile(r"(?P<pool>[A-Za-z0-9_][A-Za-z0-9_-]*)-(?P<number>\d{5,})-[0-9a-f]{16}\.(?P<kind>tar|json)")

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


@dataclass(frozen=True)
class _Stored:
    """A finished shard in storage."""

    shard: Shard
    index: ShardIndex


def _describe(split: str, pool: str, number: int, index: ShardIndex) -> tuple[Shard, bytes]:
    """A shard's entry in the manifest, named after its content, and the bytes of its index."""
    data = to_json(index)
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"{split}/{pool}-{number:05d}-{sha256[:16]}.tar"
    return Shard(name, len(index), index.tar_bytes, index.tar_sha256, len(data), sha256), data


class PoolWriter:
    """Takes a pool's samples in order and writes `SPLIT/POOL-00000-HASH.tar` and so on."""

    def __init__(
        self, dest: str, split: str, pool: str, domains: Sequence[str], *, shard_bytes: int, scratch: Path
    ) -> None:
        """Look for finished shards of an earlier pack of `dest`."""
        self._dest, self._split, self._pool = dest, split, pool
        self._domains = tuple(domains)
        self._shard_bytes = shard_bytes
        self._options = f"{INDEX_VERSION} {shard_bytes} {split}/{pool} {' '.join(domains)}\n"
        self._scratch = scratch / f"{split}-{pool}.tar"
        self._open: ShardWriter | None = None
        self._shards: list[Shard] = []
        self.columns: list[Mapping[str, Column]] = []
        self._waiting: list[Prepared] = []
        self._finished = deque(self._find_finished())
        self.likely_stored = sum(max(one.shard.count for one in found) for found in self._finished)

    def _find_finished(self) -> Iterator[list[_Stored]]:
        """What earlier packs left whole for shard 0, 1, ..., up to the first number that nothing is left for."""
        names: dict[int, list[str]] = {}
        for name in storage.list_dir(storage.join(self._dest, self._split)):
            match = _NAME.fullmatch(name)
            if match and (match["pool"], match["kind"]) == (self._pool, "json"):
                names.setdefault(int(match["number"]), []).append(f"{self._split}/{name}")
        for number in itertools.count():
            found = [one for name in names.get(number, ()) if (one := self._read_stored(number, name))]
            if not found:
                return
            yield found

    def _read_stored(self, number: int, index_name: str) -> _Stored | None:
        """A shard that is whole; None for one of another version, or harmed, or without its tar."""
        url = storage.join(self._dest, index_name)
        try:
            index = parse_index(storage.read_bytes(url), url)
        except ShardError:
            return None
        shard, _ = _describe(self._split, self._pool, number, index)
        tar_url = storage.join(self._dest, shard.name)
        if shard.index_name != index_name or not storage.exists(tar_url):
            return None
        storage.download(tar_url, self._scratch)
        return _Stored(shard, index) if hash_file(self._scratch) == index.tar_sha256 else None

    def add(self, sample: Prepared) -> None:
        """Take the next sample."""
        if not self._finished:
            self._append(sample)
            return
        self._waiting.append(sample)
        self._settle()

    def _settle(self) -> None:
        """Keep a finished shard if the waiting samples made it; write anew from here once none can be."""
        count = len(self._waiting)
        for one in self._finished[0]:
            if one.shard.count == count and one.index.source == self._waiting_source():
                self._finished.popleft()
                self._waiting = []
                self._take(one)
                return
        if count >= max(one.shard.count for one in self._finished[0]):
            self._write_waiting()

    def _waiting_source(self) -> str:
        return source_of(self._options, [sample.source for sample in self._waiting])

    def _take(self, stored: _Stored) -> None:
        self._shards.append(stored.shard)
        self.columns.append(stored.index.columns)

    def _write_waiting(self) -> None:
        self._finished.clear()
        waiting, self._waiting = self._waiting, []
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
        shard, data = _describe(self._split, self._pool, len(self._shards), index)
        storage.upload(open_shard.path, storage.join(self._dest, shard.name))
        storage.write_bytes(storage.join(self._dest, shard.index_name), data)
        self._take(_Stored(shard, index))

    def close(self) -> Pool:
        """Finish the last shard, and list the pool."""
        self._write_waiting()
        if self._open:
            self._finish_shard(self._open)
        return Pool(self._domains, tuple(self._shards))


def remove_unlisted(dest: str, manifest: Manifest) -> None:
    """Remove shards that a published dataset doesn't list: no pack of `dest` can need them any more."""
    for split, pools in manifest.splits.items():
        shards = [shard for pool in pools for shard in pool.shards]
        listed = {name for shard in shards for name in (shard.name, shard.index_name)}
        for name in storage.list_dir(storage.join(dest, split)):
            if _NAME.fullmatch(name) and f"{split}/{name}" not in listed:
                storage.delete(storage.join(dest, split, name))
