"""Short trainings on made-up images, as jobs for a `WorkerPool`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from i2idist.data.batches import Batch, Images, Labelled, Multimodal, Paired, SourceLabelled, Unpaired, share
from i2idist.errors import ConfigError
from i2idist.method import Domain, Domains, Method
from i2idist.methods import load_method
from i2idist.randomness import key_of, sample_keys, uniform, words
from i2idist.train.checkpoint import Checkpoints, State
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer

SEED = 7


@dataclass(frozen=True)
class Case:
    """A method under test: its name, one of its tiny configs, and the images' size."""

    method: str
    config_name: str
    config: Any
    size: tuple[int, int] = (16, 16)

    @property
    def domains(self) -> Domains:
        """Two domains of coloured images, so that losses which compare them take part; or one, and three labels.

        Or three modalities: colours, depth, and a label map of three classes, in grey where the method takes none.
        """
        method = load_method(self.method)
        kind = method.batch_type(self.config)
        if kind is Multimodal:
            rgb, depth = Domain("rgb", 3, *self.size), Domain("depth", 1, *self.size)
            return Domains(
                (rgb, depth, Domain("segmentation", 1, *self.size, classes=3 if method.label_maps else None))
            )
        two = issubclass(kind, Paired | Unpaired)
        labels = () if two and kind is not SourceLabelled else ("first", "second", "third")
        return Domains(tuple(Domain(name, 3, *self.size) for name in ("ab" if two else ("image",))), labels)

    def build(self) -> Method:
        """The method with parameters that depend on nothing but the case."""
        torch.manual_seed(SEED)
        return load_method(self.method).build(self.config, self.domains)


@dataclass(frozen=True)
class Trace:
    """What a training did: each update's global gradients in order, and all that changed, at the end."""

    gradients: list[tuple[str, dict[str, Tensor]]]
    tensors: dict[str, Tensor]


def make_batch(kind: type[Batch], domains: Domains, positions: Tensor) -> Batch:
    """Smooth made-up images in [-1, 1], a function of `positions` alone, (N,) int64.

    Raises:
        ConfigError: a batch of that kind can't be made up.
    """

    def images(domain: Domain) -> Tensor:
        keys = sample_keys(key_of(SEED, "image", domain.name), positions)
        coarse = uniform(keys, (domain.channels, 5, 5), torch.float64) * 2 - 1
        smooth = torch.nn.functional.interpolate(
            coarse, (domain.height, domain.width), mode="bilinear", align_corners=True
        )
        if domain.classes is None:
            return smooth
        return ((smooth + 1) / 2 * domain.classes).floor().clamp_max(domain.classes - 1) / 127.5 - 1

    labels = {}
    if issubclass(kind, Labelled | SourceLabelled):
        labels["y"] = words(sample_keys(key_of(SEED, "label"), positions), 1)[:, 0] % len(domains.labels)
    if issubclass(kind, Multimodal):
        return _multimodal(tuple(map(images, domains.images)), positions)
    if issubclass(kind, Paired | Unpaired):
        return kind(positions=positions, a=images(domains.a), b=images(domains.b), **labels)
    if issubclass(kind, Images | Labelled):
        return kind(positions=positions, x=images(domains.a), **labels)
    raise ConfigError(f"The conformance suite can't make up batches of {kind.__name__}.")


def _multimodal(images: tuple[Tensor, ...], positions: Tensor) -> Multimodal:
    """Samples have the first modality and one other, in turns."""
    turn = 1 + positions % (len(images) - 1)
    present = torch.stack([torch.ones_like(turn) == 1, *(turn == m for m in range(1, len(images)))], dim=1)
    shown = tuple(x * here[:, None, None, None] for x, here in zip(images, present.T, strict=True))
    return Multimodal(positions=positions, images=shown, present=present)


