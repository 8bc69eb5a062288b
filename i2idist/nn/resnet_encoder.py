"""The encoder of BicycleGAN and DRIT: an image to the mean and log-variance of a latent code."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from i2idist.nn.norm import NormLayer

ConvLayer = Callable[[int, int, int, int], nn.Module]
"""Makes a convolution of (in_channels, out_channels, kernel, stride) that pads by (kernel - stride + 1) // 2."""

_SLOPE = 0.2


def zero_conv(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Conv2d:
    """A `ConvLayer` that pads with zeros."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - stride + 1) // 2)


class _HalvingBlock(nn.Module):
    """pool(conv(act(norm(conv(act(norm(x))))))) + conv(pool(x))."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormLayer, conv: ConvLayer) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = norm(in_channels), norm(in_channels)
        self.conv_1 = conv(in_channels, in_channels, 3, 1)
        self.conv_2 = conv(in_channels, out_channels, 3, 1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H // 2, W // 2)."""
        h = self.conv_1(functional.leaky_relu(self.norm_1(x), _SLOPE))
        h = self.conv_2(functional.leaky_relu(self.norm_2(h), _SLOPE))
        out: Tensor = functional.avg_pool2d(h, 2) + self.shortcut(functional.avg_pool2d(x, 2))
        return out


class ResnetEncoder(nn.Module):
    """The encoder E of BicycleGAN (Zhu et al. 2017, arXiv:1711.11586, section 4): a 4x4 convolution, residual blocks.

    Block n has `width * min(n + 1, 4)` channels; the mean over the image then gives the code's two parameters. Of
    `levels` halvings, the last `levels - 1` are blocks.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        width: int,
        levels: int,
        code_dim: int,
        norm: NormLayer,
        conv: ConvLayer = zero_conv,
    ) -> None:
        """Make the network.

        Args:
            in_channels: of the image.
            width: channels of the first convolution; 64 in the paper.
            levels: halvings; 5 at 256x256 in the paper, 4 at 128x128.
            code_dim: length of the code.
            norm: makes each norm layer.
            conv: makes each 3x3 and 4x4 convolution.
        """
        super().__init__()
        widths = [width * min(level, 4) for level in range(1, levels + 1)]
        self.first = conv(in_channels, width, 4, 2)
        self.blocks = nn.Sequential(
            *(_HalvingBlock(below, above, norm, conv) for below, above in zip(widths, widths[1:], strict=False))
        )
        self.mean = nn.Linear(widths[-1], code_dim)
        self.log_variance = nn.Linear(widths[-1], code_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code: (N, in_channels, H, W) -> (N, code_dim) twice."""
        features = functional.leaky_relu(self.blocks(self.first(x)), _SLOPE).mean((2, 3))
        return self.mean(features), self.log_variance(features)
