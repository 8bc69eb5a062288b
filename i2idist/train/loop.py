"""The training loop: steps, metrics, validation, checkpoints, stopping; resumed from the newest checkpoint."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from i2idist.data.batches import Batch
from i2idist.errors import CheckpointError, ConfigError, RunError
from i2idist.method import Method, Step
from i2idist.train.checkpoint import Checkpoints, State, copy_into, tensors_sha256
from i2idist.train.comm import Comm
from i2idist.train.precision import make_deterministic, memory_format, parameter_dtype
from i2idist.train.saved import as_saved
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer

Event = dict[str, Any]
"""A JSON-able record: `event` (resumed, metrics, validation, checkpoint, warning, done), `images`, `step`, `time`,
values.
"""
Judge = Callable[[int, Mapping[str, float]], bool]
"""Told, on rank 0, the images seen and the values of a validation; True: it isn't worth going on."""


Stopped = Literal["done", "stop", "early", "pruned", "left"]


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        stopped: `done` at `total_images`, `stop` on request, `early` for want of improvement, `pruned` by its judge,
            `left` because a worker's machine is taken away.
        checkpoint: the name of the last checkpoint.
        best: the best checkpoint's name, if a criterion was set and met.
        params_sha256: digest of the method's parameters and buffers.
        images_per_s: throughput of this process's part of the run, validation and checkpoints included.
        step_s: seconds of this process inside training steps, without waiting for data.
    """

    images: int
    steps: int
    stopped: Stopped
    checkpoint: str
    best: str | None
    params_sha256: str
    images_per_s: float
    step_s: float


@dataclass(frozen=True)
class Best:
    """The best validation so far."""

    value: float | None = None
    checkpoint: str | None = None
    validations_since: int = 0


class Watcher:
    """Looks on while a method is trained, and keeps something in its checkpoints. Called on rank 0 alone."""

    def state(self) -> Mapping[str, Any]:
        """What the checkpoint being made must hold besides the training's state: JSON-able, by keys of its own."""
        return {}

    def restore(self, rest: Mapping[str, Any], images: int) -> None:
        """Training goes on at `images`, from a checkpoint of which this is `rest`."""

    def wants(self, trainer: Trainer) -> bool:
        """Whether it wants a look after this step, besides those that it is given."""
        return False

    def look(self, trainer: Trainer, final: bool) -> None:
        """Look at the training, and change nothing of it.

        At its start, every `preview_every_images`, after a validation, before a checkpoint, `final`ly, and when it
        `wants` to.
        """


class Leaving:
    """Tells whether a worker's machine is taken away, so that all leave with a checkpoint. Called on every rank."""

    def due(self) -> bool:
        """Whether workers should ask each other now; any rank's True makes all call `decide`."""
        return False

    def decide(self) -> bool:
        """Whether this worker has to leave; then all do."""
        return False


def fit(
    method: Method,
    *,
    training: Training,
    seed: int,
    comm: Comm,
    device: torch.device | str,
    batches: Callable[[int], Iterator[Batch]],
    checkpoints: Checkpoints,
    validation: Callable[[], Iterator[Batch]] | None = None,
    initial: Callable[[], Mapping[str, Tensor]] | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    watcher: Watcher | None = None,
    measure: Callable[[Trainer], Mapping[str, float]] | None = None,
    judge: Judge | None = None,
    leaving: Leaving | None = None,
) -> Outcome:
    """Train a method to `total_images`, from its newest checkpoint if it has one. Every worker calls this alike.

    Args:
        method: the method, built from the same config on every worker.
        training: the loop's settings.
        seed: keys every random draw.
        comm: the workers.
        device: this worker's device.
        batches: from a global batch number, this worker's part of that batch and of all that follow.
        checkpoints: where checkpoints are; only rank 0 reads and writes them.
        validation: this worker's whole validation batches: those whose number leaves `rank` on division by
            `world_size`.
        initial: the state (`method.state_dict()`) that a fresh run starts from, called on rank 0.
        on_event: called on rank 0 with what happens.
        should_stop: polled on every rank after each step; any rank's True stops all after a checkpoint.
        watcher: looks on, on rank 0, and keeps something of its own in checkpoints.
        measure: gives more values of a validation, the same on every rank; it may change nothing.
        judge: decides on rank 0 after each validation whether to go on; every rank follows.
        leaving: hears of machines that are taken away.

    Raises:
        NonFiniteError: a gradient isn't finite.
        RunError: workers that should be equal differ.
    """
    if training.best_metric and validation is None:
        raise ConfigError(
            "train.best_metric is set but there is no validation split: pack one, or unset train.best_metric."
        )
    make_deterministic(torch.device(device))
    trainer = Trainer(method, training, seed=seed, comm=comm, device=device)
    loop = _Loop(trainer, comm, checkpoints, on_event, seed, watcher or Watcher(), measure, judge)
    try:
        return _run(loop, training, comm, batches, validation, initial, should_stop, leaving or Leaving())
    finally:
        checkpoints.settle()


