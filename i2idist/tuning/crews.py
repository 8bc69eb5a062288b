"""Who runs the trials of one driver: this process alone, or a crew of Ray actors."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from i2idist.experiment import Resources


class Crew(Protocol):
    """Runs calls, each beside the others; see `launch.crew`."""

    size: int

    def start(self, key: Hashable, call: Callable[[], Any]) -> None:
        """Begin a call."""

    def ended(self, timeout_s: float) -> list[tuple[Hashable, Any, str | None]]:
        """Calls that ended: key, result, and the error that ended the process that ran it."""


@contextmanager
def crew_for(concurrency: int, resources: Resources, say: Callable[[str], None]) -> Iterator[Crew]:
    """A crew: this process alone where one trial at a time trains without Ray; else actors."""
    if resources.launcher == "local" and concurrency == 1:
        yield Alone()
        return
    from i2idist.launch.crew import hired

    with hired(concurrency, resources, say) as crew:
        yield crew


class Alone:
    """A crew of one thread of this process."""

    size = 1

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._call: tuple[Hashable, concurrent.futures.Future[Any]] | None = None

    def start(self, key: Hashable, call: Callable[[], Any]) -> None:
        """Begin a call, in a thread that doesn't keep this process alive."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        threading.Thread(target=lambda: future.set_result(call()), name=f"trial {key}", daemon=True).start()
        self._call = (key, future)

    def ended(self, timeout_s: float) -> list[tuple[Hashable, Any, str | None]]:
        """The call, if it has ended within `timeout_s`."""
        if self._call is None:
            return []
        key, future = self._call
        try:
            found = future.result(timeout_s)
        except TimeoutError:
            return []
        self._call = None
        return [(key, found, None)]
