"""Batches for training and validation, the same on any number of workers and from any position.

A worker reads its own part of each global batch: positions, order, augmentation and replacements are all functions of
the seed and the position, so nothing but time depends on who reads.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from i2idist import storage
from i2idist.data.batches import Batch, Labelled, Multimodal, Paired, SourceLabelled, Unpaired, share
from i2idist.data.cache import ShardCache, default_folder
from i2idist.data.images import Array
from i2idist.data.manifest import Manifest, load_manifest
from i2idist.data.order import Indices, Order
from i2idist.data.pool_reader import BadSamples, Found, PoolReader
from i2idist.data.settings import DataSettings, as_size, choose_domains
from i2idist.data.source import PoolSource
from i2idist.data.transforms import random_crop, random_flip, to_unit
from i2idist.errors import ConfigError
from i2idist.method import Domains
from i2idist.randomness import key_of, sample_keys

__all__ = ["DataSettings", "Reader"]

LOOK_AHEAD = 64
"""Batches ahead of which remote shards are fetched."""


class _Stream:
    """Domains that are drawn together from one pool, and the batch's fields that they fill."""

    def __init__(self, reader: PoolReader, order: Order | None, fields: tuple[str, ...], sizes: list[tuple[int, int]]):
        self.reader, self.order, self.fields, self.sizes = reader, order, fields, sizes
        self.length = reader.source.length
        self.key = "".join(fields)

    def samples(self, positions: Indices) -> Indices:
        return self.order.samples(positions) if self.order else positions % self.length


