"""Blocks of StarGAN (Choi et al. 2018, arXiv:1711.09020, appendix, Tables 4 and 5) and of SDIT, which builds on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from i2idist.errors import SizeError
from i2idist.nn.norm import NormLayer
from i2idist.nn.unet import tile


def with_labels(x: Tensor, labels: Tensor) -> Tensor:
    """An image and its labels as constant maps: (N, C, H, W), (N, L) -> (N, C + L, H, W)."""
    return torch.cat([x, tile(labels.to(x.dtype), x)], dim=1)


class PaddedResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), padded with zeros.

    Zeros at the border are what lets a norm behind a convolution leave something of a constant label map.
    """

    def __init__(self, channels: int, norm: NormLayer) -> None:
        """Make the block for (N, channels, H, W)."""
        super().__init__()
        self.layers = nn.Sequential(
            *normed(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), channels, norm),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        out: Tensor = x + self.layers(x)
        return out


def encoder(width: int, blocks: int, norm: NormLayer) -> nn.Sequential:
    """What follows the first convolution: (N, width, H, W) -> (N, 4 * width, H / 4, W / 4)."""
    return nn.Sequential(
        norm(width),
        nn.ReLU(inplace=True),
        *normed(nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), 2 * width, norm),
        *normed(nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False), 4 * width, norm),
        *(PaddedResidualBlock(4 * width, norm) for _ in range(blocks)),
    )


def decoder(width: int, norm: NormLayer) -> nn.Sequential:
    """What precedes the last convolution: (N, 4 * width, H / 4, W / 4) -> (N, width, H, W)."""
    return nn.Sequential(
        *normed(nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False), 2 * width, norm),
        *normed(nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), width, norm),
    )


def normed(layer: nn.Module, channels: int, norm: NormLayer) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A layer, its norm and a ReLU."""
    return layer, norm(channels), nn.ReLU(inplace=True)


class LabelGenerator(nn.Module):
    """StarGAN's generator: image and label maps in, image out; heights and widths are multiples of 4, at least 8."""

    def __init__(
        self,
        channels: Sequence[int],
        labels: int,
        *,
        width: int,
        blocks: int,
        norm: NormLayer,
        logits: Collection[int] = (),
    ) -> None:
        """Make the network.

        Args:
            channels: of the images, by modality; each has a first and a last layer of its own.
            labels: how many there are.
            width: channels at full resolution; 64 in the paper.
            blocks: residual blocks, at a quarter of the resolution; 6 in the paper.
            norm: makes each norm layer.
            logits: modalities whose outputs are unbounded.
        """
        super().__init__()
        self._logits = frozenset(logits)
        self.first = nn.ModuleList(nn.Conv2d(n + labels, width, 7, 1, 3, bias=False) for n in channels)
        self.layers = nn.Sequential(encoder(width, blocks, norm), decoder(width, norm))
        self.last = nn.ModuleList(nn.Conv2d(width, n, 7, 1, 3, bias=False) for n in channels)

    def forward(self, x: Tensor, labels: Tensor, source: int = 0, target: int = 0) -> Tensor:
        """Translate images.

        Args:
            x: (N, C, H, W) of the modality `source`.
            labels: (N, L), of the target.
            source: the modality of the input.
            target: the modality of the output.

        Returns:
            (N, C', H, W) in [-1, 1], or logits.
        """
        y: Tensor = self.last[target](self.layers(self.first[source](with_labels(x, labels))))
        return y if target in self._logits else torch.tanh(y)


class Judgement(NamedTuple):
    """What a `LabelDiscriminator` says of N images.

    Attributes:
        real: (N, 1, h, w), a value or logit of being real for each patch.
        labels: (N, L), a logit for each label.
        code: (N, Z), the code that it reads off; Z is 0 where there is none.
    """

    real: Tensor
    labels: Tensor
    code: Tensor


class LabelDiscriminator(nn.Module):
    """Stride-2 convolutions without norm, and on top of them heads for real or fake, for the labels, for a code."""

    def __init__(
        self,
        in_channels: Sequence[int],
        labels: int,
        size: tuple[int, int],
        *,
        width: int,
        layers: int,
        code_dim: int = 0,
    ) -> None:
        """Make the network.

        Args:
            in_channels: of the images, by modality; each has a first layer of its own.
            labels: how many there are.
            size: the image's height and width, pixels: the head for labels sees the whole image.
            width: channels of the first layer; 64 in the papers. They double with each.
            layers: stride-2 convolutions; 6 in the papers, for 128x128.
            code_dim: length of the code that is read off, 0 for none.

        Raises:
            SizeError: the image is smaller than 2^layers.
        """
        super().__init__()
        rows, columns = (side >> layers for side in size)
        if min(rows, columns) < 1:
            side = 2**layers
            raise SizeError(
                f"The discriminator with {layers} stride-2 layers takes images of at least {side} pixels a side, not "
                f"{size[0]}x{size[1]}: use {side}x{side} or more in data.size, or lower method.discriminator_layers."
            )
        self.first = nn.ModuleList(nn.Conv2d(channels, width, 4, 2, 1) for channels in in_channels)
        parts: list[nn.Module] = [nn.LeakyReLU(0.01, inplace=True)]
        for level in range(1, layers):
            below = width * 2 ** (level - 1)
            parts += [nn.Conv2d(below, 2 * below, 4, 2, 1), nn.LeakyReLU(0.01, inplace=True)]
        top = width * 2 ** (layers - 1)
        self.layers = nn.Sequential(*parts)
        self.real = nn.Conv2d(top, 1, 3, 1, 1, bias=False)
        self.labels = nn.Conv2d(top, labels, (rows, columns), bias=False)
        self.code = (
            nn.Sequential(
                nn.Conv2d(top, code_dim, 3, 1, 1),
                nn.Flatten(),
                nn.Linear(code_dim * rows * columns, code_dim),
            )
            if code_dim
            else None
        )

    def forward(self, x: Tensor, modality: int = 0) -> Judgement:
        """Judge images (N, in_channels, H, W) of a modality."""
        h = self.layers(self.first[modality](x))
        code = self.code(h) if self.code is not None else h.new_empty(len(h), 0)
        return Judgement(self.real(h), self.labels(h).flatten(1), code)
