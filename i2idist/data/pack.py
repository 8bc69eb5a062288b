"""Packing: samples from anywhere into a dataset in storage.

The manifest is written last and never over another, and no shard is written over a different one, so a dataset is
either whole or absent, however many pack to one place. A pack that was cut off continues when it is run again: shards
that are finished, unharmed and made from the same samples are kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from i2idist import storage
from i2idist.data import manifest as manifests
from i2idist.data.images import Picture, to_stored
from i2idist.data.manifest import (
    FILE_NAME,
    NAME_PATTERN,
    ROLES,
    SCHEMA_VERSION,
    ImageDomain,
    Manifest,
    Role,
    is_packed,
)
from i2idist.data.pool_writer import Files, PoolWriter, Prepared, remove_unlisted
from i2idist.data.shards import MAX_KEY, Column, Label, safe_key
from i2idist.errors import ConfigError, DataError, nearest

SHARD_BYTES = 16 * 2**20
"""Default size of a shard: storage serves it at full speed, and every stream fetches one before training starts."""


@dataclass(frozen=True)
class Sample:
    """One sample to pack.

    Attributes:
        key: its name, unique in its split and domain: words of letters, digits, `_` and `-`, joined by `/`.
        split: train, val, test or another word.
        images: by domain, a picture or a function that reads one (called by a worker, perhaps twice).
        label: a class, a vector of attributes, or none; the same kind for all samples.
        origin: where it comes from, for messages.
    """

    key: str
    split: str
    images: Mapping[str, Picture | Callable[[], Picture]]
    label: Label = None
    origin: str = ""

    @property
    def where(self) -> str:
        """How messages name it."""
        return self.origin or f"sample {self.split}/{self.key}"


def _load(sample: Sample) -> dict[str, Picture]:
    return {domain: image() if callable(image) else image for domain, image in sample.images.items()}


def _encode(sample: Sample, pictures: Mapping[str, Picture] | None = None) -> Files:
    pictures = pictures or _load(sample)
    return {domain: to_stored(image, f"{sample.where} ({domain})") for domain, image in pictures.items()}


def _content(picture: Picture) -> Iterator[bytes]:
    if isinstance(picture, bytes):
        yield picture
    elif isinstance(picture, Image.Image):
        yield f"{picture.mode} {picture.size} {picture.getexif().get(0x0112)}".encode()
        yield picture.tobytes()
    else:
        yield f"{picture.dtype} {picture.shape}".encode()
        yield np.ascontiguousarray(picture).tobytes()


def _source(sample: Sample, pictures: Mapping[str, Picture]) -> bytes:
    """A hash of what a sample is packed from."""
    digest = hashlib.blake2b(f"{sample.key}\n{sample.label}\n".encode(), digest_size=32)
    for domain, picture in sorted(pictures.items(), key=lambda item: item[0]):
        digest.update(f"\n{domain} ".encode())
        for part in _content(picture):
            digest.update(part)
    return digest.digest()


def _prepare(sample: Sample, encode: bool) -> Prepared:
    pictures = _load(sample)
    files = _encode(sample, pictures) if encode else None
    return Prepared(sample.key, sample.label, _source(sample, pictures), files, partial(_encode, sample))


class _Census:
    """Holds every sample to the role and to those before it."""

    def __init__(self, role: Role, domains: Sequence[str] | None, labels: Sequence[str]) -> None:
        self._role = role
        self._fixed = domains is not None
        self.domains = list(domains or ())
        self.label_kind = ""
        self._labels = list(labels)
        self._widest = 0
        self._keys: set[tuple[str, str, str]] = set()

    @property
    def labels(self) -> tuple[str, ...]:
        """The given names of classes or attributes, else their numbers."""
        return tuple(self._labels or (str(i) for i in range(self._widest)))

    def admit(self, sample: Sample) -> str:
        """Check a sample; returns the name of its pool."""
        if not safe_key(sample.key):
            raise DataError(
                f"{sample.where}: the key {sample.key!r} can't be used. Use letters, digits, _ and -, "
                f"joined by single slashes, at most {MAX_KEY} in all."
            )
        if not re.fullmatch(NAME_PATTERN, sample.split):
            raise DataError(f"{sample.where}: the split {sample.split!r} can't be used. Use letters, digits, _ and -.")
        self._admit_domains(sample)
        self._admit_label(sample)
        pool = next(iter(sample.images)) if self._role == "unpaired" else "samples"
        identity = (sample.split, pool, sample.key)
        if identity in self._keys:
            raise DataError(f"{sample.where}: the key {sample.key!r} occurs twice in split {sample.split}. Rename one.")
        self._keys.add(identity)
        return pool

    def _admit_domains(self, sample: Sample) -> None:
        found = list(sample.images)
        if not self._fixed and (self._role == "unpaired" or not self.domains):
            self.domains += [name for name in found if name not in self.domains]
        unknown = [name for name in found if name not in self.domains or not re.fullmatch(NAME_PATTERN, name)]
        wanted = {"paired": 2, "multimodal": len(found) or 1}.get(self._role, 1)
        if unknown or len(found) != wanted or len(self.domains) > 2 and self._role in ("paired", "unpaired"):
            raise DataError(
                f"{sample.where} has images of {found}, which {self._role} data of the domains {self.domains} "
                f"can't hold: it wants {wanted} a sample. Choose another role, or fix the sample."
            )

    def _admit_label(self, sample: Sample) -> None:
        label = sample.label
        kind = "none" if label is None else "class" if isinstance(label, int) else "attributes"
        self.label_kind = self.label_kind or kind
        if kind != self.label_kind or (self._role == "labelled" and kind == "none"):
            raise DataError(f"{sample.where} has label {label!r}; the dataset's labels are {self.label_kind}. Fix it.")
        if isinstance(label, int):
            fits = 0 <= label < (len(self._labels) or label + 1)
            self._widest = max(self._widest, label + 1)
        elif label is not None:
            self._widest = self._widest or len(self._labels) or len(label)
            fits = len(label) == self._widest
        if label is not None and not fits:
            raise DataError(
                f"{sample.where} has label {label!r}; the names are {self._labels or 'not given'}. Fix either."
            )


def _merge(name: str, columns: Sequence[Column]) -> ImageDomain:
    """One description of a domain from all its shards. Grey, colour and transparent 8-bit images are read as colour."""
    channels = sorted({c for column in columns for c in column.channels})
    bits = sorted({b for column in columns for b in column.bits})
    sizes = {column.size for column in columns if column.channels}
    mixed = len(channels) > 1
    if len(bits) > 1 or (mixed and (bits != [8] or not set(channels) <= {1, 3, 4})):
        raise DataError(
            f"Domain {name} mixes images of {channels} channels and {bits} bits. Convert them to one kind, or pack "
            "them as two domains."
        )
    complete = all(size > 0 for column in columns for size in column.sizes)
    return ImageDomain(name, 3 if mixed else channels[0], bits[0], sizes.pop() if len(sizes) == 1 else None, complete)  # type: ignore[arg-type]


def _ahead(executor: ThreadPoolExecutor, calls: Iterable[Callable[[], Prepared]], depth: int) -> Iterator[Prepared]:
    """Results of calls in order, with `depth` of them under way."""
    waiting: deque[Future[Prepared]] = deque()
    try:
        for call in calls:
            waiting.append(executor.submit(call))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class _Packing:
    """One run of `pack`."""

    def __init__(self, dest: str, census: _Census, role: Role, shard_bytes: int, scratch: Path) -> None:
        self._dest, self._census, self._role = dest, census, role
        self._shard_bytes, self._scratch = shard_bytes, scratch
        self._writers: dict[tuple[str, str], PoolWriter] = {}
        self._queued: deque[PoolWriter] = deque()
        self._taken: dict[PoolWriter, int] = {}

    def _writer(self, split: str, pool: str) -> PoolWriter:
        if (split, pool) not in self._writers:
            domains = [pool] if self._role == "unpaired" else self._census.domains
            writer = PoolWriter(self._dest, split, pool, domains, shard_bytes=self._shard_bytes, scratch=self._scratch)
            self._writers[split, pool] = writer
            self._taken[writer] = 0
        return self._writers[split, pool]

    def calls(self, samples: Iterable[Sample]) -> Iterator[Callable[[], Prepared]]:
        """Work for the threads, in order; samples that are likely stored aren't encoded."""
        for sample in samples:
            writer = self._writer(sample.split, self._census.admit(sample))
            self._queued.append(writer)
            self._taken[writer] += 1
            yield partial(_prepare, sample, encode=self._taken[writer] > writer.likely_stored)

    def take(self, prepared: Prepared) -> None:
        """Hand the next result to its pool."""
        self._queued.popleft().add(prepared)

    def finish(self, name: str) -> Manifest:
        """Close all pools and describe the dataset."""
        if not self._writers:
            raise DataError(f"There are no images to pack into {self._dest}. Check the source folder and the layout.")
        splits: dict[str, list[manifests.Pool]] = {}
        columns: dict[str, list[Column]] = {domain: [] for domain in self._census.domains}
        for (split, _), writer in self._writers.items():
            splits.setdefault(split, []).append(writer.close())
            for shard in writer.columns:
                for domain, column in shard.items():
                    columns[domain].append(column)
        self._refuse_empty(splits)
        return Manifest(
            schema_version=SCHEMA_VERSION,
            name=name,
            role=self._role,
            domains=tuple(_merge(domain, found) for domain, found in columns.items()),
            label_kind=self._census.label_kind,  # type: ignore[arg-type]
            labels=self._census.labels,
            splits={split: tuple(pools) for split, pools in splits.items()},
        ).sealed()

    def _refuse_empty(self, splits: Mapping[str, Sequence[manifests.Pool]]) -> None:
        wanted = 2 if self._role in ("paired", "unpaired") else 1
        if len(self._census.domains) < wanted:
            raise DataError(
                f"{self._role} data needs {wanted} domains; there are images of {self._census.domains} only."
            )
        for split in splits:
            for domain in self._census.domains:
                found = [w for (s, _), w in self._writers.items() if s == split]
                if not any(shard[domain].channels for w in found for shard in w.columns if domain in shard):
                    raise DataError(f"Domain {domain} is empty in split {split}. Add images, or leave the split out.")


