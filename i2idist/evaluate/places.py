"""Which inputs, and which real images, a protocol looks at."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from i2idist.data.manifest import load_manifest
from i2idist.data.shards import Label
from i2idist.data.source import FETCHES, read_index
from i2idist.evaluate.protocol import Sampling
from i2idist.randomness import key_of, permutation
from i2idist.translate.inputs import Inputs


def total(inputs: Inputs, among: tuple[int, ...] | None = None) -> int:
    """How many images there are to choose from."""
    return sum(item.count for item in inputs.items) if among is None else len(among)


def chosen_places(count: int, sampling: Sampling) -> list[int]:
    """The numbers, of `count`, of the inputs that a protocol looks at, ascending.

    Fewer inputs of one seed are among more.
    """
    if sampling.inputs is None or sampling.inputs >= count:
        return list(range(count))
    order = permutation(key_of(sampling.seed, "evaluation inputs"), count)
    return sorted(order[: sampling.inputs].tolist())


def places_by_label(inputs: Inputs, label: str, *, have: bool) -> tuple[int, ...]:
    """The places, among all items', of the images that have a label, or of those that don't.

    Args:
        inputs: a packed dataset's, with labels.
        label: a class, or an attribute.
        have: whether to take those that have it.

    Raises:
        DataError, StorageError: data that can't be read.
    """
    folder = inputs.folder
    manifest, number = load_manifest(folder), inputs.labels.index(label)
    shards = {
        shard.name: (shard, pool) for pools in manifest.splits.values() for pool in pools for shard in pool.shards
    }
    with ThreadPoolExecutor(FETCHES, "i2idist-labels") as threads:
        indexes = list(threads.map(lambda item: read_index(folder, *shards[item.name]), inputs.items))
    labels = [index.label(row) for index in indexes for row in range(len(index))]
    return tuple(place for place, found in enumerate(labels) if _has(found, number) == have)


def _has(label: Label, number: int) -> bool:
    return label[number] > 0.5 if isinstance(label, tuple) else label == number
