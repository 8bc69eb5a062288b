"""Encoders that halve by max pooling and remember where the maxima were, and decoders that put values back there.

The networks of UDIT (Tables A.13-A.17 of the thesis). Pooling indices carry where things are past the content code, so
that an output keeps its input's outlines (SegNet, Badrinarayanan et al. 2017, arXiv:1511.00561).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.nn.adain import AdaINBlock
from i2idist.nn.norm import InstanceNorm
from i2idist.nn.resnet import ReflectConv, ResidualBlock

_TILT = 1e-4


def tilted_max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """2x2 max pooling in which the first of values that are (nearly) equal wins: (N, C, H, W) -> values, indices.

    Over a label map's flat areas all values of a window are equal but for rounding, which differs between batch sizes,
    and an index that rounding chose would make the output depend on the batch. So places are tilted by 1e-4 each.
    """
    ramp = torch.arange(4, dtype=x.dtype, device=x.device).reshape(2, 2) * -_TILT
    tilted = x + ramp.repeat(x.shape[2] // 2, x.shape[3] // 2)
    values, indices = functional.max_pool2d(tilted, 2, return_indices=True)
    return values, indices


class Content(NamedTuple):
    """What an image shows.

    Attributes:
        features: (N, C, h, w).
        indices: where each pooling's maxima lay, finest first; empty where they aren't kept.
    """

    features: Tensor
    indices: tuple[Tensor, ...]


class PooledEncoder(nn.Module):
    """A content encoder (Table A.13): convolution, instance norm, pooling for each halving, then residual blocks."""

    def __init__(
        self,
        in_channels: int,
        *,
        width: int,
        downs: int,
        blocks: int,
        kernel: int,
        indices: bool = True,
        tilt: bool = False,
    ) -> None:
        """Make the network.

        Args:
            in_channels: of the image.
            width: channels of the first convolution; they double with each.
            downs: halvings; heights and widths must be multiples of 2^downs and leave more than kernel // 2.
            blocks: residual blocks.
            kernel: of every convolution.
            indices: keep pooling indices.
            tilt: pool by `tilted_max_pool`, for images with flat areas.
        """
        super().__init__()
        self._tilt = tilt
        self._keeps_indices = indices
        widths = [in_channels, *(width * 2**level for level in range(downs))]
        self.convs = nn.ModuleList(ReflectConv(i, o, kernel) for i, o in zip(widths, widths[1:], strict=False))
        self.norms = nn.ModuleList(InstanceNorm(channels) for channels in widths[1:])
        self.blocks = nn.Sequential(*(ResidualBlock(widths[-1], kernel=kernel) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Content:
        """(N, in_channels, H, W) -> features (N, width * 2^(downs - 1), H / 2^downs, W / 2^downs)."""
        indices = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
            pooled, places = tilted_max_pool(x) if self._tilt else functional.max_pool2d(x, 2, return_indices=True)
            x = functional.relu(pooled)  # after pooling: among zeros no place would be the maximum's
            indices.append(places)
        return Content(self.blocks(x), tuple(indices) if self._keeps_indices else ())


class PooledStyleEncoder(nn.Module):
    """A style encoder (Table A.14): halvings without norm, which would remove style, then the mean over the image."""

    def __init__(self, in_channels: int, *, width: int, downs: int, kernel: int, code_dim: int) -> None:
        """Make the network.

        Args:
            in_channels: of the image.
            width: channels of the first convolution, doubled by each further one.
            downs: halvings; heights and widths must be at least 2^downs.
            kernel: of the first convolution; the others are 4x4.
            code_dim: length of the style code.
        """
        super().__init__()
        parts: list[nn.Module] = [ReflectConv(in_channels, width, kernel), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        for level in range(downs - 1):
            parts += [ReflectConv(width * 2**level, width * 2 ** (level + 1), 4, 2), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*parts)
        self.code = nn.Linear(width * 2 ** (downs - 1), code_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, code_dim)."""
        code: Tensor = self.code(self.layers(x).mean((2, 3)))
        return code


class _Unpooling(nn.Module):
    """Residual blocks, then unpooling and convolution for each doubling; nearest neighbours without indices."""

    def __init__(
        self, out_channels: int, *, width: int, ups: int, blocks: int, kernel: int, block: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in reversed(range(ups))]
        targets = [*widths[1:], out_channels]
        self.blocks = nn.ModuleList(block(widths[0]) for _ in range(blocks))
        self.convs = nn.ModuleList(ReflectConv(i, o, kernel) for i, o in zip(widths, targets, strict=True))
        self.norms = nn.ModuleList(InstanceNorm(channels) for channels in widths[1:])

    def _enlarge(self, h: Tensor, indices: tuple[Tensor, ...]) -> Tensor:
        places = indices[::-1]
        for level, conv in enumerate(self.convs):
            h = (
                functional.max_unpool2d(h, places[level], (2, 2))
                if places
                else functional.interpolate(h, scale_factor=2)
            )
            h = conv(h)
            if level < len(self.norms):
                h = functional.relu(self.norms[level](h))
        return h


class ResidualDecoder(_Unpooling):
    """An image generator (Tables A.8, A.12): residual blocks with instance norm, then the doublings."""

    def __init__(self, out_channels: int, *, width: int, ups: int, blocks: int, kernel: int) -> None:
        """Make the network; settings as the encoder's."""
        block = partial(ResidualBlock, kernel=kernel)
        super().__init__(out_channels, width=width, ups=ups, blocks=blocks, kernel=kernel, block=block)

    def forward(self, content: tuple[Tensor, tuple[Tensor, ...]]) -> Tensor:
        """An encoder's content, features and indices -> (N, out_channels, H, W), unbounded."""
        h, indices = content
        for block in self.blocks:
            h = block(h)
        return self._enlarge(h, indices)


class UnpoolingDecoder(_Unpooling):
    """An image generator (Table A.17): AdaIN residual blocks, then unpooling and convolution for each doubling.

    Without indices it enlarges by nearest neighbour instead. All AdaIN layers share one shift and one scale.
    """

    def __init__(self, out_channels: int, *, width: int, ups: int, blocks: int, kernel: int) -> None:
        """Make the network; settings as the encoder's."""
        block = partial(AdaINBlock, kernel=kernel)
        super().__init__(out_channels, width=width, ups=ups, blocks=blocks, kernel=kernel, block=block)

    def forward(self, content: Content, affine: Tensor) -> Tensor:
        """Make an image.

        Args:
            content: an encoder's, of any domain with as many halvings and channels.
            affine: shift and scale, (N, 2 * C) for C content channels.

        Returns:
            (N, out_channels, H, W) in [-1, 1].
        """
        h = content.features
        twice = torch.cat([affine, affine], dim=1)
        for block in self.blocks:
            h = block(h, twice)
        return torch.tanh(self._enlarge(h, content.indices))
