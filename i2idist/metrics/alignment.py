"""The alignment factor of latent features of two modalities (Mix-and-match networks, Eq. 4.16)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks


def alignment(f: Tensor, g: Tensor) -> Tensor:
    """The cosine of the features of each sample in two modalities, Eq. 4.16; the factor is their mean.

    Args:
        f: (N, ...) latent features of one modality, all dimensions but the first taken as one vector.
        g: the same shape, of the other modality of the same samples.

    Returns:
        (N,) float64 in [-1, 1].

    Raises:
        ConfigError: different shapes, numbers that aren't finite, or features that are all zero, which have no
            direction.
    """
    checks.same_shape(f, g, "Alignment")
    f, g = (checks.finite(x.detach(), "Latent features").double().flatten(1) for x in (f, g))
    norms: Tensor = torch.linalg.vector_norm(f, dim=1) * torch.linalg.vector_norm(g, dim=1)
    if not norms.all():
        raise ConfigError(f"Alignment: the features of sample {int(norms.argmin())} are all zero.")
    return ((f * g).sum(1) / norms).clamp(-1, 1)


def pairwise_alignment(latents: Mapping[str, Tensor]) -> dict[tuple[str, str], Tensor]:
    """`alignment` of every two modalities: their names, in the order given, -> (N,).

    Raises:
        ConfigError: fewer than two modalities, and as `alignment`.
    """
    if len(latents) < 2:
        raise ConfigError(f"Alignment needs 2 modalities at least, not {list(latents)}.")
    return {(a, b): alignment(latents[a], latents[b]) for a, b in itertools.combinations(latents, 2)}
