"""Pictures of a training: the same few inputs and codes each time, so that a person sees it learn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL.Image import Image
from torch import Tensor

from i2idist.data.batches import Batch, Images, Labelled, Paired, Unpaired
from i2idist.method import Method
from i2idist.pictures import interpolated_codes, interpolation_headers, sheet
from i2idist.randomness import key_of, normal, sample_keys
from i2idist.train.precision import memory_format, parameter_dtype
from i2idist.train.saved import as_saved
from i2idist.train.trainer import Trainer

INPUTS, CODES, STEPS = 4, 3, 7


class Pictures:
    """Translates fixed inputs with averaged parameters where they are kept."""

    def __init__(self, inputs: Callable[[], Batch], seed: int) -> None:
        """Show the first inputs of what `inputs` reads, when the first picture is made; `seed` keys the codes."""
        self._read, self._seed = inputs, seed
        self._batch: Batch | None = None

    def grid(self, trainer: Trainer) -> Image:
        """A row for each input: the input, its translations (to each label), and the target where it is known.

        Raises:
            ConfigError: images that can't be shown, being neither grey nor coloured.
            I2IError: what data or method raise.
        """
        method, batch = trainer.method, self._inputs(trainer)
        codes = self._codes(method, CODES)
        targets = method.targets if isinstance(batch, Labelled) else method.targets[:1]
        outputs = torch.cat([_translate(trainer, _sources(batch), codes, target) for target in targets], dim=1)
        columns = [f"code {k + 1}" for k in range(CODES)] if method.code_dim else ["output"]
        if isinstance(batch, Labelled):
            columns = [f"{target}, {column}" for target in targets for column in columns]
        if isinstance(batch, Paired):
            outputs, columns = torch.cat([outputs, batch.b[:, None].to(outputs)], dim=1), [*columns, "target"]
        return sheet(_sources(batch), outputs, title=f"{trainer.images:,} images", columns=columns)

    def interpolation(self, trainer: Trainer) -> Image | None:
        """A straight line between two codes, for each input; None where the method takes no code."""
        if not trainer.method.code_dim:
            return None
        x = _sources(self._inputs(trainer))
        ends = self._codes(trainer.method, 2)
        outputs = _translate(trainer, x, interpolated_codes(ends[0], ends[1], STEPS), trainer.method.targets[0])
        return sheet(x, outputs, title="Between two codes", columns=interpolation_headers(STEPS))

    def attention(self, trainer: Trainer) -> Image | None:
        """Where each target lets the inputs change, white; None where the method has no attention."""
        method, x = trainer.method, _sources(self._inputs(trainer))
        with as_saved(trainer):
            found = [method.attention(x, target=target) for target in method.targets]
        maps = [one.float() * 2 - 1 for one in found if one is not None]
        if not maps:
            return None
        return sheet(x, torch.stack(maps, dim=1), title=f"{trainer.images:,} images: attention", columns=method.targets)

    def _inputs(self, trainer: Trainer) -> Batch:
        if self._batch is None:
            device = next(trainer.method.parameters()).device
            batch = self._read()[slice(0, INPUTS)]
            self._batch = batch.to(device, parameter_dtype(trainer.training), memory_format(trainer.training))
        return self._batch

    def _codes(self, method: Method, count: int) -> Tensor:
        """(count, code_dim); one empty code where the method takes none."""
        if not method.code_dim:
            return torch.zeros(1, 0)
        return normal(sample_keys(key_of(self._seed, "pictures"), torch.arange(count)), (method.code_dim,))


def _sources(batch: Batch) -> Tensor:
    """The images to translate."""
    if isinstance(batch, (Paired, Unpaired)):
        return batch.a
    assert isinstance(batch, (Images, Labelled))
    return batch.x


def _translate(trainer: Trainer, x: Tensor, codes: Tensor, target: str) -> Tensor:
    """Every input with every code: (N, C, H, W), (K, Z) -> (N, K, C', H', W')."""
    method, count = trainer.method, len(codes)
    inputs = x.repeat_interleave(count, dim=0)
    code = codes.repeat(len(x), 1).to(x) if method.code_dim else None
    with as_saved(trainer):
        outputs = method.translate(inputs, code, target=target)
    return outputs.float().reshape(len(x), count, *outputs.shape[1:])
