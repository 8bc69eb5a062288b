"""What is translated: a packed dataset or a plain folder of images, cut into work items that depend on it alone.

A generator has no images to read, but places in a stream of codes: so many samples are inputs, too.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from i2idist import storage
from i2idist.data.generated import resolve
from i2idist.data.images import Array, decode, open_picture
from i2idist.data.inspect import open_pool
from i2idist.data.layouts import folder
from i2idist.data.manifest import Manifest, is_packed, load_manifest
from i2idist.data.pack import Sample
from i2idist.data.shards import MAX_KEY, Label
from i2idist.data.source import PoolSource
from i2idist.data.transforms import resize, resize_to_nearest
from i2idist.errors import ConfigError, DataError, SampleError, nearest
from i2idist.method import PLUS, Domain, Method
from i2idist.model import labels_of

FOLDER_ITEM = 256
"""Images of a plain folder that make one work item, and so one shard of translations."""

SAMPLES_ITEM = 1024
"""Places in the stream of codes that make one work item."""

_SAMPLES = "samples"
_HASHERS = 8
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_MAX_NAME = 64  # as of datasets that are packed
_CODE_DIGITS = 8  # room in a key for the number of a code


@dataclass(frozen=True)
class File:
    """An image of a plain folder: its key, URL, and the SHA-256 of its bytes."""

    key: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Item:
    """One work item: a shard of the input, which becomes a shard of the output.

    Attributes:
        number: its place among the items.
        split: of the dataset.
        name: of the shard, `SPLIT/POOL-00000.tar`.
        start: place in the split of its first image, by which codes are keyed.
        count: its samples.
        sha256: of the input shard; of the list of files for a plain folder.
        files: a plain folder's.
    """

    number: int
    split: str
    name: str
    start: int
    count: int
    sha256: str
    files: tuple[File, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """What is translated.

    Attributes:
        url: the dataset's, which may be `generated:...`, or the folder's.
        name: the dataset's; for a folder, its last part, cut to the length of those.
        role: the dataset's; `images` for a folder; `samples` where a generator's codes take the place of images.
        digest: the dataset's; for a folder, of the names and contents of its images; of samples, of their number.
        domain: whose images are read, several joined by `+`; None for a folder and for samples.
        label_kind: as in a manifest.
        labels: likewise.
        items: the work.
        counts: samples of the whole dataset, by split and domain; of a folder, those that are translated, by split.
    """

    url: str
    name: str
    role: str
    digest: str
    domain: str | None
    label_kind: str
    labels: tuple[str, ...]
    items: tuple[Item, ...]
    counts: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Where this machine reads it: a generated dataset is made on first use, by each machine for itself."""
        return resolve(self.url)

    @property
    def are_codes(self) -> bool:
        """Whether there are no images to read, but codes to draw."""
        return self.role == _SAMPLES

    @property
    def total(self) -> int:
        """Samples to translate."""
        return sum(item.count for item in self.items)

    @property
    def splits(self) -> list[str]:
        """Splits to translate, in their order."""
        return list(dict.fromkeys(item.split for item in self.items))

    def without_items(self) -> Inputs:
        """A copy that is small however many files there are."""
        return replace(self, items=())


def find_inputs(url: str, source: Domain, *, split: str | None = None, domain: str | None = None) -> Inputs:
    """Look at a packed dataset, or a plain folder of images.

    Args:
        url: the folder, in any storage; or `generated:...`.
        source: the domain that the model translates from.
        split: take one split; None: all of them.
        domain: the dataset's domain to read; None: its only one, or the one named as the model's.

    Raises:
        ConfigError: no such split or domain, or the domain's images don't fit the model.
        DataError: there are no images, or two would have one key.
        StorageError: the storage can't be reached.
    """
    place = resolve(url)
    if is_packed(place):
        return _packed(url, load_manifest(place), source, split, domain)
    if domain is not None:
        raise ConfigError(f"{url} is a folder of images without domains, so --domain {domain} means nothing there.")
    return _folder(url, split)


def samples(num: int, labels: tuple[str, ...] = ()) -> Inputs:
    """So many places in the stream of a generator's codes.

    Args:
        num: how many.
        labels: of what is made, in the order of its numbers; empty where it has none.

    Raises:
        ConfigError: there are none.
    """
    if num < 1:
        raise ConfigError(f"num is {num}: it must be at least 1.")
    items = [
        Item(number, "train", f"train/samples-{number:05d}.tar", start, min(SAMPLES_ITEM, num - start), "")
        for number, start in enumerate(range(0, num, SAMPLES_ITEM))
    ]
    digest = hashlib.sha256(f"{num} {' '.join(labels)}".encode()).hexdigest()
    kind = "class" if labels else "none"
    return Inputs(f"{_SAMPLES}:{num}", _SAMPLES, _SAMPLES, digest, None, kind, labels, tuple(items), {"train": num})


