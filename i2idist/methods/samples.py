"""Which samples of a batch have which images, on all workers together; means over them that are exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from i2idist.method import Step

Route = tuple[str, str]


class Samples:
    """The images of a step's batch by modality.

    Attributes:
        images: by modality, (n, C, H, W), those that are there. Where other workers have some, n may be 0 here: layers
            whose output depends on the whole global batch must be called by all workers alike.
    """

    def __init__(self, step: Step, names: Sequence[str]) -> None:
        """Look at the batch of `step`, whose modalities are called `names`."""
        batch = step.multimodal
        self._numbers = {name: number for number, name in enumerate(names)}
        self._present, self._length = batch.present, len(batch)
        self.images = {
            name: x[batch.present[:, number]] for number, (name, x) in enumerate(zip(names, batch.images, strict=True))
        }
        present = batch.present.double()
        both = torch.cat([(present.T @ present).flatten(), present.new_tensor([len(batch)])])
        *counts, self._total = step.comm.sum(both).tolist()
        self._counts = torch.tensor(counts).reshape(len(names), len(names)).tolist()

    def count(self, a: str, b: str) -> int:
        """How many samples of the global batch have images of both."""
        return int(self._counts[self._numbers[a]][self._numbers[b]])

    def rows(self, name: str) -> Tensor:
        """Which samples here have an image: (N,) bool."""
        return self._present[:, self._numbers[name]]

    def of(self, name: str, other: str) -> Tensor:
        """The images of `name` of the samples that have `other` too: (n, C, H, W)."""
        return self.pick(self.images[name], name, other)

    def pick(self, values: Tensor, name: str, other: str) -> Tensor:
        """Of values of the samples that have `name`, those of the samples that have `other` too."""
        if name == other:
            return values
        return values[self.rows(other)[self.rows(name)]]

    def to(self, goal: str, routes: Iterable[Route]) -> list[Route]:
        """Those of `routes` that lead to `goal`."""
        return [route for route in routes if route[1] == goal]

    def mean(self, routes: Sequence[Route], values: Tensor) -> Tensor:
        """A term whose mean over the global batch is that of `values` over all that there are on all workers.

        Args:
            routes: pairs of modalities.
            values: (n,), of the samples that have the first pair, then of those that have the second, and so on.

        Returns:
            (N,), zero for samples without a value.
        """
        rows = torch.cat([(self.rows(a) & self.rows(b)).nonzero()[:, 0] for a, b in routes])
        scale = self._total / sum(self.count(a, b) for a, b in routes)
        spread = values.new_zeros(self._length).index_add(0, rows, values)
        term: Tensor = spread * scale
        return term
