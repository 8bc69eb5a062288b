"""A pool of Ray actors that work off a list of items, each made ready once: for translations and evaluations.

An actor that dies is replaced and its item given to another; a deliberate error ends the work at once.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import ray
import ray.exceptions

from i2idist.errors import I2IError, RunError
from i2idist.experiment import Resources
from i2idist.launch.cluster import cluster, here
from i2idist.launch.meters import WorkMeters
from i2idist.launch.processes import cores
from i2idist.launch.reap import reap

_POLL_S = 0.3
_SLOW_S = 30.0
"""How long nobody says anything about workers that aren't ready."""


class _Item(Protocol):
    """What is worked on: numbered, named for messages."""

    @property
    def number(self) -> int: ...

    @property
    def name(self) -> str: ...


ItemT = TypeVar("ItemT", bound=_Item)
ResultT = TypeVar("ResultT")
Work = Callable[[ItemT, Callable[[int], None]], ResultT]
"""Works on an item, and calls its second argument with how far it is."""


def work_off(
    make: Callable[[], Work[ItemT, ResultT]],
    items: Sequence[ItemT],
    *,
    workers: int | None,
    threads: int,
    gpu: bool,
    report: Callable[[int, int], None],
    say: Callable[[str], None],
    max_failures: int = 3,
) -> Generator[ResultT]:
    """Work on all items, in any order, on Ray: a connected one, RAY_ADDRESS's, or one of our own until the end.

    Args:
        make: makes an actor ready; picklable, as the items and results must be.
        items: the work.
        workers: actors; None: as many as there are cores, or GPUs, for.
        threads: cores that each takes.
        gpu: whether each takes a GPU.
        report: told, in this thread, the number of an item under way and how far it is.
        say: told what a person waits for, and what failed.
        max_failures: how many deaths of actors are mended.

    Yields:
        Each item's result, as it is finished.

    Raises:
        I2IError: what `make` or the work raised; a `RunError` where actors died too often.
    """
    for process in reap():
        say(f"Ended process {process.pid}, left over from a killed launch.")
    most = min(len(items), workers or max(1, cores() // threads))
    with cluster(Resources(num_workers=max(1, most), threads_per_worker=threads), say):
        count = min(len(items), workers or _room(threads, gpu))
        pool = _Pool(make, items, {"num_cpus": threads, "num_gpus": 1 if gpu else 0}, max_failures, say)
        try:
            yield from pool.results(count, report)
        finally:
            pool.close()


def _room(threads: int, gpu: bool) -> int:
    """How many actors the cluster has room for."""
    has: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    by_cores = math.floor(has.get("CPU", 1) / threads)
    return max(1, min(by_cores, math.floor(has.get("GPU", 0))) if gpu else by_cores)


def _open_progress() -> Any:
    """An actor that carries the workers' progress to the driver, for display.

    Its class is local, so that Ray sends it by value, and the actor doesn't import torch with this module.
    """

    class Progress:
        def __init__(self) -> None:
            self._done: dict[int, int] = {}

        def push(self, number: int, done: int) -> None:
            self._done[number] = done

        def pull(self) -> dict[int, int]:
            done, self._done = self._done, {}
            return done

    return ray.remote(num_cpus=0, scheduling_strategy=here())(Progress).remote()


class _Worker:
    """An actor. What it needs is made by `ready`, not by the constructor, whose errors Ray tells as deaths."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._work: Work[Any, Any] | None = None
        self._meters = WorkMeters()

    def ready(self, make: Callable[[], Work[Any, Any]]) -> None:
        self._work = make()

    def work(self, item: Any) -> Any:
        assert self._work is not None, "ready() comes first"

        def report(done: int) -> None:
            self._meters.report(done)
            self._progress.push.remote(item.number, done)

        result = self._work(item, report)
        self._meters.finished(result)
        return result


class _Pool:
    """The actors, the items that wait, and who works on what."""

    def __init__(
        self,
        make: Callable[[], Work[Any, Any]],
        items: Sequence[Any],
        needs: dict[str, int],
        max_failures: int,
        say: Callable[[str], None],
    ) -> None:
        self._make, self._needs, self._say = ray.put(make), needs, say
        self._waiting, self._left = deque(items), len(items)
        self._failures_left = max_failures
        self._waits_since: float | None = time.monotonic()
        self._progress = _open_progress()
        self._busy: dict[Any, tuple[Any, Any]] = {}

    def results(self, count: int, report: Callable[[int, int], None]) -> Iterator[Any]:
        for _ in range(count):
            self._start()
        while self._left:
            done, _ = ray.wait(list(self._busy), timeout=_POLL_S)
            self._tell_of_waiting()
            for number, far in ray.get(self._progress.pull.remote()).items():
                report(number, far)
            for reference in done:
                actor, item = self._busy.pop(reference)
                found = self._settle(reference, actor, item)
                if found is not None:
                    self._left -= 1
                    yield found

    def _tell_of_waiting(self) -> None:
        """Ray waits without a word for room that a busy or small cluster may never have."""
        if self._waits_since and time.monotonic() - self._waits_since > _SLOW_S:
            self._waits_since = None
            needs = f"{self._needs['num_cpus']} free cores" + (" and a GPU" if self._needs["num_gpus"] else "")
            self._say(f"Still waiting for a worker, which takes a node with {needs}: see `ray status`.")

    def close(self) -> None:
        """End the actors that are at work; the others end with their handles."""
        for actor, _ in self._busy.values():
            ray.kill(actor)

    def _start(self) -> None:
        """Start an actor. It gets an item when it is ready: one that finds no room holds nothing up."""
        kind: Any = ray.remote(_Worker)
        actor = kind.options(**self._needs).remote(self._progress)
        self._busy[actor.ready.remote(self._make)] = (actor, None)

    def _settle(self, reference: Any, actor: Any, item: Any) -> Any:
        """The result behind a finished call, if it was work, and the next item for its actor."""
        try:
            found = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            deliberate = _deliberate(error)
            if deliberate is None:
                raise
            raise deliberate from error
        except ray.exceptions.RayError as error:
            ray.kill(actor)
            self._replace(item, error)
            return None
        self._waits_since = None
        if self._waiting:
            following = self._waiting.popleft()
            self._busy[actor.work.remote(following)] = (actor, following)
        return found

    def _replace(self, item: Any, error: Exception) -> None:
        if item is not None:
            self._waiting.appendleft(item)
        what = f"while it worked on {item.name}" if item is not None else "before it was ready"
        if self._failures_left == 0:
            raise RunError(
                f"A worker died {what}, after others had: {error} Finished items are kept; the same command goes on "
                "from there. Fewer workers, or smaller batches, take less memory."
            ) from error
        self._failures_left -= 1
        self._say(f"A worker died {what}; another takes over.")
        self._start()


def _deliberate(error: ray.exceptions.RayTaskError) -> I2IError | None:
    """The deliberate error that a worker raised, as it was there."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, I2IError) else None
