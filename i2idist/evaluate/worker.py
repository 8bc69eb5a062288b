"""A worker of an evaluation: reads a chunk, translates it, and keeps what the protocols need of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from i2idist.data.images import Array
from i2idist.data.shards import Label
from i2idist.data.transforms import resize_to_nearest, to_unit
from i2idist.errors import DataError
from i2idist.evaluate.classifiers import Pinned, load
from i2idist.evaluate.images import AsTheyAre
from i2idist.evaluate.job import Chunk, Evaluation
from i2idist.evaluate.protocol import Choice, Readers
from i2idist.evaluate.seen import Attribute, Maps, Reals, Rows, Seen, Tools
from i2idist.method import Domain, Method
from i2idist.metrics import networks
from i2idist.translate.forward import Forward
from i2idist.translate.inputs import InputReader, Inputs, resized
from i2idist.translate.shard import reader_of

_TRAIN = "train"


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
        self._forward = forward or (AsTheyAre(job) if evaluation.of_images else Forward(job))
        self._reader = reader_of(job, self._forward.method)
        # Targets that are maps may have other channels than outputs; a reader minds channels in plain folders alone.
        self._target_reader = self._reader_of(evaluation.targets)
        self._real_reader = self._reader_of(evaluation.reals)
        own = _own_classifier(self._forward.method, job.options.target)
        self._tools = tools_for(evaluation.choices, evaluation.classifiers, own, job.inputs.labels, job.options.device)

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
        found = _pixels(self._real_reader, chunk, chunk.rows)
        if not found:
            return Found(chunk.number, 0, {})
        images = _resized(found.values(), self._evaluation.size_of(target), [target])
        labels = _labels(self._real_reader, chunk, found, self._device)
        in_training = self._evaluation.job.inputs.are_codes and chunk.item.split == _TRAIN
        reals = Reals(images.to(self._device), labels, in_training)
        kept: dict[int, Rows] = {}
        for task in chunk.tasks:
            keep = self._evaluation.choices[task].protocol.keep_real
            assert keep is not None, "only protocols that look at reals are asked"
            kept[task] = _on_cpu(keep(reals, self._tools[task]))
        return Found(chunk.number, len(found), kept)

    def _look(self, chunk: Chunk) -> Found:
        evaluation, device = self._evaluation, self._device
        found = _pixels(self._reader, chunk, chunk.rows)
        protocols = [evaluation.choices[task].protocol for task in chunk.tasks]
        truth: dict[int, Array] = {}
        if any(protocol.looks_at_targets for protocol in protocols):
            assert self._target_reader is not None, "the evaluation has targets"
            truth = _pixels(self._target_reader, chunk, tuple(found))
            found = {row: found[row] for row in truth}
        if not found:
            return Found(chunk.number, 0, {})
        images = torch.zeros(len(found), 0, 1, 1)
        if not evaluation.job.inputs.are_codes:
            images = _resized(found.values(), evaluation.size_of(evaluation.job.source), evaluation.job.sources)
        places = torch.tensor([chunk.item.start + row for row in found])
        seen = Seen(
            images.to(device),
            self._translated(images, places, chunk).to(device),
            places,
            chunk.sampling.seed,
            self._wanted(_labels(self._reader, chunk, found, device), len(found)),
        )
        if truth:
            size = evaluation.size_of(evaluation.job.target)
            targets = _resized(truth.values(), size, [evaluation.job.target]).to(device)
            seen = dataclasses.replace(
                seen, targets=targets, maps=_maps(truth.values(), size, evaluation.job.target.classes, device)
            )
        kept = {
            task: _on_cpu(protocol.keep(seen, self._tools[task]))
            for task, protocol in zip(chunk.tasks, protocols, strict=True)
        }
        return Found(chunk.number, len(found), kept)

    def _wanted(self, labels: Tensor | None, count: int) -> Tensor | None:
        """What outputs should be of: the inputs' labels, but for the one that is translated to."""
        evaluation = self._evaluation
        if evaluation.label is None:
            return labels
        number = evaluation.job.inputs.labels.index(evaluation.label)
        if evaluation.job.inputs.are_codes:
            return torch.full((count,), number, device=self._device)
        if labels is None:
            return None
        if labels.dim() == 1:
            return torch.full_like(labels, number)
        labels[:, number] = 1.0
        return labels

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


def _pixels(reader: InputReader, chunk: Chunk, rows: Sequence[int]) -> dict[int, Array]:
    """The stored images of `rows`, by row; without those of incomplete domains that aren't there."""
    reader.open(chunk.item)
    found = {row: reader.read(chunk.item, row) for row in rows}
    return {row: pixels for row, pixels in found.items() if pixels is not None}


def _resized(found: Iterable[Array], size: tuple[int, int], domains: Sequence[Domain]) -> Tensor:
    """(N, C, H, W) float in [-1, 1]."""
    return torch.stack([to_unit(resized(pixels, size, domains)) for pixels in found])


def _maps(found: Iterable[Array], size: tuple[int, int], classes: int | None, device: str) -> Maps:
    levels = np.stack([resize_to_nearest(pixels, size) for pixels in found])
    return Maps(torch.from_numpy(levels.astype(np.int64)).to(device), int(np.iinfo(levels.dtype).max), classes)


def _labels(reader: InputReader, chunk: Chunk, rows: Iterable[int], device: str) -> Tensor | None:
    """Their classes, (N,) int64, or attributes, (N, A) float32; None where one has none."""
    labels: list[Label] = [reader.label(chunk.item, row) for row in rows]
    return None if None in labels else torch.tensor(labels, device=device)


def _on_cpu(rows: Rows) -> Rows:
    return {name: tensor.cpu() for name, tensor in rows.items()}


def _own_classifier(method: Method, target: str | None) -> Callable[[Tensor], Tensor] | None:
    """What the model classifies its inputs with, where it can."""
    if not method.classifies:
        return None
    return partial(method.classify, domain="b" if target == "a" else "a")


def tools_for(
    choices: Sequence[Choice],
    pinned: Mapping[Readers, Pinned],
    own: Callable[[Tensor], Tensor] | None,
    labels: Sequence[str],
    device: str | torch.device,
) -> list[Tools]:
    """What each protocol looks through, loaded once; `labels` are the data's.

    Raises:
        SourceError: weights or a classifier aren't there.
    """
    classifiers = {whose: load(one).to(device) for whose, one in pinned.items()}

    def attribute(choice: Choice) -> Attribute | None:
        if choice.attribute is None or choice.protocol.classifier is None:
            return None
        of_labels = labels.index(choice.attribute) if choice.attribute in labels else None
        return Attribute(of_labels, pinned[choice.protocol.classifier].card.labels.index(choice.attribute))

    return [
        Tools(
            networks.network(choice.network).to(device) if choice.network else None,
            classifiers[choice.protocol.classifier] if choice.protocol.classifier else None,
            attribute(choice),
            own,
        )
        for choice in choices
    ]