def _run(
    loop: _Loop,
    training: Training,
    comm: Comm,
    batches: Callable[[int], Iterator[Batch]],
    validation: Callable[[], Iterator[Batch]] | None,
    initial: Callable[[], Mapping[str, Tensor]] | None,
    should_stop: Callable[[], bool],
    leaving: Leaving,
) -> Outcome:
    loop.begin(initial)
    stream = batches(loop.trainer.batches)
    start, started = loop.trainer.images, time.perf_counter()
    stopped: Stopped = "done"
    while loop.trainer.images < training.total_images:
        before = loop.trainer.images
        loop.step(stream)
        if _crossed(before, loop.trainer.images, training.log_every_images):
            loop.log(start, started)
        if _crossed(before, loop.trainer.images, training.preview_every_images) or loop.is_wanted():
            loop.look()
        if validation and _crossed(before, loop.trainer.images, training.validate_every_images):
            if loop.validate(validation()):
                stopped = "pruned"
                break
            if training.patience and loop.best.validations_since >= training.patience:
                stopped = "early"
                break
        if _crossed(before, loop.trainer.images, training.checkpoint_every_images):
            loop.save()
        if found := _asked(comm, should_stop(), leaving):
            stopped = found
            break
    return loop.end(stopped, start, started)


def _asked(comm: Comm, stop: bool, leaving: Leaving) -> Literal["stop", "left"] | None:
    """Whether any worker is asked to stop, or has to leave; in most steps one collective tells that none is."""
    if not comm.any(stop or leaving.due()):
        return None
    if comm.any(stop):
        return "stop"
    return "left" if comm.any(leaving.decide()) else None


def _crossed(before: int, after: int, every: int | None) -> bool:
    return every is not None and before // every != after // every


