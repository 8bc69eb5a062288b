"""The layer that Inception networks are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

Kernel = int | tuple[int, int]
Step = tuple[int, Kernel] | tuple[int, Kernel, int]
"""Output channels, kernel, and the stride where it is not 1."""


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, same: bool | None = None) -> None:
        """Padded to the same size, as `same` says; by default where the stride is 1."""
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padded = stride == 1 if same is None else same
        padding = (height // 2, width // 2) if padded else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        return functional.relu(self.bn(self.conv(x)), inplace=True)
