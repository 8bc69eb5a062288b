"""The Inception-v3 that the Fréchet Inception Distance is defined by.

Szegedy et al. 2016, arXiv:1512.00567, as TensorFlow published it on 2015-12-05 and Heusel et al. 2017,
arXiv:1706.08500, used it. It differs from torchvision's in three ways: average pools don't count padding, the last
block's pool is a maximum, and there are 1008 classes. Parts carry the names of the published weight file.

Deviations: none in the network. Its input is resized as TensorFlow 1 does: see `prepare`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.nn.conv_norm import ConvNorm, Kernel, Step

SIDE = 299
FEATURES, CLASSES = 2048, 1008
RESIZE = (
    "rounded to 8 bits, then bilinear as in TensorFlow 1 to 299x299: without antialiasing, target pixel i taken at "
    "i * source / 299"
)

_FORK: tuple[Kernel, Kernel] = ((1, 3), (3, 1))


class _Mixed(nn.Module):
    """Branches side by side, joined along channels; the last one pools.

    A branch of one step carries the branch's name, the steps of a longer one are numbered; where the name ends in "+",
    two more convolutions, 1x3 and 3x1, fork from the last step.
    """

    def __init__(
        self,
        inputs: int,
        branches: Mapping[str, Sequence[Step]],
        pool: Callable[[Tensor], Tensor],
        pooled: int | None = None,
    ) -> None:
        """Build; `pooled` is the channels of the convolution after the pool, None where there is none."""
        super().__init__()
        self._pool = pool
        self._chains = [self._branch(name, inputs, steps) for name, steps in branches.items()]
        self.branch_pool = ConvNorm(inputs, pooled, 1) if pooled else nn.Identity()

    def _branch(self, name: str, inputs: int, steps: Sequence[Step]) -> list[list[str]]:
        """Add a branch's parts; their names, by step."""
        forks, name = name.endswith("+"), name.rstrip("+")
        chain: list[list[str]] = []
        for number, step in enumerate(steps, start=1):
            part = name if len(steps) == 1 and not forks else f"{name}_{number}"
            self.add_module(part, ConvNorm(inputs, *step))
            chain.append([part])
            inputs = step[0]
        if forks:
            ends = [f"{name}_{len(steps) + 1}{letter}" for letter in "ab"]
            for part, kernel in zip(ends, _FORK, strict=True):
                self.add_module(part, ConvNorm(inputs, inputs, kernel))
            chain.append(ends)
        return chain

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        found = []
        for chain in self._chains:
            h = x
            for parts in chain:
                h = torch.cat([self.get_submodule(part)(h) for part in parts], 1)
            found.append(h)
        return torch.cat([*found, self.branch_pool(self._pool(x))], 1)


def _average(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


_maximum = functools.partial(functional.max_pool2d, kernel_size=3, stride=1, padding=1)
_halve = functools.partial(functional.max_pool2d, kernel_size=3, stride=2)


def _block35(inputs: int, pooled: int) -> _Mixed:
    """Of the 35x35 maps."""
    branches: dict[str, list[Step]] = {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
    }
    return _Mixed(inputs, branches, _average, pooled)


def _to17(inputs: int) -> _Mixed:
    branches: dict[str, list[Step]] = {
        "branch3x3": [(384, 3, 2)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)],
    }
    return _Mixed(inputs, branches, _halve)


def _block17(c: int) -> _Mixed:
    """Of the 17x17 maps."""
    branches: dict[str, list[Step]] = {
        "branch1x1": [(192, 1)],
        "branch7x7": [(c, 1), (c, (1, 7)), (192, (7, 1))],
        "branch7x7dbl": [(c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7))],
    }
    return _Mixed(768, branches, _average, 192)


def _to8(inputs: int) -> _Mixed:
    branches: dict[str, list[Step]] = {
        "branch3x3": [(192, 1), (320, 3, 2)],
        "branch7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)],
    }
    return _Mixed(inputs, branches, _halve)


def _block8(inputs: int, pool: Callable[[Tensor], Tensor]) -> _Mixed:
    """Of the 8x8 maps."""
    branches: dict[str, list[Step]] = {
        "branch1x1": [(320, 1)],
        "branch3x3+": [(384, 1)],
        "branch3x3dbl+": [(448, 1), (384, 3)],
    }
    return _Mixed(inputs, branches, pool, 192)


class FidInception(nn.Module):
    """The network: 23.9 million parameters, 2048 features, 1008 classes."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3, same=False)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3, same=False)
        self.Mixed_5b = _block35(192, 32)
        self.Mixed_5c = _block35(256, 64)
        self.Mixed_5d = _block35(288, 64)
        self.Mixed_6a = _to17(288)
        self.Mixed_6b = _block17(128)
        self.Mixed_6c = _block17(160)
        self.Mixed_6d = _block17(160)
        self.Mixed_6e = _block17(192)
        self.Mixed_7a = _to8(768)
        self.Mixed_7b = _block8(1280, _average)
        self.Mixed_7c = _block8(2048, _maximum)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """The last average pool: (N, 3, 299, 299), as `prepare` gives it, -> (N, 2048)."""
        x = _halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))  # (N, 64, 73, 73)
        x = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))  # (N, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # (N, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (N, 2048, 8, 8)
        return x.mean((2, 3))

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities without the last layer's bias, as the Inception Score is defined: (N, 1008)."""
        return functional.linear(self.features(x), self.fc.weight).softmax(1)


def prepare(images: Tensor) -> Tensor:
    """What the network takes: (N, 3, H, W) in [-1, 1] -> (N, 3, 299, 299), see `RESIZE`; levels to (level - 128) / 128.

    Rounding makes of a translator's output what its written PNG would give.
    """
    levels = ((images + 1.0) * 127.5).round().clamp(0.0, 255.0)
    rows, columns = (_weights(side, levels) for side in levels.shape[2:])
    return (rows @ levels @ columns.T - 128.0) / 128.0


def _weights(side: int, like: Tensor) -> Tensor:
    """The share of each of `side` source pixels in each target pixel: (299, side)."""
    places = torch.arange(SIDE, dtype=torch.float32) * (side / SIDE)
    below = places.long().clamp_max(side - 1)
    share = (places - below)[:, None]
    low, high = functional.one_hot(below, side), functional.one_hot((below + 1).clamp_max(side - 1), side)
    return (low * (1.0 - share) + high * share).to(like)