class _Loop:
    """The parts of the loop that share its state."""

    def __init__(
        self,
        trainer: Trainer,
        comm: Comm,
        checkpoints: Checkpoints,
        on_event: Callable[[Event], None],
        seed: int,
        watcher: Watcher,
        measure: Callable[[Trainer], Mapping[str, float]] | None,
        judge: Judge | None,
    ) -> None:
        self.trainer = trainer
        self._measure, self._judge = measure, judge
        self._watcher = watcher
        self._looked_images = -1
        self.best = Best()
        self._comm, self._checkpoints, self._on_event, self._seed = comm, checkpoints, on_event, seed
        self._saved: str | None = None
        self._saved_images = -1
        self._data_wait_s, self._step_s = 0.0, 0.0

    def begin(self, initial: Callable[[], Mapping[str, Tensor]] | None) -> None:
        """Resume from the newest checkpoint, or start from `initial`, or as the method was built."""
        found = self._on_rank_0(self._checkpoints.newest)
        if self._comm.broadcast_object(found is not None):
            name, state = found or ("", State({}))
            self.trainer.restore(state, self._checkpoints.url(name))
            rest = self._comm.broadcast_object(dict(state.rest))
            self.best = Best(**rest["best"])
            self._saved, self._saved_images = self._comm.broadcast_object(name), self.trainer.images
            if self._comm.rank == 0:
                self._watcher.restore(rest, self.trainer.images)
            self._tell("resumed", checkpoint=self._saved)
            return
        if initial is not None:
            self._on_rank_0(lambda: copy_into(self.trainer.method.state_dict(), initial(), "init_from"))
            self._comm.broadcast(list(self.trainer.method.state_dict().values()))
            self.trainer.restart_averages()
        self.look()

    def _on_rank_0(self, function: Callable[[], Any]) -> Any:
        """Call on rank 0; its error is raised on every rank, so that none waits for it in vain."""
        result, failure = None, None
        if self._comm.rank == 0:
            try:
                result = function()
            except Exception as error:  # raised on all ranks below
                failure = error
        message = self._comm.broadcast_object(f"{failure}" if failure else None)
        if failure:
            raise failure
        if message is not None:
            raise CheckpointError(message)
        return result

    def step(self, stream: Iterator[Batch]) -> None:
        """One step, timed without its wait for data."""
        begun, waited = time.perf_counter(), self._data_wait_s
        self._step(stream)
        self._step_s += time.perf_counter() - begun - (self._data_wait_s - waited)

    def _step(self, stream: Iterator[Batch]) -> None:
        """One step; on CUDA, the first tells which kernels have no deterministic form."""
        if self.trainer.steps or not torch.cuda.is_available():
            self.trainer.step(self._timed(stream))
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.trainer.step(self._timed(stream))
        kernels = sorted(
            {str(w.message).split(" does not have")[0] for w in caught if "deterministic" in str(w.message)}
        )
        if kernels:
            self._tell("warning", message="Not bit-for-bit reproducible on this device", kernels=kernels)

    def _timed(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            begun = time.perf_counter()
            batch = next(stream)
            self._data_wait_s += time.perf_counter() - begun
            yield batch

    def log(self, start: int, started: float) -> None:
        """Report the latest step's terms and the speed since this process began."""
        terms = self.trainer.logged_terms()
        elapsed = time.perf_counter() - started
        rates = {f"lr/{name}": rate for name, rate in self.trainer.learning_rates().items()}
        self._tell(
            "metrics",
            stage=self.trainer.stage.name,
            images_per_s=(self.trainer.images - start) / elapsed,
            data_wait_fraction=self._data_wait_s / elapsed,
            **rates,
            **terms,
        )

    def validate(self, batches: Iterator[Batch]) -> bool:
        """Measure on the validation split; a new best is checkpointed. Whether the judge says to stop."""
        values = validate(self.trainer, batches, self._comm, self._seed)
        values |= self._measure(self.trainer) if self._measure else {}
        training = self.trainer.training
        self._tell("validation", **values)
        self.look()
        self._compare(values, training)
        judge, images = self._judge, self.trainer.images
        return judge is not None and bool(self._comm.broadcast_object(self._on_rank_0(lambda: judge(images, values))))

    def _compare(self, values: Mapping[str, float], training: Training) -> None:
        """Keep a new best."""
        if training.best_metric is None:
            return
        value = named_value(values, training.best_metric, "train.best_metric")
        better = self.best.value is None or (
            value < self.best.value if training.best_mode == "min" else value > self.best.value
        )
        if better:
            self.best = Best(value, f"images-{self.trainer.images:012d}")
            self.save()
        else:
            self.best = Best(self.best.value, self.best.checkpoint, self.best.validations_since + 1)

    def save(self) -> None:
        """Checkpoint, after checking that the workers still agree bit for bit."""
        if self._saved_images == self.trainer.images:
            return
        if not self.trainer.same_everywhere():
            raise RunError(
                f"Workers' states differ at {self.trainer.images} images, which the trainer excludes by construction: "
                "a loss or network of the method must change state without `Step.comm`. Nothing was saved."
            )
        self.look()
        if self._comm.rank == 0:
            state = self.trainer.state()
            begun = time.perf_counter()
            self._saved = self._checkpoints.save(
                State(state.tensors, {**self._watcher.state(), **state.rest, "best": asdict(self.best)}),
                self.trainer.images,
                self.best.checkpoint,
            )
            self._tell("checkpoint", checkpoint=self._saved, stall_s=time.perf_counter() - begun)
        self._saved_images = self.trainer.images

    def end(self, stopped: Stopped, start: int, started: float) -> Outcome:
        """Write the last checkpoint and sum up."""
        self.look()
        if stopped != "left":
            self.look(final=True)
        self.save()
        self._on_rank_0(self._checkpoints.wait)
        outcome = Outcome(
            images=self.trainer.images,
            steps=self.trainer.steps,
            stopped=stopped,
            checkpoint=str(self._comm.broadcast_object(self._saved)),
            best=self.best.checkpoint,
            params_sha256=tensors_sha256(self.trainer.method.state_dict()),
            images_per_s=(self.trainer.images - start) / (time.perf_counter() - started),
            step_s=self._step_s,
        )
        self._tell("left" if stopped == "left" else "done", **asdict(outcome))
        return outcome

    def is_wanted(self) -> bool:
        """Whether the watcher, which is on rank 0, wants a look."""
        return self._comm.rank == 0 and self._watcher.wants(self.trainer)

    def look(self, final: bool = False) -> None:
        """Let the watcher look, at each number of images once, and in the end in any case."""
        if self._comm.rank == 0 and (final or self._looked_images != self.trainer.images):
            self._watcher.look(self.trainer, final)
        self._looked_images = self.trainer.images

    def _tell(self, event: str, **values: Any) -> None:
        if self._comm.rank == 0:
            here = {"images": self.trainer.images, "step": self.trainer.steps, "time": time.time()}
            self._on_event({"event": event, **here, **values})


def named_value(values: Mapping[str, float], name: str, key: str) -> float:
    """The value of that name, or the only one whose name begins with it and a slash.

    Args:
        values: of a validation.
        name: which.
        key: what asks for it, for messages.

    Raises:
        ConfigError: there is none, or several begin so.
    """
    found = [name] if name in values else [key for key in values if key.startswith(f"{name}/")]
    if len(found) != 1:
        which = f"stands for {', '.join(found)}: name one" if found else f"is none of {', '.join(sorted(values))}"
        raise ConfigError(f"{key} is '{name}', which {which}.")
    return values[found[0]]


def validate(trainer: Trainer, batches: Iterator[Batch], comm: Comm, seed: int) -> dict[str, float]:
    """The method's validation terms over the validation split, with averaged parameters where they are kept.

    Each batch is evaluated whole on one worker, so that values are the same on any number of workers.

    Returns:
        Means over the samples that a term speaks of, by `player/term`, the same on every rank.
    """
    method, training = trainer.method, trainer.training
    device = next(method.parameters()).device
    rows: list[tuple[int, dict[str, tuple[int, float]]]] = []
    with as_saved(trainer):
        for batch in batches:
            batch = batch.to(device, parameter_dtype(training), memory_format(training))
            step = Step(
                batch,
                images=int(batch.positions[0]),
                seed=seed,
                comm=Comm.alone(),
                weights=method.weights(),
                global_batch=len(batch),
            )
            terms = method.validation_terms(step)
            found = {n: (v.numel() if v.dim() else len(batch), float(v.double().mean())) for n, v in terms.items()}
            rows.append((int(batch.positions[0]), found))
    everyone = sorted((row for rows in comm.gather_objects(rows) for row in rows), key=lambda row: row[0])
    names = {name: [row[name] for _, row in everyone if name in row] for _, row in everyone for name in row}
    return {n: sum(count * mean for count, mean in each) / sum(count for count, _ in each) for n, each in names.items()}