def pack(
    samples: Iterable[Sample],
    dest: str,
    *,
    name: str,
    role: Role,
    domains: Sequence[str] | None = None,
    labels: Sequence[str] = (),
    shard_bytes: int = SHARD_BYTES,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write a dataset.

    Args:
        samples: what to pack, in the order that it is stored; the same on every call, so that a cut-off pack continues.
            Mix the order of training samples: readers shuffle in blocks.
        dest: URL of the dataset's folder.
        name: letters, digits, `_` and `-`.
        role: how images relate: `paired` samples have two, `unpaired`, `labelled` and `images` one, `multimodal` any.
        domains: their names, source first; by default in order of appearance.
        labels: names of the classes, or of the attributes; by default their numbers.
        shard_bytes: shards are closed once they have so many bytes.
        workers: threads that read and encode; by default one a core, at most 8.
        progress: called with the number of samples packed so far.

    Returns:
        The manifest, as it was written.

    Raises:
        DataError: a dataset is there already or appears meanwhile, or the samples don't make one of this role.
        SampleError: an image that can't be decoded or stored.
        StorageError: the storage refuses, or can't be reached.
    """
    if role not in ROLES:
        raise ConfigError(f"There is no role '{role}'.{nearest(role, ROLES)}")
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"The name {name!r} can't be used. Use letters, digits, _ and -, at most 64.")
    check_place(dest)
    threads = workers or min(8, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(threads) as executor:
        packing = _Packing(dest, _Census(role, domains, labels), role, shard_bytes, Path(scratch))
        for count, prepared in enumerate(_ahead(executor, packing.calls(samples), 4 * threads), 1):
            packing.take(prepared)
            if progress:
                progress(count)
        manifest = packing.finish(name)
    return _publish(manifest, dest)


def check_place(dest: str) -> None:
    """Refuse a place where a dataset is.

    Raises:
        DataError: one is there.
    """
    if is_packed(dest):
        raise DataError(f"A dataset is at {dest} already. Choose another place; datasets are never overwritten.")


def _publish(manifest: Manifest, dest: str) -> Manifest:
    """Write the manifest where none is. Of several packs one succeeds, and all that made the same dataset."""
    created = storage.create_bytes(storage.join(dest, FILE_NAME), manifests.to_json(manifest))
    standing = manifest if created else manifests.load_manifest(dest)
    remove_unlisted(dest, standing)
    if standing.digest != manifest.digest:
        raise DataError(
            f"Another process packed {dest} at the same time: its dataset, {standing.name}, stands, and this one was "
            "dropped. Choose another place for it."
        )
    return manifest
