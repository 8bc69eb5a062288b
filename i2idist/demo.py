"""The demo: handwritten digits become street-style digits, and a person can look at them minutes later.

Real scans of handwritten digits and generated street-style digits, never paired, are packed into shards; SEGAN trains
on Ray Train workers; every test digit is translated with several codes; a classifier that knows street-style digits
alone reads the translations. Everything lies in one folder:

```
summary.json        what was measured
contact_sheet.png   the first test digits x codes, unselected
interpolation.png   a straight line between two codes
synchronised.png    the same codes on different digits
losses.png
model/              the translator, for `i2idist.load`
translations/       every test digit with every code, as a dataset
runs/, cache/       the training run; the generated data
```

Each number in `summary.json` is measured here. Test digits are used for measuring alone.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from i2idist import launch, storage
from i2idist.data.batches import Labelled
from i2idist.data.generated import resolve
from i2idist.data.manifest import load_manifest
from i2idist.data.reader import DataSettings
from i2idist.errors import RunError
from i2idist.experiment import Experiment, method_class, read_experiment
from i2idist.metrics import perceptual
from i2idist.metrics.classifier import Classifier, label_agreement, train_classifier
from i2idist.model import Translator, load, save, weights_of
from i2idist.pictures import interpolated_codes, interpolation_headers, loss_curves, sheet
from i2idist.train.checkpoint import Checkpoints
from i2idist.train.loop import Event
from i2idist.translate import Translated, open_labelled, pack_translations, translate_split

RECIPE = "segan_digits"
RUN = "digits"
CODES = 4
SHEET_INPUTS, SHEET_CODES, STRIP_STEPS = 12, 8, 9
DIVERSITY_INPUTS = 100
"""Inputs that diversity is averaged over, as in the SEGAN paper's evaluation: the first ones of the test split."""

_TICK_S = 3.0

Say = Callable[[str], None]


class _Ticker:
    """Says how far a phase is, every few seconds."""

    def __init__(self, say: Say, what: str, total: float | None = None) -> None:
        self._say, self._what, self._total = say, what, total
        self._said = time.monotonic()

    def __call__(self, done: float) -> None:
        if time.monotonic() - self._said >= _TICK_S:
            self._said = time.monotonic()
            self._say(f"  {self._what}: {f'{done / self._total:.0%}' if self._total else f'{done:,}'}")


class _Clock:
    """Seconds by phase, and what a person is told when one begins."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._started = time.monotonic()
        self.phases: dict[str, float] = {}

    @property
    def total(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def phase(self, name: str, message: str) -> Iterator[None]:
        begun = time.monotonic()
        self._say(f"[{begun - self._started:5.0f} s] {message}")
        yield
        self.phases[name] = round(time.monotonic() - begun, 2)


@dataclass(frozen=True)
class _Digits:
    """The demo's data and what it is called."""

    settings: DataSettings
    digest: str
    labels: tuple[str, ...]
    test_inputs: int


