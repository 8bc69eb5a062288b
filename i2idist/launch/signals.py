"""Ctrl-C and SIGTERM as a request to stop with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether the driver was asked to stop. A second signal raises KeyboardInterrupt.

    Signals are caught between `__enter__` and `__exit__`, in the main thread alone: elsewhere Python refuses handlers.

    Attributes:
        number: of the signal that asked; None before one came.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` is told when a signal came."""
        self._say = say
        self.number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Whether a signal came."""
        return self.number is not None

    def __enter__(self) -> Self:
        """Catch the signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        self._say("Stopping with a checkpoint; once more to abort at once.")
