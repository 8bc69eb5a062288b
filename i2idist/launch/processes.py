"""Naming a process so that no other can be mistaken for it, and ending processes by that name."""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_TERMINATE_S = 5.0


@functools.cache
def this_host() -> str:
    """This machine, this boot, this process namespace: inside equal names, process ids mean the same."""
    parts = [socket.gethostname()]
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        with suppress(OSError):
            parts.append(os.readlink(path) if path.is_symlink() else path.read_text().strip())
    return "/".join(parts)


def cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Process:
    """A process on some host. Ids are reused, so its start (seconds since the epoch) belongs to its name."""

    host: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process `pid` of this host, or None where there is none."""
        try:
            return cls(this_host(), pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls(this_host(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Process:
        """The process that `dataclasses.asdict` described."""
        return cls(values["host"], values["pid"], values["started"])

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this host."""
        return self.host == this_host()

    def alive(self) -> bool:
        """Whether it runs. Only for processes of this host."""
        return self._find() is not None

    def family(self) -> Iterator[Process]:
        """Itself and its descendants, as far as they run."""
        found = self._find()
        if found is None:
            return
        yield self
        with suppress(psutil.Error):
            for child in found.children(recursive=True):
                process = Process.of(child.pid)
                if process:
                    yield process

    def signal(self, hard: bool) -> None:
        """Ask it to end, or with `hard` end it."""
        found = self._find()
        with suppress(psutil.Error):
            if found:
                found.kill() if hard else found.terminate()

    def _find(self) -> psutil.Process | None:
        with suppress(psutil.Error):
            found = psutil.Process(self.pid)
            # /proc gives start times in ticks of 10 ms.
            if abs(found.create_time() - self.started) < 0.05 and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None


def end(processes: Iterable[Process]) -> list[Process]:
    """End processes and their descendants: asked first, killed after five seconds.

    Returns:
        Those that were still running.
    """
    family = list(dict.fromkeys(member for process in processes for member in process.family()))
    for process in family:
        process.signal(hard=False)
    deadline = time.monotonic() + _TERMINATE_S
    while any(process.alive() for process in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in family:
        process.signal(hard=True)
    return family
