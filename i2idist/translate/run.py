"""The driver's side of a translation: workers, progress, what is counted and written at the end.

```
OUT/<model>-<job digest>/job.json          what the digest was taken of, and the model's lineage; written first
                         SPLIT/POOL-*.tar  translations; see `shard`
                         errors.jsonl      the inputs that couldn't be translated, where there are any
                         manifest.json     the folder as a dataset, which every command and reader takes
                         _SUCCESS          written last, when a census has found every file
```
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from i2idist import storage
from i2idist.data.source import PATIENCE_S
from i2idist.errors import ConfigError, DataError
from i2idist.translate.finish import error_lines, error_rows, finish, to_bytes
from i2idist.translate.job import ERRORS_FILE, JOB_FILE, SUCCESS_FILE, Job, Options, make_job, make_sample_job
from i2idist.translate.ledger import recorded
from i2idist.translate.pool import check_workers, work_off
from i2idist.translate.shard import STAGES, Done, ShardTranslator, too_many

MAX_ERRORS = 100
_FIRST = 3


@dataclass(frozen=True)
class Progress:
    """How far a translation is.

    Attributes:
        done: samples that were looked at.
        total: of them all.
        images_per_s: translations made a second, of the work items finished in this launch.
        errors: inputs that couldn't be translated.
    """

    done: int
    total: int
    images_per_s: float
    errors: int


@dataclass(frozen=True)
class Result:
    """What a translation made.

    Attributes:
        url: the job's folder.
        job_digest: see `job`.
        model: the name of the model.
        model_version: its version, where it is registered.
        run_id: the MLflow run that made it, if known.
        dataset_digest: of the input.
        digest: of the translations as a dataset.
        shards: of the output.
        kept: how many of them an earlier launch had finished.
        inputs: images that were translated.
        outputs: translations.
        errors: images that couldn't be translated, listed in `errors.jsonl`.
        seconds: that this launch took.
        images_per_s: translations made a second in this launch, start and end included.
        stages: seconds that workers spent reading and decoding, computing, encoding, writing.
        limited_by: the stage that took longest; None where nothing was left to do.
    """

    url: str
    job_digest: str
    model: str
    model_version: str | None
    run_id: str | None
    dataset_digest: str
    digest: str
    shards: int
    kept: int
    inputs: int
    outputs: int
    errors: int
    seconds: float
    images_per_s: float
    stages: dict[str, float]
    limited_by: str | None


def translate(
    model_uri: str,
    dataset_url: str,
    out_url: str,
    options: Options | None = None,
    *,
    split: str | None = None,
    domain: str | None = None,
    launcher: Literal["ray", "local"] = "ray",
    workers: int | None = None,
    max_errors: int = MAX_ERRORS,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda message: None,
) -> Result:
    """Translate a packed dataset, or a folder of images, into `OUT/<model>-<job digest>`.

    The same call again keeps what is finished and unharmed and makes the rest, to the same bytes; with other options,
    data or weights it is another job, in another folder.

    Args:
        model_uri: a model's folder, or `models:/NAME@ALIAS`, which is resolved once.
        dataset_url: a packed dataset, `generated:...`, or a folder of images, which is read twice: its digest first.
        out_url: the folder for job folders.
        options: what else decides the output.
        split: one split; None: all of them.
        domain: the dataset's domain to read; None: its only one, or the one named as the model's source.
        launcher: `ray`: a pool of actors; `local`: this process alone. The bytes are the same.
        workers: actors; None: as many as there are cores, or GPUs, for.
        max_errors: images that may fail; one more ends the job.
        on_progress: called now and then.
        say: told what a person waits for.

    Raises:
        ConfigError: model, data and options don't fit each other.
        DataError: data that can't be read, or too many bad images.
        RunError: workers died too often.
        StorageError: storage can't be reached.
    """
    options = options or Options()
    _check(options, launcher, workers)
    begun = time.time(), time.monotonic()
    job = make_job(
        model_uri,
        dataset_url,
        out_url,
        options,
        split=split,
        domain=domain,
        max_errors=max_errors,
    )
    say(f"Translating {job.inputs.total:,} images by {job.model.label} into {job.url}")
    return _done(job, begun, launcher, workers, on_progress, say)


def sample(
    model_uri: str,
    num: int,
    out_url: str,
    options: Options | None = None,
    *,
    launcher: Literal["ray", "local"] = "ray",
    workers: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda message: None,
) -> Result:
    """Let a generator make a dataset of images, in `OUT/<model>-<job digest>`; labelled where it has labels.

    The work items are ranges of places in the stream of codes; all else is as with `translate`, for which also see the
    arguments.

    Args:
        model_uri: a model that generates.
        num: how many images.
        out_url: the folder for job folders.
        options: seed, target, batch size, threads and device.
        launcher: `ray` or `local`.
        workers: actors.
        on_progress: called now and then.
        say: told what a person waits for.

    Raises:
        ConfigError: the model translates, or options don't fit it.
        RunError: workers died too often.
        StorageError: storage can't be reached.
    """
    options = options or Options()
    _check(options, launcher, workers)
    begun = time.time(), time.monotonic()
    job = make_sample_job(model_uri, num, out_url, options)
    say(f"Making {num:,} images by {job.model.label} in {job.url}")
    return _done(job, begun, launcher, workers, on_progress, say)


def _done(
    job: Job,
    begun: tuple[float, float],
    launcher: str,
    workers: int | None,
    on_progress: Callable[[Progress], None],
    say: Callable[[str], None],
) -> Result:
    """Do a job that began at a time, by the clock of the world and by that of this process."""
    storage.write_bytes(job.file(JOB_FILE), to_bytes(job.describe()))
    tally = _Tally(job, on_progress)
    found = work_off(
        partial(ShardTranslator, job.for_workers()),
        job.inputs.items,
        launcher=launcher,
        workers=workers,
        threads=job.options.threads,
        gpu=job.options.device == "cuda",
        report=tally.report,
        say=say,
    )
    with closing(found), recorded(job, say) as ledger:
        for done in found:
            tally.add(done)
            ledger.done(done)
        results = sorted(tally.results, key=lambda done: done.item)
        with storage.patience(PATIENCE_S):
            digest = finish(job, results, begun[0])
    return _summary(job, results, digest, time.monotonic() - begun[1])


def _check(options: Options, launcher: str, workers: int | None) -> None:
    check_workers(launcher, workers)
    _check_device(options, launcher)


def _check_device(options: Options, launcher: str) -> None:
    """A cluster may have the GPU that this machine lacks; a Ray of our own would wait for it for ever."""
    is_elsewhere = launcher == "ray" and bool(os.environ.get("RAY_ADDRESS"))
    if options.device == "cuda" and not is_elsewhere and not torch.cuda.is_available():
        raise ConfigError(
            "device is 'cuda', and torch finds no CUDA device here. Use --device cpu, or set RAY_ADDRESS to a cluster "
            "that has GPUs."
        )


class _Tally:
    """Counts what is done, and stops a job that has too many errors."""

    def __init__(self, job: Job, tell: Callable[[Progress], None]) -> None:
        self.results: list[Done] = []
        self._job, self._tell = job, tell
        self._counts = {item.number: item.count for item in job.inputs.items}
        self._under_way: dict[int, int] = {}
        self._finished: set[int] = set()
        self._begun = time.monotonic()
        self._made = self._errors = 0

    def report(self, number: int, done: int) -> None:
        """An item under way is so far."""
        if number not in self._finished:
            self._under_way[number] = done
            self._show()

    def add(self, done: Done) -> None:
        """An item is finished.

        Raises:
            DataError: more images failed than may.
        """
        self.results.append(done)
        self._finished.add(done.item)
        self._under_way.pop(done.item, None)
        self._errors += len(done.errors)
        self._made += 0 if done.kept else done.shard.count
        self._show()
        if self._errors > self._job.max_errors:
            rows = error_rows(sorted(self.results, key=lambda one: one.item))
            listed = "; ".join(f"{row['shard']} {row['key']}: {row['error']}" for row in rows[:_FIRST])
            if not storage.exists(self._job.file(SUCCESS_FILE)):  # else all of them are there, from before
                storage.write_bytes(self._job.file(ERRORS_FILE), error_lines(rows))
            raise DataError(
                f"{too_many(self._job)}: {self._errors} so far, such as {listed} See {self._job.file(ERRORS_FILE)}; "
                "with a larger --max-errors the same command goes on."
            )

    def _show(self) -> None:
        done = sum(self._counts[number] for number in self._finished) + sum(self._under_way.values())
        elapsed = time.monotonic() - self._begun
        rate = (self._made + self._part_made()) / elapsed if elapsed else 0.0
        self._tell(Progress(done, self._job.inputs.total, rate, self._errors))

    def _part_made(self) -> int:
        return sum(self._under_way.values()) * self._job.options.num_samples


def _summary(job: Job, results: Sequence[Done], digest: str, seconds: float) -> Result:
    fresh = [done for done in results if not done.kept]
    stages = {stage: round(sum(done.seconds[stage] for done in fresh), 3) for stage in STAGES}
    return Result(
        url=job.url,
        job_digest=job.digest,
        model=job.model.name,
        model_version=job.model.version,
        run_id=job.model.run_id,
        dataset_digest=job.inputs.digest,
        digest=digest,
        shards=len(results),
        kept=len(results) - len(fresh),
        inputs=sum(done.inputs for done in results),
        outputs=sum(done.shard.count for done in results),
        errors=sum(len(done.errors) for done in results),
        seconds=round(seconds, 2),
        images_per_s=round(sum(done.shard.count for done in fresh) / seconds, 2),
        stages=stages,
        limited_by=max(stages, key=lambda stage: stages[stage]) if fresh else None,
    )
