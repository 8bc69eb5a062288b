"""What every worker of a run does, under whatever launcher.

All workers call `work` alike. Rank 0 alone writes the run folder, under the lease, and tells the driver what happens.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from i2idist import storage
from i2idist.catalog.hooks import SUBMISSION
from i2idist.data.batches import Batch
from i2idist.data.cache import default_folder
from i2idist.data.generated import is_generated, resolve
from i2idist.data.manifest import load_manifest
from i2idist.data.reader import Reader
from i2idist.data.settings import DataSettings
from i2idist.errors import I2IError, RunError
from i2idist.experiment import Experiment, from_yaml, method_class
from i2idist.launch.about import about_run
from i2idist.launch.facts import facts, merged
from i2idist.launch.journal import LineFile, LogHandler
from i2idist.launch.lease import Lease
from i2idist.launch.processes import Process
from i2idist.launch.run_folder import RunFolder
from i2idist.launch.sources import load_source
from i2idist.launch.writer import Follower, Writer
from i2idist.method import Method
from i2idist.methods import check_label_maps
from i2idist.randomness import key_of
from i2idist.tracking import resolve_uri, start_tracking
from i2idist.tracking.run import Tracker
from i2idist.tracking.watch import TrackingWatcher
from i2idist.train.checkpoint import Checkpoints
from i2idist.train.comm import Comm
from i2idist.train.loop import Event, Judge, Leaving, Outcome, fit
from i2idist.train.precision import threads
from i2idist.train.trainer import Trainer

VALIDATION_SPLIT = "val"
CLASSIFIERS = "classifiers"
"""The folder beside runs that keeps classifiers, for protocols that read translations with one."""
_INPUTS, _NEIGHBOURS = 4, 1000
"""How many inputs pictures show, and among how many training images the nearest of a sample is looked for."""
_PATIENCE_S = 300.0
"""How long training waits for a store that goes away."""
_LOG = logging.getLogger("i2idist")


@dataclass(frozen=True)
class Job:
    """What a driver hands to its workers; small and picklable.

    Attributes:
        root: where runs are.
        name: the run.
        experiment: the resolved experiment, as YAML.
        session: names this launch.
        driver: the launching process.
        tracking_uri: where MLflow is; None: offline, or the worker's environment says it.
        judge: decides on rank 0 after each validation whether to go on.
    """

    root: str
    name: str
    experiment: str
    session: str
    driver: Process
    tracking_uri: str | None = None
    judge: Judge | None = None


def work(
    job: Job,
    *,
    device: torch.device,
    tell: Callable[[Event], None],
    interrupted: Callable[[], bool] = lambda: False,
    leaving: Leaving | None = None,
) -> bool:
    """Train a run to its end, from wherever it stands. Every worker calls this alike.

    Args:
        job: the run.
        device: this worker's device.
        tell: called on rank 0 with each event.
        interrupted: polled after each step; True stops the run with a checkpoint.
        leaving: hears of machines that are taken away.

    Returns:
        Whether the run has ended; False where the workers left with a checkpoint, for others to go on.

    Raises:
        LeaseError: another process writes the run folder.
        I2IError: what data, method or training raise.
    """
    experiment = from_yaml(job.experiment, f"the experiment of run '{job.name}'")
    folder = RunFolder(job.root, job.name)
    comm = Comm(device=device)
    with ExitStack() as stack:
        stack.enter_context(storage.patience(_PATIENCE_S))
        count = experiment.resources.threads_per_worker
        assert count is not None, "threads are resolved when a run is created"
        stack.enter_context(threads(count))
        about = {"run": job.name, "job": os.environ.get(SUBMISSION), "rank": comm.rank}
        stack.enter_context(_logging(folder.log(comm.rank), about))
        writer = stack.enter_context(_writer(job, experiment, folder, comm, tell))
        stop = lambda: writer.should_stop() or interrupted()  # noqa: E731
        outcome = _train(experiment, folder, comm, device, writer, stop, job.judge, leaving)
        if outcome.stopped == "left":
            return False
        writer.finish(outcome)
        return True


def check(experiment: Experiment, workers: int, folder: RunFolder) -> None:
    """Open the data and build the method, as a worker of `workers` will: errors come before anything is started.

    Raises:
        I2IError: what data or method raise.
    """
    with ExitStack() as stack:
        train, _ = open_readers(experiment, 0, workers, stack)
        build(experiment, train, from_sources=not Checkpoints(folder.checkpoints).names())
        if experiment.train.validate_protocols:
            from i2idist.evaluate.training import choices_of

            choices_of(experiment.train)


@contextmanager
def _writer(
    job: Job, experiment: Experiment, folder: RunFolder, comm: Comm, tell: Callable[[Event], None]
) -> Iterator[Follower]:
    """Rank 0's writer while it holds the lease; where it can't, its error is raised on every rank."""
    with ExitStack() as stack:
        writer, failure = Follower(), None
        if comm.rank == 0:
            try:
                writer = stack.enter_context(_open_writer(job, experiment, folder, tell))
            except I2IError as error:
                failure = error
        failure = comm.broadcast_object(failure)
        if failure:
            raise failure
        yield writer


def _open_writer(job: Job, experiment: Experiment, folder: RunFolder, tell: Callable[[Event], None]) -> Writer:
    lease = Lease.acquire(folder.lease, job.session, job.driver, _LOG.warning)
    try:
        uri = job.tracking_uri or resolve_uri(experiment.tracking, job.root)
        track = partial(start_tracking, experiment.tracking, uri, folder.url, confirm=lease.confirm)
        return Writer(folder, lease, tell, track)
    except BaseException:
        lease.release()
        raise


def _train(
    experiment: Experiment,
    folder: RunFolder,
    comm: Comm,
    device: torch.device,
    writer: Follower,
    should_stop: Callable[[], bool],
    judge: Judge | None,
    leaving: Leaving | None,
) -> Outcome:
    first, limit = experiment.init_from, experiment.train.validation_images
    with ExitStack() as stack:
        train, validation = open_readers(experiment, comm.rank, comm.world_size, stack)
        _same_data(comm.gather_objects(train.digest), experiment.data.url)
        found = merged(comm.gather_objects(facts(device, comm.world_size)))
        about = about_run(folder, experiment, found, train.manifest, train.url)
        tracker = writer.launched(found, train.digest, about)
        checkpoints = Checkpoints(
            folder.checkpoints,
            keep=experiment.train.keep_checkpoints,
            on_retry=_LOG.warning,
            before_commit=writer.before_commit,
        )
        is_fresh = comm.broadcast_object(not checkpoints.names() if comm.rank == 0 else None)
        method = build(experiment, train, from_sources=is_fresh)
        classifiers = storage.join(folder.root, CLASSIFIERS)
        return fit(
            method,
            training=experiment.train,
            seed=experiment.seed,
            comm=comm,
            device=device,
            batches=train.batches,
            validation=None if validation is None else lambda: _mine(validation, limit, comm),
            checkpoints=checkpoints,
            initial=None if first is None else lambda: load_source(first),
            on_event=writer.on_event,
            should_stop=should_stop,
            measure=_measurer(experiment, method, train, classifiers, comm, device, stack),
            judge=judge,
            leaving=leaving,
            watcher=None if tracker is None else _watcher(tracker, experiment),
        )


def _measurer(
    experiment: Experiment,
    method: Method,
    train: Reader,
    cache: str,
    comm: Comm,
    device: torch.device,
    stack: ExitStack,
) -> Callable[[Trainer], Mapping[str, float]] | None:
    """What measures a validation by the experiment's protocols; None where it names none."""
    if not experiment.train.validate_protocols:
        return None
    from i2idist.evaluate.training import Measurer, evaluation_in_training

    about = (experiment.train, experiment.method.name, method, train.domains, train.url, device, cache)
    made, failure = None, None
    if comm.rank == 0:  # alone, since it may train a classifier
        try:
            made = evaluation_in_training(*about)
        except I2IError as error:
            failure = error
    made, failure = comm.broadcast_object((made, failure))
    if made is None:
        raise failure
    measurer = Measurer(made, method, comm)
    stack.callback(measurer.close)
    return measurer


