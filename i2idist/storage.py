"""Reading and writing bytes anywhere: local folders, S3, Google Cloud Storage, memory.

The one module that imports fsspec. A URL is a plain path, `file://`, `s3://`, `gs://` or `memory://`. Credentials and
endpoints come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...), never from a URL. Writes become
visible whole or not at all. Whatever a backend raises leaves here as a `StorageError` that names the URL; inside
`patience`, a store that is away is asked again first.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

import fsspec

from i2idist import storage_local
from i2idist.errors import StorageError
from i2idist.storage_errors import explained, passes, s3_code

P = ParamSpec("P")
R = TypeVar("R")

_CREATE = threading.Lock()
_CONFLICTS = 5
_LONGEST_PAUSE_S = 5.0
_LOG = logging.getLogger("i2idist")
_PATIENCE_S: ContextVar[float] = ContextVar("patience", default=0.0)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Inside, and in this thread alone, a store that is away or too busy is asked again for so long.

    What it refuses, and what isn't there, is an error at once.
    """
    before = _PATIENCE_S.set(seconds)
    try:
        yield
    finally:
        _PATIENCE_S.reset(before)


def _operation(action: str, position: int = 0) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Backends' errors become a `StorageError`, which names the URL: the argument at `position`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            deadline, pause = time.monotonic() + _PATIENCE_S.get(), 0.5
            while True:
                try:
                    return function(*args, **options)
                except StorageError:
                    raise
                except Exception as error:
                    url = args[position] if len(args) > position else options["url"]
                    failure = explained(error, action, str(url))
                    if not passes(error) or time.monotonic() >= deadline:
                        raise failure from error
                    _LOG.warning("%s Trying again.", failure)
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)

        return call

    return decorate


def is_local(url: str) -> bool:
    """Whether `url` is a plain path or a `file://` URL."""
    return "://" not in url or url.startswith("file://")


def local_path(url: str) -> Path:
    """The path of a local `url`.

    Raises:
        StorageError: `url` is not local.
    """
    if not is_local(url):
        raise StorageError(f"{url} is not a local path. Give a folder on this machine.")
    return Path(url.removeprefix("file://")).expanduser()


def join(url: str, *parts: str) -> str:
    """`url` with `parts` appended, one slash between each."""
    base = url if url.endswith("://") else url.rstrip("/") + "/"
    return base + "/".join(part.strip("/") for part in parts)


def _remote(url: str) -> tuple[Any, str]:
    """The filesystem and its path. Listings aren't cached: other processes write to the same store."""
    if urlsplit(url).password:
        raise StorageError(
            f"A {url.partition(':')[0]} URL holds a password, which messages and records would show. Give credentials "
            "in the environment, or in the file that the storage's own tools read."
        )
    fs, path = fsspec.url_to_fs(url, use_listings_cache=False)
    return fs, path


@_operation("look at")
def exists(url: str) -> bool:
    """Whether a file or a non-empty folder is at `url`.

    Raises:
        StorageError: it can't be reached, or there is no such bucket.
    """
    if is_local(url):
        return local_path(url).exists()
    fs, path = _remote(url)
    try:
        fs.info(path)
    except FileNotFoundError as error:
        _refuse_missing_bucket(error)
        return False
    return True


def _refuse_missing_bucket(error: FileNotFoundError) -> None:
    """A bucket that isn't there is a misspelt name, not an empty folder."""
    if s3_code(error) == "NoSuchBucket":
        raise error


@_operation("look at")
def size(url: str) -> int:
    """The bytes of the file at `url`.

    Raises:
        StorageError: there is none, or it can't be reached.
    """
    if is_local(url):
        return local_path(url).stat().st_size
    fs, path = _remote(url)
    return int(fs.size(path))


@_operation("read")
def read_bytes(url: str, start: int | None = None, stop: int | None = None) -> bytes:
    """The file's bytes, or those of the range [start, stop).

    Raises:
        StorageError: the file is absent, or can't be read.
    """
    if not is_local(url):
        fs, path = _remote(url)
        return bytes(fs.cat_file(path, start=start, end=stop))
    with local_path(url).open("rb") as file:
        file.seek(start or 0)
        return file.read(-1 if stop is None else max(0, stop - (start or 0)))


