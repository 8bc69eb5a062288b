"""Residual generators and discriminators of GANs on codes.

They are WGAN-GP's (Gulrajani et al. 2017, arXiv:1704.00028) and SNGAN's (Miyato et al. 2018, arXiv:1802.05957).
A network of B `blocks` spans sizes from H / 2^B x W / 2^B to H x W: the papers' 64x64 images have 4 blocks from 4x4.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu

from i2idist.nn.init import init_xavier
from i2idist.nn.norm import ClassBatchNorm, CrossReplicaBatchNorm, LayerNorm, NormLayer

Condition = Literal["none", "concat", "bnorm"]
"""How a class enters a generator: not at all, appended to the code, or by the scales and shifts of batch norm."""


class UpBlock(nn.Module):
    """Doubles sizes: conv(relu(norm(conv(up(relu(norm(x))))))) + up(x), `up` repeating each pixel."""

    def __init__(self, inputs: int, outputs: int, norm: NormLayer) -> None:
        """Make the block from `inputs` to `outputs` channels."""
        super().__init__()
        self.norm_1, self.norm_2 = norm(inputs), norm(outputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, *y: Tensor) -> Tensor:
        """(N, inputs, H, W), and classes for norms that take them -> (N, outputs, 2 H, 2 W)."""
        h = self.conv_1(_doubled(relu(self.norm_1(x, *y))))
        h = self.conv_2(relu(self.norm_2(h, *y)))
        # A 1x1 convolution of repeated pixels repeats those of the convolution.
        out: Tensor = h + _doubled(self.shortcut(x))
        return out


class DownBlock(nn.Module):
    """Halves sizes by averages: down(conv(relu(norm(conv(relu(norm(x))))))) + conv(down(x))."""

    def __init__(self, inputs: int, outputs: int, norm: NormLayer | None = None, *, halve: bool = True) -> None:
        """Make the block from `inputs` to `outputs` channels.

        Args:
            inputs: channels that come in.
            outputs: channels that go out.
            norm: before each nonlinearity; None: no norm.
            halve: whether sizes are halved; if not, and `inputs` equal `outputs`, x is added as it is.
        """
        super().__init__()
        self._halve = halve
        self.norm_1, self.norm_2 = (norm(inputs), norm(inputs)) if norm else (nn.Identity(), nn.Identity())
        self.conv_1 = nn.Conv2d(inputs, inputs, 3, 1, 1, bias=norm is None)
        self.conv_2 = nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if halve or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2), or H and W where sizes aren't halved."""
        h = self.conv_2(relu(self.norm_2(self.conv_1(relu(self.norm_1(x))))))
        out: Tensor = avg_pool2d(h, 2) + self.shortcut(avg_pool2d(x, 2)) if self._halve else h + self.shortcut(x)
        return out


class FirstBlock(nn.Module):
    """SNGAN's first block, which takes an image as it is: down(conv(relu(conv(x)))) + conv(down(x))."""

    def __init__(self, channels: int, outputs: int) -> None:
        """Make the block from images of `channels`."""
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, outputs, 3, 1, 1)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, outputs, H / 2, W / 2)."""
        out: Tensor = avg_pool2d(self.conv_2(relu(self.conv_1(x))), 2) + self.shortcut(avg_pool2d(x, 2))
        return out


class Generator(nn.Module):
    """G: a fully connected layer, residual blocks that double sizes, norm, ReLU, a convolution, tanh."""

    def __init__(
        self,
        latent_dim: int,
        channels: int,
        size: tuple[int, int],
        *,
        width: int,
        blocks: int,
        most: int,
        classes: int = 0,
        condition: Condition = "none",
    ) -> None:
        """Make the network.

        Args:
            latent_dim: length of z.
            channels: of the images.
            size: their height and width, multiples of 2^blocks.
            width: channels after the last block; from there they double towards the code.
            blocks: residual blocks.
            most: so many times `width` channels at most: 8 in WGAN-GP, 16 in SNGAN.
            classes: how many there are, where it is conditional.
            condition: how they enter.
        """
        super().__init__()
        widths = [width * min(most, 2**level) for level in reversed(range(blocks))]
        self._smallest = (widths[0], size[0] // 2**blocks, size[1] // 2**blocks)
        self._condition = condition
        norm: Callable[[int], nn.Module] = CrossReplicaBatchNorm
        if condition == "bnorm":
            norm = functools.partial(ClassBatchNorm, classes=classes)
        self.linear = nn.Linear(latent_dim + (classes if condition == "concat" else 0), math.prod(self._smallest))
        pairs = zip([widths[0], *widths], widths, strict=False)
        self.blocks = nn.ModuleList(UpBlock(inputs, outputs, norm) for inputs, outputs in pairs)
        self.norm = norm(width)
        self.conv = nn.Conv2d(width, channels, 3, 1, 1)
        init_residual(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Make images.

        Args:
            z: (N, latent_dim).
            y: (N, classes), one-hot or mixing vectors; None where it isn't conditional.

        Returns:
            (N, channels, H, W) in [-1, 1].
        """
        if self._condition == "concat" and y is not None:
            z = torch.cat([z, y.to(z.dtype)], dim=1)
        classes = (y,) if self._condition == "bnorm" and y is not None else ()
        h = self.linear(z).unflatten(1, self._smallest)
        for block in self.blocks:
            h = block(h, *classes)
        return torch.tanh(self.conv(relu(self.norm(h, *classes))))


