"""Parts of a source: some classes or attributes, few images, the middle of each, pairs of its modalities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from i2idist.data.images import Array, Picture, open_picture
from i2idist.data.layouts.source import Source, hash_of
from i2idist.data.pack import Sample
from i2idist.errors import ConfigError, SampleError, nearest


@dataclass(frozen=True)
class _Changed:
    """The samples of a source, each changed or left out (None); as often as they are asked for."""

    source: Source
    change: Callable[[Sample], Sample | None]

    def __iter__(self) -> Iterator[Sample]:
        for sample in self.source.samples:
            changed = self.change(sample)
            if changed is not None:
                yield changed


def with_labels(source: Source, labels: Sequence[str]) -> Source:
    """The source with some of its labels: of classes the samples that have them, of attributes these alone.

    Raises:
        ConfigError: it has no labels, or no such label, or one is asked for twice.
    """
    if not source.labels:
        raise ConfigError("This layout has no labels to choose from. Leave the labels out.")
    for name in labels:
        if name not in source.labels:
            raise ConfigError(f"There is no label '{name}' here.{nearest(name, source.labels)}")
    if len(set(labels)) < len(labels):
        raise ConfigError(f"The labels {list(labels)} repeat one. Name each once.")
    places = [source.labels.index(name) for name in labels]

    def choose(sample: Sample) -> Sample | None:
        if isinstance(sample.label, tuple):
            return replace(sample, label=tuple(sample.label[place] for place in places))
        return replace(sample, label=places.index(sample.label)) if sample.label in places else None

    chosen = replace(source, labels=tuple(labels), samples=_Changed(source, choose))
    if source.count is None:
        return chosen
    return _counted(chosen)


def _counted(source: Source) -> Source:
    samples = list(source.samples)
    return replace(source, count=len(samples), samples=samples)


def with_limit(source: Source, limit: int) -> Source:
    """The source with at most `limit` training samples: of each class where there are classes, of each unpaired domain.

    A hash of keys chooses, whatever the order of files is; what a limit keeps, a larger one keeps too. Splits other
    than `train` stay whole.

    Raises:
        ConfigError: `limit` isn't positive.
    """
    if limit < 1:
        raise ConfigError(f"The limit is {limit} images. Use at least 1.")
    hashes: dict[object, list[int]] = defaultdict(list)
    for sample in source.samples:
        if sample.split == "train":
            hashes[_group(source, sample)].append(hash_of(sample.key))
    last = {group: sorted(found)[:limit][-1] for group, found in hashes.items()}

    def keep(sample: Sample) -> Sample | None:
        kept = sample.split != "train" or hash_of(sample.key) <= last[_group(source, sample)]
        return sample if kept else None

    chosen = replace(source, samples=_Changed(source, keep))
    return chosen if source.count is None else _counted(chosen)


def _group(source: Source, sample: Sample) -> tuple[str, int | None]:
    """The samples of which there may be so many: a class's, of one domain where data is unpaired."""
    domain = next(iter(sample.images)) if source.role == "unpaired" else ""
    return domain, sample.label if isinstance(sample.label, int) else None


def with_pairs(source: Source, others: Sequence[str]) -> Source:
    """The source with training samples cut down to pairs of the first domain and one of `others`, or several.

    The samples of a scene (see `Source.scene`) have the same; scenes are spread evenly by a hash of their name. Splits
    other than `train` stay whole.

    Args:
        source: multimodal.
        others: what each part of the scenes keeps beside the first domain; several names of a part are joined by `+`.

    Raises:
        ConfigError: the source isn't multimodal, there are less than two parts, or one names an unknown domain.
    """
    parts = [tuple(part.split("+")) for part in others]
    if source.role != "multimodal" or len(parts) < 2:
        raise ConfigError(f"Pairs are made of multimodal data, with two parts or more, not of {source.role} {others}.")
    for name in (name for part in parts for name in part):
        if name not in source.domains[1:]:
            raise ConfigError(f"There is no domain '{name}' to pair.{nearest(name, source.domains[1:])}")

    def keep(sample: Sample) -> Sample:
        if sample.split != "train":
            return sample
        wanted = (source.domains[0], *parts[hash_of(source.scene(sample.key)) % len(parts)])
        return replace(sample, images={name: image for name, image in sample.images.items() if name in wanted})

    return replace(source, samples=_Changed(source, keep))


def with_crop(source: Source, side: int) -> Source:
    """The source with the middle square of every image, `side` pixels wide. Stored without loss, not as JPEG.

    Raises:
        ConfigError: `side` isn't positive.
    """
    if side < 1:
        raise ConfigError(f"The crop is {side} pixels. Use at least 1.")

    def crop(sample: Sample) -> Sample:
        images: Mapping[str, Callable[[], Array]] = {
            domain: partial(_middle, image, side, sample.where) for domain, image in sample.images.items()
        }
        return replace(sample, images=images)

    return replace(source, samples=_Changed(source, crop))


def _middle(image: Picture | Callable[[], Picture], side: int, where: str) -> Array:
    pixels = open_picture(image() if callable(image) else image, where)
    height, width = pixels.shape[:2]
    if min(height, width) < side:
        raise SampleError(f"{where} is {height}x{width} pixels, too small for a crop of {side}. Use a smaller crop.")
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
