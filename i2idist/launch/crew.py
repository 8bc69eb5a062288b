"""A crew of Ray actors that are given calls one by one, and stay warm between them: for the trials of a search.

An actor whose calls train on Ray workers takes no core itself: drivers that hold cores while their workers wait for
some would wait for ever.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.exceptions

from i2idist.errors import RunError
from i2idist.experiment import Resources
from i2idist.launch.cluster import cluster
from i2idist.launch.reap import reap
from i2idist.launch.worker_group import keep_groups, release_group

_REST_S, _CLOSE_S = 5.0, 10.0
Call = Callable[[], Any]
Ended = tuple[Hashable, Any, str | None]
"""A call's key, its result, and the error that ended its actor, in words."""


class _Hand:
    """An actor. What its calls import, the caches that they fill and the workers that they start stay for the next."""

    def __init__(self) -> None:
        keep_groups()

    def call(self, function: Call) -> Any:
        return function()

    def rest(self) -> None:
        release_group()


class Crew:
    """Actors at work. Made by `hired`."""

    def __init__(self, size: int, cores: int, gpus: int) -> None:
        """For `size` calls at once, each of which takes so many cores and GPUs of its actor."""
        self.size = size
        self._options = {"num_cpus": cores, "num_gpus": gpus}
        self._idle: dict[Any, float] = {}  # since when, in monotonic seconds; inf where the actor rests
        self._busy: dict[Any, tuple[Hashable, Any]] = {}

    def start(self, key: Hashable, call: Call) -> None:
        """Give a free actor a call; picklable, as its result must be."""
        kind: Any = ray.remote(_Hand)
        actor = self._idle.popitem()[0] if self._idle else kind.options(**self._options).remote()
        self._busy[actor.call.remote(call)] = (key, actor)

    def ended(self, timeout_s: float) -> list[Ended]:
        """Calls that have ended, after at most so long. An actor that died is replaced when it is needed."""
        self._rest()
        done, _ = ray.wait(list(self._busy), num_returns=len(self._busy), timeout=0) if self._busy else ([], [])
        if not done and self._busy:
            done, _ = ray.wait(list(self._busy), timeout=timeout_s)
        return [self._settle(reference) for reference in done]

    def _settle(self, reference: Any) -> Ended:
        key, actor = self._busy.pop(reference)
        try:
            found = ray.get(reference)
        except ray.exceptions.RayError as error:
            ray.kill(actor)
            return key, None, " ".join(str(error).strip().partition("\n")[0].split())
        self._idle[actor] = time.monotonic()
        return key, found, None

    def _rest(self) -> None:
        """Let actors that have had nothing to do for a while give back what others may wait for, other drivers too."""
        idle = [actor for actor, since in self._idle.items() if time.monotonic() - since > _REST_S]
        self._idle |= dict.fromkeys(idle, math.inf)
        for actor in idle:
            actor.rest.remote()

    def close(self) -> None:
        """End all actors, at work or not."""
        resting = [actor.rest.remote() for actor in self._idle]
        if resting:
            ray.wait(resting, num_returns=len(resting), timeout=_CLOSE_S)
        for actor in [*self._idle, *(actor for _, actor in self._busy.values())]:
            ray.kill(actor)


@contextmanager
def hired(most: int, each: Resources, say: Callable[[str], None]) -> Iterator[Crew]:
    """A crew for at most so many trainings at once, as far as the cluster has room for them.

    Args:
        most: trainings at once.
        each: what one takes, its threads resolved.
        say: told what a person waits for.

    Raises:
        RunError: the cluster hasn't room for one.
    """
    for process in reap():
        say(f"Ended process {process.pid}, left over from a killed launch.")
    low, threads = each.workers_range[0], each.threads_per_worker or 1
    with cluster(Resources(num_workers=low * most, threads_per_worker=threads), say):
        size, gpus = _room(most, low, threads, each)
        if size < most:
            say(f"The cluster has room for {size} trials at once, not {most}.")
        crew = Crew(size, 0 if each.launcher == "ray" else threads, 0 if each.launcher == "ray" else gpus)
        try:
            yield crew
        finally:
            crew.close()


def _room(most: int, workers: int, threads: int, each: Resources) -> tuple[int, int]:
    """How many trainings there is room for at once, and how many GPUs each worker has."""
    has: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    found = math.floor(has.get("CPU", 1) / (workers * threads))
    on_gpus = math.floor(has.get("GPU", 0) / workers)
    gpus = int(each.device != "cpu" and on_gpus > 0)
    room = min(most, found, on_gpus) if gpus else min(most, found)
    if room < 1:
        raise RunError(
            f"A trial takes {workers} workers of {threads} cores, and the cluster has {has.get('CPU', 0):.0f} cores: "
            "use fewer resources.num_workers or resources.threads_per_worker."
        )
    return room, gpus
