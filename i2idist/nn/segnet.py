"""SegNet's encoder and decoder (Badrinarayanan et al. 2017, arXiv:1511.00561) on VGG16's layout, and their relatives.

Tables A.3 to A.6 of Wang's thesis, for mix-and-match networks. What an encoder hands on beside its latent features, its
side information, is where maxima lay (pooling indices), the features themselves (skip connections), or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.errors import SourceError
from i2idist.nn.norm import CrossReplicaBatchNorm
from i2idist.nn.pooled import tilted_max_pool

Side = Literal["indices", "skip", "none"]

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Latent(NamedTuple):
    """What an encoder gives.

    Attributes:
        features: (N, C, h, w).
        side: the side information of each halving, finest first; empty where there is none.
    """

    features: Tensor
    side: tuple[Tensor, ...]


def _widths(width: int, blocks: int) -> list[int]:
    """Channels of VGG16's blocks: doubled from one to the next, at most eightfold."""
    return [width * min(2**level, 8) for level in range(blocks)]


class ConvBlock(nn.Module):
    """3x3 convolutions, each followed by batch norm, where there is any, and ReLU."""

    def __init__(self, widths: Sequence[int], *, batch_norm: bool, last_relu: bool = True) -> None:
        """Convolve from `widths[0]` channels to `widths[1]`, and so on; the last ReLU may be left to the caller."""
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(widths, widths[1:], strict=False))
        self.norms = nn.ModuleList(CrossReplicaBatchNorm(o) for o in widths[1:]) if batch_norm else None
        self._last_relu = last_relu

    def forward(self, x: Tensor) -> Tensor:
        """(N, widths[0], H, W) -> (N, widths[-1], H, W)."""
        for place, conv in enumerate(self.convs):
            x = conv(x)
            if self.norms is not None:
                x = self.norms[place](x)
            if self._last_relu or place < len(self.convs) - 1:
                x = functional.relu(x)
        return x


