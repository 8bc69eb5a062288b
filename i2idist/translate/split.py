"""Translating a split of a dataset into a dataset of (input, output) pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from i2idist import storage
from i2idist.data.batches import Labelled
from i2idist.data.manifest import FILE_NAME, Manifest, load_manifest
from i2idist.data.pack import Sample, pack
from i2idist.data.reader import DataSettings, Reader
from i2idist.data.transforms import to_pixels
from i2idist.errors import DataError
from i2idist.model import Translator

_BATCH = 64
_MARKER = "translations.txt"
"""Holds the digest of the dataset beside it, by which a later translation knows that it may be replaced."""


@dataclass(frozen=True)
class Translated:
    """A batch of inputs with their translations.

    Attributes:
        keys: the inputs' names in the dataset.
        inputs: (N, C, H, W) float in [-1, 1].
        labels: (N,) int64.
        outputs: (N, K, C', H, W) float in [-1, 1].
    """

    keys: list[str]
    inputs: Tensor
    labels: Tensor
    outputs: Tensor


def translate_split(
    translator: Translator, settings: DataSettings, *, split: str, num_samples: int, seed: int
) -> Iterator[Translated]:
    """Translate every image of a labelled split, in the order of storage.

    Args:
        translator: the model; the domain that it was trained to translate from is read.
        settings: the dataset.
        split: of the dataset.
        num_samples: codes for each image, keyed by `seed` and the image's place in the split.
        seed: of the codes.

    Raises:
        ConfigError: the dataset has no labels, or no such split or domain.
        DataError: data that can't be read.
    """
    source = translator.card.domains.a
    reader = open_labelled(settings, source.name, split)
    try:
        for batch in reader.epoch():
            assert isinstance(batch, Labelled)
            outputs = translator.translate(
                batch.x, num_samples=num_samples, seed=seed, first_position=int(batch.positions[0])
            )
            yield Translated(reader.keys(batch), batch.x, batch.y, outputs)
    finally:
        reader.close()


def open_labelled(settings: DataSettings, domain: str, split: str) -> Reader:
    """Read one domain's images with their labels."""
    settings = dataclasses.replace(settings, domains=(domain,))
    return Reader(settings, role=Labelled, batch_size=_BATCH, group_size=1, rank=0, world_size=1, seed=0, split=split)


def pack_translations(
    parts: Iterator[Translated],
    dest: str,
    *,
    name: str,
    split: str,
    labels: tuple[str, ...],
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write translations as a paired dataset: `a` the input, `b` an output, keys `INPUT-CODE`, labels the input's.

    A dataset that this function made at `dest` is replaced: another model made it.

    Raises:
        DataError: another dataset is at `dest`, or one that can't be trusted.
        StorageError: the storage refuses, or can't be reached.
    """
    marker = storage.join(dest, _MARKER)
    if storage.exists(storage.join(dest, FILE_NAME)):
        digest = load_manifest(dest).digest.encode()
        if not storage.exists(marker) or storage.read_bytes(marker) != digest:
            raise DataError(
                f"A dataset that isn't known to be translations is at {dest}, so it isn't replaced. Remove it, or "
                "choose another place."
            )
        storage.delete(dest, recursive=True)
    samples = (sample for part in parts for sample in _samples(part, split))
    manifest = pack(samples, dest, name=name, role="paired", domains=("a", "b"), labels=labels, progress=progress)
    storage.write_bytes(marker, manifest.digest.encode())
    return manifest


def _samples(part: Translated, split: str) -> Iterator[Sample]:
    for key, x, label, outputs in zip(part.keys, part.inputs, part.labels.tolist(), part.outputs, strict=True):
        source = to_pixels(x)
        for code, output in enumerate(outputs):
            yield Sample(f"{key}-{code}", split, {"a": source, "b": to_pixels(output)}, label)
