"""Models side by side: the same protocols, inputs and codes; a table with intervals, and a grid of pictures.

Values stand in one row only where their names are equal, and so everything but the model. Where a value is a mean over
inputs, models are compared input by input: such a difference is far better known than the values themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

from i2idist.errors import ConfigError
from i2idist.evaluate.folds import RESAMPLES, MeanOverInputs
from i2idist.evaluate.job import Evaluation
from i2idist.evaluate.protocol import Choice, Protocol, Sampling
from i2idist.evaluate.record import Record, shown, shown_interval
from i2idist.evaluate.run import Evaluated, evaluate
from i2idist.evaluate.seen import Estimate, Rows, Seen, Tools
from i2idist.evaluate.worker import Evaluator
from i2idist.experiment import Resources
from i2idist.metrics.bootstrap import bootstrap_interval
from i2idist.pictures import sheet
from i2idist.translate.job import Options

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Compared:
    """Models side by side.

    Attributes:
        labels: a letter for each model, and what it stands for.
        evaluated: each model's evaluation.
        rows: by the values' name, each model's record; None where it has no such value.
        picture: the first inputs, and what each model makes of them.
    """

    labels: Mapping[str, str]
    evaluated: tuple[Evaluated, ...]
    rows: Mapping[str, tuple[Record | None, ...]]
    picture: Image

    def differences(self, name: str) -> list[Estimate | None]:
        """Each model's value less the first model's, over the same inputs; None where that isn't known."""
        first, *others = self.rows[name]
        return [None, *(_difference(first, other) for other in others)]

    def as_json(self) -> dict[str, Any]:
        """All values, and the differences from the first model."""
        return {"models": dict(self.labels), "values": [self._row(name) for name in self.rows]}

    def _row(self, name: str) -> dict[str, Any]:
        pairs = zip(self.labels, self.rows[name], self.differences(name), strict=True)
        return {
            "name": name,
            "models": {
                letter: record and {**record.as_json(), "difference": difference and _ends(difference)}
                for letter, record, difference in pairs
            },
        }


def _ends(found: Estimate) -> dict[str, float | None]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _difference(first: Record | None, other: Record | None) -> Estimate | None:
    if first is None or other is None or first.estimate.each is None or other.estimate.each is None:
        return None
    each = other.estimate.each - first.estimate.each
    if len(each) < 2:
        return None
    low, high = bootstrap_interval(each, seed=first.choice.sampling.seed, resamples=RESAMPLES)
    return Estimate(float(each.mean()), low, high)


def compare(
    models: Sequence[str],
    dataset_url: str,
    choices: Sequence[Choice],
    options: Options | None = None,
    *,
    grid: tuple[int, int] = (6, 3),
    launcher: Literal["ray", "local"] = "ray",
    workers: int | None = None,
    say: Callable[[str], None] = lambda message: None,
    **how: Any,
) -> Compared:
    """Evaluate models by the same protocols on the same inputs and codes.

    Args:
        models: two or more, as `evaluate` takes them.
        dataset_url: see `evaluate`.
        choices: likewise.
        options: likewise.
        grid: inputs in the picture, and outputs of each model for each; drawn by the first protocol's seed.
        launcher: likewise.
        workers: likewise.
        say: told what a person waits for.
        how: further arguments of `evaluate`.

    Raises:
        ConfigError: fewer than two models or too many, and as `evaluate`.
        I2IError: as `evaluate`.
    """
    if not 2 <= len(models) <= len(LETTERS):
        raise ConfigError(f"{len(models)} models: compare takes 2 to {len(LETTERS)}.")
    options = options or Options()
    how |= {"launcher": launcher, "workers": workers, "say": say}
    with _one_cluster(launcher, workers, options, say):
        found: list[Evaluated] = []
        for uri in models:
            beside = found[0] if found else None
            found.append(evaluate(uri, dataset_url, choices, options, beside=beside, **how))
    names = dict.fromkeys(record.name for one in found for record in one.records)
    rows = {name: tuple(_named(one, name) for one in found) for name in names}
    labels = {letter: _label(one) for letter, one in zip(LETTERS, found, strict=False)}
    sampling = Sampling(grid[0], grid[1], choices[0].sampling.seed)
    return Compared(labels, tuple(found), rows, _picture([one.evaluation for one in found], labels, sampling))


