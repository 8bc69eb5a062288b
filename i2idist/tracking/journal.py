"""What MLflow hasn't been told yet, on disk.

The training thread appends lines, the delivering thread reads them in order and says how far it came. The file lies in
a local run folder, or in a temporary one where the run folder is in an object store; what is left when training ended
is put into the run folder in any case.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from i2idist import storage

Line = Mapping[str, Any]

_READ_BYTES = 2**18
_TRUNCATE_BYTES = 2**22
_PICTURE_BYTES = 2**24
"""Pictures that a checkpoint carries at most, in base64: beyond that the oldest are left out."""

_PICTURE = b'{"kind": "image", '


class Journal:
    """An ordered queue of JSON lines, for any appending threads and one reading one."""

    def __init__(self, url: str) -> None:
        """Begin an empty journal, whose rest goes to `url` in the end."""
        self._url = url
        self._lock = threading.Lock()
        self._folder = None if storage.is_local(url) else tempfile.TemporaryDirectory(prefix="i2idist-")
        self._path = Path(self._folder.name, "journal") if self._folder else storage.local_path(url)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w+b")
        self._read = self._size = 0

    def append(self, line: Line) -> None:
        """Add a line."""
        data = json.dumps(line).encode() + b"\n"
        with self._lock:
            self._file.seek(self._size)
            self._file.write(data)
            self._file.flush()
            self._size += len(data)

    def peek(self) -> tuple[list[Line], int]:
        """Some of the next undelivered lines, and the offset to hand to `delivered`."""
        with self._lock:
            data = self._bytes(self._read, min(self._size, self._read + _READ_BYTES))
            if data and not data.endswith(b"\n"):
                whole = data.rfind(b"\n") + 1
                data = data[:whole] if whole else self._first_line(data)
        return _lines(data), self._read + len(data)

    def delivered(self, offset: int) -> None:
        """Everything before `offset` is delivered."""
        with self._lock:
            self._read = offset
            if self._read == self._size > _TRUNCATE_BYTES:
                self._file.truncate(0)
                self._read = self._size = 0

    def is_empty(self) -> bool:
        """Whether all is delivered."""
        with self._lock:
            return self._read == self._size

    def undelivered(self) -> str:
        """The undelivered lines, for a checkpoint (see `parsed`); of many pictures only the newest.

        Nothing is parsed, since training waits: without MLflow there may be very many.
        """
        with self._lock:
            lines = self._bytes(self._read, self._size).splitlines(keepends=True)
        kept, room = [], _PICTURE_BYTES
        for line in reversed(lines):
            is_picture = line.startswith(_PICTURE)
            room -= len(line) if is_picture else 0
            if room >= 0 or not is_picture:
                kept.append(line)
        return b"".join(reversed(kept)).decode()

    def keep(self) -> None:
        """Put what is undelivered where it can be found later, should this process be killed from now on.

        Raises:
            StorageError: the run folder's storage can't be written.
        """
        if self._folder:
            with self._lock:
                rest = self._bytes(self._read, self._size)
            storage.write_bytes(self._url, rest)

    def close(self, keep: bool = True) -> str | None:
        """Put what is undelivered where it can be found later, unless the run folder is no longer ours to `keep` it in.

        Returns:
            Its URL; None where everything is delivered.

        Raises:
            StorageError: the run folder's storage can't be written.
        """
        with self._lock:
            rest = self._bytes(self._read, self._size)
            self._file.close()
        try:
            if not keep:
                return None
            if rest:
                storage.write_bytes(self._url, rest)
            else:
                storage.delete(self._url)
        finally:
            if self._folder:
                self._folder.cleanup()
        return self._url if rest else None

    def _bytes(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(stop - start)

    def _first_line(self, data: bytes) -> bytes:
        self._file.seek(self._read + len(data))
        return data + self._file.readline()


def left_behind(url: str) -> list[Line]:
    """The lines of a journal that an earlier process left at `url`; [] where there is none.

    Raises:
        StorageError: it can't be read.
    """
    return _lines(storage.read_bytes(url)) if storage.exists(url) else []


def parsed(text: str) -> list[Line]:
    """The lines that `Journal.undelivered` gave."""
    return _lines(text.encode())


def merged(*journals: Iterable[Line]) -> list[Line]:
    """The lines of all, each once."""
    return list({json.dumps(line, sort_keys=True): line for lines in journals for line in lines}.values())


def _lines(data: bytes) -> list[Line]:
    """The whole lines; what a killed writer left of a last one is dropped."""
    return [json.loads(line) for line in data.split(b"\n")[:-1]]
