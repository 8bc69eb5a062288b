"""Random access to a pool's encoded images, each checked against its CRC-32 as it is read."""

from __future__ import annotations

import hashlib
import mmap
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from i2idist import storage
from i2idist.data.cache import ShardCache
from i2idist.data.manifest import Manifest, Pool, Shard
from i2idist.data.order import Indices
from i2idist.data.shards import Label, ShardIndex, check_bytes, check_index, parse_index
from i2idist.errors import DataError, ShardError, StorageError

FETCHES = 8
"""Shards fetched at once."""

MAX_OPEN = 128
"""Shards that stay mapped, with their indexes in memory."""

PATIENCE_S = 300.0
"""How long a store that goes away in the midst of reading is waited for."""


@dataclass(frozen=True)
class _OpenShard:
    url: str
    shard: Shard
    index: ShardIndex
    data: mmap.mmap

    def read(self, row: int, domain: str) -> bytes:
        column = self.index.columns[domain]
        start = column.offsets[row]
        data = self.data[start : start + column.sizes[row]]
        check_bytes(data, column, row, self.where(row, domain))
        return data

    def where(self, row: int, domain: str) -> str:
        return f"Shard {self.url}, sample {self.index.keys[row]} ({domain})"


def read_index(url: str, shard: Shard, pool: Pool) -> ShardIndex:
    """Read the index of a shard of the dataset at `url`, held against the manifest.

    Raises:
        ShardError: missing, changed or malformed.
        StorageError: the storage can't be reached.
    """
    where = storage.join(url, shard.index_name)
    try:
        data = storage.read_bytes(where)
    except StorageError:
        if storage.exists(where):
            raise
        raise ShardError(f"Index {where} is missing. Restore it from a copy, or pack the dataset again.") from None
    found = hashlib.sha256(data).hexdigest()
    if found != shard.index_sha256:
        raise ShardError(
            f"Index {where} is damaged: SHA-256 expected {shard.index_sha256}, found {found}. "
            "Restore it from a copy, or pack the dataset again."
        )
    index = parse_index(data, where)
    check_index(index, shard, pool, where)
    return index


