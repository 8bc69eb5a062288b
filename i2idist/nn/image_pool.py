"""The pool of earlier fakes that discriminators train on (Shrivastava et al. 2017, arXiv:1612.07828, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from i2idist.method import Comm


class ImagePool(nn.Module):
    """Keeps `size` fakes; once full, each new fake is swapped for a random old one with probability one half.

    Every worker holds the whole pool and takes every fake of the global batch in order, so that all pools stay equal.

    Attributes:
        images: (size, C, H, W), the kept fakes.
        count: how many of them are filled, int64.
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int, channels: int, height: int, width: int) -> None:
        """Make an empty pool; `size` 0 makes a pool that returns what it gets."""
        super().__init__()
        self.register_buffer("images", torch.zeros(size, channels, height, width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, fakes: Tensor, draws: Tensor, comm: Comm) -> Tensor:
        """Take this worker's fakes and give as many, some of them earlier ones. In eval mode the pool is left alone.

        Args:
            fakes: (N, C, H, W), detached.
            draws: (N, 2) uniform in [0, 1): whether to swap, and for which.
            comm: the other workers.

        Returns:
            (N, C, H, W) in the pool's dtype.
        """
        if not len(self.images) or not self.training:
            return fakes
        rank = torch.full_like(draws[:, :1], comm.rank)
        draws = comm.gather(torch.cat([draws, rank], dim=1))
        given = [self._swap(fake, draw) for fake, draw in zip(comm.gather(fakes), draws, strict=True)]
        return torch.stack(given)[draws[:, 2] == comm.rank] if comm.world_size > 1 else torch.stack(given)

    def _swap(self, fake: Tensor, draw: Tensor) -> Tensor:
        """One fake for one, in tensor operations alone: a branch on `count` would make a CUDA device wait."""
        fake = fake.to(self.images.dtype)
        filling = self.count < len(self.images)
        drawn = (draw[1] * len(self.images)).long().clamp_(max=len(self.images) - 1)
        slot = torch.where(filling, self.count, drawn)[None]
        old = self.images.index_select(0, slot)[0]
        swap = ~filling & (draw[0] >= 0.5)
        self.images.index_copy_(0, slot, torch.where(filling | swap, fake, old)[None])
        self.count += filling
        return torch.where(swap, old, fake)
