"""Blocks of MUNIT (Huang et al. 2018, arXiv:1804.04732, appendix B.1): content apart from style, joined by AdaIN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.nn.norm import InstanceNorm
from i2idist.nn.resnet import ReflectConv, ResidualBlock

_EPS = 1e-5


def adain(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(x - mean) / deviation * scale + shift, by channel of each sample (Huang and Belongie 2017, arXiv:1703.06868).

    In one kernel: to batch norm the N * C channels of the batch are channels of a single image.

    Args:
        x: (N, C, H, W) with H * W > 1.
        shift: (N, C).
        scale: (N, C).

    Returns:
        (N, C, H, W).
    """
    together = x.reshape(1, -1, *x.shape[2:])
    out = functional.batch_norm(
        together, None, None, scale.reshape(-1), shift.reshape(-1), training=True, momentum=0.0, eps=_EPS
    )
    return out.reshape(x.shape)


class LayerNorm(nn.Module):
    """Norm over all values of each sample, then scale and shift by channel, as MUNIT's decoder has it."""

    def __init__(self, channels: int) -> None:
        """Make the layer for (N, channels, H, W); scales start uniform in [0, 1), as in the public code."""
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Give each sample mean 0 and variance 1 before scale and shift: (N, C, H, W) -> the same shape."""
        return functional.group_norm(x, 1, self.weight, self.bias, _EPS)


class AdaINBlock(nn.Module):
    """x + adain(conv(relu(adain(conv(x))))), both norms steered from outside."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        """Make the block for (N, channels, H, W)."""
        super().__init__()
        self.conv_1, self.conv_2 = ReflectConv(channels, channels, kernel), ReflectConv(channels, channels, kernel)

    def forward(self, x: Tensor, affine: Tensor) -> Tensor:
        """(N, C, H, W), and each norm's shift and scale in turn, (N, 4 * C) -> (N, C, H, W)."""
        shift_1, scale_1, shift_2, scale_2 = affine.chunk(4, dim=1)
        h = functional.relu(adain(self.conv_1(x), shift_1, scale_1))
        return x + adain(self.conv_2(h), shift_2, scale_2)


class ContentEncoder(nn.Module):
    """What an image shows, whatever its style: halvings and residual blocks, all with instance norm."""

    def __init__(self, in_channels: int, *, width: int, downs: int, blocks: int) -> None:
        """Make the network.

        Args:
            in_channels: of the image.
            width: channels of the first layer, doubled by each halving.
            downs: halvings; heights and widths must be multiples of 2^downs and leave at least 2.
            blocks: residual blocks.
        """
        super().__init__()
        parts: list[nn.Module] = _normed(ReflectConv(in_channels, width, 7))
        for level in range(downs):
            parts += _normed(ReflectConv(width * 2**level, width * 2 ** (level + 1), 4, 2))
        self.layers = nn.Sequential(*parts, *(ResidualBlock(width * 2**downs) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, width * 2^downs, H / 2^downs, W / 2^downs)."""
        content: Tensor = self.layers(x)
        return content


class StyleEncoder(nn.Module):
    """How an image looks, wherever: halvings without norm, which would remove it, then the mean over the image."""

    def __init__(self, in_channels: int, *, width: int, downs: int, code_dim: int) -> None:
        """Make the network.

        Args:
            in_channels: of the image.
            width: channels of the first layer; they double twice.
            downs: halvings; heights and widths must be at least 2^downs.
            code_dim: length of the style code.
        """
        super().__init__()
        widths = [width * min(2**level, 4) for level in range(downs + 1)]
        parts: list[nn.Module] = [ReflectConv(in_channels, width, 7), nn.ReLU(inplace=True)]
        for below, above in zip(widths, widths[1:], strict=False):
            parts += [ReflectConv(below, above, 4, 2), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*parts)
        self.code = nn.Linear(widths[-1], code_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, code_dim)."""
        code: Tensor = self.code(self.layers(x).mean((2, 3)))
        return code


class AdaINDecoder(nn.Module):
    """Content to image: AdaIN residual blocks, then doublings (nearest neighbour, 5x5 convolution, layer norm).

    Attributes:
        affine_size: how many shifts and scales `forward` takes.
    """

    def __init__(self, out_channels: int, *, width: int, ups: int, blocks: int) -> None:
        """Make the network.

        Args:
            out_channels: of the image.
            width: channels at full resolution; content has width * 2^ups.
            ups: doublings.
            blocks: residual blocks.
        """
        super().__init__()
        channels = width * 2**ups
        self.affine_size = 4 * channels * blocks
        self.blocks = nn.ModuleList(AdaINBlock(channels) for _ in range(blocks))
        self.up = doublings(out_channels, width, ups)

    def forward(self, content: Tensor, affine: Tensor) -> Tensor:
        """(N, width * 2^ups, h, w), (N, affine_size) -> (N, out_channels, h * 2^ups, w * 2^ups) in [-1, 1]."""
        h = content
        for block, part in zip(self.blocks, affine.chunk(len(self.blocks), dim=1), strict=True):
            h = block(h, part)
        return torch.tanh(self.up(h))


def doublings(out_channels: int, width: int, ups: int) -> nn.Sequential:
    """From content to an image before its tanh: (N, width * 2^ups, h, w) -> (N, out_channels, h * 2^ups, w * 2^ups)."""
    parts: list[nn.Module] = []
    for level in reversed(range(ups)):
        target = width * 2**level
        parts += [nn.Upsample(scale_factor=2), ReflectConv(2 * target, target, 5), LayerNorm(target)]
        parts.append(nn.ReLU(inplace=True))
    return nn.Sequential(*parts, ReflectConv(width, out_channels, 7))


def style_mlp(code_dim: int, hidden: int, outputs: int) -> nn.Sequential:
    """From a style code to a decoder's shifts and scales: (N, code_dim) -> (N, outputs)."""
    return nn.Sequential(
        nn.Linear(code_dim, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs),
    )


def _normed(layer: ReflectConv) -> list[nn.Module]:
    return [layer, InstanceNorm(layer.out_channels), nn.ReLU(inplace=True)]
