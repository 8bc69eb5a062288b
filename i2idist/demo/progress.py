"""What a person is told while the demo runs, and how long its phases take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]

_TICK_S = 3.0


class Ticker:
    """Says how far a phase is, every few seconds."""

    def __init__(self, say: Say, what: str, total: float) -> None:
        """Of `what`, `total` is all."""
        self._say, self._what, self._total = say, what, total
        self._said = time.monotonic()

    def __call__(self, done: float) -> None:
        """So much is done."""
        if time.monotonic() - self._said >= _TICK_S:
            self._said = time.monotonic()
            self._say(f"  {self._what}: {done / self._total:.0%}")


class Clock:
    """Seconds by phase, and what a person is told when one begins."""

    def __init__(self, say: Say) -> None:
        """Start now."""
        self._say = say
        self._started = time.monotonic()
        self.phases: dict[str, float] = {}

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @contextmanager
    def phase(self, name: str, message: str) -> Iterator[None]:
        """A phase, from here to its end."""
        begun = time.monotonic()
        self._say(f"[{begun - self._started:5.0f} s] {message}")
        yield
        self.phases[name] = round(time.monotonic() - begun, 2)
