"""The demo's phases, one after the other."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2idist import launch, storage
from i2idist.data.generated import resolve
from i2idist.data.labelled import read_labelled
from i2idist.data.manifest import load_manifest
from i2idist.data.reader import DataSettings
from i2idist.demo.measures import Digits, Translated, draw, measure
from i2idist.demo.progress import Clock, Say, Ticker
from i2idist.errors import DataError, RunError
from i2idist.evaluate.classifiers import of_domains
from i2idist.evaluate.tracked import log_records
from i2idist.experiment import Experiment, read_experiment
from i2idist.model import Translator, load
from i2idist.tracking import resolve_uri
from i2idist.tracking.settings import shown
from i2idist.train.loop import Event
from i2idist.translate import Options, Progress, translate

RECIPE = "segan_digits"
RUN = "digits"
CODES = 4


@dataclass(frozen=True)
class _Model:
    """The trained model: what loads it, and its name and version where it is registered."""

    uri: str
    name: str | None
    version: str | None


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
        RunError: the folder holds a demo with other settings, or training failed.
    """
    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    own = {"data.cache_dir": str(folder / "cache"), **(overrides or {})}
    experiment = read_experiment(RECIPE, own)
    uri = resolve_uri(experiment.tracking, str(folder / "runs"))
    places = {"I2IDIST_RUNS": str(folder / "runs"), **({"MLFLOW_TRACKING_URI": uri} if uri else {})}
    with _environment(places):
        return _run(experiment, own, folder, uri, say, on_event)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for this process and those that it starts, and put them back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _run(
    experiment: Experiment,
    own: Mapping[str, Any],
    folder: Path,
    uri: str | None,
    say: Say,
    on_event: Callable[[Event], None],
) -> dict[str, Any]:
    clock = Clock(say)
    with clock.phase("data", "Packing scans of handwritten digits and generated street-style digits into shards"):
        digits = _open_digits(experiment, folder, say)
    with clock.phase("train", f"Training {experiment.method.name} on {digits.digest[:12]} without pairs"):
        result = launch.train(RECIPE, overrides=own, run=RUN, root=str(folder / "runs"), say=say, on_event=on_event)
        if result.stopped == "stop":
            raise RunError(
                f"The demo's training was stopped at {result.images} images: run the same command again to go on."
            )
    with clock.phase("register", "Saving the model, and registering it with MLflow as the candidate"):
        model = _register(experiment, folder, uri)
        translator = load(model.uri)
    with clock.phase("classifier", "Training a classifier on street-style digits, to read the translations"):
        cache = str(folder / "cache" / "classifiers")
        classifier = of_domains(digits.settings.url, [translator.card.domains.b], cache=cache)
    with clock.phase("translate", f"Translating {digits.test_inputs} test digits with {CODES} codes each"):
        test, translated = _translate(model, translator, digits, experiment, folder, say)
    with clock.phase("measure", "Evaluating by protocols: label agreement and diversity, to MLflow too"):
        measured, evaluated = measure(model.uri, digits, classifier, test, experiment.seed)
        if uri:
            log_records(evaluated.records, evaluated.model, uri)
    with clock.phase("pictures", "Drawing"):
        draw(translator, test, launch.logs(RUN, root=str(folder / "runs")), experiment.seed, folder)
    summary = {
        "run": result.run,
        "run_url": result.url,
        "mlflow_run_id": result.mlflow_run_id,
        "model": model.name,
        "model_version": model.version,
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
        "classifier_accuracy": classifier.card.accuracy,
        "seed": experiment.seed,
        "seconds": round(clock.total, 1),
        "seconds_by_phase": clock.phases,
    }
    storage.write_bytes(str(folder / "summary.json"), json.dumps(summary, indent=2).encode())
    if uri:
        _say_commands(uri, f"models:/{model.name}/{model.version}", say)
    return summary


def _say_commands(uri: str, model_uri: str, say: Say) -> None:
    """What to type to see the run in a browser, and to have the model answer requests."""
    if not shutil.which("mlflow"):  # the demo is started by path, and the server looks for its programs on PATH
        say("First, so that the shell finds MLflow:")
        say(f"  source {sys.prefix}/bin/activate")
    if uri.startswith(("http://", "https://")):
        say(f"The run and the model in MLflow's UI: {shown(uri)}")
    else:
        say("The run and the model in MLflow's UI, at http://127.0.0.1:5000:")
        say(f"  MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --port 5000 --backend-store-uri {uri}")
    say("The model as a server:")
    say(f"  MLFLOW_TRACKING_URI={shown(uri)} mlflow models serve -m {model_uri} --env-manager local -p 5001")


def _workers(run_url: str) -> int:
    """The workers of the run's last launch, as rank 0 counted them."""
    record = json.loads(storage.read_bytes(storage.join(run_url, "run.json")))
    return int(record["launches"][-1]["facts"]["workers"])


def _open_digits(experiment: Experiment, folder: Path, say: Say) -> Digits:
    """Make the data where it isn't made yet, at the place where training looks for it."""
    ticker = Ticker(lambda message: say(message.replace("%", "")), "images packed", 0.01)
    url = resolve(experiment.data.url, str(folder / "cache" / "generated"), ticker)
    settings = DataSettings(url=url, size=experiment.data.size)
    manifest = load_manifest(url)
    tests = manifest.pool("test", manifest.domains[0].name).count
    return Digits(settings, manifest.digest, manifest.labels, tests)


def _register(experiment: Experiment, folder: Path, uri: str | None) -> _Model:
    """Save the newest weights as a model, and register it where the run is tracked."""
    place = str(folder / "model")
    launch.export(RUN, place, root=str(folder / "runs"), which="newest")
    if uri is None:
        return _Model(place, None, None)
    from i2idist.tracking.registry import register  # MLflow takes seconds to import

    name = f"{experiment.method.name}-{RUN}".replace("_", "-")
    version = register(place, name, uri=uri)
    return _Model(f"models:/{name}/{version}", name, version)


def _translate(
    model: _Model, translator: Translator, digits: Digits, experiment: Experiment, folder: Path, say: Say
) -> tuple[Translated, int]:
    """Translate the test split into a dataset; what was stored there, and how many images that is."""
    ticker = Ticker(say, "translated", digits.test_inputs)

    def tell(progress: Progress) -> None:
        ticker(progress.done)

    source, target = translator.card.domains.a.name, translator.card.domains.b.name
    result = translate(
        model.uri,
        digits.settings.url,
        str(folder / "translations"),
        Options(num_samples=CODES, seed=experiment.seed),
        split="test",
        domain=source,
        launcher=experiment.resources.launcher,
        max_errors=0,
        on_progress=tell,
        say=say,
    )
    inputs = read_labelled(digits.settings, source, "test")
    outputs = read_labelled(DataSettings(url=result.url), target, "test")
    if outputs.keys != [f"{key}-{code}" for key in inputs.keys for code in range(CODES)]:
        raise DataError(f"{result.url} doesn't hold {CODES} translations of each test digit in their order.")
    together = outputs.x.reshape(len(inputs.x), CODES, *outputs.x.shape[1:])
    return Translated(inputs.x, inputs.y, together), result.outputs
