"""The demo end to end, in miniature: real data, training, pictures and measures, through the local launcher."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import i2idist
from i2idist.cli import main
from i2idist.data.manifest import load_manifest
from i2idist.demo import run_demo
from i2idist.errors import ConfigError, RunError
from i2idist.tracking.place import client_of

SMALL: dict[str, Any] = {
    "data.url": "generated:digits?train=120&val=10&test=15",
    "train.total_images": 48,
    "train.log_every_images": 16,
    "method.width": 8,
    "method.discriminator_width": 8,
    "method.statistics_width": 4,
    "resources.launcher": "local",
    "resources.num_workers": 1,
    "resources.threads_per_worker": 1,
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, _alone: None) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    run_demo(folder, overrides=SMALL, say=said.append)
    assert sum(line.startswith("[") for line in said) == 7
    assert f"mlflow ui --port 5000 --backend-store-uri sqlite:///{folder}/runs/mlflow.db" in "\n".join(said)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No MLflow, catalog or cache but the demo's own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "I2IDIST_CATALOG", "I2IDIST_RUNS"):
            patch.delenv(name, raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def summary(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return values


def test_the_summary_says_what_was_done(summary: dict[str, Any]) -> None:
    assert summary["run"] == "digits"
    assert summary["images"] == 48
    assert summary["steps"] == 3
    assert summary["workers"] == 1
    assert summary["images_per_s"] > 0
    assert summary["translated"] == summary["expected_translations"] == 15 * 4
    assert summary["seconds"] >= sum(summary["seconds_by_phase"].values()) - 0.1


def test_the_measures_are_measured(summary: dict[str, Any]) -> None:
    for share in ("label_agreement", "label_agreement_of_inputs"):
        assert 0 <= summary[share] <= 1
        assert summary[share] * 60 == pytest.approx(round(summary[share] * 60), abs=0.01)
    assert 0.1 < summary["classifier_accuracy"] <= 1
    assert 0 < summary["diversity"] < 2
    assert summary["diversity_inputs"] == 15
    assert len(summary["values"]) == 2


def test_the_run_shows_its_evaluation_in_mlflow(out: Path, summary: dict[str, Any]) -> None:
    run = client_of(f"sqlite:///{out}/runs/mlflow.db").get_run(summary["mlflow_run_id"])
    assert {name: run.data.metrics[f"eval/{name}"] for name in summary["values"]} == summary["values"]


@pytest.mark.parametrize(
    ("name", "rows", "columns"), [("contact_sheet", 12, 9), ("synchronised", 12, 9), ("interpolation", 6, 10)]
)
def test_the_sheets_hold_every_row_and_column(out: Path, name: str, rows: int, columns: int) -> None:
    with Image.open(out / f"{name}.png") as picture:
        assert rows * 96 < picture.height < rows * 96 + 200
        assert columns * 96 < picture.width < columns * 96 + 100


def test_losses_are_drawn(out: Path) -> None:
    with Image.open(out / "losses.png") as picture:
        assert picture.width > 1000


def test_the_translator_loads_and_is_the_one_that_made_the_translations(out: Path, summary: dict[str, Any]) -> None:
    translator = i2idist.load(str(out / "model"))
    assert translator.card.lineage["dataset_digest"] == summary["dataset_digest"]
    assert translator.translate(torch.zeros(2, 1, 32, 32), num_samples=3).shape == (2, 3, 3, 32, 32)
    [job] = (out / "translations").iterdir()
    assert load_manifest(str(job)).pool("test", "b").count == summary["translated"]


def test_the_model_is_registered_by_the_run_and_made_the_translations(out: Path, summary: dict[str, Any]) -> None:
    from i2idist.tracking.registry import resolve

    assert (summary["model"], summary["model_version"]) == ("segan-digits", "1")
    found = resolve("models:/segan-digits@candidate", uri=f"sqlite:///{out}/runs/mlflow.db")
    assert (found.version, found.run_id) == ("1", summary["mlflow_run_id"])
    [job] = (out / "translations").glob("*/job.json")
    model = json.loads(job.read_text())["model"]
    assert (model["uri"], model["run_id"]) == ("models:/segan-digits/1", summary["mlflow_run_id"])


def test_a_finished_demo_is_measured_again_without_training(
    out: Path, summary: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [f"{key}={value}" for key, value in SMALL.items()]
    with pytest.raises(SystemExit) as ended:
        main(["demo", *overrides, "--out", str(out), "--json"])
    assert not ended.value.code
    printed = capsys.readouterr()
    again = json.loads(printed.out)
    assert again == json.loads((out / "summary.json").read_text())
    unchanged = summary.keys() - {"seconds", "seconds_by_phase"}
    assert {key: again[key] for key in unchanged} == {key: summary[key] for key in unchanged}
    assert "is finished" in printed.err
    assert "generator/gan" not in printed.err


def test_the_demo_leaves_the_environment_as_it_was(out: Path) -> None:
    assert not {"MLFLOW_TRACKING_URI", "I2IDIST_RUNS"} & os.environ.keys()


def test_without_mlflow_the_model_is_the_folder(out: Path, summary: dict[str, Any]) -> None:
    again = run_demo(out, overrides={**SMALL, "tracking.offline": True})
    assert (again["model"], again["model_version"]) == (None, None)
    assert again["label_agreement"] == summary["label_agreement"]


def test_other_settings_in_the_same_folder_are_refused(out: Path) -> None:
    with pytest.raises(RunError, match=r"method\.width"):
        run_demo(out, overrides={**SMALL, "method.width": 12})


def test_an_unknown_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train.total_images"):
        run_demo(tmp_path, overrides={**SMALL, "train.total_image": 4})
