"""The named networks that metrics look through, each with its weights, its resize rule and what it gives.

A number measured through a network compares with another only where name and version agree: the version holds the
revision of our code (architecture, resize rule, which layer gives features) and the digests of the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from i2idist import weights
from i2idist.errors import ConfigError, nearest
from i2idist.metrics import perceptual

Gives = Literal["features", "distance", "probabilities"]
State = Mapping[str, Tensor]

INPUT_RANGE = (-1.0, 1.0)


@dataclass(frozen=True)
class Card:
    """What is known of a network without loading it.

    `gives` says which methods of `FeatureNetwork` work; `width` is the number of features; `revision` goes up whenever
    our code makes other numbers of the same weights; `resize` says in words what `prepare` does to (N, 3, H, W) images
    in [-1, 1]; `build` makes the network of the tensors of each of its `weights`.
    """

    summary: str
    weights: tuple[str, ...]
    gives: tuple[Gives, ...]
    width: int
    resize: str
    prepare: Callable[[Tensor], Tensor]
    build: Callable[..., nn.Module]
    revision: int = 1

    @property
    def version(self) -> str:
        """The revision, and the head of each weight file's SHA-256."""
        return "-".join([f"r{self.revision}", *(weights.known(name).sha256[:12] for name in self.weights)])


def _shift_tolerant(build: Callable[[], nn.Module]) -> Callable[[State], nn.Module]:
    def filled(state: State) -> nn.Module:
        network = build()
        network.load_state_dict(state)
        return network

    return filled


def _at_least_64(images: Tensor) -> Tensor:
    return perceptual.enlarged(images, perceptual.MIN_SIDE)


_AT_LEAST_64 = "images with a shorter side below 64 are enlarged bilinearly, without antialiasing, until it is 64"

NETWORKS = {
    "stlpips-alex": Card(
        summary="ST-LPIPS on AlexNet (Ghildyal and Liu 2022, arXiv:2207.13686); features: mean of the last map",
        weights=("stlpips-alex",),
        gives=("features", "distance"),
        width=256,
        resize=_AT_LEAST_64,
        prepare=_at_least_64,
        build=_shift_tolerant(perceptual.ShiftTolerantLPIPS.alexnet),
    ),
    "stlpips-vgg": Card(
        summary="ST-LPIPS on VGG16 (Ghildyal and Liu 2022, arXiv:2207.13686); features: mean of the last map",
        weights=("stlpips-vgg",),
        gives=("features", "distance"),
        width=512,
        resize=_AT_LEAST_64,
        prepare=_at_least_64,
        build=_shift_tolerant(perceptual.ShiftTolerantLPIPS.vgg16),
    ),
}
"""Every network by name. The `stlpips` ones come with an installed package, so they work without a network."""

DEFAULT = "stlpips-alex"
"""What protocols use where weights can't be fetched; it never stands in for another network by itself."""


class _Module(Protocol):
    """What networks implement of this, by what their card says they give."""

    def features(self, x: Tensor) -> Tensor: ...
    def distance(self, x: Tensor, y: Tensor) -> Tensor: ...
    def distances(self, x: Tensor) -> Tensor: ...
    def probabilities(self, x: Tensor) -> Tensor: ...


class FeatureNetwork:
    """A network with its weights, in evaluation mode, its parameters without gradients.

    Images are (N, C, H, W) float in [-1, 1], C being 1 or 3, of any size that the network takes. Every image is treated
    alone, so values don't depend on what else is in a batch beyond the rounding of float32; callers who need equal bits
    keep their batches fixed.
    """

    def __init__(self, name: str, card: Card, module: nn.Module) -> None:
        """Made by `network`."""
        self.name, self.card = name, card
        self._module = module.eval().requires_grad_(False)

    @property
    def version(self) -> str:
        """See `Card.version`."""
        return self.card.version

    @property
    def resize(self) -> str:
        """The resize rule in words."""
        return self.card.resize

    def to(self, device: str | torch.device) -> FeatureNetwork:
        """Move the weights; images are then moved there too."""
        self._module.to(device)
        return self

    def describe(self) -> dict[str, Any]:
        """What a value's record says of the network."""
        return described(self.name)

    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, F).

        Raises:
            ConfigError: images of other than 1 or 3 channels, or too small for the network.
        """
        return self._giving("features").features(self._ready(images))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance of each pair of images: (N, C, H, W) twice -> (N,), >= 0 and 0 for equal images.

        Raises:
            ConfigError: unequal shapes, other than 1 or 3 channels, too small images, or a network without a distance.
        """
        if x.shape != y.shape:
            raise ConfigError(f"Images are compared by pairs of one shape, not {tuple(x.shape)} and {tuple(y.shape)}.")
        return self._giving("distance").distance(self._ready(x), self._ready(y))

    def distances(self, images: Tensor) -> Tensor:
        """The distance of every two of K images, each of which goes through the network once.

        Args:
            images: (K, C, H, W).

        Returns:
            (K, K), symmetric, with a diagonal of zeros.

        Raises:
            ConfigError: other than 1 or 3 channels, too small images, or a network without a distance.
        """
        return self._giving("distance").distances(self._ready(images))

    def probabilities(self, images: Tensor) -> Tensor:
        """The probability of each class: (N, C, H, W) -> (N, classes), rows summing to 1.

        Raises:
            ConfigError: other than 1 or 3 channels, too small images, or a network without classes.
        """
        return self._giving("probabilities").probabilities(self._ready(images))

    def _giving(self, what: Gives) -> _Module:
        if what not in self.card.gives:
            able = [name for name, card in NETWORKS.items() if what in card.gives]
            raise ConfigError(f"The network {self.name} gives no {what}. These do: {', '.join(able)}")
        return cast(_Module, self._module)

    def _ready(self, images: Tensor) -> Tensor:
        if images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ConfigError(
                f"The network {self.name} takes images (N, C, H, W) of 1 or 3 channels, not {tuple(images.shape)}: "
                "choose three channels."
            )
        return self.card.prepare(images.expand(-1, 3, -1, -1))


def card(name: str) -> Card:
    """The entry of `NETWORKS`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in NETWORKS:
        raise ConfigError(f"There is no network '{name}'.{nearest(name, NETWORKS)}")
    return NETWORKS[name]


def described(name: str) -> dict[str, Any]:
    """A network as JSON: name, version, weights with their digests, input range, resize rule, features, what it gives.

    Raises:
        ConfigError: an unknown name.
    """
    found = card(name)
    return {
        "network": name,
        "version": found.version,
        "summary": found.summary,
        "weights": {part: weights.known(part).sha256 for part in found.weights},
        "input_range": list(INPUT_RANGE),
        "resize": found.resize,
        "features": found.width,
        "gives": list(found.gives),
    }


@functools.cache
def network(name: str = DEFAULT) -> FeatureNetwork:
    """The named network on the CPU; its weights are read once a process.

    Raises:
        ConfigError: an unknown name.
        SourceError: its weights are absent, or not the published ones; says where to get them.
    """
    found = card(name)
    states = [weights.read(part, f"the network {name}") for part in found.weights]
    return FeatureNetwork(name, found, found.build(*states))
