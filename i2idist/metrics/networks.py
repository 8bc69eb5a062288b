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
from i2idist.errors import ConfigError, SourceError, nearest
from i2idist.metrics import inception, perceptual
from i2idist.nn import face

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


def _filled(build: Callable[[], nn.Module]) -> Callable[[State], nn.Module]:
    """A network that takes over the tensors of one file; built without values, so that none are drawn."""

    def build_filled(state: State) -> nn.Module:
        with torch.device("meta"):
            network = build()
        network.load_state_dict(state, assign=True)
        return network

    return build_filled


def _vgg16(state: State) -> nn.Module:
    from i2idist.metrics.imagenet import Vgg16

    return _filled(Vgg16)({f"net.{name}": tensor for name, tensor in state.items()})


def _lpips(trunk: Literal["alex", "vgg"]) -> Callable[[State, State], nn.Module]:
    def build_filled(state: State, channel_weights: State) -> nn.Module:
        from i2idist.metrics.imagenet import Lpips

        network = Lpips(trunk)
        network.fill(state, channel_weights)
        return network

    return build_filled


def _imagenet(images: Tensor) -> Tensor:
    from i2idist.metrics.imagenet import prepare

    return prepare(images)


def _at_least_64(images: Tensor) -> Tensor:
    return perceptual.enlarged(images, perceptual.MIN_SIDE)


def _own_size(least: int) -> Callable[[Tensor], Tensor]:
    def checked(images: Tensor) -> Tensor:
        if min(images.shape[2:]) < least:
            raise ConfigError(
                f"This network takes images of at least {least}x{least} at their own size, not "
                f"{images.shape[2]}x{images.shape[3]}: translate at a larger size, or use stlpips-alex."
            )
        return images

    return checked


_AT_LEAST_64 = "images with a shorter side below 64 are enlarged bilinearly, without antialiasing, until it is 64"
_OWN_SIZE = "none: images at their own size"

NETWORKS = {
    "stlpips-alex": Card(
        summary="ST-LPIPS on AlexNet (Ghildyal and Liu 2022, arXiv:2207.13686); features: mean of the last map",
        weights=("stlpips-alex",),
        gives=("features", "distance"),
        width=256,
        resize=_AT_LEAST_64,
        prepare=_at_least_64,
        build=_filled(perceptual.ShiftTolerantLPIPS.alexnet),
    ),
    "stlpips-vgg": Card(
        summary="ST-LPIPS on VGG16 (Ghildyal and Liu 2022, arXiv:2207.13686); features: mean of the last map",
        weights=("stlpips-vgg",),
        gives=("features", "distance"),
        width=512,
        resize=_AT_LEAST_64,
        prepare=_at_least_64,
        build=_filled(perceptual.ShiftTolerantLPIPS.vgg16),
    ),
    "lpips-alex": Card(
        summary="LPIPS 0.1 on AlexNet (Zhang et al. 2018, arXiv:1801.03924); features: mean of the last map",
        weights=("alexnet", "lpips-alex-linear"),
        gives=("features", "distance"),
        width=256,
        resize=_OWN_SIZE,
        prepare=_own_size(31),
        build=_lpips("alex"),
    ),
    "lpips-vgg": Card(
        summary="LPIPS 0.1 on VGG16 (Zhang et al. 2018, arXiv:1801.03924); features: mean of the last map",
        weights=("vgg16", "lpips-vgg-linear"),
        gives=("features", "distance"),
        width=512,
        resize=_OWN_SIZE,
        prepare=_own_size(16),
        build=_lpips("vgg"),
    ),
    "inception-fid": Card(
        summary="the Inception-v3 of FID, KID and IS (Heusel et al. 2017, arXiv:1706.08500); features: last pool; "
        "probabilities: 1008 classes, without bias",
        weights=("inception-fid",),
        gives=("features", "probabilities"),
        width=inception.FEATURES,
        resize=inception.RESIZE,
        prepare=inception.prepare,
        build=_filled(inception.FidInception),
    ),
    "vgg16": Card(
        summary="VGG16 on ImageNet (Simonyan and Zisserman 2015, arXiv:1409.1556); features: second hidden layer",
        weights=("vgg16",),
        gives=("features", "probabilities"),
        width=4096,
        resize="the whole image, bilinear with antialiasing to 224x224",
        prepare=_imagenet,
        build=_vgg16,
    ),
    "face": Card(
        summary="Inception-ResNet-v1 on VGGFace2 (arXiv:1602.07261, 1710.08092); features: unit embedding",
        weights=("facenet-vggface2",),
        gives=("features", "distance"),
        width=face.EMBEDDING,
        resize=face.RESIZE,
        prepare=face.prepare,
        build=_filled(face.FaceNetwork),
    ),
}
"""Every network by name. The `stlpips` ones come with an installed package, so they work offline."""

DEFAULT = "stlpips-alex"
"""The offline default: it needs nothing fetched, and never stands in for another network by itself."""

_OFFLINE = (
    f"The offline default is {DEFAULT}, whose distances and features have their own name: they don't compare with "
    "those of other networks."
)


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
    try:
        states = [weights.read(part, f"the network {name}") for part in found.weights]
    except SourceError as error:
        raise SourceError(f"{error} {_OFFLINE}") from error
    return FeatureNetwork(name, found, found.build(*states))
