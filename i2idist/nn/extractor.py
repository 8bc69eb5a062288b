"""Networks that tell what an image shows: features of a classifier, reduced to few channels by a 1x1 convolution."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from i2idist.nn.face import FaceNetwork, prepare


class SemanticExtractor(nn.Module):
    """Features of a classifier of one property, as UDIT's semantic constraint takes them (thesis, section 5.5.1).

    Blocks of 3x3 convolutions, each followed by pooling, in the layout of VGG16 (Simonyan and Zisserman 2015,
    arXiv:1409.1556) with batch norm; then a 1x1 convolution to `dim` channels, which leaves the property and little
    else. Features stay spatial, and can be taken of images of any size.
    """

    def __init__(self, channels: int, *, width: int, convs: Sequence[int], dim: int) -> None:
        """Make the network.

        Args:
            channels: of the image.
            width: channels of the first block, doubled by each up to 8 * width; VGG16: 64.
            convs: convolutions in each block; VGG16: (2, 2, 3, 3, 3).
            dim: channels that features are reduced to; 0: none are, the naive extractor.
        """
        super().__init__()
        widths = [channels, *(width * min(2**level, 8) for level in range(len(convs)))]
        self.blocks = nn.ModuleList(_block(i, o, count) for i, o, count in zip(widths, widths[1:], convs, strict=False))
        self.reduce = nn.Conv2d(widths[-1], dim, 1) if dim else nn.Identity()
        self.channels = dim or widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) in [-1, 1] -> (N, dim, H / 2^blocks, W / 2^blocks)."""
        for block in self.blocks:
            x = functional.max_pool2d(block(x), 2)
        features: Tensor = self.reduce(x)
        return features


class SemanticClassifier(nn.Module):
    """A `SemanticExtractor` with the fully connected layer that trains it."""

    GRID = 4
    """Features are averaged to a grid of at most so many cells a side before the layer."""

    def __init__(self, extractor: SemanticExtractor, size: tuple[int, int], classes: int) -> None:
        """Put a linear layer on the features of images of `size`, (H, W)."""
        super().__init__()
        self.extractor = extractor
        depth = len(extractor.blocks)
        self._grid = min(self.GRID, size[0] >> depth), min(self.GRID, size[1] >> depth)
        self.head = nn.Linear(extractor.channels * self._grid[0] * self._grid[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (N, channels, H, W) in [-1, 1] -> (N, classes)."""
        features = functional.adaptive_avg_pool2d(functional.relu(self.extractor(x)), self._grid)
        logits: Tensor = self.head(features.flatten(1))
        return logits


class FaceExtractor(FaceNetwork):
    """A face network's highest convolutional features, which tell identity (UDIT, section 5.6.4)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) in [-1, 1] -> (N, 1792, 3, 3)."""
        return self.maps(prepare(x.expand(-1, 3, -1, -1)))


class Frozen(nn.Module):
    """A pretrained network that nothing trains: gradients pass through it, and it stays in evaluation mode."""

    def __init__(self, network: nn.Module) -> None:
        """Freeze `network`."""
        super().__init__()
        self.network = network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in evaluation mode, whatever `mode`: batch norms must not move."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """What the network gives."""
        out: Tensor = self.network(x)
        return out


def _block(in_channels: int, out_channels: int, convs: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for number in range(convs):
        below = out_channels if number else in_channels
        parts += [nn.Conv2d(below, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels)]
        parts.append(nn.ReLU(inplace=True))
    return nn.Sequential(*parts)
