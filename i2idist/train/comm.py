"""Collectives: what workers tell each other, and the exact gradients that follow.

The convention: the global loss is the sum of the ranks' contributions. Every collective here is differentiable under
that convention, twice, since the gradient of a sum over ranks is again a sum over ranks. At one worker each is the
identity.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_BUCKET_BYTES = 64 * 2**20
_spent_s = 0.0


def communication_s() -> float:
    """Seconds that this process has spent in reductions over workers; on CUDA in starting them, since they go on."""
    return _spent_s


def _reduce(tensor: Tensor, group: dist.ProcessGroup | None, operation: Any = dist.ReduceOp.SUM) -> None:
    """Reduce `tensor` over the ranks, in place."""
    global _spent_s
    begun = time.perf_counter()
    dist.all_reduce(tensor, operation, group=group)
    _spent_s += time.perf_counter() - begun


class _Sum(torch.autograd.Function):
    """All-reduce whose gradient is an all-reduce, so that it may be differentiated any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        total = x.detach().clone(memory_format=torch.contiguous_format)
        _reduce(total, group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(grads[0], ctx.group), None


class Comm:
    """The workers of one training, as the losses and the trainer see them.

    Attributes:
        rank: this worker, 0-based.
        world_size: the number of workers.
    """

    def __init__(self, group: dist.ProcessGroup | None = None, device: torch.device | str = "cpu") -> None:
        """Use `group`, or the default process group, or none where `torch.distributed` isn't initialised.

        Args:
            group: the process group.
            device: where control messages live: a CUDA device for NCCL.
        """
        self._group = group
        self._device = torch.device(device)
        ready = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank(group) if ready else 0
        self.world_size = dist.get_world_size(group) if ready else 1

    @classmethod
    def alone(cls) -> Comm:
        """A worker by itself, even inside a process group: no collective is ever called."""
        comm = cls.__new__(cls)
        comm._group, comm._device, comm.rank, comm.world_size = None, torch.device("cpu"), 0, 1
        return comm

    def sum(self, x: Tensor) -> Tensor:
        """Elementwise sum of every rank's `x`, all of one shape. Differentiable."""
        if self.world_size == 1:
            return x
        total: Tensor = _Sum.apply(x, self._group)
        return total

    def gather(self, x: Tensor) -> Tensor:
        """Every rank's `x`, concatenated in rank order along the first dimension; lengths may differ."""
        if self.world_size == 1:
            return x
        lengths = self._lengths(len(x))
        before = sum(lengths[: self.rank])
        after = sum(lengths[self.rank + 1 :])
        padding = [0, 0] * (x.dim() - 1) + [before, after]
        return self.sum(torch.nn.functional.pad(x, padding))

    def log_mean_exp(self, x: Tensor) -> Tensor:
        """Log of the mean of exp over every rank's values, (n,) -> scalar, without overflow. Differentiable."""
        if self.world_size == 1:
            return torch.logsumexp(x, 0) - math.log(len(x))
        largest = x.detach().max().clone()
        _reduce(largest, self._group, dist.ReduceOp.MAX)
        total = self.sum((x - largest).exp().sum())
        return largest + total.log() - math.log(sum(self._lengths(len(x))))

    def max(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of every rank's values and its index in rank order, (n,) -> two scalars. Ties: lowest index."""
        everyone = self.gather(x)
        index = everyone.argmax()  # the first of equal ones
        return everyone[index], index

    def any(self, flag: bool) -> bool:
        """Whether any rank's `flag` is set; every rank gets the same answer."""
        if self.world_size == 1:
            return flag
        total = torch.tensor(int(flag), device=self._device)
        _reduce(total, self._group, dist.ReduceOp.MAX)
        return bool(total.item())

    def total(self, x: Tensor) -> Tensor:
        """Elementwise sum of every rank's `x`, outside autograd."""
        if self.world_size > 1:
            x = x.detach().clone()
            _reduce(x, self._group)
        return x

    def gather_objects(self, value: Any) -> list[Any]:
        """Every rank's small picklable value, in rank order."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """Rank 0's small picklable value."""
        return self.gather_objects(value if self.rank == 0 else None)[0]

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Copy rank 0's tensors into every rank's, in place, keeping strides."""
        if self.world_size == 1:
            return
        for tensor in tensors:
            dense = tensor.detach().contiguous()
            dist.broadcast(dense, src=0, group=self._group)
            tensor.detach().copy_(dense)

    def same(self, tensors: Sequence[Tensor]) -> bool:
        """Whether every rank holds the same bits in `tensors`, judged by a checksum of each."""
        if self.world_size == 1:
            return True
        mine = torch.stack([_checksum(t) for t in tensors]).to(self._device)
        low, high = mine.clone(), mine.clone()
        dist.all_reduce(low, dist.ReduceOp.MIN, group=self._group)
        dist.all_reduce(high, dist.ReduceOp.MAX, group=self._group)
        return bool((low == high).all())

    def reduce_gradients(self, gradients: Sequence[Tensor]) -> list[int]:
        """Replace each gradient by its sum over ranks, in place.

        A flag for each rank travels in the first bucket, so that all ranks learn in the same collective whether some
        rank's gradients are not finite.

        Returns:
            The ranks with a gradient that is not finite; empty when all are sound.
        """
        mine = _finite(gradients)
        if self.world_size == 1:
            return [] if mine else [0]
        flags = gradients[0].new_zeros(self.world_size)
        flags[self.rank] = 0.0 if mine else 1.0
        for bucket in _buckets([flags, *gradients]):
            flat = torch.cat([t.reshape(-1) for t in bucket])
            _reduce(flat, self._group)
            for tensor, part in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(part.view(tensor.shape))
        return [rank for rank, flag in enumerate(flags.tolist()) if flag]

    def _lengths(self, length: int) -> list[int]:
        lengths = torch.zeros(self.world_size, dtype=torch.int64, device=self._device)
        lengths[self.rank] = length
        _reduce(lengths, self._group)
        return [int(n) for n in lengths.tolist()]


def _finite(gradients: Sequence[Tensor]) -> bool:
    """Whether all elements are: an infinite or undefined one makes any sum that it enters so."""
    return bool(torch.stack([gradient.sum() for gradient in gradients]).sum().isfinite())


def _checksum(tensor: Tensor) -> Tensor:
    """An int64 that changes when any element's bits do."""
    dense = tensor.detach().contiguous().flatten()
    if dense.is_floating_point():
        dense = dense.view({8: torch.int64, 4: torch.int32, 2: torch.int16}[dense.element_size()])
    return dense.sum(dtype=torch.int64)


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Runs of tensors of about `_BUCKET_BYTES` and of one dtype."""
    buckets: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        if not buckets or size > _BUCKET_BYTES or buckets[-1][0].dtype != tensor.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(tensor)
        size += tensor.numel() * tensor.element_size()
    return buckets
