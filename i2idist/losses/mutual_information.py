"""Lower bounds of mutual information, from scores T of dependent and independent pairs. All are maximised."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import logsigmoid

from i2idist.losses.reduction import sample_mean, widen


def jensen_shannon(joint: Tensor, marginal: Tensor) -> Tensor:
    """E_joint[-sp(-T)] - E_marg[sp(T)], sp the softplus (SEGAN, Eq. 7; Nowozin et al. 2016, arXiv:1606.00709).

    Args:
        joint: (N,) scores of pairs drawn together.
        marginal: (N, M) scores of M independent pairs for each.

    Returns:
        (N,), whose mean is the estimate, in (-inf, 0].
    """
    return logsigmoid(widen(joint)) + sample_mean(logsigmoid(-widen(marginal)))


def donsker_varadhan(joint: Tensor, marginal: Tensor, log_mean_exp: Callable[[Tensor], Tensor]) -> Tensor:
    """E_joint[T] - log E_marg[e^T] (SEGAN, Eq. 5; MINE, Belghazi et al. 2018, arXiv:1801.04062).

    Args:
        joint: (N,) scores of pairs drawn together.
        marginal: (N, M) scores of M independent pairs for each.
        log_mean_exp: `Comm.log_mean_exp`, since the expectation inside the logarithm is over the global batch.

    Returns:
        (N,), whose mean is the estimate, in nats.
    """
    return widen(joint) - log_mean_exp(widen(marginal).flatten())