def _one_cluster(
    launcher: str, workers: int | None, options: Options, say: Callable[[str], None]
) -> AbstractContextManager[object]:
    """A Ray for all models, so that each doesn't start its own."""
    if launcher != "ray":
        return nullcontext()
    from i2idist.launch.cluster import cluster
    from i2idist.launch.processes import cores

    count = workers or max(1, cores() // options.threads)
    return cluster(Resources(num_workers=count, threads_per_worker=options.threads), say)


def _named(found: Evaluated, name: str) -> Record | None:
    return next((record for record in found.records if record.name == name), None)


def _label(found: Evaluated) -> str:
    model = found.model
    return f"{model.label} ({model.card.method}, {model.card.weights_sha256[:8]})"


def _picture(evaluations: Sequence[Evaluation], labels: Mapping[str, str], sampling: Sampling) -> Image:
    columns: list[str] = []
    parts: list[Tensor] = []
    inputs = None
    for letter, evaluation in zip(labels, evaluations, strict=True):
        seen, outputs = _shown(evaluation, sampling)
        inputs = seen if inputs is None else inputs
        if not evaluation.job.model.card.code_dim:
            outputs = outputs[:, :1]
        columns += [f"{letter} {code + 1}" for code in range(outputs.shape[1])]
        parts.append(outputs)
    assert inputs is not None, "two models or more"
    shown = inputs if inputs.shape[1] else None  # generators have none
    title = "; ".join(f"{letter}: {label}" for letter, label in labels.items())
    return sheet(shown, torch.cat(_alike(parts), dim=1), title=title, columns=columns)


def _alike(parts: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of several models, (N, K, C, H, W), in three channels and at the largest size."""
    size = tuple(max(part.shape[side] for part in parts) for side in (3, 4))
    coloured = [part.expand(-1, -1, 3, -1, -1) for part in parts]
    return [functional.interpolate(part.flatten(0, 1), size=size).reshape(*part.shape[:3], *size) for part in coloured]


def _keep_images(seen: Seen, tools: Tools) -> Rows:
    return {"inputs": seen.inputs, "outputs": seen.outputs}


_IMAGES = Protocol(name="images", measures="nothing", better="higher", keep=_keep_images, fold=MeanOverInputs)


def _shown(evaluation: Evaluation, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The inputs that `sampling` draws, (N, C, H, W), and their outputs, (N, K, C', H', W')."""
    own = dataclasses.replace(
        evaluation, choices=(Choice(_IMAGES, None, sampling),), reals=None, targets=None, classifiers={}
    )
    worker = Evaluator(own.for_workers())
    try:
        rows = [worker(chunk, lambda far: None).rows[0] for chunk in own.chunks()]
    finally:
        worker.close()
    return torch.cat([row["inputs"] for row in rows]), torch.cat([row["outputs"] for row in rows])


def comparison_table(found: Compared) -> list[list[str]]:
    """Rows of cells, the first the heads: the value's name, then each model's value with its interval."""
    lines = [["value", "better", *found.labels]]
    for name, records in found.rows.items():
        protocol = next(record for record in records if record).choice.protocol
        cells = zip(records, found.differences(name), strict=True)
        lines.append([name, protocol.better, *(_cell(record, difference) for record, difference in cells)])
    return lines


def _cell(record: Record | None, difference: Estimate | None) -> str:
    if record is None:
        return "not comparable"
    ends = shown_interval(record.estimate)
    text = shown(record.estimate.value) + ("" if ends == "-" else f" ({ends})")
    return text if difference is None else f"{text}, against A {_signed(difference)}"


def _signed(difference: Estimate) -> str:
    return f"{difference.value:+#.3g} ({difference.low:+#.3g} to {difference.high:+#.3g})"
