"""The thread that delivers a journal to MLflow for as long as it takes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from i2idist.tracking.journal import Journal
from i2idist.tracking.server import CONNECT_S, Server, reason
from i2idist.tracking.settings import shown

_LOG = logging.getLogger("i2idist")
_POLL_S, _LONGEST_PAUSE_S, _HURRIED_PAUSE_S = 0.5, 30.0, 1.0
_CONFIRM_S = 15.0


class Delivery:
    """A thread that delivers a journal for as long as it takes."""

    def __init__(self, journal: Journal, server: Server, confirm: Callable[[], None]) -> None:
        """Start delivering; `confirm` raises where the run is another process's by now."""
        self._journal, self._server, self._confirm = journal, server, confirm
        self._confirmed = time.monotonic()
        self._wake, self._ended = threading.Event(), threading.Event()
        self._hurried = False
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def finish(self, wait_s: float) -> None:
        """Wait until all is delivered, `wait_s` at most, and end."""
        self._hurried = True
        self._wake.set()
        try:
            self._thread.join(wait_s)
        finally:
            self._ended.set()
            self._wake.set()
            self._thread.join(CONNECT_S)  # a request in flight; its lines stay in the journal

    def _run(self) -> None:
        pause = _POLL_S
        while not self._ended.is_set():
            try:
                self._deliver()
                pause = _POLL_S
                if self._hurried:
                    return
            except Exception as error:  # the reason is reported, and the lines stay until they are delivered
                pause = min(pause * 2, _HURRIED_PAUSE_S if self._hurried else _LONGEST_PAUSE_S)
                self._failed(error)
            self._wake.wait(pause)
            self._wake.clear()

    def _deliver(self) -> None:
        while not self._journal.is_empty() and not self._ended.is_set():
            lines, offset = self._journal.peek()
            self._confirm_again()
            self._server.deliver(lines)
            self._journal.delivered(offset)
            if self.failure:
                _LOG.info("MLflow at %s is back.", shown(self._server.target.uri))
            self.failure = None

    def _confirm_again(self) -> None:
        """Ask, now and then, if the run is still ours: who takes it from us takes, and tells, our last steps again."""
        if time.monotonic() - self._confirmed > _CONFIRM_S:
            self._confirm()
            self._confirmed = time.monotonic()

    def _failed(self, error: Exception) -> None:
        uri, before = self._server.target.uri, self.failure
        self.failure = reason(error, uri)
        if before is None:
            _LOG.warning(
                "Can't deliver to MLflow at %s (%s). Training goes on; what happens is kept and delivered later.",
                shown(uri),
                self.failure,
            )
