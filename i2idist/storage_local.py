"""Files on this machine that appear whole or not at all: `storage`'s local side.

A file is written beside its place, under a name that listings leave out, and takes its place when it is whole.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file that isn't whole yet; what is there at the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Write a file, replacing what is there."""
    with temporary(path) as beside:
        _write_flushed(beside, data)
        os.replace(beside, path)


def create(path: Path, data: bytes) -> bool:
    """Write a file where none is: a hard link fails where a name exists."""
    with temporary(path) as beside:
        _write_flushed(beside, data)
        with suppress(FileExistsError):
            os.link(beside, path)
            return True
        return False


def _write_flushed(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def copy(source: Path, target: Path) -> None:
    """Copy a file, replacing what is there. It is on the disk before any file that is written later."""
    with temporary(target) as beside:
        shutil.copyfile(source, beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)


def names(folder: Path) -> list[str]:
    """Files and folders directly in `folder`, sorted; [] where it is absent."""
    return sorted(path.name for path in folder.iterdir() if _is_whole(path)) if folder.is_dir() else []


def walk(folder: Path) -> list[str]:
    """Files below `folder`, relative to it, sorted; [] where it is absent."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and _is_whole(p))


def sweep(folder: Path, before: float) -> None:
    """Remove unfinished files below `folder` that were last written before the time `before`."""
    for path in folder.rglob(".*.tmp"):
        with suppress(FileNotFoundError):
            if not _is_whole(path) and path.stat().st_mtime < before:
                path.unlink()


def delete(path: Path, recursive: bool) -> None:
    """Delete a file, or with `recursive` a folder, but not where a link leads."""
    if recursive and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    return not _TEMPORARY.fullmatch(path.name)
