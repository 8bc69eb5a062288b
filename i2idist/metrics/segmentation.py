"""Semantic segmentation: IoU of each class, their mean, and the global accuracy (Mix-and-match networks, section 4.5).

Everything follows from the counts of (true class, predicted class). Counts of images and of workers just add up, so
they are the state that travels; every measure here is a function of counts (..., classes, classes).
"""

from __future__ import annotations

import torch
from torch import Tensor

from i2idist.errors import ConfigError


def confusion(predicted: Tensor, truth: Tensor, *, classes: int, ignore: int | None = None) -> Tensor:
    """How many pixels of each true class were predicted as each class, image by image.

    Args:
        predicted: (N, H, W) integers in 0..classes-1.
        truth: (N, H, W) integers, the same or `ignore`.
        classes: the number of classes.
        ignore: the value of unlabelled pixels, which aren't counted.

    Returns:
        (N, classes, classes) int64, rows being true and columns predicted classes.

    Raises:
        ConfigError: different shapes, no image, or a number that is no class.
    """
    if predicted.shape != truth.shape or predicted.dim() != 3 or not predicted.numel():
        raise ConfigError(f"Label maps (N, H, W) are needed, not {tuple(predicted.shape)} and {tuple(truth.shape)}.")
    counted = torch.ones_like(truth, dtype=torch.bool) if ignore is None else truth != ignore
    for name, labels in (("Predicted", predicted), ("True", truth)):
        _check_classes(labels[counted], classes, name)
    image = torch.arange(len(truth), device=truth.device)[:, None, None].expand_as(truth)
    cells = (image * classes + truth.long()) * classes + predicted.long()
    return torch.bincount(cells[counted], minlength=len(truth) * classes**2).reshape(-1, classes, classes)


def iou(counts: Tensor) -> Tensor:
    """Intersection over union of each class.

    Args:
        counts: (..., classes, classes), sums or means of `confusion`'s.

    Returns:
        (..., classes) float64 in [0, 1]; NaN for a class that is neither in the truth nor predicted.

    Raises:
        ConfigError: no pixel was counted at all.
    """
    counts = _counted(counts)
    hits = counts.diagonal(dim1=-2, dim2=-1)
    return hits / (counts.sum(-1) + counts.sum(-2) - hits)


def mean_iou(counts: Tensor) -> Tensor:
    """The mean of `iou` over classes that are in the truth or predicted: (..., classes, classes) -> (...) float64.

    Raises:
        ConfigError: no pixel was counted at all.
    """
    return iou(counts).nanmean(-1)


def global_accuracy(counts: Tensor) -> Tensor:
    """The share of pixels predicted rightly: (..., classes, classes) -> (...) float64; NaN where none was counted.

    Raises:
        ConfigError: no pixel was counted at all.
    """
    counts = _counted(counts)
    return counts.diagonal(dim1=-2, dim2=-1).sum(-1) / counts.sum((-2, -1))


def _counted(counts: Tensor) -> Tensor:
    if not counts.any():
        raise ConfigError("No pixel was counted: the true label maps hold nothing but the ignored value.")
    return counts.double()


def _check_classes(labels: Tensor, classes: int, name: str) -> None:
    if labels.is_floating_point():
        raise ConfigError(f"{name} label maps must hold integers, not {labels.dtype}: take argmax of scores first.")
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise ConfigError(f"{name} label maps hold {int(wrong)}, which is none of the classes 0..{classes - 1}.")
