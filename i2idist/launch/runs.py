"""The driver's side of a run: create or continue it, launch its workers, say how it ended."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from i2idist import storage
from i2idist.data.batches import share
from i2idist.data.generated import is_generated
from i2idist.errors import RunError, StorageError
from i2idist.experiment import Experiment, differences, from_dict, may_change, method_class, read_experiment
from i2idist.launch import local
from i2idist.launch.lease import Lease, Watch
from i2idist.launch.processes import Process, cores
from i2idist.launch.reap import reap
from i2idist.launch.run_folder import RunFolder, minted_name, runs_root
from i2idist.launch.signals import Interruption
from i2idist.launch.sources import adopt_pins, pin_sources
from i2idist.launch.worker import Job, check
from i2idist.recipe import override
from i2idist.tracking import deliver_rest, require_server, resolve_uri
from i2idist.tracking.settings import shown
from i2idist.train.loop import Event, Judge

_LOG = logging.getLogger("i2idist")
Say = Callable[[str], None]
Tell = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended, or stands.

    Attributes:
        run: its name.
        url: its folder.
        images: samples drawn by all workers together.
        steps: training steps taken.
        stopped: `done` at `total_images`, `early` for want of improvement, `stop` on request, `pruned` by its judge.
        checkpoint: URL of the last checkpoint.
        best: name of the best checkpoint, if a criterion was set and met.
        params_sha256: digest of the method's parameters and buffers.
        images_per_s: throughput of the last launch.
        step_s: seconds of the last launch inside training steps, on rank 0, without waiting for data.
        mlflow_run_id: the MLflow run; None while it is offline.
        signal: number of the signal to this process that stopped it, such as 15; None where none did.
    """

    run: str
    url: str
    images: int
    steps: int
    stopped: str
    checkpoint: str
    best: str | None
    params_sha256: str
    images_per_s: float
    step_s: float | None = None
    mlflow_run_id: str | None = None
    signal: int | None = None


def train(
    recipe: str | Experiment,
    *,
    overrides: Mapping[str, Any] | None = None,
    run: str | None = None,
    root: str | None = None,
    judge: Judge | None = None,
    study: str | None = None,
    on_event: Tell = lambda event: None,
    say: Say = lambda message: None,
) -> Result:
    """Create a run, or continue the one of that name, and train it to its end.

    Args:
        recipe: a recipe's name, path or URL; or an experiment.
        overrides: values by dotted key, such as `{"method.lambda_mi": 2.0}`.
        run: the run's name; None: a new one is made up.
        root: where runs are; None: I2IDIST_RUNS, or ./runs.
        judge: called on rank 0 after each validation; its True ends the run as `pruned`. It must be picklable.
        study: the search that the run belongs to, for the catalog.
        on_event: called with each event of training, as JSON-able records.
        say: called with messages for a person.

    Raises:
        ConfigError: the recipe or an override can't be used.
        RunError: the run exists with another experiment, or its workers failed.
        LeaseError: another process is writing the run.
        TrackingError: MLflow doesn't answer, and the run isn't `tracking.offline`.
    """
    if isinstance(recipe, Experiment):
        experiment = from_dict(override(recipe.as_dict(), overrides or {}), "the experiment", overrides)
    else:
        experiment = read_experiment(recipe, overrides)
    stem = os.path.splitext(os.path.basename(recipe))[0] if isinstance(recipe, str) else experiment.method.name
    folder = RunFolder(runs_root(root), minted_name(stem) if run is None else run)
    is_new = not folder.exists()
    if is_new:
        pinned = _pinned(_capped(experiment), folder.root)
        check(pinned, pinned.resources.workers_range[0], folder)
        require_server(resolve_uri(pinned.tracking, folder.root))
        is_new = folder.create(pinned)
    if not is_new:
        return _continue("train", folder, experiment, on_event, say, judge, study)
    say(f"Created run {folder.name} in {folder.root}")
    with _claimed(folder, say) as session:
        return _launch("train", folder, pinned, session, on_event, say, judge, study)


def resume(
    name: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    root: str | None = None,
    on_event: Tell = lambda event: None,
    say: Say = lambda message: None,
) -> Result:
    """Continue a run by its name; `overrides` may change lengths, intervals and resources. Otherwise as `train`."""
    folder = RunFolder.existing(runs_root(root), name)
    where = folder.file("experiment.yaml")
    experiment = from_dict(override(folder.experiment().as_dict(), overrides or {}), where, overrides)
    return _continue("resume", folder, experiment, on_event, say)


