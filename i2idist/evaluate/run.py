"""The driver's side of an evaluation: workers, folding in order, the records."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Literal

from i2idist.errors import ConfigError
from i2idist.evaluate.folds import Fold
from i2idist.evaluate.images import evaluation_of_images, is_dataset
from i2idist.evaluate.job import Chunk, Evaluation, make_evaluation
from i2idist.evaluate.protocol import Choice
from i2idist.evaluate.record import Record, make_record
from i2idist.evaluate.worker import Evaluator, Found
from i2idist.train.precision import threads
from i2idist.translate.job import Model, Options
from i2idist.translate.pool import check_workers, work_off

__all__ = ["Evaluated", "Progress", "evaluate"]


@dataclass(frozen=True)
class Progress:
    """How far an evaluation is: images made or looked at, of them all."""

    done: int
    total: int


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation gave.

    Attributes:
        evaluation: what was evaluated, on which images.
        folding: what they are made of.
        records: one for each protocol, in their order.
        seconds: that it took.
    """

    evaluation: Evaluation
    folding: Folding
    records: tuple[Record, ...]
    seconds: float

    @property
    def model(self) -> Model:
        """Which model was evaluated."""
        return self.evaluation.job.model


def evaluate(
    model_uri: str,
    dataset_url: str,
    choices: Sequence[Choice],
    options: Options | None = None,
    *,
    split: str | None = None,
    domain: str | None = None,
    reference: str | None = None,
    classifier: str | None = None,
    launcher: Literal["ray", "local"] = "ray",
    workers: int | None = None,
    beside: Evaluated | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda message: None,
) -> Evaluated:
    """Evaluate a model by protocols. The values are the same under any number of workers, to the last bit.

    Args:
        model_uri: a model's folder, or `models:/NAME@ALIAS`, which is resolved once; or in a generator's place a packed
            or generated dataset, whose own images are held against those of `dataset_url`.
        dataset_url: a packed dataset, `generated:...`, or a folder of images.
        choices: the protocols, see `choose`.
        options: target, size, batch size, threads and device; samples and seed are the protocols'.
        split: of the inputs; None: `test`, where the dataset has it, else all.
        domain: of the inputs; None: the one named as the model's source.
        reference: real images of the target domain; None: the dataset's.
        classifier: a saved classifier of the target domain; None: one of our cache, trained on first use.
        launcher: `ray`: a pool of actors; `local`: this process alone.
        workers: actors; None: as many as there are cores, or GPUs, for.
        beside: another model's evaluation: real images that both look at aren't looked at again.
        on_progress: called now and then.
        say: told what a person waits for.

    Raises:
        ConfigError: model, data and protocols don't fit each other.
        DataError: an image can't be read, or an output isn't finite.
        SourceError: a model, weights or a classifier that isn't there.
        RunError: workers died too often.
        StorageError: storage can't be reached.
    """
    check_workers(launcher, workers)
    begun, options = time.monotonic(), options or Options()
    if is_dataset(model_uri):
        if reference or classifier:
            raise ConfigError("Images are held against the dataset alone: leave --reference and --classifier out.")
        evaluation = evaluation_of_images(model_uri, dataset_url, choices, options, split=split, domain=domain)
    else:
        evaluation = make_evaluation(
            model_uri,
            dataset_url,
            choices,
            options,
            split=split,
            domain=domain,
            reference=reference,
            classifier=classifier,
            say=say,
        )
    with threads(evaluation.job.options.threads):
        folding = _folded(evaluation, launcher, workers, beside, on_progress, say)
        records = folding.records()
    return Evaluated(evaluation, folding, records, time.monotonic() - begun)


def _folded(
    evaluation: Evaluation,
    launcher: str,
    workers: int | None,
    beside: Evaluated | None,
    on_progress: Callable[[Progress], None],
    say: Callable[[str], None],
) -> Folding:
    chunks = evaluation.chunks()
    gathered = Folding(evaluation, chunks)
    if beside and beside.evaluation.looks_at_the_same_reals(evaluation):
        gathered.take_reals(beside.folding)
        chunks = [chunk for chunk in chunks if not chunk.real]  # they come last, so the others keep their numbers
    say(f"Evaluating {evaluation.job.model.label} on {sum(chunk.images for chunk in chunks):,} images")
    done, total = 0, sum(chunk.images for chunk in chunks)
    options = evaluation.job.options
    results_of = work_off(
        partial(Evaluator, evaluation.for_workers()),
        chunks,
        launcher=launcher,
        workers=workers,
        threads=options.threads,
        gpu=options.device == "cuda",
        say=say,
    )
    with closing(results_of) as results:
        for found in results:
            gathered.add(found)
            done += chunks[found.number].images
            on_progress(Progress(done, total))
    return gathered


class Folding:
    """Folds what workers found in the order of chunks; what comes early waits."""

    def __init__(self, evaluation: Evaluation, chunks: Sequence[Chunk]) -> None:
        """Fold the rows of an evaluation's chunks."""
        self._evaluation, self._chunks = evaluation, chunks
        self._folds: list[Fold] = [choice.protocol.fold() for choice in evaluation.choices]
        self._inputs = [0] * len(self._folds)
        self._reals = [0] * len(self._folds)
        self._early: dict[int, Found] = {}
        self._next = 0

    def add(self, found: Found) -> None:
        """Take what a worker found."""
        self._early[found.number] = found
        while self._next in self._early:
            self._take(self._early.pop(self._next))
            self._next += 1

    def take_reals(self, other: Folding) -> None:
        """Take the real images that another evaluation has looked at."""
        self._reals = other._reals
        for mine, theirs in zip(self._folds, other._folds, strict=True):
            mine.take_reals(theirs)

    def _take(self, found: Found) -> None:
        is_real = self._chunks[found.number].real
        for task, rows in found.rows.items():
            self._folds[task].add(rows, is_real)
            (self._reals if is_real else self._inputs)[task] += found.inputs

    def records(self) -> tuple[Record, ...]:
        """The values, when all is added."""
        return tuple(self._record(task, choice) for task, choice in enumerate(self._evaluation.choices))

    def _record(self, task: int, choice: Choice) -> Record:
        sampling, inputs = choice.sampling, self._inputs[task]
        counts = {"inputs": inputs, "outputs": inputs * sampling.samples, "reals": self._reals[task]}
        found = self._folds[task].estimate(sampling.seed)
        notes = found.notes
        if sampling.inputs and inputs < sampling.inputs:
            notes = (*notes, f"the protocol asks for {sampling.inputs} inputs, the split has {inputs}")
        estimate = dataclasses.replace(found, counts=counts, notes=notes)
        return make_record(self._evaluation, choice, estimate)
