"""A local cache of whole shards, verified, shared by a machine's processes; the least recently used are dropped.

Files are named by their SHA-256, so datasets that share shards share them here too. A file appears by rename when it is
whole and its hash is right. A file that is dropped while someone reads it stays readable until they close it. On a
full disk, files are held in memory instead.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from i2idist import storage
from i2idist.data.shards import hash_file
from i2idist.errors import ShardError, StorageError

_LOG = logging.getLogger("i2idist")

ABANDONED_S = 3600.0
"""A partial download that nobody has written to for so long is from a process that died."""


def default_folder() -> Path:
    """Where shards are cached when no `cache_dir` is set: below `XDG_CACHE_HOME`, else `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "i2idist" / "shards"


class ShardCache:
    """Shards of remote datasets, on this machine's disk."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Keep at most `max_bytes` in `folder`, but always the file that was asked for last.

        Raises:
            StorageError: the folder can't be made.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"Can't cache shards in {folder}: {error}. Set data.cache_dir to another folder."
            ) from error

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self._folder / f"{name}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def open(self, url: str, sha256: str, size: int) -> BinaryIO:
        """The file at `url`, from the cache, fetched first if need be.

        Args:
            url: where it is stored.
            sha256: what its hash must be.
            size: its bytes.

        Raises:
            ShardError: absent, truncated, or its hash differs, twice in a row.
            StorageError: the storage can't be reached.
        """
        path = self._folder / f"{sha256}.file"
        file = _opened(path)
        if file is not None:
            return file
        try:
            self._folder.mkdir(parents=True, exist_ok=True)  # somebody may have cleared all caches
            with self._lock(sha256[:2]):
                return _opened(path) or self._fetch(url, path, sha256, size)
        except (OSError, StorageError) as error:
            if not _is_full(error):
                raise
            _LOG.warning("The disk of %s is full: %s is held in memory. Free some, or set data.cache_dir.", path, url)
            return _in_memory(url, sha256, size)

    def discard(self, sha256: str) -> None:
        """Forget a file that turned out damaged."""
        (self._folder / f"{sha256}.file").unlink(missing_ok=True)

    def _fetch(self, url: str, path: Path, sha256: str, size: int) -> BinaryIO:
        """Fetch and keep a file, on a full disk in place of others that are kept."""
        try:
            return self._fetch_once(url, path, sha256, size)
        except StorageError as error:
            if not _is_full(error):
                raise
        with self._lock("room"):
            self._make_room(size, self._taken())
        return self._fetch_once(url, path, sha256, size)

    def _fetch_once(self, url: str, path: Path, sha256: str, size: int) -> BinaryIO:
        """Fetch and keep a file. It is opened before others can see it, and so drop it."""
        part = path.with_name(f"{sha256}.{uuid.uuid4().hex}.part")
        try:
            self._download(url, part, sha256, size)
            file = part.open("rb")
            with self._lock("room"):
                self._make_room(size, self._max_bytes)
                os.replace(part, path)
            return file
        finally:
            part.unlink(missing_ok=True)

    def _download(self, url: str, part: Path, sha256: str, size: int) -> None:
        problem = ""
        for _ in range(2):  # what was harmed on the way comes whole the second time
            try:
                storage.download(url, part)
            except StorageError:
                if storage.exists(url):
                    raise
                raise ShardError(f"Shard {url} is missing. Restore it, or pack the dataset again.") from None
            problem = file_problem(part, sha256, size)
            if not problem:
                return
        raise ShardError(f"Shard {url} is damaged: {problem}. Restore it, or pack the dataset again.")

    def _taken(self) -> int:
        """Bytes of the files that are kept."""
        return sum(taken for _, taken, _ in self._kept())

    def _kept(self) -> list[tuple[float, int, str]]:
        """When each file that is kept was last used, its bytes and its path; the longest unused first."""
        found = []
        for entry in os.scandir(self._folder):
            try:
                stat = entry.stat()
            except FileNotFoundError:
                continue  # another process discarded it, or finished its download
            if entry.name.endswith((".part", ".tmp")) and time.time() - stat.st_mtime > ABANDONED_S:
                Path(entry.path).unlink(missing_ok=True)
            if entry.name.endswith(".file"):
                found.append((stat.st_mtime, stat.st_size, entry.path))
        return sorted(found)

    def _make_room(self, size: int, most: int) -> None:
        """Drop files until `size` bytes more are no more than `most`."""
        kept = self._kept()
        total = size + sum(taken for _, taken, _ in kept)
        for _, taken, oldest in kept:
            if total <= most:
                break
            Path(oldest).unlink(missing_ok=True)
            total -= taken


def _opened(path: Path) -> BinaryIO | None:
    """The file, marked as just used; None if it isn't there."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    os.utime(file.fileno())
    return file


def _is_full(error: BaseException) -> bool:
    """Whether it comes of a disk without room."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def _in_memory(url: str, sha256: str, size: int) -> BinaryIO:
    """A file that is on no disk."""
    data = storage.read_bytes(url)
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise ShardError(
            f"Shard {url} is damaged: {size} bytes with SHA-256 {sha256} expected, {len(data)} with {digest} found. "
            "Restore it, or pack the dataset again."
        )
    file: Any
    if sys.platform == "linux":
        file = os.fdopen(os.memfd_create("shard"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # of the system's disk; whoever reads it closes it
    file.write(data)
    file.flush()
    file.seek(0)
    opened: BinaryIO = file
    return opened


def file_problem(path: Path, sha256: str, size: int) -> str:
    """What is wrong with a local file, naming what was expected and found; "" if nothing."""
    found = path.stat().st_size
    if found != size:
        return f"{size} bytes expected, {found} found"
    digest = hash_file(path)
    return "" if digest == sha256 else f"SHA-256 expected {sha256}, found {digest}"