class Verdict(NamedTuple):
    """What a discriminator says of images: how real each is, (N, 1), and logits of its class, (N, classes) or None."""

    real: Tensor
    classes: Tensor | None = None


class Critic(nn.Module):
    """WGAN-GP's D: a convolution, residual blocks with layer norm that halve sizes, a fully connected layer."""

    def __init__(
        self, channels: int, size: tuple[int, int], *, width: int, blocks: int, most: int = 8, classes: int = 0
    ) -> None:
        """Make the network.

        Args:
            channels: of the images.
            size: their height and width, multiples of 2^blocks.
            width: channels after the first convolution; each block but the last doubles them.
            blocks: residual blocks.
            most: so many times `width` channels at most.
            classes: those that an auxiliary layer tells apart; 0: there is none.
        """
        super().__init__()
        widths = [width * min(most, 2**level) for level in (*range(blocks), blocks - 1)]
        self.conv = nn.Conv2d(channels, width, 3, 1, 1)
        pairs = zip(widths, widths[1:], strict=False)
        self.blocks = nn.Sequential(*(DownBlock(inputs, outputs, LayerNorm) for inputs, outputs in pairs))
        features = widths[-1] * (size[0] // 2**blocks) * (size[1] // 2**blocks)
        self.real = nn.Linear(features, 1)
        self.classes = nn.Linear(features, classes) if classes else None
        init_residual(self)

    def forward(self, x: Tensor) -> Verdict:
        """Judge images: (N, channels, H, W)."""
        features = self.blocks(self.conv(x)).flatten(1)
        return Verdict(self.real(features), self.classes(features) if self.classes else None)


class Discriminator(nn.Module):
    """SNGAN's D: residual blocks without norm, one that halves no more, ReLU, sums over places, a linear layer."""

    def __init__(self, channels: int, *, width: int, blocks: int, most: int = 16) -> None:
        """Make the network.

        Args:
            channels: of the images.
            width: channels after the first block; they double from block to block.
            blocks: residual blocks that halve.
            most: so many times `width` channels at most.
        """
        super().__init__()
        widths = [width * min(most, 2**level) for level in range(blocks)]
        pairs = zip(widths, widths[1:], strict=False)
        self.blocks = nn.Sequential(
            FirstBlock(channels, width),
            *(DownBlock(inputs, outputs) for inputs, outputs in pairs),
            DownBlock(widths[-1], widths[-1], halve=False),
        )
        self.real = nn.Linear(widths[-1], 1)
        init_residual(self)

    def forward(self, x: Tensor) -> Verdict:
        """Judge images: (N, channels, H, W)."""
        return Verdict(self.real(relu(self.blocks(x)).sum((2, 3))))


class ResidualEncoder(nn.Module):
    """The critic's layers with several outputs, for a code or for classes.

    The last layer is a convolution of all that is left of an image: a linear layer's rounding depends on a sample's
    place in its batch, which shows where the output is followed by gradient ascent.
    """

    def __init__(self, channels: int, size: tuple[int, int], outputs: int, *, width: int, blocks: int) -> None:
        """Make the network for images of `size` (H, W); each block but the last doubles `width`, 8 times at most."""
        super().__init__()
        widths = [width * min(8, 2**level) for level in (*range(blocks), blocks - 1)]
        pairs = zip(widths, widths[1:], strict=False)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1),
            *(DownBlock(inputs, outputs, LayerNorm) for inputs, outputs in pairs),
            nn.Conv2d(widths[-1], outputs, (size[0] // 2**blocks, size[1] // 2**blocks)),
            nn.Flatten(),
        )
        init_residual(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, outputs)."""
        out: Tensor = self.layers(x)
        return out


def init_residual(network: nn.Module) -> None:
    """Xavier's initialisation; residual convolutions, which follow ReLUs, with gain sqrt 2 (both papers' code)."""
    init_xavier(network)
    for module in network.modules():
        if isinstance(module, UpBlock | DownBlock | FirstBlock):
            for conv in (module.conv_1, module.conv_2):
                init_xavier(conv, math.sqrt(2))


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2)
