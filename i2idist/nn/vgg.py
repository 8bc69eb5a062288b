"""The convolutions of VGG16 (Simonyan and Zisserman 2015, arXiv:1409.1556) as a fixed measure of what images show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from i2idist.errors import SourceError

_PLAN = (1, 1, "pool", 2, 2, "pool", 4, 4, 4, "pool", 8, 8, 8, "nothing", 8, 8, 8)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGGFeatures(nn.Module):
    """The last convolution of VGG16 after its ReLU (relu5_3), at an eighth of the resolution; never trained.

    As in MUNIT's public code the fourth pooling is left out. Layers are named as in torchvision's published file.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int = 64) -> None:
        """Build with random weights, which `fill` replaces; `width` is that of the first layer, 64 in VGG16."""
        super().__init__()
        parts: list[nn.Module] = []
        channels = 3
        for step in _PLAN:
            if isinstance(step, int):
                parts += [nn.Conv2d(channels, step * width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = step * width
            else:
                parts.append(nn.MaxPool2d(2) if step == "pool" else nn.Identity())
        self.features = nn.Sequential(*parts)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None])
        self.requires_grad_(False)

    def fill(self, state: Mapping[str, Tensor], where: str) -> None:
        """Take over the weights of a VGG16, by torchvision's names (`features.0.weight`); others are left alone.

        Raises:
            SourceError: one is missing or of another shape; names it and `where`, the source.
        """
        for name, own in self.features.state_dict(prefix="features.").items():
            found = state.get(name)
            if found is None or found.shape != own.shape:
                has = "has none" if found is None else f"has one of shape {tuple(found.shape)}"
                raise SourceError(
                    f"{where} {has} as {name}, {tuple(own.shape)}: it must hold VGG16's convolutions under "
                    "torchvision's names."
                )
            own.copy_(found)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1], one channel or three, both sides at least 16 -> (N, 8 * width, H // 8, W // 8)."""
        features: Tensor = self.features(self._prepared(x))
        return features

    def levels(self, x: Tensor, count: int) -> Iterator[Tensor]:
        """What the first `count` convolutions give, each after its ReLU: of (N, C, H, W), as above."""
        x = self._prepared(x)
        for layer in self.features:
            if not count:
                return
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                count -= 1
                yield x

    def _prepared(self, x: Tensor) -> Tensor:
        return ((x.expand(-1, 3, -1, -1) + 1) / 2 - self.mean) / self.deviation
