"""Line files of a run folder: the events of training, and the logs.

On local storage lines are appended to the file itself. Object stores can't append: there the lines gather in a
temporary file that a thread uploads whole every ten seconds.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from i2idist import storage
from i2idist.errors import LeaseError, StorageError

FORMAT = "I2IDIST_LOGS"
"""`json`: logs are JSON lines, else text."""
_SYNC_S = 10.0


class LineFile:
    """A file of JSON or text lines at any URL, growing by whole lines; for one writer."""

    def __init__(self, url: str, before_upload: Callable[[], None] = lambda: None) -> None:
        """Continue the file at `url`, or begin it; `before_upload` raises a `LeaseError` where it is another's now."""
        self._url = url
        self._before_upload = before_upload
        self._lock = threading.Lock()
        self._uploading = threading.Lock()
        self._remote = not storage.is_local(url)
        self._unsynced = False
        self._closed = threading.Event()
        if self._remote:
            self._folder = tempfile.TemporaryDirectory(prefix="i2idist-")
            self._path = Path(self._folder.name) / "lines"
            if storage.exists(url):
                storage.download(url, self._path)
        else:
            self._path = storage.local_path(url)
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        if self._remote:
            threading.Thread(target=self._keep_synced, name="upload of lines", daemon=True).start()

    def append(self, line: str | Mapping[str, Any]) -> None:
        """Write a line of text, or a mapping as a line of JSON."""
        text = line if isinstance(line, str) else json.dumps(line)
        with self._lock:
            self._file.write(text.encode() + b"\n")
            self._file.flush()
            self._unsynced = True

    def lines(self) -> list[str]:
        """The whole lines so far; what a killed writer left of a last line is dropped."""
        return [line.decode() for line in self._path.read_bytes().split(b"\n")[:-1]]

    def replace(self, lines: list[str]) -> None:
        """Replace the whole content, at once."""
        data = "".join(f"{line}\n" for line in lines).encode()
        with self._lock:
            self._file.close()
            storage.write_bytes(str(self._path), data)
            self._file = self._path.open("ab")
            self._unsynced = True

    def sync(self) -> None:
        """Make the lines so far visible to readers of the URL. Lines may be appended meanwhile.

        Raises:
            StorageError: they couldn't be uploaded; the next `sync` tries again.
            LeaseError: the file is another process's now.
        """
        if not self._remote:
            return
        with self._uploading:  # an older content must not arrive after a newer one
            with self._lock:
                if not self._unsynced:
                    return
                data = self._path.read_bytes()
                self._unsynced = False
            try:
                self._before_upload()
                storage.write_bytes(self._url, data)
            except BaseException:
                self._unsynced = True
                raise

    def close(self) -> None:
        """Sync and close."""
        self._closed.set()
        try:
            self.sync()
        finally:
            self._file.close()
            if self._remote:
                self._folder.cleanup()

    def _keep_synced(self) -> None:
        while not self._closed.wait(_SYNC_S):
            with suppress(StorageError, LeaseError):  # tried again, and at the end with the error raised
                self.sync()


def keep_until(file: LineFile, images: int) -> None:
    """Drop the events past `images`: they will happen again."""
    file.replace([line for line in file.lines() if json.loads(line)["images"] <= images])


class JsonFormatter(logging.Formatter):
    """A log record as a JSON object on one line."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        """Every line holds `about`: which run, job and rank it is of."""
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        """The time in seconds since 1970, level, logger and message, and the traceback where there is one."""
        line = {"time": record.created, "level": record.levelname, "logger": record.name, **self._about}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class LogHandler(logging.Handler):
    """Sends Python's log records to a `LineFile`, as text; with I2IDIST_LOGS=json as JSON lines."""

    def __init__(self, file: LineFile, about: Mapping[str, Any] | None = None) -> None:
        """Log to `file` what comes from `about`: run, job and rank."""
        super().__init__()
        self._lines = file
        text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.setFormatter(JsonFormatter(about or {}) if os.environ.get(FORMAT) == "json" else text)

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record; a failure to do so goes to stderr, never to the code that logs."""
        try:
            self._lines.append(self.format(record))
        except Exception:
            self.handleError(record)
