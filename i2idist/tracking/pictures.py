"""Pictures of a training: the same few inputs and codes each time, so that a person sees it learn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL.Image import Image
from torch import Tensor

from i2idist.data.batches import Batch, Images, Labelled, Multimodal, Paired, Unpaired
from i2idist.method import ARROW, Domain, Method
from i2idist.pictures import interpolated_codes, interpolation_headers, label_colors, sheet
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
        if isinstance(batch, Multimodal):
            return _routes(trainer, batch)
        if isinstance(batch, Labelled) and ARROW in method.targets[0]:
            return _to_labels(trainer, batch)
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
        method, batch = trainer.method, self._inputs(trainer)
        if isinstance(batch, Multimodal):
            return None
        x = _sources(batch)
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


def _routes(trainer: Trainer, batch: Multimodal) -> Image:
    """What the first path starts from; what all paths that end as it does make of each sample; the truth."""
    method = trainer.method
    goal = method.domains.route(method.targets[0])[1]
    names = [domain.name for domain in method.domains.images]
    images = dict(zip(names, batch.images, strict=True))
    targets = [target for target in method.targets if target.endswith(f"{ARROW}{goal.name}")]
    sources = {target: method.domains.sources(target) for target in targets}
    with as_saved(trainer):
        made = [
            method.translate(torch.cat([images[domain.name] for domain in parts], dim=1), target=target)
            for target, parts in sources.items()
        ]
    (first,) = sources[targets[0]]
    outputs = torch.stack([_shown(y, goal) for y in (*made, images[goal.name])], dim=1)
    columns = ["+".join(domain.name[:6] for domain in parts) for parts in sources.values()]
    title = f"{trainer.images:,} images: {first.name}, and {goal.name} made of"
    return sheet(_shown(images[first.name], first), outputs, title=title, columns=[*columns, "truth"])


def _to_labels(trainer: Trainer, batch: Labelled) -> Image:
    """Each image and its translations from its own label to every other."""
    labels = list(dict.fromkeys(target.partition(ARROW)[0] for target in trainer.method.targets))
    with as_saved(trainer):
        rows = [
            torch.cat(
                [x if name == own else trainer.method.translate(x, target=f"{own}{ARROW}{name}") for name in labels]
            )
            for x, own in ((batch.x[n : n + 1], labels[int(batch.y[n])]) for n in range(len(batch)))
        ]
    return sheet(batch.x, torch.stack(rows), title=f"{trainer.images:,} images", columns=labels)


def _shown(x: Tensor, domain: Domain) -> Tensor:
    """Images for people: label maps coloured."""
    return x.float() if domain.classes is None else label_colors(x, domain.classes)


def _translate(trainer: Trainer, x: Tensor, codes: Tensor, target: str) -> Tensor:
    """Every input with every code: (N, C, H, W), (K, Z) -> (N, K, C', H', W')."""
    method, count = trainer.method, len(codes)
    inputs = x.repeat_interleave(count, dim=0)
    code = codes.repeat(len(x), 1).to(x) if method.code_dim else None
    with as_saved(trainer):
        outputs = method.translate(inputs, code, target=target)
    return outputs.float().reshape(len(x), count, *outputs.shape[1:])
