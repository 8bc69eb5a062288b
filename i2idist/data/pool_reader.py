"""Decoded samples of one pool: kept in memory where they fit, bad ones replaced or refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from i2idist.data.images import Array, decode
from i2idist.data.manifest import ImageDomain
from i2idist.data.order import Indices
from i2idist.data.source import PoolSource
from i2idist.data.transforms import resize, resize_to_nearest
from i2idist.errors import DataError, SampleError, ShardError
from i2idist.randomness import key_of, sample_keys, words

ATTEMPTS = 16
"""Draws in a row that may all be bad before reading stops."""

JUDGED_FROM = 1000
"""Draws below which few bad samples say nothing of their share: a worker's share of bad draws is taken of so many."""

Found = tuple[int, list[Array]]
"""A sample that was read, and its images by domain, blank where there is none; [] where the pool is in memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BadSamples:
    """What to do with samples that can't be read: stop, or skip them while they are few.

    Attributes:
        skip: replace them by other draws.
        max_fraction: of a worker's draws from the pool, how many may be bad; see `JUDGED_FROM`.
        seed: of the replacements.
        pool: a word that tells this pool's replacements from another's.
    """

    skip: bool
    max_fraction: float
    seed: int
    pool: str


class PoolReader:
    """Reads a pool's samples as (C, H, W) uint8 or uint16, all of a domain in one size."""

    def __init__(
        self,
        source: PoolSource,
        domains: Sequence[ImageDomain],
        sizes: Sequence[tuple[int, int]],
        bad: BadSamples,
        memory_bytes: int,
        to_nearest: Collection[str] = (),
    ) -> None:
        """Read `domains` at `sizes` (height, width); keep them decoded if all of them fit in `memory_bytes`.

        Those named in `to_nearest` are resized to the nearest pixel.
        """
        self.source = source
        self._resize = [resize_to_nearest if domain.name in to_nearest else resize for domain in domains]
        self._domains, self._sizes, self._bad = tuple(domains), tuple(sizes), bad
        self._length = source.length
        self._known_bad: dict[int, Exception] = {}
        self._guard = threading.Lock()
        self._drawn = 0
        self.skipped = 0
        shapes = [(self._length, d.channels, *size) for d, size in zip(domains, sizes, strict=True)]
        types = [np.uint8 if d.bits == 8 else np.uint16 for d in domains]
        total = sum(int(np.prod(s)) * np.dtype(t).itemsize for s, t in zip(shapes, types, strict=True))
        fits = total <= memory_bytes
        self._memory = [np.empty(s, t) for s, t in zip(shapes, types, strict=True)] if fits else None
        self._filled = np.zeros(self._length, bool)

    def read(self, samples: Indices, positions: Indices, threads: ThreadPoolExecutor | None) -> list[Found | None]:
        """Read `samples` for the `positions` they were drawn for, replacing bad ones if that is wanted.

        Returns:
            For `collect`; none is None.

        Raises:
            SampleError, ShardError: one is bad, and bad samples aren't skipped.
            DataError: too many are bad.
        """
        self._drawn += len(samples)
        return _run(threads, self._read_one, zip(samples.tolist(), positions.tolist(), strict=True))

    def read_present(self, samples: Indices, threads: ThreadPoolExecutor | None) -> list[Found | None]:
        """Read `samples`; None for each bad one if those are skipped. Raises as `read`."""
        self._drawn += len(samples)
        return _run(threads, self._read_or_none, ((sample,) for sample in samples.tolist()))

    def collect(self, found: Sequence[Found | None]) -> tuple[Indices, list[Array]]:
        """The samples that were read, (n,), and for each domain their images, (n, C, H, W)."""
        read = [one for one in found if one]
        chosen = np.array([sample for sample, _ in read], dtype=np.int64)
        if self._memory:
            return chosen, [kept[chosen] for kept in self._memory]
        if not read:
            shapes = zip(self._domains, self._sizes, strict=True)
            return chosen, [np.empty((0, domain.channels, *size), np.uint8) for domain, size in shapes]
        columns = zip(*(images for _, images in read), strict=True)
        return chosen, [np.stack(column) for column in columns]

    def labels(self, samples: Indices) -> Tensor:
        """Labels of `samples`: (n,) int64 classes, or (n, A) float32 attributes."""
        found = [self.source.label(int(sample)) for sample in samples]
        attributes = bool(found) and isinstance(found[0], tuple)
        return torch.tensor(found, dtype=torch.float32 if attributes else torch.int64)

    def _read_one(self, sample: int, position: int) -> Found:
        found = self._read_or_none(sample)
        if found:
            return found
        key = sample_keys(key_of(self._bad.seed, "replacement", self._bad.pool), torch.tensor([position]))
        for word in words(key, ATTEMPTS)[0].tolist():
            found = self._read_or_none(word % self._length)
            if found:
                return found
        raise DataError(
            f"{ATTEMPTS} samples drawn in place of sample {sample} of pool {self._bad.pool} can't be read either. "
            "Run `i2idist data verify`."
        )

    def _read_or_none(self, sample: int) -> Found | None:
        """A sample's images ([] when they are in memory), or None where it is bad and those are skipped."""
        if self._memory and self._filled[sample]:
            return sample, []
        if sample in self._known_bad:
            self._note(sample, self._known_bad[sample])
            return None
        try:
            images = self._decode(sample)
        except (SampleError, ShardError) as error:
            if not self._bad.skip:
                raise
            self._note(sample, error)
            return None
        return sample, self._keep(sample, images)

    def _decode(self, sample: int) -> list[Array]:
        files = self.source.read(sample, [domain.name for domain in self._domains])
        return [
            change(decode(data, domain.channels, domain.bits, where), size)
            if data or domain.complete
            else np.zeros((domain.channels, *size), np.uint8 if domain.bits == 8 else np.uint16)
            for (data, where), domain, size, change in zip(files, self._domains, self._sizes, self._resize, strict=True)
        ]

    def present(self, samples: Indices) -> Tensor:
        """Which images there are of `samples`: (n, domains) bool."""
        names = [domain.name for domain in self._domains]
        return torch.tensor([self.source.present(int(sample), names) for sample in samples]).reshape(-1, len(names))

    def _keep(self, sample: int, images: list[Array]) -> list[Array]:
        if not self._memory:
            return images
        for kept, image in zip(self._memory, images, strict=True):
            kept[sample] = image
        self._filled[sample] = True
        return []

    def _note(self, sample: int, error: Exception) -> None:
        """Count and log a skip; stop when too many draws are bad."""
        with self._guard:
            self.skipped += 1
            skipped, drawn, again = self.skipped, self._drawn, sample in self._known_bad
            self._known_bad[sample] = error
        place = self.source.place(sample)
        _log.log(logging.INFO if again else logging.WARNING, "Skipped %s%s: %s", place, " again" * again, error)
        if skipped > self._bad.max_fraction * max(drawn, JUDGED_FROM):
            raise DataError(
                f"{skipped} of the {drawn} samples that this worker drew from pool {self._bad.pool} can't be read, "
                f"more than data.max_bad_fraction ({self._bad.max_fraction}) of {max(drawn, JUDGED_FROM)}; the last, "
                f"{place}: {error} Mend the dataset (`i2idist data verify` lists what is wrong), or allow more."
            ) from error


def _run(
    threads: ThreadPoolExecutor | None, read: Callable[..., Found | None], calls: Iterable[tuple[int, ...]]
) -> list[Found | None]:
    """`read` of each call, in order, on the threads if there are any."""
    if threads is None:
        return [read(*call) for call in calls]
    return list(threads.map(lambda call: read(*call), calls))
