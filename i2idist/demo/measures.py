"""What the demo measures and draws: a classifier's reading, diversity, sheets of pictures."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from i2idist import storage
from i2idist.data.batches import Labelled
from i2idist.data.reader import DataSettings, Reader
from i2idist.demo.progress import Say, Ticker
from i2idist.metrics import perceptual
from i2idist.metrics.classifier import Classifier, label_agreement, train_classifier
from i2idist.model import Translator
from i2idist.pictures import interpolated_codes, interpolation_headers, loss_curves, sheet
from i2idist.train.loop import Event

SHEET_INPUTS, SHEET_CODES, STRIP_STEPS = 12, 8, 9
DIVERSITY_INPUTS = 100
_BATCH = 64
"""Inputs that diversity is averaged over, as in the SEGAN paper's evaluation: the first ones of the test split."""


@dataclass(frozen=True)
class Digits:
    """The demo's data and what it is called."""

    settings: DataSettings
    digest: str
    labels: tuple[str, ...]
    test_inputs: int


@dataclass(frozen=True)
class Images:
    """All images of a domain in a split: x (N, C, H, W), their labels y (N,), and their keys."""

    x: Tensor
    y: Tensor
    keys: list[str]


@dataclass(frozen=True)
class Translated:
    """Inputs (N, C, H, W) with their labels (N,) and translations (N, K, C', H, W), all images float in [-1, 1]."""

    inputs: Tensor
    labels: Tensor
    outputs: Tensor


def images_of(settings: DataSettings, domain: str, split: str) -> Images:
    """Read a domain's images in a split, in the order of storage."""
    settings = dataclasses.replace(settings, domains=(domain,))
    reader = Reader(settings, role=Labelled, batch_size=_BATCH, group_size=1, rank=0, world_size=1, seed=0, split=split)
    try:
        batches = [batch for batch in reader.epoch() if isinstance(batch, Labelled)]
        keys = [key for batch in batches for key in reader.keys(batch)]
    finally:
        reader.close()
    return Images(torch.cat([batch.x for batch in batches]), torch.cat([batch.y for batch in batches]), keys)


def classifier_of(translator: Translator, digits: Digits, seed: int, say: Say) -> tuple[Classifier, float]:
    """A classifier of the target domain, and its accuracy on that domain's test split."""
    target = translator.card.domains.b.name
    train, test = (images_of(digits.settings, target, split) for split in ("train", "test"))
    ticker = Ticker(say, "classifier", 1.0)
    classifier = train_classifier(train.x, train.y, seed=seed, classes=len(digits.labels), progress=ticker)
    return classifier, label_agreement(classifier, test.x, test.y)


def measure(classifier: Classifier, test: Translated) -> dict[str, Any]:
    """Agreement of all translations, and of the inputs as they are, for comparison; diversity between codes."""
    channels = test.outputs.shape[2]
    measured = test.outputs[:DIVERSITY_INPUTS]
    return {
        "label_agreement": round(label_agreement(classifier, test.outputs, test.labels), 4),
        "label_agreement_of_inputs": round(
            label_agreement(classifier, test.inputs.expand(-1, channels, -1, -1).contiguous(), test.labels), 4
        ),
        "diversity": round(perceptual.diversity(measured), 4),
        "diversity_metric": perceptual.NAME,
        "diversity_inputs": len(measured),
    }


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