def _watcher(tracker: Tracker, experiment: Experiment) -> TrackingWatcher:
    """What draws pictures: of the first samples of the validation split, where there is one, and of training images."""
    data = experiment.data

    def inputs() -> Batch:
        splits = load_manifest(_readable(data).url).splits
        return _first(experiment, VALIDATION_SPLIT if VALIDATION_SPLIT in splits else data.split, _INPUTS)

    return TrackingWatcher(tracker, inputs, lambda: _first(experiment, data.split, _NEIGHBOURS), experiment.seed)


def _first(experiment: Experiment, split: str, count: int) -> Batch:
    """The first samples of a split, `count` or as many as there are."""
    cls, settings = method_class(experiment.method), _readable(experiment.data)
    common: dict[str, Any] = {"role": cls.batch_type(experiment.method.config), "seed": experiment.seed}
    reader = Reader(settings, batch_size=count, group_size=1, rank=0, world_size=1, split=split, **common)
    try:
        return next(reader.epoch())
    finally:
        reader.close()


def _same_data(digests: list[str], url: str) -> None:
    """Refuse workers that read different data, which nothing later would notice."""
    if len(set(digests)) > 1:
        found = ", ".join(f"{digest[:12]} on rank {rank}" for rank, digest in enumerate(digests))
        raise RunError(
            f"Workers see different data at data.url={url}: digest {found}. Copy the same dataset to every host, or "
            "put it into storage that all of them share."
        )


