"""Learned perceptual distances: LPIPS and its shift-tolerant variant.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", arXiv:1801.03924, and
Ghildyal and Liu 2022, "Shift-tolerant Perceptual Similarity Metric", arXiv:2207.13686. The distance of two images is
the sum over five layers of the spatial mean of channel-weighted squared differences of unit feature vectors (Eq. 1 of
the first). In the shift-tolerant networks every stride is replaced by a blur pooling whose reflection padding is wide,
and AlexNet's first convolution has stride 1.

The shift-tolerant weights are those that the package `stlpips-pytorch` 0.0.2 carries; its code is not imported, since
that needs packages that it doesn't declare. LPIPS itself runs through the package `lpips`.

Small images: the shift-tolerant weights were trained on 64x64 patches, so images whose shorter side is below 64 are
enlarged bilinearly until it is 64, see `enlarged`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

MIN_SIDE = 64

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class PerceptualNetwork(nn.Module):
    """A network whose maps at five layers give a distance between images; images are (N, 3, H, W) in [-1, 1]."""

    @abstractmethod
    def activations(self, x: Tensor) -> Sequence[Tensor]:
        """The maps after each layer's last ReLU, each (N, C_l, H_l, W_l)."""

    @abstractmethod
    def channel_weights(self) -> Sequence[Tensor]:
        """The non-negative weights of each layer's channels, each (1, C_l, 1, 1)."""

    def features(self, x: Tensor) -> Tensor:
        """The spatial mean of the last map, (N, C): what a Fréchet distance on this network uses."""
        return self.activations(x)[-1].mean((2, 3))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Maps of unit feature vectors, each (N, C_l, H_l, W_l)."""
        return [a / _lengths(a) for a in self.activations(x)]

    def weigh(self, squares: Sequence[Tensor]) -> Tensor:
        """The sum over layers of the spatial mean of weighted squared differences: five (N, C_l, H_l, W_l) -> (N,)."""
        pairs = zip(squares, self.channel_weights(), strict=True)
        return torch.stack([functional.conv2d(s, w).mean((1, 2, 3)) for s, w in pairs]).sum(0)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance of each pair: (N, 3, H, W) twice -> (N,), >= 0 and 0 for equal images; differentiable."""
        return self.weigh([(f - g).square() for f, g in zip(self.maps(x), self.maps(y), strict=True)])

    @torch.no_grad()
    def distances(self, x: Tensor) -> Tensor:
        """The distance of every two of K images, each seen once: (K, 3, H, W) -> (K, K), symmetric, diagonal 0."""
        pairs = zip(self.activations(x), self.channel_weights(), strict=True)
        return torch.stack([_gaps(maps, w) for maps, w in pairs]).sum(0)


def _lengths(maps: Tensor) -> Tensor:
    """Of the feature vectors: (N, C, H, W) -> (N, 1, H, W), above zero."""
    return maps.square().sum(1, keepdim=True).sqrt() + 1e-10


def _gaps(maps: Tensor, channel_weights: Tensor) -> Tensor:
    """Mean weighted squared distances of unit feature vectors, by inner products: (K, K). Overwrites `maps`.

    Around the mean, so that little cancels; in place, since fresh memory takes longer than the arithmetic.
    """
    maps.div_(_lengths(maps)).mul_(channel_weights.sqrt())
    flat = maps.sub_(maps.mean(0)).flatten(1)
    inner = flat @ flat.T
    norms = inner.diagonal()
    gaps = norms[:, None] + norms - inner - inner.T
    return gaps.clamp_min(0.0) / (maps.shape[2] * maps.shape[3])


