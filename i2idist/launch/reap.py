"""Ray's processes, recorded so that none outlives its driver unseen.

A driver that starts an embedded Ray keeps a record of its processes in a private folder of the user. At its exit it
ends what is left of them; after a SIGKILL of the driver, the next launch or `i2idist doctor` does. Only recorded
processes are ever ended.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from i2idist.errors import RunError
from i2idist.launch.processes import Process, end

_INTERVAL_S = 1.0


def private_folder() -> Path:
    """A folder that only this user can read, for records and Ray's session files.

    Raises:
        RunError: somebody else made it.
    """
    folder = Path(tempfile.gettempdir()) / f"i2idist-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RunError(
            f"{folder} must be a folder that you alone can use, and it isn't: remove it, or point TMPDIR elsewhere."
        )
    return folder


@contextmanager
def recorded() -> Iterator[Path]:
    """Record every process that starts below this one, and end those left at the end.

    Yields:
        A private folder for the session's files; it is removed at the end.
    """
    driver = Process.current()
    folder = private_folder() / f"{driver.pid}-{int(driver.started * 100)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    known: dict[Process, None] = {}
    done = threading.Event()

    def record() -> None:
        while not done.wait(_INTERVAL_S):
            _write(folder, driver, known, before)

    _write(folder, driver, known, before)
    recorder = threading.Thread(target=record, name="recorder", daemon=True)
    recorder.start()
    try:
        yield folder
    finally:
        done.set()
        recorder.join()
        _write(folder, driver, known, before)
        end(known)
        shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, driver: Process, known: dict[Process, None], before: set[int]) -> None:
    """Add the driver's new descendants to `known`, and write the record whole."""
    pids = {child.pid for child in psutil.Process().children(recursive=True)} - before
    found = [process for process in map(Process.of, sorted(pids)) if process]
    if all(process in known for process in found) and (folder / "record.json").exists():
        return
    known.update(dict.fromkeys(found))
    record = {"driver": dataclasses.asdict(driver), "processes": [dataclasses.asdict(process) for process in known]}
    temporary = folder / "record.json.tmp"
    temporary.write_text(json.dumps(record))
    temporary.replace(folder / "record.json")


def reap() -> list[Process]:
    """End the recorded processes of drivers of this host that are gone.

    Returns:
        The processes that were still running.
    """
    ended: list[Process] = []
    for path in sorted(private_folder().glob("*/record.json")):
        with suppress(FileNotFoundError):  # its driver, or another launch's reap, was quicker
            ended += _reap_one(path)
    return ended


def _reap_one(path: Path) -> list[Process]:
    record = json.loads(path.read_text())
    driver = Process.from_dict(record["driver"])
    if not driver.is_here or driver.alive():
        return []
    ended = end(Process.from_dict(values) for values in record["processes"])
    shutil.rmtree(path.parent, ignore_errors=True)
    return ended