class Reader:
    """Reads a dataset as batches of one kind."""

    def __init__(
        self,
        settings: DataSettings,
        *,
        role: type[Batch],
        batch_size: int,
        group_size: int,
        rank: int,
        world_size: int,
        seed: int,
        split: str | None = None,
        shuffle: bool = True,
    ) -> None:
        """Open the dataset.

        Args:
            settings: which images, and how to read them.
            role: the kind of batch: Paired, Unpaired, SourceLabelled, Multimodal, Images or Labelled.
            batch_size: samples of the global batch.
            group_size: samples of a batch that stay on one worker.
            rank: this worker, 0-based.
            world_size: the number of workers.
            seed: the run's seed.
            split: another split than the settings'.
            shuffle: draw in random order; else in the order of storage, again and again.

        Raises:
            ConfigError: settings, role or batch size don't fit the dataset or each other.
            DataError: no dataset, or a damaged one.
            StorageError: the storage can't be reached.
        """
        self._settings, self._role, self._seed = settings, role, seed
        self._batch_size, self._group_size = batch_size, group_size
        self._rank, self._world_size = rank, world_size
        self._places = share(batch_size, group_size, rank, world_size)
        self._manifest = load_manifest(settings.url)
        self._split = split or settings.split
        self._names = choose_domains(self._manifest, role, settings)
        self.domains: Domains = self._manifest.domains_for(
            as_size(settings.size), self._names, settings.label_maps, settings.nearest
        )
        self._sizes = [(domain.height, domain.width) for domain in self.domains.images]
        if role is Multimodal and len(set(self._sizes)) > 1:
            raise ConfigError(f"Modalities of the sizes {self._sizes} don't fit each other: set data.size.")
        self._cache = self._open_cache()
        self._streams = self._open_streams(self._load_sizes(), shuffle)
        self.domains = dataclasses.replace(self.domains, count=self.length)
        self._plain: list[_Stream] | None = None if settings.load_size else self._streams
        self._decoders = ThreadPoolExecutor(settings.workers, "i2idist-decode") if settings.workers else None
        self._builder = ThreadPoolExecutor(1, "i2idist-batch") if settings.workers else None
        self._pin = settings.pin_memory and torch.cuda.is_available()

    @property
    def digest(self) -> str:
        """The dataset's digest."""
        return self._manifest.digest

    @property
    def manifest(self) -> Manifest:
        """The dataset's manifest."""
        return self._manifest

    @property
    def url(self) -> str:
        """Where the dataset is."""
        return self._settings.url

    @property
    def length(self) -> int:
        """Samples of the split; of the larger pool where there are two."""
        return max(stream.length for stream in self._streams)

    @property
    def bad(self) -> int:
        """How often this worker skipped a sample so far."""
        return sum(stream.reader.skipped for stream in self._all_streams())

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """This worker's part of global batches `start`, `start` + 1, ..., without end.

        Raises:
            SampleError, ShardError, DataError: data that can't be read.
            StorageError: the storage can't be reached.
        """
        return self._made(self._training_batch, itertools.count(start))

    def epoch(self) -> Iterator[Batch]:
        """Every sample once, in the order of storage, not augmented; the last batch may be short.

        A worker gets its share of each batch, and no batch where that is empty. The smaller of two pools starts again.
        Skipped samples are left out.

        Raises:
            SampleError, ShardError, DataError: data that can't be read.
            StorageError: the storage can't be reached.
        """
        self._plain = self._plain or self._open_streams(self._sizes, shuffle=False)
        numbers = range(-(-self.length // self._batch_size))
        return (batch for batch in self._made(self._validation_batch, numbers) if len(batch))

    def keys(self, batch: Batch) -> list[str]:
        """The names of the samples of a batch that `epoch` gave, in the first domain."""
        source = self._streams[0].reader.source
        return [source.key(int(position) % self._streams[0].length) for position in batch.positions]

    def close(self) -> None:
        """Let go of threads and files."""
        for threads in (self._builder, self._decoders):
            if threads:
                threads.shutdown(wait=True, cancel_futures=True)
        for stream in self._all_streams():
            stream.reader.source.close()

    def _all_streams(self) -> list[_Stream]:
        return list({id(stream): stream for stream in [*self._streams, *(self._plain or ())]}.values())

    def _load_sizes(self) -> list[tuple[int, int]]:
        """The sizes that images have before they are cropped."""
        load = as_size(self._settings.load_size)
        if load is None:
            return self._sizes
        for size in self._sizes:
            if load[0] < size[0] or load[1] < size[1]:
                raise ConfigError(f"data.load_size is {load}, smaller than the size {size} that is cropped from it.")
        if self._role is Paired and len(set(self._sizes)) > 1:
            raise ConfigError(f"Pairs of the sizes {self._sizes} can't be cropped alike: set data.size.")
        return [load] * len(self._sizes)

    def _open_cache(self) -> ShardCache | None:
        if storage.is_local(self._settings.url):
            return None
        folder = Path(self._settings.cache_dir).expanduser() if self._settings.cache_dir else default_folder()
        return ShardCache(folder, self._settings.cache_bytes)

    def _open_streams(self, sizes: list[tuple[int, int]], shuffle: bool) -> list[_Stream]:
        if self._role is Paired:
            return [self._open_stream(("a", "b"), [0, 1], sizes, shuffle)]
        if self._role is Multimodal:
            return [self._open_stream(self._names, list(range(len(self._names))), sizes, shuffle)]
        if issubclass(self._role, Unpaired):
            return [self._open_stream(("a",), [0], sizes, shuffle), self._open_stream(("b",), [1], sizes, shuffle)]
        return [self._open_stream(("x",), [0], sizes, shuffle)]

    def _open_stream(
        self, fields: tuple[str, ...], columns: list[int], sizes: list[tuple[int, int]], shuffle: bool
    ) -> _Stream:
        settings, key = self._settings, "".join(fields)
        domains = [self._manifest.domain(self._names[column]) for column in columns]
        having = [] if self._role is Multimodal else [domain.name for domain in domains]
        source = PoolSource(settings.url, self._manifest, self._split, domains[0].name, self._cache, having=having)
        bad = BadSamples(settings.on_bad_sample == "skip", settings.max_bad_fraction, self._seed, key)
        sized = [sizes[column] for column in columns]
        to_nearest = {*settings.label_maps, *settings.nearest}
        reader = PoolReader(source, domains, sized, bad, settings.memory_bytes, to_nearest)
        order = Order(
            source.counts,
            batch_size=self._batch_size,
            streams=settings.canonical_streams,
            block=settings.shuffle_block,
            seed=self._seed,
            pool=key,
        )
        return _Stream(reader, order if shuffle else None, fields, [self._sizes[column] for column in columns])

    def _made(self, make: Callable[[int], Batch], numbers: Iterable[int]) -> Iterator[Batch]:
        """`make` of each number, some batches ahead if there are workers."""
        if self._builder is None:
            yield from map(make, numbers)
            return
        waiting: deque[Future[Batch]] = deque()
        try:
            for number in numbers:
                waiting.append(self._builder.submit(make, number))
                if len(waiting) > self._settings.prefetch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _training_batch(self, number: int) -> Batch:
        positions = number * self._batch_size + np.array(self._places, dtype=np.int64)
        fields: dict[str, Any] = {}
        for stream in self._streams:
            samples = stream.samples(positions)
            self._look_ahead(stream, positions, samples)
            found = stream.reader.read(samples, positions, self._decoders)
            fields |= self._fields(stream, found, partial(self._augment, stream, positions))
        return self._batch(positions, fields)

    def _look_ahead(self, stream: _Stream, positions: Indices, samples: Indices) -> None:
        """Fetch remote shards side by side, and before their samples are due."""
        if self._cache and not stream.reader.source.all_open:
            stream.reader.source.prefetch(samples)
            stream.reader.source.prefetch(stream.samples(positions + LOOK_AHEAD * self._batch_size))

    def _augment(self, stream: _Stream, positions: Indices, images: Array) -> Array:
        """Crop and flip, the same for all domains of the stream."""
        places = torch.from_numpy(positions)
        cropped = random_crop(images, stream.sizes[0], sample_keys(key_of(self._seed, "crop", stream.key), places))
        if not self._settings.flip:
            return cropped
        return random_flip(cropped, sample_keys(key_of(self._seed, "flip", stream.key), places))

    def _validation_batch(self, number: int) -> Batch:
        first = number * self._batch_size
        count = min(self._batch_size, self.length - first)
        groups = -(-count // self._group_size)
        low, high = (rank * groups // self._world_size * self._group_size for rank in (self._rank, self._rank + 1))
        positions = np.arange(first + low, first + min(high, count), dtype=np.int64)
        streams = self._plain or ()
        found = [stream.reader.read_present(positions % stream.length, self._decoders) for stream in streams]
        present = [row for row, parts in enumerate(zip(*found, strict=True)) if all(parts)]
        fields: dict[str, Any] = {}
        for stream, read in zip(streams, found, strict=True):
            fields |= self._fields(stream, [read[row] for row in present], lambda images: images)
        return self._batch(positions[present], fields)

    def _fields(
        self, stream: _Stream, found: Sequence[Found | None], change: Callable[[Array], Array]
    ) -> dict[str, Any]:
        samples, images = stream.reader.collect(found)
        if self._role is Multimodal:
            present = stream.reader.present(samples)
            units = [
                to_unit(change(pixels)) * mask[:, None, None, None]
                for pixels, mask in zip(images, present.T, strict=True)
            ]
            return {"images": tuple(units), "present": present}
        fields = {field: to_unit(change(pixels)) for field, pixels in zip(stream.fields, images, strict=True)}
        labelled = self._role is Labelled or (self._role is SourceLabelled and "a" in stream.fields)
        return fields | ({"y": stream.reader.labels(samples)} if labelled else {})

    def _batch(self, positions: Indices, fields: Mapping[str, Any]) -> Batch:
        make: Callable[..., Batch] = self._role
        batch = make(positions=torch.from_numpy(positions), **fields)
        return batch.pin_memory() if self._pin else batch
