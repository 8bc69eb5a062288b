"""Normalisation layers: instance norm, its conditional form, and batch norm whose statistics span all workers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

NormLayer = Callable[[int], nn.Module]
"""Makes a normalisation layer for so many channels."""


def _alone(x: Tensor) -> Tensor:
    return x


class CrossReplica(nn.Module):
    """Base of layers whose output depends on the whole global batch. The trainer connects them to the other workers.

    Attributes:
        sum: elementwise sum over workers, differentiable twice; the identity until a trainer sets it.
        world_size: the number of workers.
    """

    sum: Callable[[Tensor], Tensor]
    world_size: int

    def __init__(self) -> None:
        """Start as the only worker."""
        super().__init__()
        self.sum = _alone
        self.world_size = 1


class CrossReplicaBatchNorm(CrossReplica):
    """Batch norm (Ioffe and Szegedy 2015, arXiv:1502.03167) over the global batch, with learnt scale and shift.

    Torch's `SyncBatchNorm` refuses the CPU and has no double backward. At one worker this is torch's own kernel.

    Attributes:
        at_test: in eval mode normalise by the `running` statistics, or by those of each `sample` alone: what training
            mode does to a batch of one.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, at_test: Literal["running", "sample"] = "running") -> None:
        """Make the layer for (N, channels, H, W)."""
        super().__init__()
        self.at_test = at_test
        self.eps = 1e-5
        self.momentum = 0.1
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W), in training by the mean and biased variance over all workers' N, H and W."""
        return self._normalised(x, self.weight, self.bias)

    def _normalised(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if self.training and self.world_size > 1:
            return self._across_workers(x, weight, bias)
        if not self.training and self.at_test == "sample":
            return functional.instance_norm(x, weight=weight, bias=bias, eps=self.eps)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, weight, bias, self.training, self.momentum, self.eps
        )

    def _across_workers(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Two passes, mean first, since the mean of squares less the squared mean cancels badly."""
        values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        total = values.sum((0, 2, 3))
        count = total.new_tensor([values.numel() / values.shape[1]])
        *_, n = totals = self.sum(torch.cat([total, count]))
        mean = totals[:-1] / n
        centred = values - mean[:, None, None]
        var = self.sum(centred.square().sum((0, 2, 3))) / n
        self._track(mean.detach(), var.detach() * (n / (n - 1)))
        scale = weight * torch.rsqrt(var + self.eps)
        out: Tensor = (centred * scale[:, None, None] + bias[:, None, None]).to(x.dtype)
        return out

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)


class ClassBatchNorm(CrossReplicaBatchNorm):
    """Batch norm with a scale and shift for each class (Dumoulin et al. 2017, arXiv:1610.07629).

    Attributes:
        weight: (classes, channels) scales.
        bias: (classes, channels) shifts.
    """

    _ones: Tensor
    _zeros: Tensor

    def __init__(self, channels: int, classes: int) -> None:
        """Make the layer for (N, channels, H, W) of these classes."""
        super().__init__(channels)
        self.weight = nn.Parameter(torch.ones(classes, channels))
        self.bias = nn.Parameter(torch.zeros(classes, channels))
        self.register_buffer("_ones", torch.ones(channels), persistent=False)
        self.register_buffer("_zeros", torch.zeros(channels), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]  # takes the class, too
        """(N, C, H, W), and classes (N, classes) as one-hot or mixing vectors -> (N, C, H, W)."""
        h = self._normalised(x, self._ones, self._zeros)
        y = y.to(self.weight.dtype)
        scale, shift = ((y @ table)[:, :, None, None].to(h.dtype) for table in (self.weight, self.bias))
        return torch.addcmul(shift, h, scale)


class LayerNorm(nn.GroupNorm):
    """Layer norm (Ba et al. 2016, arXiv:1607.06450) of feature maps: over channels and places of each sample.

    Scale and shift are by channel, as in the critic of WGAN-GP's public code.
    """

    def __init__(self, channels: int) -> None:
        """Make the layer for (N, channels, H, W)."""
        super().__init__(1, channels)


class InstanceNorm(nn.Module):
    """Instance norm (Ulyanov et al. 2016, arXiv:1607.08022) without scale, shift or running statistics."""

    def __init__(self, channels: int) -> None:
        """Make the layer for (N, channels, H, W) with H * W > 1."""
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Give each channel of each sample mean 0 and variance 1: (N, C, H, W) -> the same shape."""
        return functional.instance_norm(x)


class AffineInstanceNorm(CrossReplica):
    """Instance norm with learnt scale and shift, and optionally running statistics that translation then uses.

    Attributes:
        at_test: in eval mode normalise by the statistics of each `sample`, as in training, or by the `running` averages
            of training's; only then are they kept.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, at_test: Literal["running", "sample"] = "sample") -> None:
        """Make the layer for (N, channels, H, W) with H * W > 1."""
        super().__init__()
        self.at_test = at_test
        self.momentum = 0.1
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        if at_test == "running":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Give each channel of each sample mean `bias` and deviation `weight`: (N, C, H, W) -> the same shape."""
        if self.at_test == "running" and not self.training:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
        if self.at_test == "running":
            self._track(x)
        if not len(x):  # other workers have samples, and torch refuses none
            return x
        return functional.instance_norm(x, weight=self.weight, bias=self.bias)

    @torch.no_grad()
    def _track(self, x: Tensor) -> None:
        """Average the samples' means and unbiased variances over all workers, whose numbers of samples may differ."""
        values = x.to(self.running_var.dtype)
        var, mean = torch.var_mean(values, dim=(2, 3)) if len(x) else values.new_zeros(2, 0, x.shape[1])
        totals = self.sum(torch.cat([mean.sum(0), var.sum(0), mean.new_tensor([len(x)])]))
        mean, var = (totals[:-1] / totals[-1]).chunk(2)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)


class CodeNorm(nn.Module):
    """Instance norm with scale and shift linear in a code: AdaIN (Huang and Belongie 2017, arXiv:1703.06868) from z.

    A code tiled and concatenated to the input of a reflect-padded convolution adds a constant to each channel, which an
    instance norm behind it removes exactly. Here it enters after the norm.
    """

    def __init__(self, channels: int, code_dim: int) -> None:
        """Make the layer for (N, channels, H, W) and (N, code_dim)."""
        super().__init__()
        self.affine = nn.Linear(code_dim, 2 * channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(1 + gamma(z)) * instance_norm(x) + beta(z): (N, C, H, W), (N, code_dim) -> (N, C, H, W)."""
        gamma, beta = self.affine(z)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(beta, functional.instance_norm(x), 1 + gamma)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` in eval mode for a while."""
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)
