"""The `data:` section of a recipe, and what a method may read from which dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from i2idist.data.batches import Batch, Images, Labelled, Multimodal, Paired, SourceLabelled, Unpaired
from i2idist.data.manifest import Manifest
from i2idist.errors import ConfigError

Size = tuple[int, int] | int | None


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images to read, and how.

    Attributes:
        url: the dataset's folder.
        split: of the dataset.
        domains: which kinds of images to read, source first; all by default. `[b, a]` turns the translation round. Of
            multimodal data, those samples are read that have them: pairs have both, two pools need not share any.
        label_maps: the number of classes of each domain whose images are label maps: one channel of 8 bits, whose
            levels number the classes, levels beyond being unlabelled. They are resized to the nearest pixel.
        nearest: further domains that are resized to the nearest pixel, in training and wherever the model is used:
            those of which a level is a mark, as 0 is of depths that weren't measured, and mustn't mix with others.
        size: (height, width) in pixels, or one number for both, that training sees; the stored size by default.
        load_size: resize to this before cropping `size` at random; training only.
        flip: mirror images at random; training only.
        canonical_streams: parts of the data that are read side by side; a number of workers that divides it reads each
            its own shards.
        shuffle_block: samples that are shuffled together.
        workers: threads that decode; 0 decodes where the batch is asked for.
        prefetch: batches made ahead, if there are workers.
        pin_memory: page-locked batches where there is CUDA.
        memory_bytes: keep a pool decoded if it fits in so much.
        cache_dir: where remote shards are cached; by default below the user's cache folder.
        cache_bytes: how much may be cached; the least recently used shards are dropped.
        on_bad_sample: `raise`, or `skip`: replace it by another draw.
        max_bad_fraction: how many of the samples that a worker draws from a pool may be skipped. Each worker counts its
            own draws since it started, as 1000 while they are fewer, so that a few early ones don't stop a run. No run
            of any number of workers then skips more of all its draws, but for those 1000 each; bad samples that lie
            together in a shard may stop the worker that reads it sooner than they would stop a single worker.
    """

    url: str
    split: str = "train"
    domains: tuple[str, ...] | None = None
    label_maps: Mapping[str, int] = field(default_factory=dict)
    nearest: tuple[str, ...] = ()
    size: tuple[int, int] | int | None = None
    load_size: tuple[int, int] | int | None = None
    flip: bool = False
    canonical_streams: int = 16
    shuffle_block: int = 1024
    workers: int = 0
    prefetch: int = 2
    pin_memory: bool = False
    memory_bytes: int = 256 * 2**20
    cache_dir: str | None = None
    cache_bytes: int = 50 * 2**30
    on_bad_sample: Literal["raise", "skip"] = "raise"
    max_bad_fraction: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: a number out of range.
        """
        limits = {
            "canonical_streams": 1,
            "shuffle_block": 1,
            "workers": 0,
            "prefetch": 1,
            "memory_bytes": 0,
            "cache_bytes": 1,
        }
        for name, least in limits.items():
            if vars(self)[name] < least:
                raise ConfigError(f"data.{name} is {vars(self)[name]}; it must be at least {least}.")
        for name, classes in self.label_maps.items():
            if not 2 <= classes <= 256:
                raise ConfigError(f"data.label_maps.{name} is {classes}: label maps tell 2 to 256 classes apart.")
        for name in ("size", "load_size"):
            if min(as_size(vars(self)[name]) or (1,)) < 1:
                raise ConfigError(f"data.{name} is {vars(self)[name]}; heights and widths are at least 1.")
        if self.on_bad_sample not in ("raise", "skip"):
            raise ConfigError(f"data.on_bad_sample is {self.on_bad_sample!r}; it is 'raise' or 'skip'.")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ConfigError(f"data.max_bad_fraction is {self.max_bad_fraction}; it lies between 0 and 1.")


def as_size(size: Size) -> tuple[int, int] | None:
    """(height, width) of a size setting."""
    return (size, size) if isinstance(size, int) else size


_ROLES: dict[type[Batch], tuple[str, ...]] = {
    Paired: ("paired", "multimodal"),
    Unpaired: ("unpaired", "paired", "multimodal"),
    SourceLabelled: ("unpaired", "paired", "multimodal"),
    Multimodal: ("multimodal", "paired"),
    Images: ("images", "labelled", "unpaired", "paired", "multimodal"),
    Labelled: ("labelled", "images", "unpaired", "paired", "multimodal"),
}


def choose_domains(manifest: Manifest, role: type[Batch], settings: DataSettings) -> tuple[str, ...]:
    """The domains that batches of kind `role` read, in order.

    Raises:
        ConfigError: the dataset has another role or no labels, or `data.domains` doesn't fit.
    """
    if manifest.role not in _ROLES[role]:
        raise ConfigError(
            f"{settings.url} is {manifest.role} data, and the method trains on {role.__name__.lower()} batches, which "
            f"are read from {', '.join(_ROLES[role])} data. Choose another dataset or method."
        )
    if role in (Labelled, SourceLabelled) and manifest.label_kind == "none":
        raise ConfigError(f"{settings.url} has no labels, and labelled batches are wanted. Choose another dataset.")
    names = settings.domains or tuple(domain.name for domain in manifest.domains)
    _check_label_maps(manifest, settings)
    for name in settings.nearest:
        manifest.domain(name)
    if role is Multimodal:
        _check_modalities(manifest, names)
        return names
    wanted = 2 if issubclass(role, Paired | Unpaired) else 1
    if len(names) != wanted:
        known = [domain.name for domain in manifest.domains]
        raise ConfigError(
            f"{role.__name__} batches hold {wanted} domain{'s' * (wanted > 1)}, not {list(names)}. "
            f"Set data.domains to {wanted} of {known}."
        )
    for name in names:
        manifest.domain(name)
    return names


def _check_modalities(manifest: Manifest, names: tuple[str, ...]) -> None:
    for name in names:
        manifest.domain(name)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"data.domains is {list(names)}: multimodal batches hold two different domains or more.")


def _check_label_maps(manifest: Manifest, settings: DataSettings) -> None:
    for name in settings.label_maps:
        domain = manifest.domain(name)
        if (domain.channels, domain.bits) != (1, 8):
            raise ConfigError(
                f"data.label_maps names '{name}' of {settings.url}, whose images have {domain.channels} channels of "
                f"{domain.bits} bits: a label map has one of 8."
            )