class SegNetEncoder(nn.Module):
    """An encoder (Table A.3): VGG16's convolutions, halving after each block."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        in_channels: int,
        *,
        width: int,
        convs: Sequence[int],
        side: Side,
        batch_norm: bool,
        imagenet: bool = False,
    ) -> None:
        """Make the network.

        Args:
            in_channels: of the image.
            width: channels of the first block; 64 in the table.
            convs: convolutions of each block; (2, 2, 3, 3, 3) in the table.
            side: what is handed to decoders beside the latent features.
            batch_norm: whether a batch norm follows each convolution.
            imagenet: whether images in [-1, 1] are normalised as VGG16's were.
        """
        super().__init__()
        self._side = side
        widths = [in_channels, *_widths(width, len(convs))]
        self.blocks = nn.ModuleList(
            ConvBlock([below, *[above] * count], batch_norm=batch_norm, last_relu=False)
            for below, above, count in zip(widths, widths[1:], convs, strict=False)
        )
        self._imagenet = imagenet
        if imagenet:
            self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
            self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Latent:
        """(N, in_channels, H, W), sides multiples of 2^blocks -> features (N, C, H / 2^blocks, W / 2^blocks)."""
        if self._imagenet:
            x = ((x + 1) / 2 - self.mean) / self.deviation
        side = []
        for block in self.blocks:
            x = block(x)
            if self._side == "skip":
                side.append(functional.relu(x))
            pooled, indices = tilted_max_pool(x)
            if self._side == "indices":
                side.append(indices)
            x = functional.relu(pooled)  # after pooling: among zeros no place would be the maximum's
        return Latent(x, tuple(side))

    def fill(self, state: Mapping[str, Tensor], where: str) -> None:
        """Take over VGG16's convolutions by torchvision's names (`features.0.weight`); others are left alone.

        Raises:
            SourceError: one is missing or of another shape; names it and `where`, the source.
        """
        number = 0
        for block in self.blocks:
            assert isinstance(block, ConvBlock)
            for conv in block.convs:
                for name, own in conv.named_parameters():
                    key = f"features.{number}.{name}"
                    found = state.get(key)
                    if found is None or found.shape != own.shape:
                        has = "has none" if found is None else f"has one of shape {tuple(found.shape)}"
                        raise SourceError(
                            f"{where} {has} as {key}, {tuple(own.shape)}: it must hold VGG16's convolutions under "
                            "torchvision's names."
                        )
                    own.data.copy_(found)
                number += 2  # a ReLU follows
            number += 1  # the pooling


class SegNetDecoder(nn.Module):
    """A decoder (Table A.4), the mirrored encoder: it doubles before each block, with the side information."""

    def __init__(self, out_channels: int, *, width: int, convs: Sequence[int], side: Side) -> None:
        """Make the network; settings as the encoder's. The last convolution has neither batch norm nor ReLU."""
        super().__init__()
        self._side = side
        widths = _widths(width, len(convs))[::-1]
        twice = 2 if side == "skip" else 1
        self.blocks = nn.ModuleList()
        for here, then, count in zip(widths, [*widths[1:], widths[-1]], convs[::-1], strict=True):
            is_last = len(self.blocks) == len(convs) - 1
            inner = [here] * (count - 1)
            plan = [twice * here, *inner, *([] if is_last else [then])]
            self.blocks.append(ConvBlock(plan, batch_norm=True))
        self.last = nn.Conv2d(widths[-1] if convs[0] > 1 else twice * widths[-1], out_channels, 3, padding=1)

    def forward(self, latent: Latent) -> Tensor:
        """An encoder's latent -> (N, out_channels, H, W), unbounded."""
        x = latent.features
        for level, block in enumerate(self.blocks):
            if self._side == "indices":
                x = functional.max_unpool2d(x, latent.side[-1 - level], (2, 2))
            else:
                x = functional.interpolate(x, scale_factor=2)
            if self._side == "skip":
                x = torch.cat([x, latent.side[-1 - level]], dim=1)
            x = block(x)
        out: Tensor = self.last(x)
        return out


class UpsamplingDecoder(nn.Module):
    """The decoder of RGB (Table A.5), which takes no side information: nearest neighbours and a convolution a doubling.

    The table's convolutions "of stride 1" that double the size are read so.
    """

    def __init__(self, out_channels: int, *, width: int, ups: int) -> None:
        """Make the network; `width` is the encoder's and `ups` its halvings."""
        super().__init__()
        widths = _widths(width, ups)[::-1]
        self.blocks = nn.ModuleList(ConvBlock(pair, batch_norm=True) for pair in zip(widths, widths[1:], strict=False))
        self.last = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, latent: Latent) -> Tensor:
        """An encoder's latent -> (N, out_channels, H, W), unbounded."""
        x = latent.features
        for block in self.blocks:
            x = block(functional.interpolate(x, scale_factor=2))
        out: Tensor = self.last(functional.interpolate(x, scale_factor=2))
        return out


class BatchNormDiscriminator(nn.Module):
    """The discriminator of RGB (Table A.6): 5x5 convolutions of stride 2 with batch norm, then one of one channel.

    The table's "deconvolutions" halve the size, so they are convolutions.
    """

    def __init__(self, in_channels: int, *, width: int, layers: int) -> None:
        """Make the network.

        Args:
            in_channels: of the image.
            width: channels of the first layer, doubled by each further one; 64 in the table.
            layers: stride-2 convolutions; 4 in the table.
        """
        super().__init__()
        parts: list[nn.Module] = []
        widths = [in_channels, *(width * 2**level for level in range(layers))]
        for below, above in zip(widths, widths[1:], strict=False):
            parts += [nn.Conv2d(below, above, 5, 2, 2), CrossReplicaBatchNorm(above), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of being real, one a patch: (N, in_channels, H, W) -> (N, 1, h, w)."""
        logits: Tensor = self.layers(x)
        return logits
