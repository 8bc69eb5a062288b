"""How a generator's images of a few fixed codes evolve through training: one strip, its moments spaced logarithmically.

TransferGAN's Figs. 2.2 and 2.4 (Wang's thesis). A training's checkpoints hold the moments so far, so that a resumed run
shows them all.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i2idist.data.transforms import to_pixels, to_unit


def is_moment(steps: int) -> bool:
    """Whether a strip has a column after so many steps: 0, 1, 2, 4, 8, ..."""
    return steps & (steps - 1) == 0


class Evolution:
    """Columns of a strip, each with the steps that had been taken."""

    def __init__(self) -> None:
        """Begin with none."""
        self._columns: dict[int, str] = {}

    def state(self) -> list[dict[str, Any]]:
        """What a checkpoint holds: JSON-able."""
        return [{"steps": steps, "png": png} for steps, png in sorted(self._columns.items())]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Go on from a checkpoint's columns."""
        self._columns = {int(one["steps"]): str(one["png"]) for one in state}

    def add(self, steps: int, images: Tensor) -> None:
        """Add a column: (N, C, H, W) float in [-1, 1], C being 1 or 3, of the same codes each time."""
        buffer = io.BytesIO()
        Image.fromarray(to_pixels(torch.cat(list(images.cpu()), dim=1))).save(buffer, "PNG")
        self._columns[steps] = base64.b64encode(buffer.getvalue()).decode()

    def columns(self, rows: int) -> tuple[list[int], Tensor]:
        """The steps of each column, and the images: (rows, columns, C, H, W) float in [-1, 1]."""
        steps = sorted(self._columns)
        return steps, torch.stack([torch.stack(_decoded(self._columns[one]).chunk(rows, dim=1)) for one in steps], 1)


def _decoded(png: str) -> Tensor:
    """(C, rows * H, W) float in [-1, 1]."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
    return to_unit(np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)))
