"""Residual generators: two halvings, residual blocks, two doublings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.nn.norm import CodeNorm, InstanceNorm
from i2idist.nn.unet import Upsample
from i2idist.randomness import Noise


class ReflectConv(nn.Conv2d):
    """A convolution that reflects at the border: odd kernels of stride 1 keep height and width, 4x4 of stride 2 halves.

    Height and width must exceed the border, (kernel - stride + 1) // 2.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        """Make the layer."""
        super().__init__(in_channels, out_channels, kernel, stride)
        self._border = ((kernel - stride + 1) // 2,) * 4

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H // stride, W // stride)."""
        return super().forward(functional.pad(x, self._border, mode="reflect"))


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), with dropout after the ReLU, norms steered by a code where there is one."""

    def __init__(self, channels: int, *, code_dim: int = 0, dropout: float = 0.0, kernel: int = 3) -> None:
        """Make the block for (N, channels, H, W)."""
        super().__init__()
        self.dropout = dropout
        self.conv_1, self.conv_2 = ReflectConv(channels, channels, kernel), ReflectConv(channels, channels, kernel)
        self.norm_1, self.norm_2 = _norm(channels, code_dim), _norm(channels, code_dim)

    def forward(self, x: Tensor, z: Tensor | None = None, noise: Noise | None = None) -> Tensor:
        """(N, C, H, W) and a code (N, code_dim) -> (N, C, H, W)."""
        code = () if z is None else (z,)
        h: Tensor = functional.relu(self.norm_1(self.conv_1(x), *code))
        if noise is not None and self.dropout:
            h = h * (noise.bernoulli(1 - self.dropout, tuple(h.shape[1:])).to(h.dtype) / (1 - self.dropout))
        out: Tensor = x + self.norm_2(self.conv_2(h), *code)
        return out


class ResnetGenerator(nn.Module):
    """The generator of CycleGAN (Zhu et al. 2017, arXiv:1703.10593, section 7.2), optionally with a code.

    Heights and widths must be multiples of 4, at least 8. A code steers the norms of the residual blocks (`CodeNorm`),
    as in MUNIT's generator; concatenated to the input it would be removed by the first norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        blocks: int,
        code_dim: int = 0,
        upsample: Upsample = "deconv",
        dropout: float = 0.0,
        bounded: bool = True,
    ) -> None:
        """Make the network.

        Args:
            in_channels: of the input image.
            out_channels: of the output image.
            width: channels at full resolution; 64 in the paper.
            blocks: residual blocks, at a quarter of the resolution and 4 * width channels.
            code_dim: length of the code, 0 for none.
            upsample: how sizes are doubled.
            dropout: probability inside the residual blocks.
            bounded: whether a tanh ends it; logits have none.
        """
        super().__init__()
        self._bounded = bounded
        self.down = nn.Sequential(
            *_normed(ReflectConv(in_channels, width, 7), width),
            *_normed(nn.Conv2d(width, 2 * width, 3, 2, 1), 2 * width),
            *_normed(nn.Conv2d(2 * width, 4 * width, 3, 2, 1), 4 * width),
        )
        self.blocks = nn.ModuleList(ResidualBlock(4 * width, code_dim=code_dim, dropout=dropout) for _ in range(blocks))
        self.up = nn.Sequential(
            *_normed(_double(4 * width, 2 * width, upsample), 2 * width),
            *_normed(_double(2 * width, width, upsample), width),
            ReflectConv(width, out_channels, 7),
        )

    def forward(self, x: Tensor, z: Tensor | None = None, noise: Noise | None = None) -> Tensor:
        """Translate images.

        Args:
            x: (N, in_channels, H, W).
            z: (N, code_dim), where there is a code.
            noise: draws the dropout masks; None: nothing is dropped.

        Returns:
            (N, out_channels, H, W) in [-1, 1], where bounded.
        """
        h = self.down(x)
        for block in self.blocks:
            h = block(h, z, noise)
        h = self.up(h)
        return torch.tanh(h) if self._bounded else h


def _norm(channels: int, code_dim: int) -> nn.Module:
    return CodeNorm(channels, code_dim) if code_dim else InstanceNorm(channels)


def _normed(layer: nn.Module, channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return layer, InstanceNorm(channels), nn.ReLU()


def _double(in_channels: int, out_channels: int, kind: Upsample) -> nn.Module:
    if kind == "deconv":
        return nn.ConvTranspose2d(in_channels, out_channels, 3, 2, 1, output_padding=1)
    return nn.Sequential(nn.Upsample(scale_factor=2), ReflectConv(in_channels, out_channels, 3))