def build(experiment: Experiment, reader: Reader, from_sources: bool = True) -> Method:
    """The method with its initial parameters, drawn from the seed on the CPU so that the device doesn't matter.

    Args:
        experiment: the method and its sources.
        reader: tells the domains.
        from_sources: load the sources; False where a checkpoint, which holds all that came from them, follows.

    Raises:
        ConfigError: the data has label maps, and the method doesn't take them.
        I2IError: what the method or its sources raise.
    """
    check_label_maps(experiment.method.name, reader.domains)
    torch.manual_seed(key_of(experiment.seed, "initial parameters"))
    cls, named = method_class(experiment.method), experiment.sources.items()
    config = cls.with_sources(experiment.method.config, {name: s.model for name, s in named if s.model})
    return cls.build(config, reader.domains, {name: load_source(s) for name, s in named} if from_sources else None)


def open_readers(experiment: Experiment, rank: int, world_size: int, stack: ExitStack) -> tuple[Reader, Reader | None]:
    """A worker's readers: the training split's, and the validation split's where training validates.

    Args:
        experiment: says which data, and how it is read; generated data is made on first use.
        rank: the worker, 0-based.
        world_size: the number of workers.
        stack: closes the readers.

    Raises:
        DataError, StorageError: the data can't be read.
        ConfigError: it doesn't fit the method.
    """
    cls = method_class(experiment.method)
    settings = _readable(experiment.data)
    common: dict[str, Any] = {
        "role": cls.batch_type(experiment.method.config),
        "batch_size": experiment.train.batch_size,
        "seed": experiment.seed,
    }
    train = Reader(settings, group_size=cls.group_size, rank=rank, world_size=world_size, **common)
    stack.callback(train.close)
    if experiment.train.validate_every_images is None:
        return train, None
    # A validation batch is evaluated whole on one worker, so each reads as if it were alone and takes every n-th batch.
    validation = Reader(settings, group_size=1, rank=0, world_size=1, split=VALIDATION_SPLIT, **common)
    stack.callback(validation.close)
    return train, validation


def _readable(settings: DataSettings) -> DataSettings:
    """The settings with the URL of data that can be read."""
    if not is_generated(settings.url):
        return settings
    cache = Path(settings.cache_dir).expanduser() if settings.cache_dir else default_folder().parent
    return dataclasses.replace(settings, url=resolve(settings.url, str(cache / "generated")))


def _mine(reader: Reader, limit: int | None, comm: Comm) -> Iterator[Batch]:
    """This worker's whole batches of the first `limit` validation samples."""
    for number, batch in enumerate(reader.epoch()):
        start = int(batch.positions[0])
        if limit is not None and start >= limit:
            return
        if number % comm.world_size == comm.rank:
            yield batch if limit is None else batch[slice(0, limit - start)]


@contextmanager
def _logging(url: str, about: Mapping[str, Any]) -> Iterator[None]:
    """Send warnings of everything, and what i2idist reports, to this rank's log."""
    file = LineFile(url)
    handler = LogHandler(file, about)
    root = logging.getLogger()
    root.addHandler(handler)
    level = _LOG.level
    _LOG.setLevel(logging.INFO)
    try:
        yield
    except Exception:
        _LOG.exception("Training failed")
        raise
    finally:
        root.removeHandler(handler)
        _LOG.setLevel(level)
        file.close()
