"""A worker of an evaluation: reads a chunk, translates it, and keeps what the protocols need of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from i2idist.data.shards import Label
from i2idist.data.transforms import resize, to_unit
from i2idist.errors import DataError
from i2idist.evaluate.classifiers import Pinned, load
from i2idist.evaluate.job import Chunk, Evaluation
from i2idist.evaluate.protocol import Choice
from i2idist.evaluate.seen import Reals, Rows, Seen, Tools
from i2idist.method import Method
from i2idist.methods.unit_adaptation import UNITAdaptation
from i2idist.metrics import networks
from i2idist.translate.forward import Forward
from i2idist.translate.inputs import InputReader, Inputs


class Translate(Protocol):
    """What translates, see `Forward`."""

    @property
    def method(self) -> Method:
        """The method that does."""
        ...

    def __call__(self, images: Tensor, positions: Tensor, num_samples: int, seed: int) -> Tensor:
        """Images, their places (N,), samples K, seed of codes -> (N, K, C', H', W') on the CPU."""
        ...


@dataclass(frozen=True)
class Found:
    """What a worker kept of a chunk: the chunk's number, images looked at, and rows by the protocol's number."""

    number: int
    inputs: int
    rows: dict[int, Rows]


class Evaluator:
    """Works on chunks; every worker makes one, which loads model and networks once."""

    def __init__(self, evaluation: Evaluation, forward: Translate | None = None) -> None:
        """Load what the evaluation needs.

        Args:
            evaluation: what to do.
            forward: what translates; None: the evaluation's model, loaded, with its threads from now on.

        Raises:
            SourceError: model, weights or classifier aren't there any more.
        """
        self._evaluation, job = evaluation, evaluation.job
        self._device = job.options.device
        self._forward = forward or Forward(job)
        self._reader = InputReader(job.inputs, job.source.channels)
        self._target_reader = self._reader_of(evaluation.targets)
        self._real_reader = self._reader_of(evaluation.reals)
        own = _own_classifier(self._forward.method, job.options.target)
        self._tools = tools_for(evaluation.choices, evaluation.classifier, own, job.options.device)

    def _reader_of(self, inputs: Inputs | None) -> InputReader | None:
        return InputReader(inputs, self._evaluation.job.target.channels) if inputs else None

    def close(self) -> None:
        """Let go of files and threads."""
        for reader in (self._reader, self._target_reader, self._real_reader):
            if reader:
                reader.close()

    @torch.inference_mode()
    def __call__(self, chunk: Chunk, report: Callable[[int], None]) -> Found:
        """Look at a chunk.

        Raises:
            DataError: an image can't be read, or a translation isn't finite.
            ConfigError: data that a protocol can't use.
            StorageError: storage can't be reached.
        """
        found = self._look_at_reals(chunk) if chunk.real else self._look(chunk)
        report(chunk.images)
        return found

    def _look_at_reals(self, chunk: Chunk) -> Found:
        assert self._real_reader is not None, "the evaluation has reals"
        target = self._evaluation.job.target
        images, rows = self._read(self._real_reader, chunk, chunk.rows, self._evaluation.size_of(target))
        reals = Reals(images.to(self._device), _labels(self._real_reader, chunk, rows, self._device))
        kept: dict[int, Rows] = {}
        for task in chunk.tasks:
            keep = self._evaluation.choices[task].protocol.keep_real
            assert keep is not None, "only protocols that look at reals are asked"
            kept[task] = _on_cpu(keep(reals, self._tools[task]))
        return Found(chunk.number, len(rows), kept)

    def _look(self, chunk: Chunk) -> Found:
        evaluation, device = self._evaluation, self._device
        images, rows = self._read(self._reader, chunk, chunk.rows, evaluation.size_of(evaluation.job.source))
        places = torch.tensor([chunk.item.start + row for row in rows])
        seen = Seen(
            images.to(device),
            self._translated(images, places, chunk).to(device),
            places,
            chunk.sampling.seed,
            _labels(self._reader, chunk, rows, device),
            self._targets(chunk, rows),
        )
        choices = self._evaluation.choices
        kept = {task: _on_cpu(choices[task].protocol.keep(seen, self._tools[task])) for task in chunk.tasks}
        return Found(chunk.number, len(rows), kept)

    def _targets(self, chunk: Chunk, rows: tuple[int, ...]) -> Tensor | None:
        if self._target_reader is None:
            return None
        size = self._evaluation.size_of(self._evaluation.job.target)
        return self._read(self._target_reader, chunk, rows, size)[0].to(self._device)

    def _translated(self, images: Tensor, places: Tensor, chunk: Chunk) -> Tensor:
        """(N, K, C', H', W'); a model without codes makes one output, which counts K times."""
        samples, codes = chunk.sampling.samples, self._evaluation.job.model.card.code_dim
        outputs = self._forward(images, places, samples if codes else 1, chunk.sampling.seed)
        finite = outputs.isfinite().flatten(1).all(1)
        if not finite.all():
            place = int(places[int((~finite).nonzero()[0])])
            key = self._reader.key(chunk.item, place - chunk.item.start)
            raise DataError(f"The model's output for {key} in {chunk.name} isn't finite, so there is no value.")
        return outputs if codes else outputs.expand(-1, samples, -1, -1, -1)

    def _read(
        self, reader: InputReader, chunk: Chunk, rows: tuple[int, ...], size: tuple[int, int]
    ) -> tuple[Tensor, tuple[int, ...]]:
        """The images of `rows` that are there, and which these are: incomplete domains lack some."""
        reader.open(chunk.item)
        found = [(row, reader.read(chunk.item, row)) for row in rows]
        present = [(row, to_unit(resize(pixels, size))) for row, pixels in found if pixels is not None]
        if not present:
            raise DataError(f"{chunk.name} has no images where the evaluation looks.")
        return torch.stack([image for _, image in present]), tuple(row for row, _ in present)


def _labels(reader: InputReader, chunk: Chunk, rows: tuple[int, ...], device: str) -> Tensor | None:
    """Their classes; None where one has none, or has attributes instead."""
    labels: list[Label] = [reader.label(chunk.item, row) for row in rows]
    classes = [label for label in labels if isinstance(label, int)]
    return torch.tensor(classes, device=device) if len(classes) == len(rows) else None


def _on_cpu(rows: Rows) -> Rows:
    return {name: tensor.cpu() for name, tensor in rows.items()}


def _own_classifier(method: Method, target: str | None) -> Callable[[Tensor], Tensor] | None:
    """What the model classifies its inputs with, where it can."""
    if not isinstance(method, UNITAdaptation):
        return None
    return partial(method.classify, domain="b" if target == "a" else "a")


def tools_for(
    choices: Sequence[Choice],
    pinned: Pinned | None,
    own: Callable[[Tensor], Tensor] | None,
    device: str | torch.device,
) -> list[Tools]:
    """What each protocol looks through, loaded once.

    Raises:
        SourceError: weights or classifier aren't there.
    """
    classifier = load(pinned).to(device) if pinned else None
    return [
        Tools(
            networks.network(choice.network).to(device) if choice.network else None,
            classifier if choice.protocol.classifier else None,
            own,
        )
        for choice in choices
    ]
