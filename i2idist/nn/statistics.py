"""Statistics networks: scores of pairs, for estimates of mutual information."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class StatisticsNetwork(nn.Module):
    """SEGAN's statistics network T, the networks of its Tables 3 and 4 (Zuo et al., appendix).

    Stride-2 4x4 convolutions with ELU halve the image down to about 4x4 (`width`, 2 `width`, ... channels), then one
    layer of `hidden`; the code passes layers of `hidden / 2` and `hidden`; the two are added, and a last layer gives
    the score. The ELU of the two `hidden` layers acts on their sum: acting on each, it would leave a score f(image) +
    g(code), for which no estimate can exceed that of independent pairs.
    """

    def __init__(self, channels: int, size: tuple[int, int], code_dim: int, *, width: int, hidden: int) -> None:
        """Make the network.

        Args:
            channels: of the image.
            size: the image's height and width, pixels.
            code_dim: length of the code.
            width: channels of the first convolution; 32 in the tables. They double with each.
            hidden: width of the last layer of both branches; 1024 in the tables.
        """
        super().__init__()
        self.image = _image_layers(channels, size, width, hidden)
        self.code = nn.Sequential(
            nn.Linear(code_dim, hidden // 2), nn.ELU(inplace=True), nn.Linear(hidden // 2, hidden)
        )
        self.score = nn.Linear(hidden, 1)

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """Score each image with each of its codes: (N, C, H, W), (N, M, code_dim) -> (N, M)."""
        together = self.image(images)[:, None] + self.code(codes)  # (N, M, hidden)
        scores: Tensor = self.score(functional.elu(together)).squeeze(-1)
        return scores


class PairStatisticsNetwork(nn.Module):
    """Scores of pairs of images, which it sees together: the layers for images above, and a score."""

    def __init__(self, channels: int, size: tuple[int, int], *, width: int, hidden: int) -> None:
        """Make the network for pairs with `channels` in all; for the other settings see `StatisticsNetwork`."""
        super().__init__()
        self.images = _image_layers(channels, size, width, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Score each x with its y: (N, C, H, W), (N, C', H, W) -> (N,)."""
        scores: Tensor = self.score(functional.elu(self.images(torch.cat([x, y], dim=1)))).squeeze(-1)
        return scores


def _image_layers(channels: int, size: tuple[int, int], width: int, hidden: int) -> nn.Sequential:
    """Halvings to about 4x4 and a linear layer: (N, channels, *size) -> (N, hidden)."""
    halvings = halvings_to(4, size)
    parts: list[nn.Module] = []
    for level in range(halvings):
        parts += [nn.Conv2d(channels, width * 2**level, 4, 2, 1), nn.ELU(inplace=True)]
        channels = width * 2**level
    features = channels * (size[0] >> halvings) * (size[1] >> halvings)
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(features, hidden))


def halvings_to(side: int, size: tuple[int, int]) -> int:
    """How often the shorter side of `size` can be halved without falling below `side`; at least once."""
    return max(1, (min(size) // side).bit_length() - 1)
