"""Classification losses on logits, one value a sample."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from i2idist.losses.reduction import widen


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the labels' softmax probability: (N, C) logits, (N, C) one-hot labels -> (N,)."""
    return -(labels * widen(logits).log_softmax(1)).sum(1)


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over attributes of -log of each one's probability: (N, C) logits, (N, C) labels in {0, 1} -> (N,)."""
    return binary_cross_entropy_with_logits(widen(logits), labels.to(widen(logits).dtype), reduction="none").sum(1)
