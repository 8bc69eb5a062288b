"""Encoders, generators and discriminators of UNIT (Liu et al. 2017, arXiv:1703.00848, section 4)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from i2idist.nn.adain import doublings
from i2idist.nn.norm import InstanceNorm, NormLayer
from i2idist.nn.resnet import ReflectConv, ResidualBlock

SLOPE = 0.01


class LeakyBlock(nn.Module):
    """x + norm(conv(leaky(norm(conv(x))))): UNIT's residual block."""

    def __init__(self, channels: int, norm: NormLayer = InstanceNorm) -> None:
        """Make the block for (N, channels, H, W)."""
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.conv_2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm_1, self.norm_2 = norm(channels), norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        h = functional.leaky_relu(self.norm_1(self.conv_1(x)), SLOPE)
        out: Tensor = x + self.norm_2(self.conv_2(h))
        return out


def leaky_blocks(channels: int, count: int, norm: NormLayer = InstanceNorm) -> nn.Sequential:
    """`count` residual blocks, the identity for none: (N, channels, H, W) -> the same shape."""
    return nn.Sequential(*(LeakyBlock(channels, norm) for _ in range(count)))


def front_end(in_channels: int, width: int, norm: NormLayer = InstanceNorm) -> nn.Sequential:
    """Three convolutions, the last two of stride 2: (N, in_channels, H, W) -> (N, 4 * width, H / 4, W / 4)."""
    return nn.Sequential(
        ReflectConv(in_channels, width, 7),
        nn.LeakyReLU(SLOPE, inplace=True),
        *_normed(nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), norm),
        *_normed(nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False), norm),
    )


def back_end(out_channels: int, width: int, norm: NormLayer = InstanceNorm) -> nn.Sequential:
    """Three transposed convolutions: (N, 4 * width, h, w) -> (N, out_channels, 4 * h, 4 * w) in [-1, 1]."""
    return nn.Sequential(
        *_normed(nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, output_padding=1, bias=False), norm),
        *_normed(nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1, bias=False), norm),
        nn.ConvTranspose2d(width, out_channels, 1),
        nn.Tanh(),
    )


def strided_layers(in_channels: int, width: int, count: int) -> nn.Sequential:
    """`count` 3x3 convolutions of stride 2 without norm, of width, 2 * width, ... channels, rounding sizes up."""
    parts: list[nn.Module] = []
    for level in range(count):
        below = width * 2 ** (level - 1) if level else in_channels
        parts += [nn.Conv2d(below, width * 2**level, 3, 2, 1), nn.LeakyReLU(SLOPE, inplace=True)]
    return nn.Sequential(*parts)


def discriminator(in_channels: int, width: int, layers: int) -> nn.Sequential:
    """`layers` of stride 2, then logits of being real, one a patch: (N, in_channels, H, W) -> (N, 1, h, w)."""
    return nn.Sequential(*strided_layers(in_channels, width, layers), nn.Conv2d(width * 2 ** (layers - 1), 1, 1))


def plain_decoder(out_channels: int, *, width: int, ups: int, blocks: int) -> nn.Sequential:
    """The generator of UNIT's public code: MUNIT's decoder with plain instance norm in its residual blocks.

    `width` channels at full resolution: (N, width * 2^ups, h, w) -> (N, out_channels, h * 2^ups, w * 2^ups) in [-1, 1].
    """
    content = (ResidualBlock(width * 2**ups) for _ in range(blocks))
    return nn.Sequential(*content, *doublings(out_channels, width, ups), nn.Tanh())


def _normed(conv: nn.Conv2d | nn.ConvTranspose2d, norm: NormLayer) -> tuple[nn.Module, ...]:
    return conv, norm(conv.out_channels), nn.LeakyReLU(SLOPE, inplace=True)
