"""The Ray to work on: the one that is connected already, RAY_ADDRESS's, or one of our own.

Actors of translations and evaluations import this module, so it leaves Ray Train alone, which takes a second of a core.
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
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from i2idist.experiment import Resources
from i2idist.launch.processes import cores
from i2idist.launch.reap import recorded

_EMBEDDED = {
    "RAY_AUTH_MODE": "disabled",  # nothing but the loopback interface is listened on
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one node, which nobody preempts
}


@contextmanager
def cluster(resources: Resources, say: Callable[[str], None]) -> Iterator[None]:
    """The Ray that is connected already, or RAY_ADDRESS's, or one of our own until the end."""
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        _connect()
        yield
        return
    say("Starting Ray ...")
    with recorded() as folder, environment({**_EMBEDDED, **_loopback()}):
        _start(resources, str(folder))
        try:
            yield
        finally:
            ray.shutdown()


def _connect() -> None:
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)  # takes RAY_ADDRESS


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
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables that aren't set, for a while."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def threads_on_cluster(workers: int) -> int:
    """Threads for each of `workers` spread over the cluster at RAY_ADDRESS, by its smallest node."""
    _connect()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    sizes = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    sizes = [size for size in sizes if size]
    return max(1, min(sizes, default=1) // math.ceil(workers / max(1, len(sizes))))


def here() -> Any:
    """This process's node, as where to run: a driver's own actors stay with it, since other nodes may go."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
