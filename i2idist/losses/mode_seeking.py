"""The mode seeking term (Mao et al. 2019, arXiv:1903.05628)."""

from __future__ import annotations

from torch import Tensor

from i2idist.losses.reconstruction import l1

_EPS = 1e-5


def mode_seeking(x_1: Tensor, x_2: Tensor, z_1: Tensor, z_2: Tensor) -> Tensor:
    """d_z / d_I: small where two codes' images differ much for how much the codes do (section 3.2).

    The paper maximises d_I(G(c, z_1), G(c, z_2)) / d_z(z_1, z_2); its code minimises the inverse, kept finite by a
    small constant. Both distances are mean absolute differences.

    Args:
        x_1: (N, C, H, W), images made with `z_1`.
        x_2: (N, C, H, W), images of the same inputs made with `z_2`.
        z_1: (N, Z).
        z_2: (N, Z).

    Returns:
        (N,), positive.
    """
    return 1 / (l1(x_1, x_2) / l1(z_1, z_2) + _EPS)
