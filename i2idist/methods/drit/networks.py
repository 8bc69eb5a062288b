"""DRIT's networks (Lee et al. 2018, arXiv:1808.00948, as in the reference). Each serves both domains, a and b."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.nn.adain import style_mlp
from i2idist.nn.norm import InstanceNorm
from i2idist.nn.resnet import ReflectConv, ResidualBlock
from i2idist.nn.unet import tile

_SLOPE = 0.01


class ContentEncoders(nn.Module):
    """E_c: what an image shows, for each domain; the last residual block is shared."""

    def __init__(self, channels: tuple[int, int], *, width: int, blocks: int) -> None:
        """Make both encoders, for images of so many channels in a and in b; see `DRITConfig`."""
        super().__init__()
        encoders = (_content_encoder(n, width, blocks) for n in channels)
        self.own = nn.ModuleDict(dict(zip("ab", encoders, strict=True)))
        self.shared = ResidualBlock(4 * width)

    def forward(self, x: Tensor, domain: str) -> Tensor:
        """Images of `domain`, (N, C, H, W), to content: (N, 4 * width, H / 4, W / 4)."""
        content: Tensor = self.shared(self.own[domain](x))
        return content


def _content_encoder(channels: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        ReflectConv(channels, width, 7),
        nn.LeakyReLU(_SLOPE, inplace=True),
        ReflectConv(width, 2 * width, 3, 2),
        InstanceNorm(2 * width),
        nn.ReLU(inplace=True),
        ReflectConv(2 * width, 4 * width, 3, 2),
        InstanceNorm(4 * width),
        nn.ReLU(inplace=True),
        *(ResidualBlock(4 * width) for _ in range(blocks)),
    )


class ConcatenationGenerators(nn.Module):
    """G: content and attribute to an image of either domain, the attribute put beside the features four times."""

    def __init__(self, channels: tuple[int, int], *, width: int, blocks: int, code_dim: int) -> None:
        """Make both generators, which share their first residual block; see `DRITConfig`."""
        super().__init__()
        self.shared = ResidualBlock(4 * width)
        decoders = (_ConcatenationDecoder(n, width, blocks, code_dim) for n in channels)
        self.own = nn.ModuleDict(dict(zip("ab", decoders, strict=True)))

    def forward(self, content: Tensor, z: Tensor, domain: str) -> Tensor:
        """(N, 4 * width, h, w), (N, code_dim) -> images of `domain` in [-1, 1], (N, C, 4 h, 4 w)."""
        image: Tensor = self.own[domain](self.shared(content), z)
        return image


class _ConcatenationDecoder(nn.Module):
    """Residual blocks, two doublings and a 1x1 convolution, each of which sees the code beside its features."""

    def __init__(self, channels: int, width: int, blocks: int, code_dim: int) -> None:
        super().__init__()
        features = 4 * width + code_dim
        self.blocks = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)))
        self.up = nn.ModuleList()
        for _ in range(2):
            self.up.append(_doubling(features + code_dim, (features + code_dim) // 2))
            features = (features + code_dim) // 2
        self.last = nn.Conv2d(features + code_dim, channels, 1)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """(N, 4 * width, h, w), (N, code_dim) -> (N, channels, 4 h, 4 w)."""
        h = self.blocks(_beside(h, z))
        for up in self.up:
            h = up(_beside(h, z))
        return torch.tanh(self.last(_beside(h, z)))


class FeatureWiseGenerators(nn.Module):
    """G: content and attribute to an image of either domain, the attribute transforming each residual block."""

    def __init__(self, channels: tuple[int, int], *, width: int, blocks: int, code_dim: int) -> None:
        """Make both generators, which share nothing; see `DRITConfig`."""
        super().__init__()
        decoders = (_FeatureWiseDecoder(n, width, blocks, code_dim) for n in channels)
        self.own = nn.ModuleDict(dict(zip("ab", decoders, strict=True)))

    def forward(self, content: Tensor, z: Tensor, domain: str) -> Tensor:
        """(N, 4 * width, h, w), (N, code_dim) -> images of `domain` in [-1, 1], (N, C, 4 h, 4 w)."""
        image: Tensor = self.own[domain](content, z)
        return image


class _FeatureWiseDecoder(nn.Module):
    """Residual blocks that are given a vector each, then two doublings and a 1x1 convolution."""

    def __init__(self, channels: int, width: int, blocks: int, code_dim: int) -> None:
        super().__init__()
        features = 4 * width
        self.mlp = style_mlp(code_dim, features, features * (blocks + 1))
        self.blocks = nn.ModuleList(_FeatureWiseBlock(features) for _ in range(blocks + 1))
        self.up = nn.Sequential(_doubling(4 * width, 2 * width), _doubling(2 * width, width))
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """(N, 4 * width, h, w), (N, code_dim) -> (N, channels, 4 h, 4 w)."""
        for block, given in zip(self.blocks, self.mlp(z).chunk(len(self.blocks), dim=1), strict=True):
            h = block(h, given)
        return torch.tanh(self.last(self.up(h)))


class _FeatureWiseBlock(nn.Module):
    """x + mix(norm(conv(mix(norm(conv(x)), z))), z), where 1x1 convolutions mix features with a vector."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = ReflectConv(features, features, 3), ReflectConv(features, features, 3)
        self.mix_1, self.mix_2 = _mix(features), _mix(features)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(N, features, H, W), (N, features) -> (N, features, H, W)."""
        h = self.mix_1(_beside(functional.instance_norm(self.conv_1(x)), z))
        out: Tensor = x + self.mix_2(_beside(functional.instance_norm(self.conv_2(h)), z))
        return out


def _mix(features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2 * features, 2 * features, 1), nn.ReLU(inplace=True), nn.Conv2d(2 * features, features, 1), nn.ReLU()
    )


def _doubling(in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice the height and width, with layer norm."""
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 3, 2, 1, output_padding=1),
        nn.GroupNorm(1, out_channels),
        nn.ReLU(inplace=True),
    )


def _beside(h: Tensor, z: Tensor) -> Tensor:
    """(N, C, H, W), (N, Z) -> (N, C + Z, H, W)."""
    return torch.cat([h, tile(z, h)], dim=1)


class ContentDiscriminator(nn.Module):
    """D_c: which domain content comes from.

    Three 7x7 convolutions of stride 2, a 4x4 one and a 1x1 one suit the reference's content of 54x54. Smaller content
    gets as many of the three as leave 2x2, and a kernel no larger than what is left.
    """

    def __init__(self, channels: int, side: int) -> None:
        """Make the network for content of `channels`, the shorter of whose height and width is `side`."""
        super().__init__()
        parts: list[nn.Module] = []
        while len(parts) < 9 and side >= 7:
            parts += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 7, 2), nn.LeakyReLU(_SLOPE, inplace=True)]
            side = (side - 5) // 2 + 1
        last = nn.Conv2d(channels, channels, min(4, side))
        self.layers = nn.Sequential(*parts, last, nn.LeakyReLU(_SLOPE, inplace=True), nn.Conv2d(channels, 1, 1))

    def forward(self, content: Tensor) -> Tensor:
        """Logits of coming from b: (N, channels, h, w) -> (N, 1, h', w')."""
        logits: Tensor = self.layers(content)
        return logits
