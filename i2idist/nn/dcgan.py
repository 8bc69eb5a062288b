"""Networks of 4x4 convolutions of stride 2, after DCGAN (Radford et al. 2015, arXiv:1511.06434)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from i2idist.nn.norm import CrossReplicaBatchNorm
from i2idist.nn.statistics import halvings_to

_NOISE_DOUBLINGS = 2


class NoiseTranslator(nn.Module):
    """TI-GAN's T(x, xi) = G(concat(E(x), F(xi))), of one size of image; a U-net where G sees levels of E.

    Attributes:
        E: halvings; level i has width * 2^i channels.
        F: a linear layer, then doublings to the size and channels of E's last level.
        G: doublings.
        skips: the outermost levels of E that G sees.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        size: tuple[int, int],
        width: int,
        depth: int,
        code_dim: int,
        skips: int = 0,
    ) -> None:
        """Make the network.

        Args:
            in_channels: of x.
            out_channels: of the output.
            size: height and width, pixels; multiples of 2^depth.
            width: channels of E's first level.
            depth: halvings.
            code_dim: length of xi.
            skips: see above; fewer than `depth`.
        """
        super().__init__()
        self.skips = skips
        widths = [width * 2**level for level in range(depth)]
        self.E = nn.ModuleList()
        for level, channels in enumerate(widths):
            below = widths[level - 1] if level else in_channels
            norm = [CrossReplicaBatchNorm(channels)] if level else []
            self.E.append(nn.Sequential(nn.Conv2d(below, channels, 4, 2, 1, bias=not level), *norm, nn.ReLU()))
        self.F = _noise_decoder(code_dim, widths[-1], (size[0] >> depth, size[1] >> depth))
        self.G = nn.ModuleList()
        for level in reversed(range(depth)):
            seen = widths[level] * (2 if level == depth - 1 or level < skips else 1)
            self.G.append(
                _doubling(seen, widths[level - 1]) if level else nn.ConvTranspose2d(seen, out_channels, 4, 2, 1)
            )

    def forward(self, x: Tensor, xi: Tensor) -> Tensor:
        """(N, in_channels, H, W), (N, code_dim) -> (N, out_channels, H, W) in [-1, 1]."""
        features = []
        h = x
        for down in self.E:
            h = down(h)
            features.append(h)
        h = torch.cat([h, self.F(xi)], dim=1)
        for level, up in zip(reversed(range(len(features))), self.G, strict=True):
            h = up(h)
            if 0 < level <= self.skips:
                h = torch.cat([features[level - 1], h], dim=1)
        return torch.tanh(h)


class Critic(nn.Module):
    """Convolutions with ReLU while both sides stay at 4 or more, then one linear unit; no batch norm."""

    def __init__(self, channels: int, size: tuple[int, int], *, width: int) -> None:
        """Make the network for (N, channels, *size); `width` channels in the first layer, doubled by each."""
        super().__init__()
        halvings = halvings_to(4, size)
        parts: list[nn.Module] = []
        for level in range(halvings):
            parts += [nn.Conv2d(channels, width * 2**level, 4, 2, 1), nn.ReLU(inplace=True)]
            channels = width * 2**level
        self.layers = nn.Sequential(
            *parts, nn.Flatten(), nn.Linear(channels * (size[0] >> halvings) * (size[1] >> halvings), 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of being real: (N, C, H, W) -> (N, 1)."""
        logits: Tensor = self.layers(x)
        return logits


def _doubling(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False),
        CrossReplicaBatchNorm(out_channels),
        nn.ReLU(),
    )


def _noise_decoder(code_dim: int, channels: int, size: tuple[int, int]) -> nn.Sequential:
    """A linear layer and up to two doublings: (N, code_dim) -> (N, channels, *size)."""
    doublings = 0
    while doublings < _NOISE_DOUBLINGS and not (size[0] >> doublings) % 2 and not (size[1] >> doublings) % 2:
        doublings += 1
    first = channels * 2**doublings
    height, width = size[0] >> doublings, size[1] >> doublings
    return nn.Sequential(
        nn.Linear(code_dim, first * height * width, bias=False),
        nn.Unflatten(1, (first, height, width)),
        CrossReplicaBatchNorm(first),
        nn.ReLU(),
        *(_doubling(first >> level, first >> (level + 1)) for level in range(doublings)),
    )
