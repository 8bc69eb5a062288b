"""What training, packing and submitting tell the catalog: in a thread, and never at the cost of the work itself.

A catalog that is away, slow or too new gives a warning. Training records its launches in the default catalog, which it
makes; packing records datasets only where a catalog is named or there already.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from i2idist.catalog import engine
from i2idist.catalog.places import is_place
from i2idist.catalog.references import dataset_link, run_link
from i2idist.catalog.store import Catalog
from i2idist.errors import CatalogError, StorageError

T = TypeVar("T")
Say = Callable[[str], None]
Entry = Callable[[Catalog], None]

PATIENCE_S = 15.0
"""How long the end of a training waits for the catalog: a database that restarts is back by then."""
SHORT_S = 3.0
"""How long a command of seconds waits for it."""
SUBMISSION = "I2IDIST_SUBMISSION_ID"
"""Environment variable that a submitted driver is given: its launch continues the submission's row."""
_RETRY_S, _LONGEST_RETRY_S = 0.5, 5.0


class Recorder:
    """Writes entries to a catalog from a thread, in order; a database that is away is tried again and again."""

    def __init__(self, url: str, say: Say, patience_s: float) -> None:
        """Begin; the catalog is opened by the thread.

        Args:
            url: of the catalog.
            say: told what goes wrong.
            patience_s: how long `close` waits.
        """
        self._url, self._say, self._patience_s = url, say, patience_s
        self._entries: queue.Queue[Entry | None] = queue.Queue()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="catalog", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Write `entry` soon."""
        self._entries.put(entry)

    def close(self) -> None:
        """Wait until all is written, but not long."""
        self._deadline = time.monotonic() + self._patience_s
        self._entries.put(None)
        self._closing.set()
        self._thread.join(self._patience_s + 1.0)
        if self._thread.is_alive():
            self._say(f"Warning: the catalog {engine.shown(engine.parse(self._url))} doesn't answer: not recorded.")

    def _run(self) -> None:
        try:
            with self._patiently(lambda: Catalog(self._url)) as catalog:
                while entry := self._entries.get():
                    self._write(catalog, entry)
        except CatalogError as error:
            self._say(f"Warning: not recorded. {error}")

    def _write(self, catalog: Catalog, entry: Entry) -> None:
        self._patiently(lambda: entry(catalog))

    def _patiently(self, call: Callable[[], T]) -> T:
        """Try until it works, or can't, or the work has been over for too long."""
        pause = _RETRY_S
        while True:
            try:
                return call()
            except CatalogError as error:
                if not engine.may_pass(error) or time.monotonic() > self._deadline:
                    raise
                self._warn(error)
            if self._closing.wait(pause):
                time.sleep(_RETRY_S)
            pause = min(2 * pause, _LONGEST_RETRY_S)

    def _warn(self, error: CatalogError) -> None:
        if not self._warned and not self._closing.is_set():
            self._say(f"Warning: {error} The work goes on without it; it is tried again.")
        self._warned = True


class Launch:
    """A launch's row. Its methods return at once."""

    def __init__(self, recorder: Recorder, kind: str, name: str, known: Mapping[str, Any]) -> None:
        """Note that the launch begins; `known` as for `Catalog.start_job`."""
        self._recorder = recorder
        self._number: list[int] = []
        self._running = False
        recorder.put(lambda catalog: self._number.append(catalog.start_job(kind, name, **known)))

    def watching(self, on_event: Callable[[Any], None]) -> Callable[[Any], None]:
        """`on_event`, which also notes that training runs once a worker, which then holds the lease, says something."""

        def watched(event: Any) -> None:
            if not self._running and event["event"] != "launch":
                self._running = True
                self._update(state="running")
            on_event(event)

        return watched

    def ended(self, state: str, mlflow_run_id: str | None = None, error: str | None = None) -> None:
        """Note how it ended."""
        self._update(state=state, mlflow_run_id=mlflow_run_id, error=error)

    def _update(self, **changes: Any) -> None:
        self._recorder.put(lambda catalog: catalog.update_job(self._number[0], **changes))


