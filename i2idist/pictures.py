"""Pictures for people: sheets of inputs and outputs, latent interpolations, loss curves.

A sheet shows what it is handed, in that order: nobody picks the good ones. Images are enlarged by a whole factor
without smoothing, so that a pixel seen is a pixel made.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from i2idist.data.modalities import class_colors
from i2idist.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEGIBLE_PIXELS = 72
_GAP, _ROW_GAP, _MARGIN, _HEADER, _TITLE = 2, 8, 12, 18, 24
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def to_picture(image: Tensor) -> Image.Image:
    """One image for people: (C, H, W) float in [-1, 1], C being 1 or 3, to 8-bit RGB.

    Raises:
        ConfigError: images that have neither 1 nor 3 channels.
    """
    if image.shape[0] not in (1, 3):
        raise ConfigError(f"A picture shows images of 1 or 3 channels, not {image.shape[0]}: select channels first.")
    levels = ((image.detach().float() + 1.0) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(levels.expand(3, -1, -1).permute(1, 2, 0).numpy())


def label_colors(images: Tensor, classes: int) -> Tensor:
    """Label maps in colours, see `class_colors`.

    Args:
        images: (N, 1, H, W) float in [-1, 1], levels of 255 numbering the classes; levels beyond are white.
        classes: their number.

    Returns:
        (N, 3, H, W) float in [-1, 1].
    """
    palette = torch.from_numpy(class_colors(classes)).to(images.device).float() / 127.5 - 1
    levels = ((images[:, 0].float() + 1) * 127.5).round().long().clamp_max(classes)
    return palette[levels].permute(0, 3, 1, 2)


def _enlarged(image: Tensor) -> Image.Image:
    """The image enlarged by the least whole factor that makes its shorter side legible."""
    height, width = image.shape[1:]
    factor = max(1, -(-_LEGIBLE_PIXELS // min(height, width)))
    return to_picture(image).resize((width * factor, height * factor), Image.Resampling.NEAREST)


def sheet(inputs: Tensor | None, outputs: Tensor, *, title: str, columns: Sequence[str] | None = None) -> Image.Image:
    """A row for each input: the input in the first column, set apart, then its outputs.

    Args:
        inputs: (N, C, H, W) float in [-1, 1]; None: outputs that have none.
        outputs: (N, K, C', H', W') float in [-1, 1].
        title: one line above the sheet.
        columns: K headers; by default `code 1`, `code 2`, ...

    Raises:
        ConfigError: inputs, outputs and headers that don't belong together.
    """
    count = len(outputs) if inputs is None else len(inputs)
    if not count or count != len(outputs):
        raise ConfigError(f"A sheet has outputs for each of its inputs: got {count} inputs, {len(outputs)} rows.")
    columns = columns or [f"code {k + 1}" for k in range(outputs.shape[1])]
    if len(columns) != outputs.shape[1]:
        raise ConfigError(f"A sheet has a header for each column: got {len(columns)} for {outputs.shape[1]} columns.")
    firsts: list[list[Tensor]] = [[]] * count if inputs is None else [[x] for x in inputs]
    rows = [[_enlarged(x) for x in (*first, *row)] for first, row in zip(firsts, outputs, strict=True)]
    lefts = _lefts([cell.width for cell in rows[0]], apart=inputs is not None)
    step = max(cell.height for cell in rows[0]) + _ROW_GAP
    size = (lefts[-1] + _MARGIN, _MARGIN + _TITLE + _HEADER + step * len(rows) - _ROW_GAP + _MARGIN)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=ImageFont.load_default(14))
    for left, header in zip(lefts, columns if inputs is None else ["input", *columns], strict=False):
        draw.text((left, _MARGIN + _TITLE), header, fill=_INK, font=ImageFont.load_default(11))
    for place, row in enumerate(rows):
        top = _MARGIN + _TITLE + _HEADER + step * place
        for left, cell in zip(lefts, row, strict=False):
            picture.paste(cell, (left, top))
    return picture


def _lefts(widths: Sequence[int], *, apart: bool) -> list[int]:
    """Where each column begins, and where the last one ends; a wider gap follows the first where it is set `apart`."""
    lefts = [_MARGIN]
    for place, width in enumerate(widths):
        last = place == len(widths) - 1
        lefts.append(lefts[-1] + width + (0 if last else _GAP if place or not apart else _ROW_GAP))
    return lefts


def interpolated_codes(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Codes on the straight line from `start` to `end`, both included: (Z,), (Z,) -> (steps, Z), steps >= 2.

    SEGAN's Fig. 5 interpolates linearly too (Zuo et al. 2020, arXiv:2008.03529).
    """
    weights = torch.linspace(0.0, 1.0, steps, dtype=start.dtype, device=start.device)[:, None]
    return start * (1.0 - weights) + end * weights


def interpolation_headers(steps: int) -> list[str]:
    """Headers for a sheet of `interpolated_codes`."""
    return [f"{place / (steps - 1):.2f}" for place in range(steps)]


def loss_curves(events: Iterable[Mapping[str, object]], *, title: str) -> Image.Image:
    """Loss terms over training, one panel for each player.

    Args:
        events: a run's events; of those named `metrics` the keys `player/term` are drawn over `images`.
        title: above the panels.

    Raises:
        ConfigError: there are no metrics among the events.
    """
    panels = _curves(events)
    if not panels:
        raise ConfigError("There are no metrics to draw: train past train.log_every_images first.")
    from matplotlib.figure import Figure  # late: training, which draws sheets alone, needn't wait for it

    figure = Figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
    for axes, (player, terms) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), sorted(panels.items()), strict=True
    ):
        for term, points in sorted(terms.items()):
            axes.plot(*zip(*points, strict=True), label=term, linewidth=1.1)
        axes.set(title=player, xlabel="images")
        axes.locator_params(axis="x", nbins=5)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=11)
    return _drawn(figure)


def _curves(events: Iterable[Mapping[str, object]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Points (images, value) by player and term; learning rates are left out."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        images = event.get("images")
        if event.get("event") != "metrics" or not isinstance(images, int):
            continue
        for key, value in event.items():
            player, slash, term = key.partition("/")
            if slash and player != "lr" and isinstance(value, float):
                panels[player][term].append((images, value))
    return {player: dict(terms) for player, terms in panels.items()}


def _drawn(figure: Figure) -> Image.Image:
    """The figure as pixels, without a display."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer).convert("RGB")