def _binomial(channels: int) -> Tensor:
    row = torch.tensor([0.25, 0.5, 0.25])
    return (row[:, None] * row).repeat(channels, 1, 1, 1)


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """Every second pixel of a blurred image: (N, C, H, W) -> (N, C, (H+3)//2, (W+3)//2)."""
    return functional.conv2d(functional.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


class _BlurPool(nn.Module):
    """Blurs with the 3x3 binomial filter that the weight file holds, and drops every second pixel."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", _binomial(channels))

    def forward(self, x: Tensor) -> Tensor:
        return _blurred(x, self.filt)


class _Scaling(nn.Module):
    """From [-1, 1] to what ImageNet networks are trained on."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(_SHIFT).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


def _convolution(inputs: int, outputs: int, kernel: int, padding: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.ReLU(inplace=True)]


class _MaxPool(nn.Module):
    """Max pooling of stride 1. Where no gradient is wanted, by maxima of shifted maps: 19 times as fast on a CPU."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return functional.max_pool2d(x, self.size, stride=1)
        return _greatest(_greatest(x, self.size, 3), self.size, 2)


def _greatest(maps: Tensor, size: int, dim: int) -> Tensor:
    """The greatest of every `size` neighbours along `dim`, which gets size - 1 shorter."""
    length = maps.shape[dim] - size + 1
    found = maps.narrow(dim, 0, length)
    for place in range(1, size):
        found = torch.maximum(found, maps.narrow(dim, place, length))
    return found


def _pool(size: int, channels: int) -> list[nn.Module]:
    return [_MaxPool(size), _BlurPool(channels)]


def _alexnet() -> list[list[nn.Module]]:
    first, relu = _convolution(3, 64, 11, 2)
    return [
        [first, _BlurPool(64), relu],
        [*_pool(3, 64), *_convolution(64, 192, 5, 2)],
        [*_pool(3, 192), *_convolution(192, 384, 3, 1)],
        _convolution(384, 256, 3, 1),
        _convolution(256, 256, 3, 1),
    ]


def _vgg16() -> list[list[nn.Module]]:
    slices: list[list[nn.Module]] = []
    inputs = 3
    for outputs, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers = _pool(2, inputs) if slices else []
        for _ in range(depth):
            layers += _convolution(inputs, outputs, 3, 1)
            inputs = outputs
        slices.append(layers)
    return slices


class ShiftTolerantLPIPS(PerceptualNetwork):
    """ST-LPIPS; parts carry the names of the published weight files, which count layers on from slice to slice."""

    def __init__(self, slices: list[list[nn.Module]]) -> None:
        """Build with random weights, of the layers of five slices; see `alexnet` and `vgg16`."""
        super().__init__()
        self.scaling_layer = _Scaling()
        self.net, place = nn.ModuleDict(), 0
        for number, layers in enumerate(slices):
            named = OrderedDict((str(place + i), layer) for i, layer in enumerate(layers))
            self.net[f"slice{number + 1}"] = nn.Sequential(named)
            place += len(layers)
            last = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1]
            weighing = nn.Sequential(nn.Identity(), nn.Conv2d(last.out_channels, 1, 1, bias=False))
            self.add_module(f"lin{number}", nn.ModuleDict({"model": weighing}))

    @classmethod
    def alexnet(cls) -> ShiftTolerantLPIPS:
        """On AlexNet: 2.47 million parameters, 256 features."""
        return cls(_alexnet())

    @classmethod
    def vgg16(cls) -> ShiftTolerantLPIPS:
        """On VGG16: 14.7 million parameters, 512 features."""
        return cls(_vgg16())

    def activations(self, x: Tensor) -> list[Tensor]:
        """The maps after each slice."""
        h, found = self.scaling_layer(x), []
        for part in self.net.values():
            h = part(h)
            found.append(h)
        return found

    def channel_weights(self) -> list[Tensor]:
        """The weights of each slice's channels."""
        return [cast(Tensor, self.get_parameter(f"lin{i}.model.1.weight")) for i in range(len(self.net))]


def enlarged(images: Tensor, side: int) -> Tensor:
    """Images whose shorter side is below `side`, enlarged bilinearly until it is that long; others as they are."""
    height, width = images.shape[2:]
    if min(height, width) >= side:
        return images
    factor = side / min(height, width)
    size = (round(height * factor), round(width * factor))
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
