"""The Ray launcher: Ray Train V2 workers, on a Ray of our own or, with RAY_ADDRESS, on a cluster.

Ray decides who works, and starts workers again when one dies; checkpoints, events and the run folder are ours. Workers
who leave a machine that is taken away end without a result, and others go on: that is no failure. A deliberate error,
which no restart would mend, ends the run at once; any other is retried from the newest checkpoint.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from i2idist.errors import I2IError, RunError, StorageError
from i2idist.experiment import Resources
from i2idist.launch.leaving import Listening, Notices
from i2idist.launch.processes import cores
from i2idist.launch.reap import recorded
from i2idist.launch.run_folder import RunFolder
from i2idist.launch.signals import Interruption
from i2idist.launch.worker import Job, work
from i2idist.train.loop import Event

_POLL_S = 1.0
_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",  # how soon a dead worker is noticed; Ray's default is 2 s
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # how soon a draining node is noticed; Ray's default is 5 s
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in workers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # CPU workers keep seeing CUDA_VISIBLE_DEVICES as it was
}
_EMBEDDED = {
    "RAY_AUTH_MODE": "disabled",  # nothing but the loopback interface is listened on
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one node, which nobody preempts
}


def run(
    job: Job,
    resources: Resources,
    tell: Callable[[Event], None],
    interruption: Interruption,
    say: Callable[[str], None],
) -> None:
    """Train `job` on Ray workers.

    Args:
        job: the run.
        resources: workers, threads, device and failures allowed; the threads are resolved.
        tell: called with each event, in this process.
        interruption: stops the run with a checkpoint.
        say: told what a person waits for.

    Raises:
        I2IError: what the training raised, or a `RunError` where workers failed too often.
    """
    folder = RunFolder(job.root, job.name)
    with ExitStack() as stack:
        stack.enter_context(_environment(_ENVIRONMENT))
        stack.enter_context(cluster(resources, say))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="i2idist-ray-"))
        channel = _open_channel()
        with interruption:
            while not _ended(_Fit(_trainer(job, resources, channel, scratch)), folder, channel, tell, interruption):
                say("A machine is taken away: the workers left with a checkpoint, and others go on from there.")


def _ended(
    fit: _Fit, folder: RunFolder, channel: Any, tell: Callable[[Event], None], interruption: Interruption
) -> bool:
    """Follow a training; whether the run has ended with it, or else its workers left."""
    asked = False
    while fit.running():
        _forward(channel, tell)
        if interruption() and not asked:
            folder.request_stop()
            asked = True
    _forward(channel, tell)
    return fit.ended(folder)


def threads_on_cluster(workers: int) -> int:
    """Threads for each of `workers` spread over the cluster at RAY_ADDRESS, by its smallest node."""
    _connect()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    sizes = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    sizes = [size for size in sizes if size]
    return max(1, min(sizes, default=1) // math.ceil(workers / max(1, len(sizes))))


def _connect() -> None:
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)  # takes RAY_ADDRESS


@contextmanager
def cluster(resources: Resources, say: Callable[[str], None]) -> Iterator[None]:
    """The Ray that is connected already, or RAY_ADDRESS's, or one of our own until the end."""
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        _connect()
        yield
        return
    say("Starting Ray ...")
    with recorded() as folder, _environment({**_EMBEDDED, **_loopback()}):
        _start(resources, str(folder))
        try:
            yield
        finally:
            ray.shutdown()


def _start(resources: Resources, folder: str) -> None:
    ray.init(
        # Never fewer than the smallest number of workers needs; a larger number would only share the same cores.
        num_cpus=max(cores(), resources.workers_range[0] * (resources.threads_per_worker or 1)),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 * 2**20,
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
    )


def _loopback() -> dict[str, str]:
    """Let gloo use the loopback interface: left alone, it resolves the host's name, which may lead anywhere."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(a.family == socket.AF_INET and a.address == "127.0.0.1" for a in addresses):
            return {"GLOO_SOCKET_IFNAME": name}
    return {}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables that aren't set, for a while."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _open_channel() -> Any:
    """An actor that carries rank 0's events to the driver, for display: the run folder has them all.

    Its class is local, so that Ray sends it by value: the actor imports neither this module nor torch, which would take
    it five seconds of a core and 400 MB.
    """

    class Channel:
        def __init__(self) -> None:
            self._events: deque[Any] = deque(maxlen=10_000)

        def push(self, event: Any) -> None:
            self._events.append(event)

        def pull(self) -> list[Any]:
            events = list(self._events)
            self._events.clear()
            return events

    return ray.remote(num_cpus=0, scheduling_strategy=here())(Channel).remote()


def here() -> Any:
    """This process's node, as where to run: a driver's own actors stay with it, since other nodes may go."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _forward(channel: Any, tell: Callable[[Event], None]) -> None:
    for event in ray.get(channel.pull.remote()):
        tell(event)


def _loop(config: dict[str, Any]) -> bool:
    """What Ray Train runs on each worker; whether the run has ended."""
    channel = config["channel"]
    return work(
        config["job"],
        device=ray.train.torch.get_device(),
        tell=lambda event: channel.push.remote(event) and None,
        leaving=Notices(),
    )


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


def _trainer(job: Job, resources: Resources, channel: Any, scratch: str) -> ray.train.torch.TorchTrainer:
    gpus = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    low, high = resources.workers_range
    if resources.device == "cuda" and gpus < low:
        raise RunError(f"resources.device=cuda needs a GPU for each of {low} workers; Ray has {gpus:.0f}.")
    use_gpu = resources.device == "cuda" or (resources.device == "auto" and gpus >= low)
    return ray.train.torch.TorchTrainer(
        _loop,  # type: ignore[arg-type]  # Ray's hints are V1's
        train_loop_config={"job": job, "channel": channel},
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

    def running(self) -> bool:
        """Whether it runs, after a moment's wait."""
        self._thread.join(_POLL_S)
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
