"""Inception scores: how sure a classifier is of each image, and how its answers vary over images.

Both scores rest on the divergence KL(p(y|x) || p(y)) of a classifier's answer from the mean answer. The inception score
of Salimans et al. 2016 (arXiv:1606.03498) is the exponential of its mean. MUNIT (section 5.1) takes as mean answer that
over one input's outputs for the conditional score, CIS, and reports both as divergences in nats: its tables hold values
below 1, which no exponential has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks


class Score(NamedTuple):
    """The mean of the scores of the splits, and their standard deviation."""

    mean: float
    std: float


def divergences(probabilities: Tensor) -> Tensor:
    """KL(p_i || mean of p), each row against the mean of its set.

    Args:
        probabilities: (..., S, classes), rows summing to 1.

    Returns:
        (..., S) float64 in nats, >= 0 up to rounding.

    Raises:
        ConfigError: what isn't probabilities, or an empty set.
    """
    p = checks.finite(probabilities, "An inception score").double()
    if p.dim() < 2 or not p.numel():
        raise ConfigError(f"An inception score needs probabilities (samples, classes), not {tuple(p.shape)}.")
    checks.probabilities(p, "An inception score")
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(-2, keepdim=True))).sum(-1)


def inception_score(probabilities: Tensor, *, splits: int = 10) -> Score:
    """Exp of the mean divergence on each of `splits` runs of samples in the order given (Salimans et al.).

    Args:
        probabilities: (N, classes) of N generated images.
        splits: how many runs of nearly equal length; the score depends on it.

    Returns:
        Mean and standard deviation over splits, the mean in [1, classes].

    Raises:
        ConfigError: fewer than two samples a split, or what isn't probabilities.
    """
    if probabilities.dim() != 2 or not 1 <= splits <= len(probabilities) // 2:
        raise ConfigError(
            f"An inception score of {splits} splits needs 2 samples a split, (N, classes), "
            f"not {tuple(probabilities.shape)}."
        )
    parts = torch.tensor_split(probabilities, splits)
    found = torch.stack([divergences(part).mean().exp() for part in parts])
    return Score(found.mean().item(), found.std(correction=0).item())


def inception_influences(probabilities: Tensor, *, splits: int = 10) -> Tensor:
    """How much each image moves the inception score, to first order and up to a constant: (N, classes) -> (N,).

    The mean answer is where the divergence is least, so moving it counts for nothing: what remains is the image's own
    divergence, times the score of its split.
    """
    parts = [divergences(part) for part in torch.tensor_split(probabilities, splits)]
    return torch.cat([(part - part.mean()) * part.mean().exp() for part in parts])


def conditional_inception_score(probabilities: Tensor) -> Tensor:
    """Each input's mean divergence of an output's answer from the mean answer over its outputs (MUNIT's CIS).

    MUNIT's IS beside it is the mean of `divergences` of all outputs of all inputs together.

    Args:
        probabilities: (inputs, samples, classes).

    Returns:
        (inputs,) float64 in nats, in [0, log classes]; the CIS is their mean, and 0 where the code changes nothing.

    Raises:
        ConfigError: fewer than two outputs an input, or what isn't probabilities.
    """
    if probabilities.dim() != 3 or probabilities.shape[1] < 2:
        raise ConfigError(
            f"A conditional inception score needs (inputs, samples, classes) with 2 samples or more, "
            f"not {tuple(probabilities.shape)}: translate with num_samples=2 or more."
        )
    return divergences(probabilities).mean(1)
