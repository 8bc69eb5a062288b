"""The alignment factor of latent features of several modalities (Mix-and-match networks, Eq. 4.16).

It is watched through training, not trained on: a method gives `alignment_terms` among its `validation_terms`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from i2idist.errors import ConfigError


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
    if f.shape != g.shape or not f.numel():
        raise ConfigError(f"Alignment needs two of one shape and at least one, not {tuple(f.shape)}, {tuple(g.shape)}.")
    f, g = (x.detach().double().flatten(1) for x in (f, g))
    norms: Tensor = torch.linalg.vector_norm(f, dim=1) * torch.linalg.vector_norm(g, dim=1)
    if not norms.isfinite().all():
        raise ConfigError("Alignment: latent features are not finite.")
    if not norms.all():
        raise ConfigError(f"Alignment: the features of sample {int(norms.argmin())} are all zero.")
    return ((f * g).sum(1) / norms).clamp(-1, 1)


def alignment_terms(latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`alignment` of every two modalities, as terms of a validation: `alignment/A-B`, in the order given, -> (N,).

    Raises:
        ConfigError: fewer than two modalities, and as `alignment`.
    """
    if len(latents) < 2:
        raise ConfigError(f"Alignment needs 2 modalities at least, not {list(latents)}.")
    return {f"alignment/{a}-{b}": alignment(latents[a], latents[b]) for a, b in itertools.combinations(latents, 2)}