def stop(name: str, *, root: str | None = None, wait: bool = False) -> None:
    """Ask a run to stop with a checkpoint. One that is just starting stops after its first step.

    Args:
        name: the run.
        root: where runs are.
        wait: return when no process writes the run, or its writer has shown no sign of life for a minute.

    Raises:
        RunError: there is no such run, or it has ended.
    """
    folder = RunFolder.existing(runs_root(root), name)
    if folder.result() is not None:
        raise RunError(f"The run '{name}' has ended, so there is nothing to stop.")
    from i2idist.catalog import hooks  # brings SQLAlchemy, half a second

    folder.request_stop()
    hooks.stopping(folder.url, root=folder.root, say=_LOG.warning)
    watch = Watch(folder.lease)
    while wait and not watch.over():
        time.sleep(0.5)


def logs(name: str, *, root: str | None = None, follow: bool = False) -> Iterator[Event]:
    """The events of a run, as they were recorded; with `follow`, those to come as well, until nobody writes it.

    Steps that are taken again after a failure are given again.
    """
    folder = RunFolder.existing(runs_root(root), name)
    watch = Watch(folder.lease)
    shown: list[bytes] = []
    while True:
        ended = folder.result() is not None or watch.over()
        lines = _lines(folder)
        yield from map(json.loads, lines[_common(shown, lines) :])
        if ended or not follow:
            return
        shown = lines
        time.sleep(1.0)


def _lines(folder: RunFolder) -> list[bytes]:
    if not storage.exists(folder.metrics):
        return []
    return storage.read_bytes(folder.metrics).split(b"\n")[:-1]


def _common(old: list[bytes], new: list[bytes]) -> int:
    """How many first lines are equal: a run that continues drops the events past its checkpoint."""
    pairs = zip(old, new, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(old), len(new)))


def _pinned(experiment: Experiment, root: str) -> Experiment:
    """Fix what must not change when a run is continued elsewhere: threads, sources, the data's place."""
    resources, data = experiment.resources, experiment.data
    if resources.threads_per_worker is None:
        experiment = experiment.replace_resources(threads_per_worker=_threads(experiment))
    if storage.is_local(data.url) and not is_generated(data.url):
        url = str(storage.local_path(data.url).resolve())
        experiment = dataclasses.replace(experiment, data=dataclasses.replace(data, url=url))
    return pin_sources(experiment, root)


