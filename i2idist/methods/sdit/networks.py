"""SDIT's networks E, M and G (Wang, thesis, section 6.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.methods.sdit.config import SDITConfig
from i2idist.nn.init import init_kaiming, init_normal
from i2idist.nn.labelled import PaddedResidualBlock, decoder, encoder, with_labels
from i2idist.nn.norm import NormLayer


class Encoder(nn.Module):
    """E: an image and the target's labels to features at a quarter of the resolution."""

    def __init__(self, channels: int, labels: int, *, width: int, blocks: int, norm: NormLayer) -> None:
        """Make the network for images of so many channels."""
        super().__init__()
        first = nn.Conv2d(channels + labels, width, 7, 1, 3, bias=False)
        self.layers = nn.Sequential(first, encoder(width, blocks, norm))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(N, channels, H, W), (N, L) -> (N, 4 * width, H / 4, W / 4)."""
        e: Tensor = self.layers(with_labels(x, labels))
        return e


class ConditionalBlock(nn.Module):
    """x + CIN(conv(relu(CIN(conv(x))))), CIN(e) = gamma (e - mu(e)) / sigma(e) + beta (Eq. 6.10)."""

    def __init__(self, channels: int) -> None:
        """Make the block for (N, channels, H, W)."""
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.conv_2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """(N, C, H, W), and (N, 2, C, 1, 1) for the two norms -> (N, C, H, W)."""
        h = functional.relu(_cin(self.conv_1(x), gamma[:, 0], beta[:, 0]))
        return x + _cin(self.conv_2(h), gamma[:, 1], beta[:, 1])


class CodeMapping(nn.Module):
    """M: a code to the gammas and betas of T^c."""

    def __init__(self, config: SDITConfig) -> None:
        """Make the network for `config.cin` of both, gamma or beta."""
        super().__init__()
        self.cin, width = config.cin, 4 * config.width
        self.shape = (config.cin_blocks, 2 if config.cin == "both" else 1, 2, width, 1, 1)
        last = nn.Linear(config.hidden, math.prod(self.shape))
        self.layers = nn.Sequential(nn.Linear(config.code_dim, config.hidden), nn.ReLU(inplace=True), last)
        init_kaiming(self)
        if config.cin != "beta":
            with torch.no_grad():
                last.bias.view(self.shape)[:, 0] = 1

    def forward(self, z: Tensor) -> Tensor:
        """(N, code_dim) -> (N, steered blocks, gamma and beta, norms, 4 * width, 1, 1)."""
        learnt: Tensor = self.layers(z).reshape(len(z), *self.shape)
        if self.cin == "gamma":
            return torch.cat([learnt, torch.zeros_like(learnt)], dim=2)
        if self.cin == "beta":
            return torch.cat([torch.ones_like(learnt), learnt], dim=2)
        return learnt


class Generator(nn.Module):
    """G: features to an image, T^c steered by M(z) and mixed in where T^a attends."""

    def __init__(self, channels: int, config: SDITConfig, norm: NormLayer) -> None:
        """Make the network for images of so many channels."""
        super().__init__()
        width, steered = 4 * config.width, 0 if config.cin == "none" else config.cin_blocks
        self.steered = nn.ModuleList(ConditionalBlock(width) for _ in range(steered))
        self.plain = nn.Sequential(*(PaddedResidualBlock(width, norm) for _ in range(config.blocks - steered)))
        self.attention = _attention(width, config.blocks, norm) if config.attention else None
        self.up = nn.Sequential(decoder(config.width, norm), nn.Conv2d(config.width, channels, 7, 1, 3, bias=False))
        init_kaiming(self)
        if self.attention is not None:
            init_normal(self.attention[-2])  # near one half everywhere: a sigmoid that starts shut stays so

    def forward(self, e: Tensor, affine: Tensor) -> Tensor:
        """Finish an image.

        Args:
            e: (N, 4 * width, h, w), from E.
            affine: from M; unused without CIN.

        Returns:
            (N, channels, 4 * h, 4 * w) in [-1, 1].
        """
        f = self.plain(self._steer(e, affine))
        if self.attention is not None:
            a = self.attention(e)
            f = (1 - a) * e + a * f  # Eq. 6.9
        return torch.tanh(self.up(f))

    def _steer(self, e: Tensor, affine: Tensor) -> Tensor:
        for place, block in enumerate(self.steered):
            e = block(e, *affine[:, place].unbind(1))
        return e


def _cin(e: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Eq. 6.10: (N, C, H, W), (N, C, 1, 1), (N, C, 1, 1) -> (N, C, H, W)."""
    return torch.addcmul(beta, functional.instance_norm(e), gamma)


def _attention(channels: int, blocks: int, norm: NormLayer) -> nn.Sequential:
    """T^a: (N, channels, h, w) -> (N, 1, h, w) in [0, 1]."""
    body = (PaddedResidualBlock(channels, norm) for _ in range(blocks))
    return nn.Sequential(*body, nn.Conv2d(channels, 1, 3, 1, 1), nn.Sigmoid())
