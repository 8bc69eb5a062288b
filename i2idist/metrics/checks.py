"""What the metrics refuse, said in one way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from i2idist.errors import ConfigError


def matrix(x: Tensor, what: str, least: int = 1) -> Tensor:
    """`x` as float64, if it is a finite (N, F) matrix with `least` rows or more.

    Raises:
        ConfigError: another shape, too few rows, or a number that isn't finite; names `what`.
    """
    if x.dim() != 2 or x.shape[1] < 1:
        raise ConfigError(f"{what}: expected one row a sample, (N, F), not the shape {tuple(x.shape)}.")
    if len(x) < least:
        raise ConfigError(f"{what}: {len(x)} given, {least} needed at least.")
    return finite(x, what).double()


def finite(x: Tensor, what: str) -> Tensor:
    """`x`, if all of its numbers are finite.

    Raises:
        ConfigError: some are not; says how many.
    """
    if x.is_floating_point() and not torch.isfinite(x.sum()):
        bad = int((~torch.isfinite(x)).sum())
        if bad:
            raise ConfigError(f"{what}: {bad} of {x.numel()} numbers are not finite.")
    return x


def same_shape(x: Tensor, y: Tensor, what: str) -> None:
    """Refuse tensors of different shapes, and empty ones.

    Raises:
        ConfigError: names `what` and both shapes.
    """
    if x.shape != y.shape or not x.numel():
        raise ConfigError(f"{what}: needs two of one shape and at least one, not {tuple(x.shape)}, {tuple(y.shape)}.")


def samples_of(outputs: Tensor, inputs: int, dims: int, what: str) -> Tensor:
    """Outputs with an explicit number of samples an input: (N, ...) or (N, K, ...) -> (N, K, ...).

    Args:
        outputs: for each input one output of `dims` dimensions, or K of them.
        inputs: the number N that there must be.
        dims: the dimensions of one output.
        what: the name in messages.

    Raises:
        ConfigError: another number of inputs, none at all, or another number of dimensions.
    """
    if outputs.dim() == dims + 1:
        outputs = outputs.unsqueeze(1)
    if outputs.dim() != dims + 2 or len(outputs) != inputs or not outputs.numel():
        raise ConfigError(f"{what}: outputs of the shape {tuple(outputs.shape)} don't belong to {inputs} inputs.")
    return outputs


def in_chunks(rows: int, size: int, compute: Callable[[slice], Tensor]) -> Tensor:
    """`compute` on runs of at most `size` of `rows` rows, put together: bounds the memory, not the result."""
    return torch.cat([compute(slice(start, start + size)) for start in range(0, rows, size)])


def probabilities(p: Tensor, what: str) -> None:
    """Refuse what isn't a distribution over the last dimension: negative numbers, and sums off 1 by more than 1e-3.

    Raises:
        ConfigError: names `what`.
    """
    if p.numel() and (float(p.min()) < 0 or float((p.sum(-1) - 1).abs().max()) > 1e-3):
        raise ConfigError(f"{what}: needs probabilities that sum to 1; apply softmax to logits first.")