def batches(case: Case, method: Method, comm: Comm, start: int, batch_size: int) -> Iterator[Batch]:
    """This worker's part of global batch number `start` and of all that follow."""
    kind = type(method).batch_type(case.config)
    mine = torch.tensor(share(batch_size, method.group_size, comm.rank, comm.world_size))
    while True:
        yield make_batch(kind, case.domains, mine + start * batch_size)
        start += 1


def settings(method: Method, precision: str, steps: int) -> Training:
    """A global batch of 4 groups, which 3 workers can't share equally, and a short half-life."""
    size = 4 * method.group_size
    return Training(total_images=steps * size, batch_size=size, precision=precision, ema_half_life_images=10)  # type: ignore[arg-type]


def train(
    comm: Comm,
    case: Case,
    precision: str,
    steps: int,
    total_steps: int,
    resume: str | None = None,
    save: str | None = None,
    interrupt_every_step: bool = False,
) -> Trace:
    """Train for `steps` of `total_steps`, from a checkpoint folder and to one if given.

    With `interrupt_every_step`, the training is saved after each step and goes on in a fresh trainer that read it back.
    """
    gradients: list[tuple[str, dict[str, Tensor]]] = []

    def fresh() -> Trainer:
        method = case.build()
        training = settings(method, precision, total_steps)
        return Trainer(method, training, seed=SEED, comm=comm, observer=lambda n, g: gradients.append((n, _copy(g))))

    trainer = fresh()
    if resume:
        _restore(trainer, comm, resume)
    for _ in range(steps):
        size = trainer.training.batch_size
        trainer.step(batches(case, trainer.method, comm, trainer.batches, size))
        if interrupt_every_step and save:
            _save(trainer, comm, save)
            trainer = fresh()
            _restore(trainer, comm, save)
    if not trainer.same_everywhere():
        raise AssertionError("the workers' states differ")
    if save:
        _save(trainer, comm, save)
    return Trace(gradients, _copy(trainer.state().tensors))


def changed_by_updates(comm: Comm, case: Case, steps: int) -> list[tuple[str, list[str]]]:
    """Which parameters changed when, through some steps.

    Returns:
        In order, an update's name with what its optimizer's step changed, and `""` with what changed before that step,
        while losses were computed.
    """
    method = case.build()
    names: list[str] = []
    snapshots: list[dict[str, Tensor]] = []
    pending: list[str] = []

    def snapshot(name: str) -> None:
        names.append(name)
        snapshots.append(_copy(dict(method.named_parameters())))

    training = settings(method, "float64", steps)
    trainer = Trainer(method, training, seed=SEED, comm=comm, observer=lambda update, _: pending.append(update))
    snapshots.append(_copy(dict(method.named_parameters())))
    before = register_optimizer_step_pre_hook(lambda *_: snapshot(""))
    after = register_optimizer_step_post_hook(lambda *_: snapshot(pending.pop()))
    try:
        for _ in range(steps):
            trainer.step(batches(case, method, comm, trainer.batches, training.batch_size))
    finally:
        before.remove()
        after.remove()
    return [
        (name, [key for key in old if not torch.equal(old[key], new[key])])
        for name, old, new in zip(names, snapshots, snapshots[1:], strict=False)
    ]


def largest_weight(case: Case) -> float:
    """The largest loss weight that the config or a stage sets."""
    method = case.build()
    every = [method.weights(), *(stage.weights for stage in method.stages())]
    return max((abs(v) for weights in every for v in weights.values() if math.isfinite(v)), default=1.0)


def _save(trainer: Trainer, comm: Comm, folder: str) -> None:
    if comm.rank == 0:
        checkpoints = Checkpoints(folder)
        checkpoints.save(trainer.state(), trainer.images)
        checkpoints.wait()
    comm.any(False)


def _restore(trainer: Trainer, comm: Comm, folder: str) -> None:
    found = Checkpoints(folder).newest() if comm.rank == 0 else None
    trainer.restore(found[1] if found else State({}), folder)


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