@contextmanager
def launch(
    kind: str,
    name: str,
    *,
    root: str,
    run_url: str,
    experiment: Mapping[str, Any],
    say: Say,
    study: str | None = None,
) -> Iterator[Launch]:
    """A launch of a run, from here to its end: the caller says how it ended, unless by an error.

    Args:
        kind: the command.
        name: the run.
        root: where runs are.
        run_url: the run's folder.
        experiment: what this launch was given.
        say: told when the catalog can't be used.
        study: the search that the run belongs to.
    """
    with _recorder(engine.default_url(root), say, PATIENCE_S) as recorder:
        submission_id = os.environ.get(SUBMISSION) or None
        known = {"experiment": experiment, "run_url": run_url, "submission_id": submission_id, "study": study}
        row = Launch(recorder, kind, name, known)
        try:
            yield row
        except BaseException as error:
            row.ended("failed", error=f"{type(error).__name__}: {error}".rstrip(": "))
            raise
        recorder.put(lambda catalog: _note_data(catalog, run_url))


def _note_data(catalog: Catalog, run_url: str) -> None:
    """The dataset that a run's workers read, which may have been packed before there was a catalog."""
    run = run_link(run_url).facts
    if not run.get("dataset_digest") or not is_place(run["dataset_url"]):
        return
    try:
        found = dataset_link(run["dataset_url"])
    except StorageError as error:
        raise CatalogError(f"The dataset of {run_url} can't be looked at: {error}") from error
    if found and found.facts["digest"] == run["dataset_digest"]:
        catalog.record_dataset(name=found.name, **found.facts)


@contextmanager
def submission(kind: str, name: str, *, root: str, say: Say, **known: Any) -> Iterator[None]:
    """Note a submission before it is sent, so that the launch which it leads to finds the row; and if sending fails.

    Args:
        kind: the command.
        name: the run, or what else it makes.
        root: where runs are.
        say: told when the catalog can't be used.
        known: as for `Catalog.start_job`.
    """
    url, numbers = engine.default_url(root), list[int]()
    with _recorder(url, say, SHORT_S) as recorder:
        recorder.put(lambda catalog: numbers.append(catalog.start_job(kind, name, **known)))
    try:
        yield
    except BaseException as failure:
        error = f"not sent: {failure}".rstrip(": ")
        with _recorder(url, say, SHORT_S) as recorder:
            for number in numbers:
                recorder.put(partial(Catalog.update_job, id=number, state="failed", error=error))
        raise


def submissions(
    found: Mapping[str, tuple[str, str | None]], address: str, *, root: str, say: Say
) -> dict[str, dict[str, Any]]:
    """Bring the rows of submissions up to date; those that are open and unknown to their cluster are lost.

    A launch that writes to the same catalog knows better how it ended: what it noted stays.

    Args:
        found: state and error by submission id, as the cluster at `address` tells them.
        address: of the cluster.
        root: where runs are.
        say: told when the catalog can't be used.

    Returns:
        Their rows, by submission id.
    """
    url = engine.default_url(root)
    try:
        if not engine.exists(url):
            return {}
        with Catalog(url) as catalog:
            return catalog.refresh_submissions(found, address)
    except CatalogError as error:
        say(f"Warning: {error}")
        return {}


def stopping(run_url: str, *, root: str, say: Say) -> None:
    """Note that a run was asked to stop, if there is a catalog."""
    if _is_wanted(engine.default_url(root)):
        with _recorder(engine.default_url(root), say, SHORT_S) as recorder:
            recorder.put(lambda catalog: catalog.stopping(run_url))


def dataset(url: str, name: str, digest: str, role: str, counts: Mapping[str, Any], *, say: Say) -> None:
    """Note a dataset, if a catalog is named or there already; see `Catalog.record_dataset`."""
    if _is_wanted(engine.default_url()):
        with _recorder(engine.default_url(), say, SHORT_S) as recorder:
            recorder.put(lambda catalog: catalog.record_dataset(url, name, digest, role, counts))


def evaluation(values: Sequence[Mapping[str, Any]], *, root: str | None, say: Say) -> None:
    """Note an evaluation's values, if a catalog is named or there already.

    Args:
        values: each as `Catalog.record_evaluation` takes it.
        root: where runs are; None: see `default_url`.
        say: told when the catalog can't be used.
    """
    url = engine.default_url(root)
    if _is_wanted(url):
        with _recorder(url, say, SHORT_S) as recorder:
            for value in values:
                recorder.put(partial(Catalog.record_evaluation, **value))


def _is_wanted(url: str) -> bool:
    """Whether a person named the catalog, however badly, or it is there."""
    return bool(os.environ.get("I2IDIST_CATALOG")) or engine.exists(url)


@contextmanager
def _recorder(url: str, say: Say, patience_s: float) -> Iterator[Recorder]:
    recorder = Recorder(url, say, patience_s)
    try:
        yield recorder
    finally:
        recorder.close()
