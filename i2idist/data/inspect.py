"""Looking at a dataset: numbers, and a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from i2idist import storage
from i2idist.data.cache import ShardCache, default_folder
from i2idist.data.images import Array, decode
from i2idist.data.manifest import Manifest, Pool, is_packed, load_manifest
from i2idist.data.modalities import class_colors
from i2idist.data.source import PoolSource, read_index

CACHE_BYTES = 50 * 2**30
TILE = 96
"""Pixels of a contact sheet's tiles along their longer side."""


def find_datasets(url: str) -> list[tuple[str, Manifest]]:
    """The datasets at `url` and in the folders directly under it, with their URLs.

    Raises:
        ManifestError: one that can't be read.
        StorageError: the storage can't be reached.
    """
    places = [url, *(storage.join(url, name) for name in storage.list_dir(url))]
    return [(place, load_manifest(place)) for place in places if is_packed(place)]


def open_pool(url: str, manifest: Manifest, split: str, domain: str) -> PoolSource:
    """Random access to a domain's pool in a split."""
    cache = None if storage.is_local(url) else ShardCache(default_folder(), CACHE_BYTES)
    return PoolSource(url, manifest, split, domain, cache)


def _decoded(source: PoolSource, manifest: Manifest, name: str, samples: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """The samples that have an image in the domain, with their pixels, (C, H, W)."""
    domain = manifest.domain(name)
    for sample in samples:
        data, where = source.read(sample, [name])[0]
        if data:
            yield sample, decode(data, domain.channels, domain.bits, where)


def _moments(images: Iterator[tuple[int, Array]]) -> dict[str, Any]:
    """Mean and deviation a channel in [0, 1], and the range of sizes, of (C, H, W) images; [] where there are none."""
    count, total, squares, sizes = 0, 0.0, 0.0, []
    for _, pixels in images:
        unit = pixels.reshape(len(pixels), -1) / np.iinfo(pixels.dtype).max
        count += unit.shape[1]
        total, squares = total + unit.sum(1), squares + (unit**2).sum(1)
        sizes.append(pixels.shape[1:])
    if not sizes:
        return {"images": 0, "mean": [], "std": [], "smallest": [], "largest": []}
    mean = np.asarray(total / count)
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return {
        "images": len(sizes),
        "mean": [round(float(x), 4) for x in mean],
        "std": [round(float(x), 4) for x in deviation],
        "smallest": [int(side) for side in min(sizes)],
        "largest": [int(side) for side in max(sizes)],
    }


def stats(url: str, *, limit: int = 500) -> dict[str, Any]:
    """Counts, bytes and labels of every split, and moments of up to `limit` images a domain, spread over the split.

    Raises:
        DataError: no dataset, or a damaged one.
        StorageError: the storage can't be reached.
    """
    manifest = load_manifest(url)
    splits: dict[str, Any] = {}
    for split, pools in manifest.splits.items():
        splits[split] = {}
        for pool in pools:
            for name in pool.domains:
                splits[split][name] = _domain_stats(url, manifest, split, name, limit)
    return {"name": manifest.name, "role": manifest.role, "digest": manifest.digest, "splits": splits}


def _present(url: str, pool: Pool, name: str) -> list[int]:
    """The samples that have an image in the domain, by the indexes alone."""
    sizes = [size for shard in pool.shards for size in read_index(url, shard, pool).columns[name].sizes]
    return [sample for sample, size in enumerate(sizes) if size]


def _domain_stats(url: str, manifest: Manifest, split: str, name: str, limit: int) -> dict[str, Any]:
    source = open_pool(url, manifest, split, name)
    try:
        count = source.pool.count
        present = range(count) if manifest.domain(name).complete else _present(url, source.pool, name)
        number = min(limit, len(present))
        chosen = [present[place * len(present) // number] for place in range(number)]
        found: dict[str, Any] = {"samples": count, "shards": len(source.counts)}
        found["bytes"] = sum(shard.bytes for shard in source.pool.shards)
        found["decoded"] = _moments(_decoded(source, manifest, name, chosen))
        if manifest.label_kind == "class":
            tally = Counter(source.label(sample) for sample in range(count))
            found["labels"] = {label: tally[number] for number, label in enumerate(manifest.labels)}
        return found
    finally:
        source.close()


def _tile(pixels: Array) -> Image.Image:
    """A (C, H, W) image as a picture that fits a tile: up to 3 channels, 16 bits cut to 8, stretched to their range."""
    if pixels.dtype == np.uint16:
        low, high = int(pixels.min()), int(pixels.max())
        pixels = ((pixels - low) * (255.0 / max(1, high - low))).astype(np.uint8)
    shown = pixels[:3] if len(pixels) >= 3 else pixels[:1]
    scale = TILE / max(shown.shape[1:])
    height, width = (max(1, round(side * scale)) for side in shown.shape[1:])
    picture = Image.fromarray(shown[0] if len(shown) == 1 else np.ascontiguousarray(shown.transpose(1, 2, 0)))
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
    return picture.resize((width, height), kind).convert("RGB")


def grid(url: str, *, split: str, columns: int = 12, rows: int = 4, label_maps: Collection[str] = ()) -> Image.Image:
    """A contact sheet of the first `columns` x `rows` samples, a line of tiles for each domain under each other.

    Levels of the domains `label_maps` number the dataset's labels, and are shown in colours.

    Raises:
        ConfigError: there is no such split, or no such domain.
        DataError: no dataset, or a damaged one.
        StorageError: the storage can't be reached.
    """
    manifest = load_manifest(url)
    names = [domain.name for domain in manifest.domains]
    maps = {manifest.domain(name).name for name in label_maps}
    colors = class_colors(max(2, len(manifest.labels)))
    sheet = Image.new("RGB", (columns * (TILE + 2), rows * (len(names) * TILE + 8)), "white")
    for place, name in enumerate(names):
        source = open_pool(url, manifest, split, name)
        try:
            for sample, pixels in _decoded(source, manifest, name, range(min(source.pool.count, columns * rows))):
                row, column = divmod(sample, columns)
                pixels = colors[pixels[0].clip(max=len(colors) - 1)].transpose(2, 0, 1) if name in maps else pixels
                sheet.paste(_tile(pixels), (column * (TILE + 2), row * (len(names) * TILE + 8) + place * TILE))
        finally:
            source.close()
    return sheet


def save_grid(url: str, path: Path, **which: Any) -> None:
    """Write `grid` as a PNG file at the local `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(url, **which).save(path, "PNG")
