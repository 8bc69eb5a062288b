"""A face network: Inception-ResNet-v1, whose unit embeddings tell identities apart.

Szegedy et al. 2016, arXiv:1602.07261, trained on VGGFace2 (Cao et al. 2018, arXiv:1710.08092) by the code of
facenet and published by facenet-pytorch. Parts carry the names of its weight file.

Deviations: faces are not detected or aligned, so that the numbers of a set don't depend on a detector; the whole image
is taken, which suits datasets of cropped faces. UDIT and SDIT measured with VGG-Face: their numbers don't compare.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.nn.conv_norm import ConvNorm, Step

SIDE = 160
EMBEDDING, IDENTITIES = 512, 8631
RESIZE = "the whole image, without face detection, bilinear with antialiasing to 160x160"


def _branch(inputs: int, steps: Sequence[Step]) -> nn.Module:
    parts = []
    for step in steps:
        parts.append(ConvNorm(inputs, *step))
        inputs = step[0]
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


class _Branches(nn.Module):
    """Branches side by side, joined along channels."""

    def __init__(self, inputs: int, branches: Sequence[Sequence[Step]]) -> None:
        super().__init__()
        self._names = [f"branch{number}" for number in range(len(branches))]
        for name, steps in zip(self._names, branches, strict=True):
            self.add_module(name, _branch(inputs, steps))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.get_submodule(name)(x) for name in self._names], 1)


class _Residual(_Branches):
    """x + scale * a 1x1 convolution of the joined branches, then ReLU unless it is the last."""

    def __init__(self, inputs: int, branches: Sequence[Sequence[Step]], scale: float, is_last: bool = False) -> None:
        super().__init__(inputs, branches)
        self.conv2d = nn.Conv2d(sum(steps[-1][0] for steps in branches), inputs, 1)
        self._scale, self._is_last = scale, is_last

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2d(super().forward(x)) * self._scale + x
        return y if self._is_last else functional.relu(y)


class _Reduction(_Branches):
    """Branches with stride 2, and a max pool."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), functional.max_pool2d(x, 3, stride=2)], 1)


def _block35() -> _Residual:
    return _Residual(256, [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (32, 3), (32, 3)]], 0.17)


def _block17() -> _Residual:
    return _Residual(896, [[(128, 1)], [(128, 1), (128, (1, 7)), (128, (7, 1))]], 0.10)


def _block8(scale: float, is_last: bool = False) -> _Residual:
    return _Residual(1792, [[(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))]], scale, is_last)


class FaceNetwork(nn.Module):
    """The network: 27.9 million parameters, with the 8631 identities that it was trained to tell apart."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.conv2d_1a = ConvNorm(3, 32, 3, 2)
        self.conv2d_2a = ConvNorm(32, 32, 3, same=False)
        self.conv2d_2b = ConvNorm(32, 64, 3)
        self.conv2d_3b = ConvNorm(64, 80, 1)
        self.conv2d_4a = ConvNorm(80, 192, 3, same=False)
        self.conv2d_4b = ConvNorm(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Reduction(256, [[(384, 3, 2)], [(192, 1), (192, 3), (256, 3, 2)]])
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _Reduction(
            896, [[(256, 1), (384, 3, 2)], [(256, 1), (256, 3, 2)], [(256, 1), (256, 3), (256, 3, 2)]]
        )
        self.repeat_3 = nn.Sequential(*(_block8(0.20) for _ in range(5)))
        self.block8 = _block8(1.0, is_last=True)
        self.last_linear = nn.Linear(1792, EMBEDDING, bias=False)
        self.last_bn = nn.BatchNorm1d(EMBEDDING, eps=0.001)
        self.logits = nn.Linear(EMBEDDING, IDENTITIES)

    def maps(self, x: Tensor) -> Tensor:
        """The highest convolutional features: (N, 3, 160, 160), as `prepare` gives it, -> (N, 1792, 3, 3)."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_3b(functional.max_pool2d(x, 3, stride=2))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(x)))  # (N, 256, 17, 17)
        x = self.repeat_2(self.mixed_6a(x))  # (N, 896, 8, 8)
        maps: Tensor = self.block8(self.repeat_3(self.mixed_7a(x)))
        return maps

    def features(self, x: Tensor) -> Tensor:
        """The embedding, of length 1: (N, 3, 160, 160), as `prepare` gives it, -> (N, 512)."""
        embedding: Tensor = self.last_bn(self.last_linear(self.maps(x).mean((2, 3))))
        return functional.normalize(embedding)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The Euclidean distance of the embeddings of each pair: (N, 3, 160, 160) twice -> (N,) in [0, 2]."""
        gaps: Tensor = torch.linalg.vector_norm(self.features(x) - self.features(y), dim=1)
        return gaps

    def distances(self, x: Tensor) -> Tensor:
        """The Euclidean distance of every two embeddings: (K, 3, 160, 160) -> (K, K) in [0, 2]."""
        embeddings = self.features(x)
        gaps: Tensor = torch.linalg.vector_norm(embeddings[:, None] - embeddings, dim=2)
        return gaps


def prepare(images: Tensor) -> Tensor:
    """What the network takes: (N, 3, H, W) in [-1, 1] -> (N, 3, 160, 160), see `RESIZE`; (level - 127.5) / 128."""
    resized = functional.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    return resized * (127.5 / 128.0)
