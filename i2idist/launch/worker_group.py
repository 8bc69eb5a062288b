"""A group of Ray Train workers, and the job that it trains: one, or one after another where groups are kept.

To start a group takes a controller and workers who import everything anew, some twenty seconds on a small machine. The
trials of a search are many short trainings, so there a group stays for the next. One that lost a worker doesn't: each
run begins with all of its `resources.max_failures`.
"""

from __future__ import annotations

import pickle
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback

from i2idist.errors import I2IError, RunError, StorageError
from i2idist.experiment import Resources
from i2idist.launch.cluster import here
from i2idist.launch.leaving import Listening, Notices
from i2idist.launch.meters import TrainingMeters
from i2idist.launch.run_folder import RunFolder
from i2idist.launch.worker import Job, work
from i2idist.train.comm import Comm
from i2idist.train.loop import Event

_POLL_S = 1.0
_IDLE_S = 0.1
_CLOSE_S = 10.0


class WorkerGroup:
    """Workers of one trainer, and the channel to them. Made by `group_at`."""

    def __init__(self, resources: Resources) -> None:
        """Start workers; Ray is connected.

        Raises:
            RunError: the cluster has no GPUs for them.
        """
        self.resources = resources
        self._stack = ExitStack()
        self._given, self._done, self._starts = 0, 0, 0
        self._is_closed = False
        self._channel = _open_channel()
        scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="i2idist-ray-"))
        self._fit = _Fit(_trainer(resources, self._channel, scratch))

    def give(self, job: Job, *, last: bool) -> None:
        """Let the workers train `job`; after the last they end."""
        ray.get(self._channel.give.remote(pickle.dumps(job)))
        self._given += 1
        if last:
            self._end()

    def works(self, tell: Callable[[Event], None]) -> bool:
        """Whether the job is still trained, after a moment's wait in which `tell` gets what has happened."""
        alive = self._fit.runs_on(_POLL_S)
        events, self._done, self._starts = ray.get(self._channel.news.remote())
        for event in events:
            tell(event)
        return alive and (self._is_closed or self._done < self._given)

    def ended(self, folder: RunFolder) -> bool:
        """Whether the job's run has ended, or else its workers left; raises what ended the training, if anything."""
        return (not self._is_closed and self._done == self._given) or self._fit.ended(folder)

    @property
    def is_sound(self) -> bool:
        """Whether its workers wait for another job, and none of them ever failed."""
        return not self._is_closed and self._starts == 1 and self._done == self._given and self._fit.runs_on(0)

    def _end(self) -> None:
        self._is_closed = True
        ray.get(self._channel.close.remote())

    def close(self) -> None:
        """End the workers: at once those that wait; those of a run that somebody gave up die with this process."""
        if not self._is_closed:
            self._end()
            self._fit.runs_on(_CLOSE_S)
        self._stack.close()


class _Kept:
    """Where a group waits for the next job."""

    def __init__(self) -> None:
        self._group: WorkerGroup | None = None

    def keep(self, group: WorkerGroup) -> None:
        self._group = group

    def take(self, resources: Resources) -> WorkerGroup | None:
        """The group, if it will do for `resources`; one that won't is closed."""
        if self._group and not (self._group.is_sound and self._group.resources == resources):
            self.release()
        group, self._group = self._group, None
        return group

    def release(self) -> None:
        """Close the group."""
        if self._group:
            self._group.close()
            self._group = None


_kept: _Kept | None = None


def keep_groups() -> None:
    """From now on let the group of each training of this process stay for the next of equal resources."""
    global _kept
    _kept = _Kept()


def release_group() -> None:
    """Give the resources of a group that waits for a training back."""
    if _kept:
        _kept.release()


@contextmanager
def group_at(job: Job, resources: Resources) -> Iterator[WorkerGroup]:
    """A group that trains `job`: one that was kept, or a new one."""
    group = (_kept.take(resources) if _kept else None) or WorkerGroup(resources)
    try:
        group.give(job, last=_kept is None)
        yield group
    except BaseException:
        group.close()
        raise
    if _kept and group.is_sound:
        _kept.keep(group)
    else:
        group.close()


def _open_channel() -> Any:
    """An actor between the driver and the workers: jobs go one way, and rank 0's events, for display, the other.

    Its class is local, so that Ray sends it by value: the actor imports neither this module nor torch, which would take
    it five seconds of a core and 400 MB. So jobs pass through it pickled.
    """

    class Channel:
        def __init__(self) -> None:
            self._events: deque[Any] = deque(maxlen=10_000)
            self._jobs: list[bytes] = []
            self._is_closed, self._done, self._starts = False, 0, 0

        def give(self, job: bytes) -> None:
            self._jobs.append(job)

        def close(self) -> None:
            self._is_closed = True

        def start(self) -> int:
            """The workers have started, for the first time or again; the number of the job to begin with."""
            self._starts += 1
            return self._done

        def job(self, number: int) -> bytes | bool:
            """A job, False before it is given, or True if it never will be."""
            return self._jobs[number] if number < len(self._jobs) else self._is_closed

        def finish(self, number: int) -> None:
            self._done = number + 1

        def push(self, event: Any) -> None:
            self._events.append(event)

        def news(self) -> tuple[list[Any], int, int]:
            """Events since the last call, jobs done, and how often workers have started."""
            events = list(self._events)
            self._events.clear()
            return events, self._done, self._starts

    return ray.remote(num_cpus=0, scheduling_strategy=here())(Channel).remote()


