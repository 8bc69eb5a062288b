"""The order in which training draws samples: a pure function of the seed and the position.

Positions 0, 1, 2, ... count the samples that all workers together draw; batch n holds the B positions from n * B on.
Epoch e of a pool of N samples is the N positions from e * N on: each sample exactly once, and the rest of a batch runs
on into the next epoch. Nothing depends on the number of workers, and any position is reached at once.

Every place in a batch belongs to a *stream*. A stream owns one range of the pool, in the order of storage, so that a
worker that takes a run of places reads one part of the shards; ranges move by less than a batch from epoch to epoch, so
that they always make up the pool. Within its range a stream takes shards in random order, pieces of a shard in random
order, and shuffles the result in blocks (as mosaicml-streaming's py1br does): a block mixes up to nine pieces, and few
shards are open at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from i2idist.errors import ConfigError
from i2idist.randomness import key_of, permutation

Indices = NDArray[np.int64]
PIECES_PER_BLOCK = 8


class Order:
    """Maps positions to samples of one pool."""

    def __init__(
        self, counts: Sequence[int], *, batch_size: int, streams: int, block: int, seed: int, pool: str
    ) -> None:
        """Describe the pool.

        Args:
            counts: samples in each shard.
            batch_size: the global batch.
            streams: how many streams to read; their greatest common divisor with `batch_size` is used.
            block: samples that are shuffled together.
            seed: the run's seed.
            pool: a word that tells this pool's draws from another's.

        Raises:
            ConfigError: a number that isn't positive.
        """
        for name, value in (("batch_size", batch_size), ("canonical_streams", streams), ("shuffle_block", block)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")
        self.starts: Indices = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.length = int(self.starts[-1])
        self.streams = math.gcd(streams, batch_size)
        self._batch, self._block_size = batch_size, block
        self._width = batch_size // self.streams
        self._key = (seed, "order", pool)
        # Pools are turned against each other, so that places don't tie the same parts of two pools together.
        self._turn = key_of(*self._key, "turn") % self.streams
        self._bounds = lru_cache(maxsize=8)(self._make_bounds)
        self._pieces = lru_cache(maxsize=4 * self.streams)(self._make_pieces)
        self._block = lru_cache(maxsize=4 * self.streams)(self._make_block)

    def samples(self, positions: Sequence[int] | Indices) -> Indices:
        """The samples at `positions`, (n,) int64 -> (n,) int64 in [0, length)."""
        places = np.asarray(positions, dtype=np.int64)
        epochs, streams = places // self.length, places % self._batch // self._width
        places = self._before(places, streams) - self._before(epochs * self.length, streams)
        numbers, rows = np.divmod(places, self._block_size)
        found = zip(epochs.tolist(), streams.tolist(), numbers.tolist(), rows.tolist(), strict=True)
        return np.array([self._block(epoch, stream, number)[row] for epoch, stream, number, row in found], np.int64)

    def _before(self, positions: Indices | int, streams: Indices) -> Indices:
        """How many positions before each of `positions` belong to each of `streams`."""
        batches, rest = np.divmod(positions, self._batch)
        before: Indices = batches * self._width + np.clip(rest - streams * self._width, 0, self._width)
        return before

    def _make_bounds(self, epoch: int) -> Indices:
        """(streams + 1,) where the ranges of an epoch begin and end, in the order of storage."""
        streams = (np.arange(self.streams) - self._turn) % self.streams
        first, last = epoch * self.length, (epoch + 1) * self.length
        lengths = self._before(last, streams) - self._before(first, streams)
        return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def _make_pieces(self, epoch: int, stream: int) -> tuple[Indices, Indices]:
        """A stream's pieces in the order they are read: their first samples, and the (pieces + 1,) begins."""
        slot = (stream + self._turn) % self.streams
        low, high = (int(bound) for bound in self._bounds(epoch)[slot : slot + 2])
        cuts, shards = self._cut(low, high)
        lengths = np.diff(np.append(cuts, high))
        key = (*self._key, epoch, stream)
        shard_ranks = permutation(key_of(*key, "shards"), int(shards[-1] - shards[0]) + 1).numpy()
        piece_ranks = permutation(key_of(*key, "pieces"), len(cuts)).numpy()
        order = np.lexsort((piece_ranks, shard_ranks[shards - shards[0]]))
        return cuts[order], np.concatenate([[0], np.cumsum(lengths[order], dtype=np.int64)])

    def _cut(self, low: int, high: int) -> tuple[Indices, Indices]:
        """Where the pieces of the range [low, high) begin, and their shards. Pieces are cut from a shard's start on."""
        piece = max(1, self._block_size // PIECES_PER_BLOCK)
        first, last = np.searchsorted(self.starts, [low, high - 1], side="right") - 1
        cuts, shards = [], []
        for shard in range(int(first), int(last) + 1):
            start, stop = int(self.starts[shard]), min(int(self.starts[shard + 1]), high)
            skipped = max(0, low - start) // piece
            found = np.maximum(np.arange(start + skipped * piece, stop, piece, dtype=np.int64), low)
            cuts.append(found)
            shards.append(np.full(len(found), shard, dtype=np.int64))
        return np.concatenate(cuts), np.concatenate(shards)

    def _make_block(self, epoch: int, stream: int, number: int) -> Indices:
        """The samples of a block, shuffled."""
        cuts, begins = self._pieces(epoch, stream)
        places = np.arange(number * self._block_size, min((number + 1) * self._block_size, int(begins[-1])))
        piece = np.searchsorted(begins, places, side="right") - 1
        samples = cuts[piece] + places - begins[piece]
        key = key_of(*self._key, epoch, stream, "block", number)
        shuffled: Indices = samples[permutation(key, len(samples)).numpy()]
        return shuffled