def run_demo(
    out: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    say: Say = lambda message: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Run the demo from data to pictures; one that was cut off continues, one that is finished is measured again.

    Args:
        out: a local folder, made where absent.
        overrides: values of the recipe by dotted key, as for `i2idist.launch.train`.
        say: called with messages for a person.
        on_event: called with the events of training.

    Returns:
        What `summary.json` holds.

    Raises:
        ConfigError: an override can't be used.
        RunError: the folder holds a demo with other settings, or training failed or was stopped.
    """
    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    clock = _Clock(say)
    own = {"data.cache_dir": str(folder / "cache"), **(overrides or {})}
    experiment = read_experiment(RECIPE, own)
    with clock.phase("data", "Packing scans of handwritten digits and generated street-style digits into shards"):
        digits = _open_digits(experiment, say)
    with clock.phase("train", f"Training {experiment.method.name} on {digits.digest[:12]} without pairs"):
        result = launch.train(RECIPE, overrides=own, run=RUN, root=str(folder / "runs"), say=say, on_event=on_event)
        if result.stopped == "stop":
            raise RunError(
                f"The demo's training was stopped at {result.images} images: run the same command again to go on."
            )
        translator = _export(experiment, result, digits, folder)
    with _one_thread():
        with clock.phase("classifier", "Training a classifier on street-style digits, to read the translations"):
            classifier, accuracy = _train_classifier(translator, digits, experiment.seed, say)
        with clock.phase("translate", f"Translating {digits.test_inputs} test digits with {CODES} codes each"):
            test, translated = _translate(translator, digits, experiment.seed, folder, say)
        with clock.phase("measure", "Measuring label agreement and diversity"):
            measured = _measure(classifier, test)
        with clock.phase("pictures", "Drawing"):
            _draw(translator, test, experiment.seed, folder)
    summary = {
        "run": result.run,
        "run_url": result.url,
        "method": experiment.method.name,
        "images": result.images,
        "images_per_s": round(result.images_per_s, 2),
        "steps": result.steps,
        "workers": _workers(result.url),
        "params_sha256": result.params_sha256,
        "dataset_digest": digits.digest,
        "translated": translated,
        "expected_translations": digits.test_inputs * CODES,
        "codes": CODES,
        **measured,
        "classifier_accuracy": accuracy,
        "seed": experiment.seed,
        "seconds": round(clock.total, 1),
        "seconds_by_phase": clock.phases,
    }
    storage.write_bytes(str(folder / "summary.json"), json.dumps(summary, indent=2).encode())
    return summary


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: small networks gain little from more, and lose tenfold where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _workers(run_url: str) -> int:
    """The workers of the run's last launch, as rank 0 counted them."""
    record = json.loads(storage.read_bytes(storage.join(run_url, "run.json")))
    return int(record["launches"][-1]["facts"]["workers"])


def _open_digits(experiment: Experiment, say: Say) -> _Digits:
    """Make the data where it isn't made yet, at the place where training looks for it."""
    place = storage.join(str(experiment.data.cache_dir), "generated")
    url = resolve(experiment.data.url, place, _Ticker(say, "images packed"))
    settings = DataSettings(url=url, size=experiment.data.size)
    manifest = load_manifest(url)
    tests = manifest.pool("test", manifest.domains[0].name).count
    return _Digits(settings, manifest.digest, manifest.labels, tests)


def _export(experiment: Experiment, result: launch.Result, digits: _Digits, folder: Path) -> Translator:
    """Save the trained translator, and load it back as anybody would."""
    url, _, name = result.checkpoint.rpartition("/")
    state = Checkpoints(url).load(name)
    domains = load_manifest(digits.settings.url).domains_for(None)
    method = method_class(experiment.method).build(experiment.method.config, domains)
    place = str(folder / "model")
    save(
        place,
        method,
        method_name=experiment.method.name,
        domains=domains,
        weights=weights_of(method, state.tensors),
        lineage={"run": result.run, "checkpoint": name, "dataset_digest": digits.digest},
    )
    return load(place)


def _images_of(settings: DataSettings, domain: str, split: str) -> tuple[Tensor, Tensor]:
    """All images of a domain in a split, (N, C, H, W), with their labels, (N,)."""
    reader = open_labelled(settings, domain, split)
    try:
        batches = [batch for batch in reader.epoch() if isinstance(batch, Labelled)]
    finally:
        reader.close()
    return torch.cat([batch.x for batch in batches]), torch.cat([batch.y for batch in batches])


def _train_classifier(translator: Translator, digits: _Digits, seed: int, say: Say) -> tuple[Classifier, float]:
    """A classifier of the target domain, and its accuracy on that domain's test split."""
    target = translator.card.domains.b.name
    images, labels = _images_of(digits.settings, target, "train")
    ticker = _Ticker(say, "classifier", 1.0)
    classifier = train_classifier(images, labels, seed=seed, classes=len(digits.labels), progress=ticker)
    return classifier, label_agreement(classifier, *_images_of(digits.settings, target, "test"))


def _translate(translator: Translator, digits: _Digits, seed: int, folder: Path, say: Say) -> tuple[Translated, int]:
    """Translate the test split into a dataset; the translations, and how many the dataset holds."""
    kept: list[Translated] = []

    def keeping() -> Iterator[Translated]:
        for part in translate_split(translator, digits.settings, split="test", num_samples=CODES, seed=seed):
            kept.append(part)
            yield part

    ticker = _Ticker(say, "translated", digits.test_inputs * CODES)
    manifest = pack_translations(
        keeping(),
        str(folder / "translations"),
        name="translations",
        split="test",
        labels=digits.labels,
        progress=ticker,
    )
    together = Translated(
        keys=[key for part in kept for key in part.keys],
        inputs=torch.cat([part.inputs for part in kept]),
        labels=torch.cat([part.labels for part in kept]),
        outputs=torch.cat([part.outputs for part in kept]),
    )
    return together, manifest.pool("test", "b").count


def _measure(classifier: Classifier, test: Translated) -> dict[str, Any]:
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


def _draw(translator: Translator, test: Translated, seed: int, folder: Path) -> None:
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
    events = launch.logs(RUN, root=str(folder / "runs"))
    _write(loss_curves(events, title="Loss terms by player"), folder, "losses")


def _write(picture: Image.Image, folder: Path, name: str) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    storage.write_bytes(str(folder / f"{name}.png"), buffer.getvalue())
