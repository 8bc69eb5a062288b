"""What a worker keeps of the images that it sees, one function for each kind of protocol.

All take images through networks a fixed few at a time, so that memory stays bounded and bits don't depend on who works.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from i2idist.evaluate.seen import Reals, Rows, Seen, Tools
from i2idist.metrics import diversity

IMAGES_AT_ONCE = 16


def _in_parts(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([function(part) for part in torch.split(images, IMAGES_AT_ONCE)])


def _per_input(each_output: Tensor, seen: Seen) -> Rows:
    """Values of outputs, (N * K,), as means of inputs."""
    return {"value": each_output.double().reshape(len(seen.inputs), -1).mean(1)}


def all_pairs(seen: Seen, tools: Tools) -> Rows:
    """Each input's mean distance over all pairs of its outputs."""
    pairs = diversity.all_pairs(seen.outputs.shape[1])
    return {"value": diversity.tabled_pair_distances(seen.outputs, pairs, tools.network.distances).mean(1)}


def pairs_19(seen: Seen, tools: Tools) -> Rows:
    """Each input's mean distance over 19 random pairs of its outputs."""
    pairs = diversity.random_pairs(seen.outputs.shape[1], 19, seen.places, seen.seed)
    return {"value": diversity.tabled_pair_distances(seen.outputs, pairs, tools.network.distances).mean(1)}


def features(seen: Seen, tools: Tools) -> Rows:
    """Every output's features."""
    return {"features": _in_parts(tools.network.features, seen.flat)}


def real_features(reals: Reals, tools: Tools) -> Rows:
    """Every real image's features."""
    return {"features": _in_parts(tools.network.features, reals.images)}


def class_is_kept(seen: Seen, tools: Tools) -> Rows:
    """The share of each input's outputs in which the target domain's classifier sees the input's class."""
    predicted = _in_parts(tools.classifier, seen.flat).argmax(1)
    return _per_input(predicted == seen.known_labels, seen)
