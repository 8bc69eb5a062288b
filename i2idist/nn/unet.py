"""U-net generators: an encoder of stride-2 convolutions, a decoder, and skips between equal resolutions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.errors import SizeError
from i2idist.nn.norm import InstanceNorm, NormLayer
from i2idist.randomness import Noise

Upsample = Literal["deconv", "resize"]

_LEVELS_WITH_DROPOUT = 3


def unet_depth(height: int, width: int) -> int:
    """The halvings of a U-net for height x width where none are set: as many as both allow, at most pix2pix's 8.

    Raises:
        SizeError: fewer than 3 are possible; names the nearest sizes that allow 3.
    """
    depth = 0
    while depth < 8 and not (height >> depth) % 2 and not (width >> depth) % 2:
        depth += 1
    if depth < 3:
        near = "x".join(str(max(1, round(side / 8)) * 8) for side in (height, width))
        raise SizeError(
            f"The U-net takes heights and widths that are multiples of 8, not {height}x{width}. The nearest that works "
            f"is {near}: set data.size, or resize or pad the images, or set method.depth for fewer halvings."
        )
    return depth


def tile(z: Tensor, like: Tensor) -> Tensor:
    """A code as constant maps: (N, Z), (N, C, H, W) -> (N, Z, H, W), without copying."""
    return z[:, :, None, None].expand(-1, -1, *like.shape[2:])


def up_block(in_channels: int, out_channels: int, kind: Upsample, bias: bool) -> nn.Module:
    """Doubles height and width: a 4x4 transposed convolution, or nearest-neighbour enlargement, then 3x3."""
    if kind == "deconv":
        return nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=bias)
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=bias))


class UNet(nn.Module):
    """The U-net of pix2pix (Isola et al. 2017, arXiv:1611.07004, section 6.1.1), optionally with a code.

    Level i has `width * min(2^i, 8)` channels. The outermost and innermost encoder levels have no norm. The code is
    tiled and concatenated to the input of every encoder level (BicycleGAN, arXiv:1711.11586, Fig. 3b).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        depth: int,
        norm: NormLayer = InstanceNorm,
        norm_bias: bool = True,
        code_dim: int = 0,
        upsample: Upsample = "deconv",
        dropout: float = 0.0,
        bounded: bool = True,
    ) -> None:
        """Make the network.

        Args:
            in_channels: of the input image.
            out_channels: of the output image.
            width: channels of the outermost level; 64 in the papers.
            depth: halvings; heights and widths must be multiples of 2^depth.
            norm: makes each norm layer.
            norm_bias: whether convolutions before a norm have a bias.
            code_dim: length of the code, 0 for none.
            upsample: how the decoder doubles sizes.
            dropout: probability in the three decoder levels after the innermost.
            bounded: whether a tanh ends it; logits have none.
        """
        super().__init__()
        self._bounded = bounded
        widths = [width * min(2**level, 8) for level in range(depth)]
        self.dropout = dropout
        self.down, self.down_norm = nn.ModuleList(), nn.ModuleList()
        self.up, self.up_norm = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(widths):
            below = widths[level - 1] if level else in_channels
            edge = level in (0, depth - 1)
            self.down.append(nn.Conv2d(below + code_dim, channels, 4, 2, 1, bias=norm_bias))
            self.down_norm.append(nn.Identity() if edge else norm(channels))
            target = widths[level - 1] if level else out_channels
            doubled = channels if level == depth - 1 else 2 * channels
            self.up.append(up_block(doubled, target, upsample, norm_bias or level == 0))
            self.up_norm.append(norm(target) if level else nn.Identity())

    def forward(self, x: Tensor, z: Tensor | None = None, noise: Noise | None = None) -> Tensor:
        """Translate images.

        Args:
            x: (N, in_channels, H, W).
            z: (N, code_dim), where there is a code.
            noise: draws the dropout masks; None: nothing is dropped.

        Returns:
            (N, out_channels, H, W) in [-1, 1], where bounded.
        """
        skips = self._encode(x, z)
        h = functional.relu(skips.pop())
        for level in reversed(range(len(self.up))):
            h = self.up_norm[level](self.up[level](h))
            if level:
                h = self._drop(h, level, noise)
                h = functional.relu_(torch.cat([skips.pop(), h], dim=1))
        return torch.tanh(h) if self._bounded else h

    def _encode(self, x: Tensor, z: Tensor | None) -> list[Tensor]:
        """Features before their nonlinearity, outermost first, but for the leaky ReLU: ReLU undoes it on the way up."""
        features: list[Tensor] = []
        h = x
        for level, (down, norm) in enumerate(zip(self.down, self.down_norm, strict=True)):
            if level:
                h = features[-1] = functional.leaky_relu(h, 0.2)
            if z is not None:
                h = torch.cat([h, tile(z, h)], dim=1)
            h = norm(down(h))
            features.append(h)
        return features

    def _drop(self, h: Tensor, level: int, noise: Noise | None) -> Tensor:
        after_innermost = len(self.up) - 1 - level
        if noise is None or not self.dropout or not 1 <= after_innermost <= _LEVELS_WITH_DROPOUT:
            return h
        kept = noise.bernoulli(1 - self.dropout, tuple(h.shape[1:]))
        return h * (kept.to(h.dtype) / (1 - self.dropout))
