"""The Ray launcher: a group of Ray Train V2 workers, on a Ray of our own or, with RAY_ADDRESS, on a cluster.

Ray decides who works, and starts workers again when one dies; checkpoints, events and the run folder are ours. Workers
who leave a machine that is taken away end without a result, and others go on: that is no failure. A deliberate error,
which no restart would mend, ends the run at once; any other is retried from the newest checkpoint.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray

from i2idist.experiment import Resources
from i2idist.launch.processes import cores
from i2idist.launch.reap import recorded
from i2idist.launch.run_folder import RunFolder
from i2idist.launch.signals import Interruption
from i2idist.launch.worker import Job
from i2idist.launch.worker_group import group_at
from i2idist.train.loop import Event

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
    with _environment(_ENVIRONMENT), cluster(resources, say), interruption:
        while not _ended(job, resources, folder, tell, interruption):
            say("A machine is taken away: the workers left with a checkpoint, and others go on from there.")


def _ended(
    job: Job, resources: Resources, folder: RunFolder, tell: Callable[[Event], None], interruption: Interruption
) -> bool:
    """Follow a training; whether the run has ended with it, or else its workers left."""
    asked = False
    with group_at(job, resources) as group:
        while group.works(tell):
            if interruption() and not asked:
                folder.request_stop()
                asked = True
        return group.ended(folder)


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
