"""Checking every byte of a dataset against its manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from i2idist import storage
from i2idist.data.cache import file_problem
from i2idist.data.images import decode
from i2idist.data.manifest import Manifest, Pool, Shard, load_manifest
from i2idist.data.shards import ShardIndex, check_bytes, label_member, member_name, members
from i2idist.data.source import read_index
from i2idist.errors import SampleError, ShardError


@dataclass(frozen=True)
class Report:
    """What `verify` saw: shards and samples looked at, bytes read, and a message for each problem."""

    shards: int
    samples: int
    bytes: int
    problems: tuple[str, ...]


def verify(url: str, *, decode_images: bool = False, progress: Callable[[int], None] | None = None) -> Report:
    """Check hashes, sizes, indexes and archive members of the dataset at `url`, and with `decode_images` every image.

    Args:
        url: the dataset's folder.
        decode_images: also decode every image.
        progress: called with the number of shards done.

    Raises:
        DataError: no dataset, or a manifest that can't be trusted.
        StorageError: the storage can't be reached.
    """
    manifest = load_manifest(url)
    work = [(pool, shard) for pools in manifest.splits.values() for pool in pools for shard in pool.shards]
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for done, (pool, shard) in enumerate(work, 1):
            problems += _shard_problems(url, manifest, pool, shard, Path(scratch) / "shard.tar", decode_images)
            if progress:
                progress(done)
    samples, size = (sum(getter) for getter in ((s.count for _, s in work), (s.bytes for _, s in work)))
    return Report(len(work), samples, size, tuple(problems))


def _shard_problems(
    url: str, manifest: Manifest, pool: Pool, shard: Shard, scratch: Path, decode_images: bool
) -> list[str]:
    where = storage.join(url, shard.name)
    try:
        index = read_index(url, shard, pool)
        if not storage.exists(where):
            raise ShardError(f"Shard {where} is missing. Restore it from a copy, or pack the dataset again.")
        path = storage.local_path(where) if storage.is_local(where) else scratch
        if path is scratch:
            storage.download(where, scratch)
        problem = file_problem(path, shard.sha256, shard.bytes)
        if problem:
            raise ShardError(f"Shard {where} is damaged: {problem}. Restore it, or pack the dataset again.")
        _check_members(path, where, index, pool)
    except ShardError as error:
        return [str(error)]
    return _image_problems(path, where, manifest, index) if decode_images else []


def _expected(index: ShardIndex, pool: Pool) -> list[tuple[str, int, int | None]]:
    """Members that the index speaks of, in the order of the tar; labels have no place in it."""
    found: list[tuple[str, int, int | None]] = []
    for row, key in enumerate(index.keys):
        for domain in pool.domains:
            column = index.columns[domain]
            if column.sizes[row]:
                name = member_name(key, domain, column.extensions[row], pool.domains)
                found.append((name, column.sizes[row], column.offsets[row]))
        label = label_member(key, index.label(row))
        if label:
            found.append((label[0], len(label[1]), None))
    return found


def _check_members(path: Path, url: str, index: ShardIndex, pool: Pool) -> None:
    found = list(members(path, url))
    expected = _expected(index, pool)
    if len(found) != len(expected):
        raise ShardError(f"Shard {url} has {len(found)} members, its index {len(expected)}. Pack the dataset again.")
    for (name, offset, size), (wanted, wanted_size, wanted_offset) in zip(found, expected, strict=True):
        if (name, size) != (wanted, wanted_size) or wanted_offset not in (None, offset):
            place = "" if wanted_offset is None else f" at byte {wanted_offset}"
            raise ShardError(f"Shard {url} has member {name} where its index has {wanted}{place}. Pack it again.")


def _image_problems(path: Path, url: str, manifest: Manifest, index: ShardIndex) -> list[str]:
    problems = []
    with path.open("rb") as file:
        for name, column in index.columns.items():
            domain = manifest.domain(name)
            for row, key in enumerate(index.keys):
                if not column.sizes[row]:
                    continue
                file.seek(column.offsets[row])
                data, where = file.read(column.sizes[row]), f"Shard {url}, sample {key} ({name})"
                try:
                    check_bytes(data, column, row, where)
                    decode(data, domain.channels, domain.bits, where)
                except (ShardError, SampleError) as error:
                    problems.append(str(error))
    return problems