def _packed(url: str, manifest: Manifest, source: Domain, split: str | None, domain: str | None) -> Inputs:
    chosen = domain or _domain_for(url, manifest, source)
    parts = [manifest.domain(name) for name in chosen.split(PLUS)]
    channels = sum(part.channels for part in parts)
    if channels != source.channels:
        raise ConfigError(
            f"The images of '{chosen}' in {url} have {channels} channels; the model takes "
            f"{source.channels}, of domain '{source.name}'. Choose another --domain, dataset or model."
        )
    if len(parts) > 1 and manifest.role not in ("paired", "multimodal"):
        raise ConfigError(f"{url} is {manifest.role} data, whose samples have no images of '{chosen}' together.")
    items: list[Item] = []
    for name in [split] if split is not None else list(manifest.splits):
        start = 0
        for shard in manifest.pool(name, parts[0].name).shards:
            items.append(Item(len(items), name, shard.name, start, shard.count, shard.sha256))
            start += shard.count
    return Inputs(
        url=url,
        name=manifest.name,
        role=manifest.role,
        digest=manifest.digest,
        domain=chosen,
        label_kind=manifest.label_kind,
        labels=manifest.labels,
        items=tuple(items),
        counts=manifest.counts,
    )


def _domain_for(url: str, manifest: Manifest, source: Domain) -> str:
    names = [domain.name for domain in manifest.domains]
    if len(names) == 1:
        return names[0]
    if all(name in names for name in source.name.split(PLUS)):
        return source.name
    raise ConfigError(f"{url} has the domains {names}, and none called '{source.name}' as the model's: set --domain.")


def _folder(url: str, split: str | None) -> Inputs:
    if not storage.exists(url):
        raise DataError(f"There is nothing at {url}. Check the spelling.")
    samples = list(folder(url).samples)
    known = {sample.split for sample in samples}
    if split is not None and split not in known:
        raise ConfigError(f"{url} has no split '{split}'.{nearest(split, known)}")
    samples = [sample for sample in samples if split in (None, sample.split)]
    _refuse_doubles(samples)
    with ThreadPoolExecutor(_HASHERS, "i2idist-hash") as threads:
        files = list(threads.map(_hashed, samples))
    items: list[Item] = []
    for name in dict.fromkeys(sample.split for sample in samples):
        mine = [file for sample, file in zip(samples, files, strict=True) if sample.split == name]
        for number, start in enumerate(range(0, len(mine), FOLDER_ITEM)):
            part = tuple(mine[start : start + FOLDER_ITEM])
            shard = f"{name}/samples-{number:05d}.tar"
            items.append(Item(len(items), name, shard, start, len(part), _digest(part), part))
    digest = hashlib.sha256("".join(f"{item.name} {item.sha256}\n" for item in items).encode()).hexdigest()
    return Inputs(
        url=url,
        name=url.rstrip("/").rsplit("/", 1)[-1][:_MAX_NAME],
        role="images",
        digest=digest,
        domain=None,
        label_kind="none",
        labels=(),
        items=tuple(items),
        counts=Counter(sample.split for sample in samples),
    )


