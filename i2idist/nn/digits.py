"""UNIT's small networks for images of digits (Liu et al. 2017, arXiv:1703.00848, appendix B), of one size of image.

The appendix isn't in the published text; layers and rates are those of the authors' first public code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from i2idist.nn.norm import CrossReplicaBatchNorm
from i2idist.nn.vae import SLOPE
from i2idist.randomness import Noise

DROPOUT = (0.1, 0.3, 0.5, 0.5)
"""Rates after the discriminators' levels."""


class Coordinates(nn.Module):
    """Appends two channels, the height and width of each pixel in [-1, 1]: (N, C, H, W) -> (N, C + 2, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Append them."""
        lines = (torch.linspace(-1, 1, side, dtype=x.dtype, device=x.device) for side in x.shape[2:])
        places = torch.stack(torch.meshgrid(*lines, indexing="ij"))
        return torch.cat([x, places.expand(len(x), -1, -1, -1)], dim=1)


def front(in_channels: int, width: int) -> nn.Sequential:
    """One domain's part of the encoder: (N, in_channels, H, W) -> (N, width, H / 2, W / 2)."""
    return nn.Sequential(Coordinates(), *_normed(nn.Conv2d(in_channels + 2, width, 5, 2, 2, bias=False)))


def encoder(width: int, size: tuple[int, int]) -> nn.Sequential:
    """The encoders' shared part, for images of `size`: (N, width, H / 2, W / 2) -> mean codes, (N, 8 width, 1, 1)."""
    return nn.Sequential(
        *_normed(nn.Conv2d(width, 2 * width, 5, 2, 2, bias=False)),
        *_normed(nn.Conv2d(2 * width, 4 * width, (size[0] // 4, size[1] // 4), bias=False)),
        *_normed(nn.Conv2d(4 * width, 8 * width, 1, bias=False)),
        nn.Conv2d(8 * width, 8 * width, 1),
    )


def decoder(width: int, size: tuple[int, int]) -> nn.Sequential:
    """The generators' shared part, for images of `size`: (N, 8 width, 1, 1) -> (N, 2 width, H / 2, W / 2)."""
    first = (size[0] // 8, size[1] // 8)
    return nn.Sequential(
        *_normed(nn.ConvTranspose2d(8 * width, 8 * width, first, bias=False)),
        *_normed(nn.ConvTranspose2d(8 * width, 4 * width, 4, 2, 1, bias=False)),
        *_normed(nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False)),
    )


def back(out_channels: int, width: int) -> nn.Sequential:
    """One domain's part of the generator: (N, 2 width, H / 2, W / 2) -> (N, out_channels, H, W) in [-1, 1]."""
    return nn.Sequential(
        *_normed(nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False)),
        nn.ConvTranspose2d(width, out_channels, 1),
        nn.Tanh(),
    )


def level(in_channels: int, out_channels: int) -> nn.Sequential:
    """A level of a discriminator: (N, in_channels, H, W) -> (N, out_channels, H / 2, W / 2)."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2))


class Tied(nn.Module):
    """The discriminators' levels that both share, after the first."""

    def __init__(self, width: int) -> None:
        """Make them for (N, width, H, W)."""
        super().__init__()
        self.levels = nn.ModuleList(level(width * 2**n, width * 2 ** (n + 1)) for n in range(len(DROPOUT) - 1))

    def forward(self, h: Tensor, noise: Noise | None = None) -> Tensor:
        """The top features: (N, width, H, W) -> (N, 8 width * H / 8 * W / 8). Without `noise` none are dropped."""
        h = _dropped(h, DROPOUT[0], noise)
        for one, rate in zip(self.levels, DROPOUT[1:], strict=True):
            h = _dropped(one(h), rate, noise)
        return h.flatten(1)


def _dropped(h: Tensor, rate: float, noise: Noise | None) -> Tensor:
    if noise is None:
        return h
    return h * (noise.bernoulli(1 - rate, tuple(h.shape[1:])).to(h.dtype) / (1 - rate))


def _normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, ...]:
    return conv, CrossReplicaBatchNorm(conv.out_channels), nn.LeakyReLU(SLOPE, inplace=True)
