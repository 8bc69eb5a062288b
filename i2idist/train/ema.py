"""Moving average of parameters, with a half-life counted in images (Karras et al. 2020, arXiv:2006.06676)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Ema:
    """A moving average of modules' parameters; buffers are copied as they are.

    Attributes:
        shadow: averaged tensors by name, with the live tensors' strides.
    """

    def __init__(self, modules: dict[str, nn.Module], half_life_images: int) -> None:
        """Start from the modules' present values."""
        self._live = {
            f"{name}.{key}": t for name, m in modules.items() for key, t in m.state_dict(keep_vars=True).items()
        }
        self._half_life_images = half_life_images
        self.shadow = {name: t.detach().clone() for name, t in self._live.items()}

    @torch.no_grad()
    def update(self, images: int) -> None:
        """Move towards the live values by `images` images' worth."""
        weight = 1.0 - 0.5 ** (images / self._half_life_images)
        averaged = [name for name, t in self._live.items() if isinstance(t, nn.Parameter)]
        torch._foreach_lerp_([self.shadow[n] for n in averaged], [self._live[n].detach() for n in averaged], weight)
        for name in self.shadow.keys() - set(averaged):
            self.shadow[name].copy_(self._live[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The modules hold the average inside this context and their own values after it."""
        own: dict[str, Tensor] = {name: t.detach().clone() for name, t in self._live.items()}
        self._load(self.shadow)
        try:
            yield
        finally:
            self._load(own)

    @torch.no_grad()
    def _load(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self._live.items():
            tensor.copy_(values[name])
