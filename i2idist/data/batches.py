"""Typed batches, and how a global batch is shared among workers.

Images are (N, C, H, W) float in [-1, 1]. `positions` are the samples' places in the run's draw stream: they key
every random draw made for a sample, on whatever worker it lands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from i2idist.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What every batch has: `positions`, (N,) int64. Every field is a tensor, or several, with samples first."""

    positions: Tensor

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.positions)

    def map(self, fn: Callable[[Tensor], Tensor]) -> Self:
        """The same kind of batch with `fn` applied to every tensor."""

        def changed(value: Any) -> Any:
            return tuple(map(fn, value)) if isinstance(value, tuple) else fn(value)

        return dataclasses.replace(self, **{f.name: changed(getattr(self, f.name)) for f in dataclasses.fields(self)})

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor, `positions` first."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            yield from value if isinstance(value, tuple) else (value,)

    def __getitem__(self, rows: slice) -> Self:
        """The samples of a slice."""
        return self.map(lambda t: t[rows])

    def to(self, device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format) -> Self:
        """Move to `device`; floating-point images also to `dtype` and `memory_format`."""

        def move(t: Tensor) -> Tensor:
            if not t.is_floating_point():
                return t.to(device, non_blocking=True)
            if t.dim() == 4:
                return t.to(device, dtype, non_blocking=True, memory_format=memory_format)
            return t.to(device, dtype, non_blocking=True)

        return self.map(move)

    def pin_memory(self) -> Self:
        """Page-locked copies, for transfers to CUDA that overlap computation."""
        return self.map(lambda t: t.pin_memory())


@dataclass(frozen=True, kw_only=True)
class Paired(Batch):
    """Corresponding images: `a[i]` shows what `b[i]` shows. Both (N, C, H, W) in [-1, 1]."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True, kw_only=True)
class Unpaired(Batch):
    """Images of two pools that advance independently. Both (N, C, H, W) in [-1, 1]."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True, kw_only=True)
class SourceLabelled(Unpaired):
    """Images of two pools and the classes `y` of the first, (N,) int64; those of the second stay unseen."""

    y: Tensor


@dataclass(frozen=True, kw_only=True)
class Images(Batch):
    """Images of one pool, (N, C, H, W) in [-1, 1]."""

    x: Tensor


@dataclass(frozen=True, kw_only=True)
class Labelled(Batch):
    """Images with their domain or class: `x` (N, C, H, W) in [-1, 1], `y` (N,) int64 or (N, A) float attributes."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True, kw_only=True)
class Multimodal(Batch):
    """Images of several modalities, any of which a sample may lack.

    Attributes:
        images: of each modality, (N, C, H, W) in [-1, 1], all of one height and width; zeros where there is none.
        present: (N, modalities) bool, which images there are.
    """

    images: tuple[Tensor, ...]
    present: Tensor


def share(total: int, group_size: int, rank: int, world_size: int) -> range:
    """The samples of a global batch that `rank` takes.

    They are a contiguous run of whole groups; run lengths differ by at most one group.

    Args:
        total: samples in the global batch.
        group_size: samples that stay together.
        rank: this worker, 0-based.
        world_size: the number of workers.

    Raises:
        ConfigError: `total` is no multiple of `group_size`, or there are more workers than groups.
    """
    if total < 1 or total % group_size:
        raise ConfigError(
            f"train.batch_size is {total}, but the method keeps groups of {group_size} samples together: "
            f"use a positive multiple of {group_size}."
        )
    groups = total // group_size
    if world_size > groups:
        raise ConfigError(
            f"{world_size} workers for a batch of {groups} groups: at least one would have nothing to do. "
            f"Use resources.num_workers <= {groups} or a larger train.batch_size."
        )
    each, extra = divmod(groups, world_size)
    start = rank * each + min(rank, extra)
    stop = start + each + (rank < extra)
    return range(start * group_size, stop * group_size)