class PoolSource:
    """Reads samples of one pool by their number in storage order. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        manifest: Manifest,
        split: str,
        domain: str,
        cache: ShardCache | None,
        *,
        having: Sequence[str] = (),
    ) -> None:
        """Read the pool of `split` that holds `domain`, of the dataset at `url`.

        Shards go through `cache`; without one the dataset is local and they are read in place. Samples that lack an
        image in one of the domains `having` are left out, and not counted.

        Raises:
            DataError: no sample has images in all of them, or an index is damaged.
            StorageError: the storage can't be reached.
        """
        self.pool = manifest.pool(split, domain)
        self._url, self._cache = url, cache
        self._rows = None if all(manifest.domain(name).complete for name in having) else self._rows_having(having)
        self._shards = [n for n in range(len(self.pool.shards)) if self._rows is None or len(self._rows[n])]
        self.counts = [self.pool.shards[n].count if self._rows is None else len(self._rows[n]) for n in self._shards]
        self.length = sum(self.counts)
        if not self.length:
            raise DataError(f"No sample of split {split} of {url} has {' and '.join(having)}. Choose other domains.")
        self._starts: Indices = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._guard = threading.Lock()
        self._opening = [threading.Lock() for _ in self.counts]
        self._fetchers = ThreadPoolExecutor(FETCHES, thread_name_prefix="i2idist-fetch")

    def close(self) -> None:
        """Let go of files and threads."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        self._open.clear()

    def shards_of(self, samples: Indices) -> list[int]:
        """The shards that hold `samples`, each once."""
        return [int(n) for n in np.unique(np.searchsorted(self._starts, samples, side="right") - 1)]

    @property
    def all_open(self) -> bool:
        """Whether every shard is at hand."""
        return len(self._open) == len(self.counts)

    def prefetch(self, samples: Indices) -> None:
        """Begin to fetch the shards of `samples`, several at once; problems show when they are read."""
        for number in self.shards_of(samples):
            if number not in self._open:
                self._fetchers.submit(self._shard, number)

    def _rows_having(self, domains: Sequence[str]) -> list[Indices]:
        """The rows of each shard that have images in all `domains`."""
        indexes = (read_index(self._url, shard, self.pool) for shard in self.pool.shards)
        return [np.flatnonzero(np.all([index.columns[d].sizes for d in domains], axis=0)) for index in indexes]

    def _row(self, sample: int) -> tuple[int, int]:
        """The shard of a sample, a place in `counts`, and its row there."""
        number = int(np.searchsorted(self._starts, sample, side="right")) - 1
        row = sample - int(self._starts[number])
        return number, row if self._rows is None else int(self._rows[self._shards[number]][row])

    def _place(self, sample: int) -> tuple[_OpenShard, int]:
        number, row = self._row(sample)
        return self._shard(number), row

    def read(self, sample: int, domains: Sequence[str]) -> list[tuple[bytes, str]]:
        """A sample's encoded images in `domains`, each with the words that name it in messages.

        Raises:
            ShardError: the shard is missing, truncated or damaged.
            StorageError: the storage can't be reached.
        """
        shard, row = self._place(sample)
        try:
            return [(shard.read(row, domain), shard.where(row, domain)) for domain in domains]
        except ShardError:
            if self._cache is None:
                raise
            self._forget(self._cache, shard)
        shard, row = self._place(sample)
        return [(shard.read(row, domain), shard.where(row, domain)) for domain in domains]

    def _forget(self, cache: ShardCache, shard: _OpenShard) -> None:
        """Drop a file that may have gone bad on this machine's disk, so that it is fetched anew."""
        with self._guard:
            cache.discard(shard.shard.sha256)
            self._open = OrderedDict((n, other) for n, other in self._open.items() if other is not shard)

    def place(self, sample: int) -> str:
        """Where a sample lies, in words, without reading anything."""
        number, row = self._row(sample)
        return f"sample number {row} of shard {storage.join(self._url, self.pool.shards[self._shards[number]].name)}"

    def label(self, sample: int) -> Label:
        """A sample's label."""
        shard, row = self._place(sample)
        return shard.index.label(row)

    def present(self, sample: int, domains: Sequence[str]) -> list[bool]:
        """Whether a sample has an image, for each of `domains`."""
        shard, row = self._place(sample)
        return [shard.index.columns[domain].sizes[row] > 0 for domain in domains]

    def key(self, sample: int) -> str:
        """A sample's key."""
        shard, row = self._place(sample)
        return shard.index.keys[row]

    def _shard(self, number: int) -> _OpenShard:
        with self._guard:
            found = self._open.get(number)
            if found:
                self._open.move_to_end(number)
                return found
        with self._opening[number]:
            with self._guard:
                found = self._open.get(number)
            with storage.patience(PATIENCE_S):
                return found or self._open_shard(number)

    def _open_shard(self, number: int) -> _OpenShard:
        shard = self.pool.shards[self._shards[number]]
        url = storage.join(self._url, shard.name)
        index = read_index(self._url, shard, self.pool)
        with self._file(url, shard) as file:
            opened = _OpenShard(url, shard, index, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        with self._guard:
            self._open[number] = opened
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return opened

    def _file(self, url: str, shard: Shard) -> BinaryIO:
        if self._cache:
            return self._cache.open(url, shard.sha256, shard.bytes)
        path = storage.local_path(url)
        if not path.exists():
            raise ShardError(f"Shard {url} is missing. Restore it from a copy, or pack the dataset again.")
        found = path.stat().st_size
        if found != shard.bytes:
            raise ShardError(
                f"Shard {url} is damaged: {shard.bytes} bytes expected, {found} found. Restore it or pack again."
            )
        return path.open("rb")
