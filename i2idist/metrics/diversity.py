"""Diversity: how far apart the outputs for one input are, by a perceptual distance, on the pairs that a protocol names.

- SEGAN (after BicycleGAN): 100 inputs, 20 outputs each, `all_pairs(20)`, which are 190.
- SDIT: 10 outputs of each input, `all_pairs(10)`, which are 45.
- UDIT (after MUNIT): 100 inputs, 19 random pairs each. Reading: `random_pairs`, 19 different ones among the pairs of
  20 outputs, drawn for each input on its own.

The value of an input is the mean over its pairs; the diversity is the mean over inputs. Values of inputs rather than
their mean are returned, since a bootstrap and a sum over workers need them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import checks
from i2idist.randomness import key_of, permutation

Distance = Callable[[Tensor, Tensor], Tensor]
"""(N, C, H, W), (N, C, H, W) in [-1, 1] -> (N,)."""
Table = Callable[[Tensor], Tensor]
"""(K, C, H, W) in [-1, 1] -> (K, K), the distance of every two."""

_IMAGES_AT_ONCE = 64


def all_pairs(samples: int) -> Tensor:
    """Every pair of `samples` outputs: (P, 2) int64, P = samples (samples - 1) / 2.

    Raises:
        ConfigError: fewer than two outputs.
    """
    if samples < 2:
        raise ConfigError(f"Diversity needs 2 outputs an input at least, not {samples}: translate with num_samples=2.")
    return torch.tensor(list(itertools.combinations(range(samples), 2)))


def random_pairs(samples: int, count: int, inputs: Tensor, seed: int) -> Tensor:
    """`count` different pairs of outputs for each input, keyed by seed and the input's number alone.

    Args:
        samples: outputs an input.
        count: pairs an input.
        inputs: (N,) int64, the inputs' numbers in the protocol.
        seed: of the draws.

    Returns:
        (N, count, 2) int64.

    Raises:
        ConfigError: more pairs than there are, none, or fewer than two outputs.
    """
    pairs = all_pairs(samples)
    if not 1 <= count <= len(pairs):
        raise ConfigError(f"{count} pairs of {samples} outputs: there are {len(pairs)} different ones.")
    orders = [permutation(key_of(seed, "pairs", number), len(pairs))[:count] for number in inputs.tolist()]
    return pairs[torch.stack(orders)]


@torch.no_grad()
def pair_distances(outputs: Tensor, pairs: Tensor, distance: Distance) -> Tensor:
    """The distance of each pair, by any distance of two images: every image passes the network once a pair.

    Args:
        outputs: (N, K, C, H, W) float in [-1, 1].
        pairs: (P, 2) for all inputs, or (N, P, 2), int64 in 0..K-1.
        distance: of two batches of images.

    Returns:
        (N, P) float64.

    Raises:
        ConfigError: no input, or pairs that don't fit the outputs.
    """
    pairs = _pairs_of(outputs, pairs)
    rows = torch.arange(len(outputs))[:, None].expand(pairs.shape[:2])
    first, second = (torch.stack([rows, pairs[..., side]]).flatten(1) for side in (0, 1))

    def compute(part: slice) -> Tensor:
        return distance(outputs[first[0, part], first[1, part]], outputs[second[0, part], second[1, part]]).double()

    return checks.in_chunks(first.shape[1], _IMAGES_AT_ONCE, compute).reshape(pairs.shape[:2])


@torch.no_grad()
def tabled_pair_distances(outputs: Tensor, pairs: Tensor, distances: Table) -> Tensor:
    """The distance of each pair, from the distances of every two outputs: every image passes the network once.

    Where 20 outputs make 190 pairs, 20 passes do what otherwise takes 380.

    Args:
        outputs: (N, K, C, H, W) float in [-1, 1].
        pairs: (P, 2) for all inputs, or (N, P, 2), int64 in 0..K-1.
        distances: of every two of K images, such as `FeatureNetwork.distances`.

    Returns:
        (N, P) float64.

    Raises:
        ConfigError: no input, or pairs that don't fit the outputs.
    """
    pairs = _pairs_of(outputs, pairs)
    rows = [distances(images)[chosen[:, 0], chosen[:, 1]] for images, chosen in zip(outputs, pairs, strict=True)]
    return torch.stack(rows).double()


def _pairs_of(outputs: Tensor, pairs: Tensor) -> Tensor:
    """The pairs of each input, (N, P, 2), if they are such."""
    if outputs.dim() != 5 or not outputs.numel():
        raise ConfigError(f"Diversity needs outputs (N, K, C, H, W) of one input at least, not {tuple(outputs.shape)}.")
    pairs = pairs.expand(len(outputs), -1, -1) if pairs.dim() == 2 else pairs
    if pairs.shape[::2] != (len(outputs), 2) or not pairs.numel():
        raise ConfigError(f"Pairs of the shape {tuple(pairs.shape)} don't belong to {len(outputs)} inputs.")
    if int(pairs.min()) < 0 or int(pairs.max()) >= outputs.shape[1]:
        raise ConfigError(f"A pair names output {int(pairs.max())} of {outputs.shape[1]} outputs an input.")
    return pairs
