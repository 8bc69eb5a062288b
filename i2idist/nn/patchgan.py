"""Patch discriminators, at one scale and at several."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from i2idist.errors import SizeError
from i2idist.nn.norm import NormLayer


class PatchGAN(nn.Module):
    """The PatchGAN of pix2pix (Isola et al. 2017, arXiv:1611.07004, section 6.1.2); with three layers it sees 70x70."""

    def __init__(self, in_channels: int, *, width: int, layers: int, norm: NormLayer, norm_bias: bool) -> None:
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


class MultiScalePatchGAN(nn.Module):
    """Equal PatchGANs on the image at full, half, ... size (Wang et al. 2018, arXiv:1711.11585, section 3.2)."""

    def __init__(
        self, in_channels: int, *, scales: int, width: int, layers: int, norm: NormLayer, norm_bias: bool
    ) -> None:
        """Make `scales` networks; for the other settings see `PatchGAN`."""
        super().__init__()
        self.scales = nn.ModuleList(
            PatchGAN(in_channels, width=width, layers=layers, norm=norm, norm_bias=norm_bias) for _ in range(scales)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits at every scale, finest first: (N, in_channels, H, W) -> (N, 1, h_i, w_i) each."""
        logits = []
        for level, scale in enumerate(self.scales):
            if level:
                x = functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            logits.append(scale(x))
        return tuple(logits)


def check_patches(height: int, width: int, *, layers: int, scales: int = 1) -> None:
    """Refuse an image that is too small for its discriminator.

    Raises:
        SizeError: the coarsest scale would have no patch; names the smallest side that has one.
    """
    smallest = 3 * 2**layers
    for _ in range(scales - 1):
        smallest = 2 * smallest - 1
    if min(height, width) < smallest:
        raise SizeError(
            f"The discriminator with {layers} stride-2 layers at {scales} scale(s) takes images of at least {smallest} "
            f"pixels a side, not {height}x{width}: use {smallest}x{smallest} or more in data.size, or lower "
            "method.discriminator_layers or method.discriminator_scales."
        )