def _threads(experiment: Experiment) -> int:
    workers = experiment.resources.workers_range[1]
    if experiment.resources.launcher == "ray" and os.environ.get("RAY_ADDRESS"):
        from i2idist.launch.cluster import threads_on_cluster

        return threads_on_cluster(workers)
    return max(1, cores() // workers)


def continued(folder: RunFolder, requested: Experiment) -> tuple[Experiment, dict[str, tuple[Any, Any]]]:
    """What a run goes on with, and which keys that changes, from which value to which.

    Raises:
        RunError: the run has another experiment, and not only in what may change.
    """
    stored = folder.experiment()
    requested = adopt_pins(requested, stored)
    if requested.resources.threads_per_worker is None:
        requested = requested.replace_resources(threads_per_worker=stored.resources.threads_per_worker)
    requested = _pinned(_capped(requested), folder.root)
    changes = differences(stored, requested)
    refused = {key: values for key, values in changes.items() if not may_change(key)}
    if refused:
        listed = "; ".join(f"{key} is {old!r} there, {new!r} here" for key, (old, new) in refused.items())
        raise RunError(
            f"The run '{folder.name}' has another experiment: {listed}. Use those values, or give another --run name."
        )
    return requested, changes


def check_launch(folder: RunFolder, experiment: Experiment) -> None:
    """Raise what `train` would raise before it starts anything, and start nothing; servers aren't asked."""
    if folder.exists():
        experiment, _ = continued(folder, experiment)
    else:
        experiment = pin_sources(_capped(experiment), folder.root)
    check(experiment, experiment.resources.workers_range[0], folder)


def _continue(
    kind: str,
    folder: RunFolder,
    requested: Experiment,
    on_event: Tell,
    say: Say,
    judge: Judge | None = None,
    study: str | None = None,
) -> Result:
    requested, changes = continued(folder, requested)
    result = folder.result()
    if result and _finished(result, changes, requested):
        say(f"The run {folder.name} is finished: {result['images']} images ({result['stopped']}).")
        return result_of(folder, _delivered(folder, requested, result, say))
    with _claimed(folder, say) as session:
        check(requested, requested.resources.workers_range[0], folder)
        if changes:
            folder.change(requested)
            _say_changes(changes, say)
        folder.clear_result()
        say(f"Continuing run {folder.name} in {folder.root}")
        return _launch(kind, folder, requested, session, on_event, say, judge, study)


@contextmanager
def _claimed(folder: RunFolder, say: Say) -> Iterator[str]:
    """Hold the run for a launch until its first worker takes the lease over; yields the launch's session."""
    session = uuid.uuid4().hex
    lease = Lease.acquire(folder.lease, session, Process.current(), say)
    try:
        yield session
    finally:
        with suppress(StorageError):  # then it is free once this process has ended
            lease.release()


def _finished(result: dict[str, Any], changes: Mapping[str, Any], requested: Experiment) -> bool:
    if result["stopped"] == "early":
        return not {"train.total_images", "train.patience"} & changes.keys()
    return bool(result["images"] >= requested.train.total_images)


def _say_changes(changes: Mapping[str, tuple[Any, Any]], say: Say) -> None:
    for key, (old, new) in changes.items():
        say(f"Changed: {key} {old} -> {new}")
    if "train.total_images" in changes:
        say("Schedules and stages now follow the new total, so the whole differs from one run of that length.")


def _launch(
    kind: str,
    folder: RunFolder,
    experiment: Experiment,
    session: str,
    on_event: Tell,
    say: Say,
    judge: Judge | None,
    study: str | None,
) -> Result:
    """Train, with a row in the catalog that says so."""
    from i2idist.catalog import hooks  # brings SQLAlchemy, half a second

    known: dict[str, Any] = {"root": folder.root, "run_url": folder.url, "experiment": experiment.as_dict()}
    known["study"] = study
    with hooks.launch(kind, folder.name, **known, say=say) as row:
        result = _run(folder, experiment, session, row.watching(on_event), say, judge)
        row.ended("stopped" if result.stopped == "stop" else "done", mlflow_run_id=result.mlflow_run_id)
    return result


def _run(
    folder: RunFolder, experiment: Experiment, session: str, on_event: Tell, say: Say, judge: Judge | None
) -> Result:
    """Run the workers to their end, under the lease of `session`."""
    for process in reap():
        say(f"Ended process {process.pid}, left over from a killed launch.")
    resources = experiment.resources
    folder.clear_stop()
    uri = resolve_uri(experiment.tracking, folder.root)
    if uri and uri != shown(uri):
        uri = None  # jobs can be looked at: workers take a URI with a password from their own environment
    job = Job(folder.root, folder.name, experiment.as_yaml(), session, Process.current(), uri, judge)
    interruption = Interruption(say)
    total = experiment.train.total_images
    on_event({"event": "launch", "run": folder.name, "time": time.time(), "total_images": total})
    if resources.launcher == "local":
        local.run(job, resources, on_event, interruption)
    else:
        from i2idist.launch import ray

        ray.run(job, resources, on_event, interruption, say)
    result = folder.result()
    if result is None:
        raise RunError(f"The workers of run '{folder.name}' left no result: see {folder.log(0)}, and resume the run.")
    found = result_of(folder, result)
    return dataclasses.replace(found, signal=interruption.number) if found.stopped == "stop" else found


def _capped(experiment: Experiment) -> Experiment:
    """With no more workers than the batch has groups, which is refused where even the smallest number is too large."""
    group = method_class(experiment.method).group_size
    batch = experiment.train.batch_size
    low, high = experiment.resources.workers_range
    share(batch, group, 0, low)
    high = min(high, batch // group)
    return experiment if low == high else experiment.replace_resources(num_workers=(low, high))


def result_of(folder: RunFolder, values: Mapping[str, Any]) -> Result:
    """The result that a run's folder keeps."""
    names = [field.name for field in dataclasses.fields(Result) if field.name != "url"]
    known: dict[str, Any] = {name: values.get(name) for name in names}
    return Result(url=folder.url, **known)


def _delivered(folder: RunFolder, experiment: Experiment, result: dict[str, Any], say: Say) -> dict[str, Any]:
    """Tell MLflow what a run that ended couldn't; its result, with the MLflow run."""
    uri, record = resolve_uri(experiment.tracking, folder.root), folder.record()
    tracked = deliver_rest(experiment.tracking, uri, folder.url, folder.name, record.get("tracking"))
    if tracked is None:
        return result
    folder.write_record({**record, "tracking": tracked})
    result = {**result, "mlflow_run_id": tracked["run_id"]}
    folder.write_result(result)
    say(f"Delivered what was left to MLflow at {tracked['uri']}.")
    return result