@_operation("write")
def write_bytes(url: str, data: bytes) -> None:
    """Write a file, replacing what is there; readers see the old bytes or the new ones, never a part.

    Raises:
        StorageError: the storage refuses, or can't be reached.
    """
    if is_local(url):
        storage_local.write(local_path(url), data)
        return
    fs, path = _remote(url)
    fs.pipe_file(path, data)


def _create_s3(fs: Any, path: str, data: bytes) -> bool:
    """S3 refuses where a file exists, and may answer "conflict" to all of several who try at once: they try again."""
    for attempt in range(_CONFLICTS + 1):
        try:
            fs.pipe_file(path, data, mode="create")
            return True
        except OSError as error:
            code = s3_code(error)
            if code == "PreconditionFailed":
                return False
            if code != "ConditionalRequestConflict" or attempt == _CONFLICTS:
                raise
        time.sleep(random.uniform(0, 0.1 * 2**attempt))
    return False


def _create_memory(fs: Any, path: str, data: bytes) -> bool:
    with _CREATE:
        if fs.exists(path):
            return False
        fs.pipe_file(path, data)
        return True


def _create_remote(url: str, data: bytes) -> bool:
    fs, path = _remote(url)
    if url.startswith("s3://"):
        return _create_s3(fs, path, data)
    if url.startswith("memory://"):
        return _create_memory(fs, path, data)
    with suppress(FileExistsError):
        fs.pipe_file(path, data, mode="create")
        return True
    return False


@_operation("create")
def create_bytes(url: str, data: bytes) -> bool:
    """Write a file only where none is; of several who try at once, one succeeds.

    A store that answers too late is asked again, so a creator may be told that the file exists: put something in
    `data` that names its writer, and read it back on False where that matters.

    Returns:
        True if it was created, False if something was there already.

    Raises:
        StorageError: the storage refuses, or can't be reached.
    """
    return storage_local.create(local_path(url), data) if is_local(url) else _create_remote(url, data)


@_operation("list")
def list_dir(url: str) -> list[str]:
    """Names of the files and folders directly under `url`, sorted; [] when it is absent.

    Raises:
        StorageError: it can't be reached, or there is no such bucket.
    """
    if is_local(url):
        return storage_local.names(local_path(url))
    fs, path = _remote(url)
    try:
        entries = fs.ls(path, detail=False)
    except FileNotFoundError as error:
        _refuse_missing_bucket(error)
        return []
    root = path.rstrip("/")
    return sorted({entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry.rstrip("/") != root})


@_operation("list")
def walk(url: str) -> list[str]:
    """Paths of every file below `url`, relative to it, sorted; [] when it is absent."""
    if is_local(url):
        return storage_local.walk(local_path(url))
    fs, path = _remote(url)
    prefix = path.rstrip("/") + "/"
    return sorted(found.removeprefix(prefix) for found in fs.find(path) if found.startswith(prefix))


@_operation("clean up")
def sweep(url: str, before: float) -> None:
    """Remove what killed writers left below a local folder; object stores keep no halves that anybody sees.

    Args:
        url: the folder.
        before: seconds since the epoch; what was touched later may be another writer's, at work.
    """
    if is_local(url):
        storage_local.sweep(local_path(url), before)


@_operation("delete")
def delete(url: str, recursive: bool = False) -> None:
    """Delete a file, or with `recursive` a folder. Nothing there is no error."""
    if not is_local(url):
        fs, path = _remote(url)
        with suppress(FileNotFoundError):
            fs.rm(path, recursive=recursive)
        return
    storage_local.delete(local_path(url), recursive)


@_operation("download")
def download(url: str, path: Path) -> None:
    """Copy the file at `url` to the local `path`, which appears when it is whole.

    Raises:
        StorageError: the file is absent, or can't be read.
    """
    with storage_local.temporary(path) as beside:
        if is_local(url):
            shutil.copyfile(local_path(url), beside)
        else:
            fs, remote = _remote(url)
            fs.get_file(remote, str(beside))
        os.replace(beside, path)


@_operation("upload to", position=1)
def upload(path: Path, url: str) -> None:
    """Copy the local file `path` to `url`, where it appears when it is whole.

    Raises:
        StorageError: the storage refuses, or can't be reached.
    """
    if is_local(url):
        storage_local.copy(path, local_path(url))
        return
    fs, remote = _remote(url)
    fs.put_file(str(path), remote)
