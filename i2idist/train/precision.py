"""Arithmetic: dtype of parameters and images, autocast, memory format, determinism."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from i2idist.train.settings import Training


def parameter_dtype(training: Training) -> torch.dtype:
    """The dtype of parameters and images: float64 for `float64`, otherwise float32 (bfloat16 is autocast over it)."""
    return torch.float64 if training.precision == "float64" else torch.float32


def memory_format(training: Training) -> torch.memory_format:
    """The memory format of networks and images."""
    return torch.channels_last if training.channels_last else torch.contiguous_format


def prepare(module: nn.Module, training: Training, device: torch.device) -> None:
    """Move a method to its device, dtype and memory format, in place."""
    module.to(device=device, dtype=parameter_dtype(training))
    if training.channels_last:
        module.to(memory_format=torch.channels_last)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads for a while: they decide the last bits of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def forward_precision(training: Training, device: torch.device) -> Iterator[None]:
    """The context of a forward pass: bfloat16 autocast where asked for."""
    if training.precision == "bfloat16":
        with torch.autocast(device.type, torch.bfloat16):
            yield
    else:
        yield


def make_deterministic(device: torch.device) -> None:
    """On CUDA, choose deterministic kernels; torch warns of each that has no deterministic form."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        torch.use_deterministic_algorithms(True, warn_only=True)
