"""Miners, which look for the codes that a generator is to be given, and the selector of one of several generators.

Of MineGAN (Wang et al. 2020, arXiv:1912.05270; Wang's thesis, chapter 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from i2idist.nn.init import init_kaiming


class PixelNorm(nn.Module):
    """Divides each sample's features by their root mean square (Karras et al. 2018, arXiv:1710.10196, section 4.2)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape."""
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


class Miner(nn.Module):
    """M: fully connected layers from u ~ N(0, I), with ReLU and pixel norm between them (appendix A.2.1)."""

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        """Make the network, with Gaussian weights such that what it gives has about the variance of N(0, I).

        Args:
            widths: of u and of each layer but the last.
            outputs: of the last layer: the length of the codes that it looks for.
        """
        super().__init__()
        parts: list[nn.Module] = []
        for below, above in zip(widths, widths[1:], strict=False):
            parts += [nn.Linear(below, above), nn.ReLU(), PixelNorm()]
        self.last = nn.Linear(widths[-1], outputs)
        self.layers = nn.Sequential(*parts)
        init_kaiming(self)
        nn.init.normal_(self.last.weight, std=math.sqrt(1 / widths[-1]))

    def forward(self, u: Tensor) -> Tensor:
        """(N, widths[0]) -> (N, outputs)."""
        z: Tensor = self.last(self.layers(u))
        return z


class ConditionalMiner(nn.Module):
    """Miners of both inputs of a conditional generator, from one u: M^z of its code, M^c of its class (Fig. 3.2)."""

    def __init__(self, widths: Sequence[int], outputs: int, classes: int) -> None:
        """Make both, see `Miner`. What M^c gives begins near the mean of the classes."""
        super().__init__()
        self.code, self.embedding = Miner(widths, outputs), Miner(widths, classes)
        with torch.no_grad():
            self.embedding.last.weight.div_(classes)
            self.embedding.last.bias.fill_(1 / classes)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """(N, widths[0]) -> codes (N, outputs), vectors that mix the classes (N, classes)."""
        return self.code(u), self.embedding(u)


class Selector(nn.Module):
    """The probabilities p_i of generators: how often each had a supersample's highest critic value (section 3.3.3).

    Attributes:
        wins: (window, N) int64, how often each generator won in each of the last minibatches, over all workers.
        minibatches: () int64, how many there were.
    """

    wins: Tensor
    minibatches: Tensor

    def __init__(self, generators: int, window: int) -> None:
        """Begin without counts, all generators alike, to count the last `window` minibatches."""
        super().__init__()
        self.register_buffer("wins", torch.zeros(window, generators, dtype=torch.int64))
        self.register_buffer("minibatches", torch.zeros((), dtype=torch.int64))

    def record(self, wins: Tensor) -> None:
        """Count a minibatch: (N,) int64, the supersamples of all workers that each generator won."""
        self.wins[self.minibatches % len(self.wins)] = wins
        self.minibatches += 1

    def probabilities(self) -> Tensor:
        """p_1 .. p_N, (N,) float64."""
        wins = self.wins.sum(0).double()
        return wins / wins.sum() if bool(wins.any()) else torch.full_like(wins, 1 / len(wins))

    def choose(self, t: Tensor) -> Tensor:
        """The generator of each of (n,) standard normal numbers, i with probability p_i: (n,) int64."""
        below = self.probabilities().cumsum(0)
        return torch.searchsorted(below[:-1], torch.special.ndtr(t.double()), right=True)