def _loop(config: dict[str, Any]) -> bool:
    """What Ray Train runs on each worker: job after job. Whether the last has ended, or else the workers left."""
    channel = config["channel"]
    device = ray.train.torch.get_device()
    is_first = ray.train.get_context().get_world_rank() == 0
    number = Comm(device=device).broadcast_object(ray.get(channel.start.remote()) if is_first else None)
    for job in _jobs(channel, number):
        meters = TrainingMeters(job.name)

        def tell(event: Event, meters: TrainingMeters = meters) -> None:
            meters.on_event(event)
            channel.push.remote(event)

        if not work(job, device=device, tell=tell, leaving=Notices()):
            return False
        if is_first:
            ray.get(channel.finish.remote(number))
        number += 1
    return True


def _jobs(channel: Any, number: int) -> Iterator[Job]:
    """The jobs from `number` on, waited for, until there will be no more."""
    while True:
        found = ray.get(channel.job.remote(number))
        if found is True:
            return
        if found is False:
            time.sleep(_IDLE_S)
        else:
            yield pickle.loads(found)  # the driver's own
            number += 1


class _EndOnDeliberateErrors(UserCallback):
    """Ends the run when a worker raised an error on purpose: the controller doesn't retry errors of callbacks."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise the workers' deliberate error. Storage that was away may be back: that is retried."""
        deliberate = _lowest(worker_exceptions)
        if deliberate and not isinstance(deliberate, StorageError):
            raise deliberate


def _lowest(errors: dict[int, Exception]) -> I2IError | None:
    """The deliberate error of the lowest rank that raised one."""
    return next((error for _, error in sorted(errors.items()) if isinstance(error, I2IError)), None)


def _deliberate(failure: Exception) -> I2IError | None:
    """The deliberate error behind a failure of Ray Train, if there is one."""
    if isinstance(failure, ray.train.WorkerGroupError):
        return _lowest(failure.worker_failures)
    if isinstance(failure, ray.train.ControllerError) and isinstance(failure.controller_failure, I2IError):
        return failure.controller_failure
    return None


def _trainer(resources: Resources, channel: Any, scratch: str) -> ray.train.torch.TorchTrainer:
    gpus = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    low, high = resources.workers_range
    if resources.device == "cuda" and gpus < low:
        raise RunError(f"resources.device=cuda needs a GPU for each of {low} workers; Ray has {gpus:.0f}.")
    use_gpu = resources.device == "cuda" or (resources.device == "auto" and gpus >= low)
    return ray.train.torch.TorchTrainer(
        _loop,  # type: ignore[arg-type]  # Ray's hints are V1's
        train_loop_config={"channel": channel},
        torch_config=Listening(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=low if low == high else (low, high),  # type: ignore[arg-type]  # likewise
            use_gpu=use_gpu,
            resources_per_worker={"CPU": resources.threads_per_worker or 1, **({"GPU": 1} if use_gpu else {})},
            placement_strategy="SPREAD",
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=scratch,
            failure_config=FailureConfig(max_failures=resources.max_failures),
            callbacks=[_EndOnDeliberateErrors()],  # type: ignore[list-item]  # likewise
        ),
    )


class _Fit:
    """`TorchTrainer.fit` in a thread, so that this one can show events and answer signals."""

    def __init__(self, trainer: ray.train.torch.TorchTrainer) -> None:
        self._failure: Exception | None = None
        self._ended: bool = True
        self._thread = threading.Thread(target=self._run, args=(trainer,), name="ray train", daemon=True)
        self._thread.start()

    def _run(self, trainer: ray.train.torch.TorchTrainer) -> None:
        try:
            self._ended = bool(trainer.fit().return_value)  # type: ignore[attr-defined]  # likewise
        except Exception as error:  # raised in the driver's thread by ended()
            self._failure = error

    def runs_on(self, wait_s: float) -> bool:
        """Whether it runs, after a wait."""
        self._thread.join(wait_s)
        return self._thread.is_alive()

    def ended(self, folder: RunFolder) -> bool:
        """Whether the run has ended; raises what ended the training, if anything did."""
        if self._failure is None:
            return self._ended
        deliberate = _deliberate(self._failure)
        if deliberate:
            raise deliberate
        raise RunError(
            f"Training failed for good: {self._failure} See {folder.log(0)}. "
            f"`i2idist resume {folder.name}` goes on from the newest checkpoint."
        ) from self._failure
