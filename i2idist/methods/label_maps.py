"""Label maps as networks take and make them: one channel a class inside, one of levels outside; see `Domain`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from i2idist.method import Domain


def channels_of(domain: Domain) -> int:
    """The channels in which networks see a domain: an image's, or one for each class of a label map."""
    return domain.classes or domain.channels


def as_networks_see(x: Tensor, domain: Domain) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as they are; label maps as one-hot classes, (N, classes, H, W) in {0, 1}."""
    if domain.classes is None:
        return x
    return one_hot(((x[:, 0] + 1) * 127.5).round().long(), domain.classes, x.dtype)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """(N, H, W) int64 -> (N, classes, H, W) in {0, 1}; all zero for numbers beyond the classes."""
    hot = functional.one_hot(labels.clamp_max(classes), classes + 1)[..., :classes]
    return hot.permute(0, 3, 1, 2).to(dtype)


def likeliest(logits: Tensor) -> Tensor:
    """A label map of its classes' logits: (N, classes, H, W) -> (N, 1, H, W), levels in [-1, 1]."""
    return logits.argmax(1, keepdim=True).to(logits.dtype) / 127.5 - 1
