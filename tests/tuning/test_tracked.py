"""A search in MLflow: trials nested under the study's run, which holds plots and recipes; the promoted model."""

import os
import signal
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

import i2idist
from i2idist.errors import RunError, SourceError, TrackingError
from i2idist.experiment import from_yaml
from i2idist.launch.run_folder import RunFolder
from i2idist.tracking.registry import resolve
from i2idist.tuning import promote, read_search, tune
from i2idist.tuning.storage import storage_url
from i2idist.tuning.study import load
from services.supervise import free_port

LAMBDA = "method.lambda_l1"


@pytest.fixture
def tracked(search_file, root):
    """A search of two objectives, tracked beside its runs."""

    def run(**keys):
        online = {"tracking": {"offline": False, "pictures": False}}
        path = search_file(online, trials=2, objectives=["edge-iou", "pixel-accuracy"], **keys)
        return tune(read_search(path), root=root)

    return run


def test_trials_are_nested_and_the_study_holds_plots_and_recipes(tracked, root, tmp_path, monkeypatch):
    summary = tracked(first=[{LAMBDA: 10.0}], trial={"train.total_images": 24})
    uri = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(uri)
    study = client.get_run(summary.mlflow_run_id)
    assert study.info.status == "FINISHED"
    assert study.data.metrics["trials/complete"] == 2
    assert study.data.params["trial.train.total_images"] == "24"
    nested = client.search_runs([study.info.experiment_id], f"tags.`mlflow.parentRunId` = '{study.info.run_id}'")
    found = load(storage_url(None, root), "tiny")
    told = {run.data.tags["i2idist.trial"]: run for run in nested}
    assert sorted(told) == ["0", "1"]
    for trial in found.trials:
        run = told[str(trial.number)]
        assert run.info.run_id in trial.user_attrs["mlflow_run_ids"]
        assert run.data.params[LAMBDA] == str(trial.params[LAMBDA])
        assert run.data.metrics["objective/edge-iou"] == trial.values[0]
        assert run.data.tags["i2idist.trial_state"] == "complete"
    names = {entry.path for entry in client.list_artifacts(study.info.run_id)}
    assert {"search.yaml", "trials.csv", "plots.html", "front.png", "history-edge-iou.png"} <= names
    best = [name for name in names if name.startswith("best")]
    assert best
    text = Path(client.download_artifacts(study.info.run_id, best[0], str(tmp_path))).read_text()
    assert from_yaml(text, best[0]).train.total_images == 48
    again = tracked(first=[{LAMBDA: 10.0}], trial={"train.total_images": 24})
    assert again.mlflow_run_id == summary.mlflow_run_id

    number = min(summary.best)
    promoted = promote("tiny", trial=number, root=root)
    assert promoted.result.images == 48
    trained = RunFolder(root, f"tiny-best-{number}").experiment()
    assert trained.method.config.lambda_l1 == found.trials[number].params[LAMBDA]
    assert resolve("models:/tiny@candidate", uri=uri).version == promoted.version
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    translator = i2idist.load("models:/tiny@candidate")
    assert translator.translate(torch.zeros(1, 1, 16, 16)).shape[-3:] == (3, 16, 16)


def test_a_training_that_is_stopped_is_not_registered(tracked, root):
    number = min(tracked(first=[{LAMBDA: 10.0}], trial={"train.total_images": 24}).best)

    def stop(event):
        if event["event"] == "metrics":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunError, match="was stopped at 4 images, so nothing was registered"):
        promote("tiny", trial=number, root=root, on_event=stop)
    with pytest.raises(SourceError, match="no registered model 'tiny'"):
        resolve("models:/tiny@candidate", uri=f"sqlite:///{root}/mlflow.db")


def test_an_mlflow_that_does_not_answer_is_told_before_anything_runs(search_file, root):
    path = search_file({"tracking": {"offline": False, "uri": f"http://127.0.0.1:{free_port()}"}})
    with pytest.raises(TrackingError, match="Can't reach MLflow"):
        tune(read_search(path), root=root)
    assert not list(Path(root).glob("tiny-t*"))
