"""What the demo measures and draws: values by protocols, sheets of pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from i2idist import storage
from i2idist.data.settings import DataSettings
from i2idist.evaluate import Evaluated, choose, evaluate
from i2idist.evaluate.classifiers import Pinned, load
from i2idist.metrics.classifier import label_agreement
from i2idist.model import Translator
from i2idist.pictures import interpolated_codes, interpolation_headers, loss_curves, sheet
from i2idist.train.loop import Event

SHEET_INPUTS, SHEET_CODES, STRIP_STEPS = 12, 8, 9
DIVERSITY_INPUTS = 100
"""Inputs that diversity is averaged over, as in the SEGAN paper's evaluation; it takes 20 outputs of each."""


@dataclass(frozen=True)
class Digits:
    """The demo's data and what it is called."""

    settings: DataSettings
    digest: str
    labels: tuple[str, ...]
    test_inputs: int


@dataclass(frozen=True)
class Translated:
    """Inputs (N, C, H, W) with their labels (N,) and translations (N, K, C', H, W), all images float in [-1, 1]."""

    inputs: Tensor
    labels: Tensor
    outputs: Tensor


def measure(
    model_uri: str, digits: Digits, classifier: Pinned, test: Translated, seed: int
) -> tuple[dict[str, Any], Evaluated]:
    """Evaluate the model by protocols on the test digits; the summary's figures, and all of the records.

    The inputs are read as they are too, for comparison.
    """
    codes, channels = test.outputs.shape[1:3]
    choices = [
        choose("accuracy", samples=codes, seed=seed),
        choose("diversity-segan", inputs=DIVERSITY_INPUTS, samples=codes, seed=seed),
    ]
    found = evaluate(model_uri, digits.settings.url, choices, split="test", classifier=classifier.url, launcher="local")
    accuracy, diversity = (record.estimate for record in found.records)
    grey = test.inputs.expand(-1, channels, -1, -1).contiguous()
    figures = {
        "label_agreement": round(accuracy.value, 4),
        "label_agreement_of_inputs": round(label_agreement(load(classifier), grey, test.labels), 4),
        "diversity": round(diversity.value, 4),
        "diversity_metric": found.records[1].choice.network,
        "diversity_inputs": diversity.counts["inputs"],
        "values": {record.name: record.estimate.value for record in found.records},
    }
    return figures, found


def draw(translator: Translator, test: Translated, events: Iterable[Event], seed: int, folder: Path) -> None:
    """The four pictures, of the first test digits."""
    inputs = test.inputs[:SHEET_INPUTS]
    shown = translator.translate(inputs, num_samples=SHEET_CODES, seed=seed)
    _write(sheet(inputs, shown, title="The first test digits, each with codes of its own"), folder, "contact_sheet")
    codes = translator.draw_codes(torch.arange(1), SHEET_CODES, seed + 1)[0]
    shown = translator.translate(inputs, codes)
    _write(sheet(inputs, shown, title="The first test digits, one code a column"), folder, "synchronised")
    line = interpolated_codes(codes[0], codes[1], STRIP_STEPS)
    strips = sheet(
        inputs[: SHEET_INPUTS // 2],
        translator.translate(inputs[: SHEET_INPUTS // 2], line),
        title="The first test digits, on a straight line between two codes",
        columns=interpolation_headers(STRIP_STEPS),
    )
    _write(strips, folder, "interpolation")
    _write(loss_curves(events, title="Loss terms by player"), folder, "losses")


def _write(picture: Image.Image, folder: Path, name: str) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    storage.write_bytes(str(folder / f"{name}.png"), buffer.getvalue())
