"""Losses on segmentations, one value a sample."""

from __future__ import annotations

from torch import Tensor

from i2idist.losses.reduction import widen


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over labelled pixels of -log of the label's softmax probability (Mix-and-match networks, Eq. 4.7).

    Args:
        logits: (N, K, H, W).
        labels: (N, K, H, W), what is certain of each class: one-hot or soft, all zero where a pixel is unlabelled.

    Returns:
        (N,); 0 for a sample without a labelled pixel.
    """
    labels = widen(labels)
    each = -(labels * widen(logits).log_softmax(1)).sum(1)
    pixels = labels.sum((1, 2, 3))
    return each.sum((1, 2)) / pixels.clamp_min(1)