def _refuse_doubles(samples: Sequence[Sample]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for sample in samples:
        other = seen.setdefault((sample.split, sample.key), sample.where)
        if other != sample.where:
            raise DataError(f"{other} and {sample.where} would both be called {sample.key!r}. Rename one.")


def _hashed(sample: Sample) -> File:
    return File(sample.key, sample.origin, hashlib.sha256(storage.read_bytes(sample.origin)).hexdigest())


def _digest(files: Iterable[File]) -> str:
    return hashlib.sha256("".join(f"{file.key} {file.sha256}\n" for file in files).encode()).hexdigest()


class InputReader:
    """Reads the images of work items; one for each worker. Its methods may be called from several threads."""

    def __init__(self, inputs: Inputs, channels: int) -> None:
        """Read `inputs` (items aren't needed) as images of `channels`."""
        self._inputs, self._channels = inputs, channels
        self._folder = ""
        self._manifest: Manifest | None = None
        self._pools: dict[str, PoolSource] = {}

    def open(self, item: Item) -> None:
        """Make an item's samples readable.

        Raises:
            DataError: its shard is missing or damaged as a whole, or the dataset is no longer the one of the job.
            StorageError: the storage can't be reached.
        """
        if self._inputs.domain is None or not item.count:
            return
        if self._manifest is None:
            self._folder = self._inputs.folder
            self._manifest = load_manifest(self._folder)
            if self._manifest.digest != self._inputs.digest:
                raise DataError(f"The dataset at {self._inputs.url} was replaced while it was translated: start again.")
        if item.split not in self._pools:
            domain = self._inputs.domain.partition(PLUS)[0]
            self._pools[item.split] = open_pool(self._folder, self._manifest, item.split, domain)
        self._pools[item.split].key(item.start)

    def close(self) -> None:
        """Let go of files and threads."""
        for pool in self._pools.values():
            pool.close()

    def key(self, item: Item, row: int) -> str:
        """The key of a sample."""
        return item.files[row].key if item.files else self._pools[item.split].key(item.start + row)

    def label(self, item: Item, row: int) -> Label:
        """The label of a sample."""
        return None if item.files else self._pools[item.split].label(item.start + row)

    def read(self, item: Item, row: int) -> Array | None:
        """The pixels of a sample, (C, H, W) uint8 or uint16; None where it has no image in one of the domains.

        Raises:
            SampleError, ShardError: it can't be read.
            DataError: a file of a plain folder changed since it was listed.
            StorageError: the storage can't be reached.
        """
        key = self.key(item, row)
        if len(key) > MAX_KEY - _CODE_DIGITS:
            raise SampleError(f"The key {key!r} leaves no room for the number of a code. Shorten the name.")
        return self._read_file(item.files[row]) if item.files else self._read_packed(item, row)

    def _read_packed(self, item: Item, row: int) -> Array | None:
        assert self._manifest is not None and self._inputs.domain is not None, "open() comes first"
        domains = [self._manifest.domain(name) for name in self._inputs.domain.split(PLUS)]
        files = self._pools[item.split].read(item.start + row, [domain.name for domain in domains])
        if not all(data for data, _ in files):
            return None
        return _together(
            [decode(data, d.channels, d.bits, where) for (data, where), d in zip(files, domains, strict=True)],
            files[0][1],
        )

    def _read_file(self, file: File) -> Array:
        data = storage.read_bytes(file.url)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise DataError(f"{file.url} changed while the folder was translated: start again.")
        return with_channels(open_picture(data, file.url), self._channels, file.url)


def _together(images: Sequence[Array], where: str) -> Array:
    """Images of several domains side by side, (C, H, W); 8 bits are widened exactly where others have 16."""
    if len({pixels.shape[1:] for pixels in images}) > 1:
        raise SampleError(f"{where} and its other images differ in size. Pack images of one size, or fuse none.")
    if len({pixels.dtype for pixels in images}) > 1:
        images = [pixels.astype(np.uint16) * 257 if pixels.dtype == np.uint8 else pixels for pixels in images]
    return np.concatenate(images)


def resized(pixels: Array, size: tuple[int, int] | None, domains: Sequence[Domain]) -> Array:
    """Pixels of `domains` side by side at `size` (height, width), None: their own; each as its domain is resized."""
    if size is None or pixels.shape[1:] == size:
        return pixels
    if all(domain.mixes for domain in domains):
        return resize(pixels, size)
    parts = np.split(pixels, np.cumsum([domain.channels for domain in domains])[:-1])
    changes = [resize if domain.mixes else resize_to_nearest for domain in domains]
    return np.concatenate([change(part, size) for change, part in zip(changes, parts, strict=True)])


class CodeReader(InputReader):
    """Stands for the images of a generator's work items: there are none, but each sample has a key and a label."""

    def __init__(self, inputs: Inputs, method: Method, target: str | None) -> None:
        """Label samples as the method makes them: as `target`, or with all labels in turn."""
        super().__init__(inputs, 0)
        self._labels = functools.partial(labels_of, method, target=target)

    def open(self, item: Item) -> None:
        """Nothing needs opening."""

    def key(self, item: Item, row: int) -> str:
        """The sample's place in the stream of codes."""
        return f"{item.start + row:08d}"

    def label(self, item: Item, row: int) -> Label:
        """The label that the sample is made with."""
        found = self._labels(torch.tensor([item.start + row]))
        return None if found is None else int(found)

    def read(self, item: Item, row: int) -> Array:
        """An image without channels: (0, 1, 1)."""
        return np.zeros((0, 1, 1), np.uint8)


def with_channels(pixels: Array, channels: int, where: str) -> Array:
    """(H, W, C) as (channels, H, W), by Pillow's conversion between grey, colour and colour with transparency."""
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    found = pixels.shape[2]
    if found != channels:
        if pixels.dtype != np.uint8 or found not in _MODES or channels not in _MODES:
            raise SampleError(
                f"{where} has {found} channels of {pixels.dtype}, the model takes {channels}. Convert the image."
            )
        image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if found == 1 else pixels))
        pixels = np.asarray(image.convert(_MODES[channels])).reshape(*pixels.shape[:2], channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
