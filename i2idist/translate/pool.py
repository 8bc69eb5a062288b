"""Who works on the items of a translation or an evaluation: a pool of Ray actors, or this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from i2idist.errors import ConfigError
from i2idist.train.precision import threads as computing_with


class _Item(Protocol):
    @property
    def number(self) -> int: ...

    @property
    def name(self) -> str: ...


ItemT = TypeVar("ItemT", bound=_Item)
ItemT_contra = TypeVar("ItemT_contra", bound=_Item, contravariant=True)
ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Work(Protocol[ItemT_contra, ResultT_co]):
    """Works on an item, and tells `report` how far it is."""

    def __call__(self, item: ItemT_contra, report: Callable[[int], None], /) -> ResultT_co:
        """Work on an item."""
        ...

    def close(self) -> None:
        """Let go of files and threads."""
        ...


def check_workers(launcher: str, workers: int | None) -> None:
    """Refuse a launcher or number of workers that there isn't.

    Raises:
        ConfigError: there isn't.
    """
    if launcher not in ("ray", "local"):
        raise ConfigError(f"launcher is {launcher!r}: it is 'ray' or 'local'.")
    if workers is not None and (workers < 1 or (launcher == "local" and workers > 1)):
        raise ConfigError(f"workers is {workers}: it is at least 1, and 1 for launcher=local.")


def work_off(
    make: Callable[[], Work[ItemT, ResultT]],
    items: Sequence[ItemT],
    *,
    launcher: str,
    workers: int | None,
    threads: int,
    gpu: bool,
    say: Callable[[str], None],
    report: Callable[[int, int], None] = lambda number, done: None,
) -> Generator[ResultT]:
    """Work on all items, in any order; see `i2idist.launch.actors.work_off`.

    Args:
        make: makes a worker ready, once a process.
        items: the work.
        launcher: `ray`: a pool of actors; `local`: this process alone, whose threads are put back afterwards.
        workers: actors; None: as many as there are cores, or GPUs, for.
        threads: that each worker computes with.
        gpu: whether each takes a GPU.
        say: told what a person waits for, and what failed.
        report: told the number of an item under way and how far it is.

    Raises:
        I2IError: what `make` or the work raised; a `RunError` where actors died too often.
    """
    if launcher == "local":
        yield from _alone(make, items, threads, report)
        return
    from i2idist.launch import actors

    yield from actors.work_off(make, items, workers=workers, threads=threads, gpu=gpu, report=report, say=say)


def _alone(
    make: Callable[[], Work[ItemT, ResultT]],
    items: Sequence[ItemT],
    threads: int,
    report: Callable[[int, int], None],
) -> Generator[ResultT]:
    with computing_with(threads):
        work = make()
        try:
            for item in items:
                yield work(item, partial(report, item.number))
        finally:
            work.close()
