"""Patch discriminators, at one scale and at several."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional

from i2idist.errors import SizeError
from i2idist.nn.norm import InstanceNorm, NormLayer
from i2idist.nn.resnet import ReflectConv


class PatchGAN(nn.Module):
    """The PatchGAN of pix2pix (Isola et al. 2017, arXiv:1611.07004, section 6.1.2); with three layers it sees 70x70."""

    def __init__(
        self, in_channels: int, *, width: int, layers: int, norm: NormLayer = InstanceNorm, norm_bias: bool = True
    ) -> None:
        """Make the network.

        Args:
            in_channels: of the image, or of input and output concatenated.
            width: channels of the first layer; 64 in the paper. They double up to 8 * width.
            layers: stride-2 convolutions; 3 in the paper.
            norm: makes each norm layer; the first and last convolutions have none.
            norm_bias: whether convolutions before a norm have a bias.
        """
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            parts += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride, 1, bias=norm_bias),
                norm(widths[level]),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of being real, one a patch: (N, in_channels, H, W) -> (N, 1, h, w)."""
        logits: Tensor = self.layers(x)
        return logits


class StridedPatchGAN(nn.Module):
    """The patch discriminator of MUNIT (Huang et al. 2018, arXiv:1804.04732, appendix B.2).

    Every 4x4 convolution has stride 2, reflects at the border and has no norm; a 1x1 convolution gives the logits.
    """

    def __init__(self, in_channels: int, *, width: int, layers: int, slope: float = 0.2) -> None:
        """Make the network.

        Args:
            in_channels: of the image.
            width: channels of the first layer, doubled by each further one; 64 in the paper.
            layers: stride-2 convolutions; 4 in the paper.
            slope: of the leaky ReLUs below zero.
        """
        super().__init__()
        parts: list[nn.Module] = []
        for level in range(layers):
            below = width * 2 ** (level - 1) if level else in_channels
            parts += [ReflectConv(below, width * 2**level, 4, 2), nn.LeakyReLU(slope, inplace=True)]
        self.layers = nn.Sequential(*parts, nn.Conv2d(width * 2 ** (layers - 1), 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of being real, one a patch: (N, in_channels, H, W) -> (N, 1, H // 2^layers, W // 2^layers)."""
        logits: Tensor = self.layers(x)
        return logits


class MultiScale(nn.Module):
    """Discriminators on the image at full, half, ... size (Wang et al. 2018, arXiv:1711.11585, section 3.2)."""

    def __init__(self, scales: Iterable[nn.Module]) -> None:
        """Take one discriminator a scale, finest first."""
        super().__init__()
        self.scales = nn.ModuleList(scales)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits at every scale, finest first: (N, in_channels, H, W) -> (N, 1, h_i, w_i) each."""
        logits = []
        for level, scale in enumerate(self.scales):
            if level:
                x = functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            logits.append(scale(x))
        return tuple(logits)


class MultiScaleStridedPatchGAN(MultiScale):
    """Equal `StridedPatchGAN`s at several scales."""

    def __init__(self, in_channels: int, *, scales: int, width: int, layers: int, slope: float = 0.2) -> None:
        """Make `scales` networks; for the other settings see `StridedPatchGAN`."""
        super().__init__(StridedPatchGAN(in_channels, width=width, layers=layers, slope=slope) for _ in range(scales))


class MultiScalePatchGAN(MultiScale):
    """PatchGANs at several scales, equal or each half as wide as the finer one."""

    def __init__(
        self,
        in_channels: int,
        *,
        scales: int,
        width: int,
        layers: int,
        norm: NormLayer = InstanceNorm,
        norm_bias: bool = True,
        narrowing: bool = False,
    ) -> None:
        """Make `scales` networks, with `narrowing` of halved widths; for the other settings see `PatchGAN`."""
        super().__init__(
            PatchGAN(
                in_channels,
                width=width >> scale if narrowing else width,
                layers=layers,
                norm=norm,
                norm_bias=norm_bias,
            )
            for scale in range(scales)
        )


def check_patches(height: int, width: int, *, layers: int, scales: int = 1) -> None:
    """Refuse an image that is too small for its discriminator.

    Raises:
        SizeError: the coarsest scale would have no patch; names the smallest side that has one.
    """
    _check_coarsest(3 * 2**layers, height, width, layers, scales)


def check_strided_patches(height: int, width: int, *, layers: int, scales: int = 1) -> None:
    """Refuse an image that is too small for `StridedPatchGAN` at so many scales.

    Raises:
        SizeError: the coarsest scale would have no patch; names the smallest side that has one.
    """
    _check_coarsest(2**layers, height, width, layers, scales)


def _check_coarsest(smallest: int, height: int, width: int, layers: int, scales: int) -> None:
    """Refuse an image whose coarsest scale is below `smallest` pixels a side."""
    for _ in range(scales - 1):
        smallest = 2 * smallest - 1
    if min(height, width) < smallest:
        raise SizeError(
            f"The discriminator with {layers} stride-2 layers at {scales} scale(s) takes images of at least {smallest} "
            f"pixels a side, not {height}x{width}: use {smallest}x{smallest} or more in data.size, or lower "
            "method.discriminator_layers or method.discriminator_scales."
        )
