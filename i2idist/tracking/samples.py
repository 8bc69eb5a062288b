"""Pictures of a generator's training: the same few codes each time, so that a person sees it learn."""

from __future__ import annotations

import torch
from PIL.Image import Image
from torch import Tensor

from i2idist.data.batches import Batch, Images, Labelled
from i2idist.pictures import interpolated_codes, interpolation_headers, sheet
from i2idist.randomness import key_of, normal, sample_keys
from i2idist.tracking.evolution import Evolution, is_moment
from i2idist.train.saved import as_saved
from i2idist.train.trainer import Trainer

ROWS, CODES, STEPS = 4, 8, 7
MOST_LABELS = 8
NEAREST = 4


class Samples:
    """What a generator makes now, with averaged parameters where they are kept. Rows are labels, where it has some."""

    def __init__(self, trainer: Trainer, seed: int) -> None:
        """Show the trainer's method, of codes keyed by `seed`."""
        self._trainer, self._method = trainer, trainer.method
        self._labels = self._method.targets[:MOST_LABELS]
        self._rows = len(self._labels) or ROWS
        key = key_of(seed, "pictures")
        self._codes = normal(sample_keys(key, torch.arange(self._rows * CODES)), (self._method.code_dim,))

    def grid(self) -> Image:
        """A row for each label, of the same codes; without labels, codes of its own in each row."""
        codes = self._codes.reshape(self._rows, CODES, -1)
        codes = codes[:1].expand_as(codes) if self._labels else codes
        return sheet(None, self._made(codes), title=self._title("samples"))

    def interpolation(self) -> Image:
        """A straight line between two codes of their own in each row."""
        ends = self._codes[: 2 * self._rows].reshape(self._rows, 2, -1)
        codes = torch.stack([interpolated_codes(start, end, STEPS) for start, end in ends])
        return sheet(None, self._made(codes), title="Between two codes", columns=interpolation_headers(STEPS))

    def evolution(self, so_far: Evolution) -> Image:
        """A strip of one code a row through training, which the present is added to."""
        if is_moment(self._trainer.steps) or self._trainer.images >= self._trainer.training.total_images:
            so_far.add(self._trainer.steps, self._made(self._codes[: self._rows, None])[:, 0])
        steps, images = so_far.columns(self._rows)
        return sheet(None, images, title=self._title("evolution, by steps"), columns=[str(one) for one in steps])

    def nearest(self, training: Batch) -> Image:
        """Samples, and beside each the training images nearest to it: whether any is remembered (MineGAN, Fig. A.5).

        Nearest are those of the smallest Euclidean distance of pixels.
        """
        assert isinstance(training, Images | Labelled), "a generator's batch_type is one of these"
        made = self._made(self._codes[: self._rows * 2].reshape(self._rows, 2, -1)).flatten(0, 1)
        known = training.x.to(made)
        order = torch.cdist(made.flatten(1), known.flatten(1)).argsort(1)[:, :NEAREST]
        title = f"Samples, and the nearest of {len(known):,} training images"
        return sheet(made, known[order], title=title, columns=[f"nearest {n + 1}" for n in range(order.shape[1])])

    def _title(self, what: str) -> str:
        labels = f"; rows: {', '.join(self._labels)}" if self._labels else ""
        return f"{self._trainer.images:,} images: {what}{labels}"

    def _made(self, codes: Tensor) -> Tensor:
        """(rows, columns, code_dim) -> (rows, columns, C, H, W) float in [-1, 1] on the CPU."""
        parameter = next(self._method.parameters())
        rows, columns = codes.shape[:2]
        label = torch.arange(rows, device=parameter.device).repeat_interleave(columns) if self._labels else None
        with as_saved(self._trainer):
            images = self._method.sample(codes.flatten(0, 1).to(parameter), label)
        return images.float().cpu().reshape(rows, columns, *images.shape[1:])
