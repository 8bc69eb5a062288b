"""Networks trained on ImageNet: VGG16, and LPIPS on AlexNet and VGG16 through the package `lpips`.

Simonyan and Zisserman 2015, arXiv:1409.1556; Zhang et al. 2018, arXiv:1801.03924 (version 0.1 of the weights). The
trunks' weights are torchvision's files, the channel weights those that `lpips` carries.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

import lpips
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from i2idist.metrics.perceptual import PerceptualNetwork

SIDE = 224

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg16(nn.Module):
    """VGG16: 138 million parameters, 4096 features, the 1000 classes of ImageNet."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.net = models.vgg16()

    def features(self, x: Tensor) -> Tensor:
        """The second hidden layer after its ReLU: (N, 3, 224, 224), as `prepare` gives it, -> (N, 4096)."""
        pooled = self.net.avgpool(self.net.features(x)).flatten(1)
        hidden: Tensor = self.net.classifier[:5](pooled)
        return hidden

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities: (N, 3, 224, 224), as `prepare` gives it, -> (N, 1000)."""
        logits: Tensor = self.net(x)
        return logits.softmax(1)


def prepare(images: Tensor) -> Tensor:
    """What `Vgg16` takes: (N, 3, H, W) in [-1, 1] -> (N, 3, 224, 224), with ImageNet's statistics."""
    resized = functional.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    mean, deviation = (resized.new_tensor(values).reshape(1, 3, 1, 1) for values in (_MEAN, _DEVIATION))
    return ((resized + 1.0) / 2.0 - mean) / deviation


class Lpips(PerceptualNetwork):
    """LPIPS as the package `lpips` computes it."""

    def __init__(self, trunk: Literal["alex", "vgg"]) -> None:
        """Build without values, which `fill` brings."""
        super().__init__()
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package calls torchvision by old argument names
            self.lpips = lpips.LPIPS(net=trunk, pretrained=False, pnet_rand=True, verbose=False)
        self.lpips.scaling_layer = lpips.ScalingLayer()  # constants, in no file

    def fill(self, trunk: Mapping[str, Tensor], channel_weights: Mapping[str, Tensor]) -> None:
        """Take over torchvision's weights of the trunk and the package's of the channels, each by published names.

        Every part of the network is filled; the trunk's classifier isn't used.
        """
        own = {}
        for name in self.lpips.net.state_dict():
            _, layer = name.split(".", 1)  # slice3.8.weight is the whole network's features.8.weight
            own[name] = trunk[f"features.{layer}"]
        self.lpips.net.load_state_dict(own, assign=True)
        for number, layer in enumerate(self.lpips.lins):
            layer.load_state_dict({"model.1.weight": channel_weights[f"lin{number}.model.1.weight"]}, assign=True)

    def activations(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps after each slice of the trunk."""
        return tuple(self.lpips.net(self.lpips.scaling_layer(x)))

    def channel_weights(self) -> list[Tensor]:
        """The weights of each slice's channels."""
        return [layer.model[1].weight for layer in self.lpips.lins]

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The package's own value of each pair."""
        values: Tensor = self.lpips(x, y)
        return values.flatten()
