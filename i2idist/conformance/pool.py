"""A few processes in one gloo group, kept for many small trainings with 1, 2, ... of them."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from i2idist.train.comm import Comm

_LIMIT_S = 60
"""How long a collective waits for a rank that failed."""

Job = Callable[..., Any]
"""A module-level function called as `job(comm, **arguments)` on each worker; what rank 0 returns is sent back."""


class WorkerPool:
    """Workers that wait for jobs. A job runs on the first `world_size` of them as one data-parallel group."""

    def __init__(self, size: int = 4) -> None:
        """Start `size` processes with one thread each."""
        self._size = size
        self._latest: tuple[Any, Any] | None = None
        self._start()

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="i2idist-pool-")
        context = mp.get_context("spawn")
        self._pipes: list[Connection] = []
        self._workers = []
        size = self._size
        for rank in range(size):
            here, there = context.Pipe()
            worker = context.Process(
                target=_serve, args=(rank, size, f"{self._folder.name}/rendezvous", there), daemon=True
            )
            worker.start()
            self._pipes.append(here)
            self._workers.append(worker)

    def run(self, job: Job, world_size: int, **arguments: Any) -> Any:
        """Run a job on `world_size` workers and return rank 0's result.

        Raises:
            RuntimeError: the job failed on some rank; the message holds that rank's traceback.
        """
        for pipe in self._pipes[:world_size]:
            pipe.send((job, world_size, arguments))
        replies = [_unpacked(pipe.recv_bytes()) for pipe in self._pipes[:world_size]]
        failed = [f"rank {rank}:\n{reply[1]}" for rank, reply in enumerate(replies) if not reply[0]]
        if failed:
            self.close()  # collectives may have been left half-way
            self._start()
            raise RuntimeError("\n".join(failed))
        return replies[0][1]

    def again(self, job: Job, world_size: int, **arguments: Any) -> Any:
        """What `run` gives, without running where the latest call of this method asked for the same."""
        asked = (job, world_size, arguments)
        if self._latest is None or self._latest[0] != asked:
            self._latest = (asked, self.run(job, world_size, **arguments))
        return self._latest[1]

    def close(self) -> None:
        """End the workers."""
        for pipe, worker in zip(self._pipes, self._workers, strict=True):
            if worker.is_alive():
                pipe.send(None)
        for worker in self._workers:
            worker.join(10)
            if worker.is_alive():
                worker.kill()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        """The pool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        self.close()


def _loopback() -> str:
    """The loopback interface's name: left alone, gloo resolves the host's name, which may lead anywhere."""
    return "lo0" if sys.platform == "darwin" else "lo"


def _serve(rank: int, size: int, rendezvous: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    limit = timedelta(seconds=_LIMIT_S)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size, timeout=limit)
    groups: dict[int, Any] = {n: dist.new_group(list(range(n)), timeout=limit) for n in range(2, size + 1)}
    while (work := pipe.recv()) is not None:
        job, world_size, arguments = work
        comm = Comm(groups[world_size]) if world_size > 1 else Comm.alone()
        try:
            result = job(comm, **arguments)
            pipe.send_bytes(_packed((True, result if rank == 0 else None)))
        except Exception:  # carried to the caller, who raises it
            pipe.send_bytes(_packed((False, traceback.format_exc())))
    dist.destroy_process_group()


def _packed(reply: tuple[bool, Any]) -> bytes:
    """In one piece: `Connection.send` opens a socket for each tensor, which costs more than the trainings."""
    file = io.BytesIO()
    torch.save(reply, file)
    return file.getvalue()


def _unpacked(reply: bytes) -> Any:
    return torch.load(io.BytesIO(reply), weights_only=False)  # the pool's own worker wrote it
