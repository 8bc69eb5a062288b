"""Values in MLflow, and the command."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from i2idist.cli import main
from i2idist.evaluate import choose, evaluate
from i2idist.evaluate.tracked import default_uri, log_records
from i2idist.model import load, save
from i2idist.tracking.place import client_of, experiment_id
from i2idist.tracking.registry import register

FAST = ("--inputs", "2", "--samples", "2", "--launcher", "local")


def ended(*arguments):
    try:
        main(list(arguments))
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.fixture
def uri(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def of_run(segan, digits, folder, run_id):
    translator = load(segan)
    lineage = {"mlflow_run_id": run_id, "checkpoint": "images-000000000640"}
    save(str(folder), translator.method, method_name="segan", domains=translator.card.domains, lineage=lineage)
    return str(folder)


def files(client, run_id):
    paths = [entry.path for entry in client.list_artifacts(run_id, "evaluation")]
    return {Path(path).suffix: Path(client.download_artifacts(run_id, path)).read_text() for path in paths}


def test_values_go_to_the_run_that_made_the_model(segan, digits, uri, tmp_path):
    client: MlflowClient = client_of(uri)
    run_id = client.create_run(experiment_id(client, uri, "i2idist"), run_name="first").info.run_id
    model = of_run(segan, digits, tmp_path / "model", run_id)
    found = evaluate(model, digits, [choose("diversity-segan", inputs=2, samples=2)], launcher="local")
    (record,) = found.records
    assert log_records(found.records, found.model, default_uri(found.model)) == run_id
    run = client.get_run(run_id)
    assert run.data.metrics[f"eval/{record.name}"] == record.estimate.value
    assert run.data.metrics[f"eval/{record.name}/low"] == record.estimate.low
    (point,) = client.get_metric_history(run_id, f"eval/{record.name}")
    assert point.step == 640
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == record.conditions["dataset"]["digest"][:36]
    kept = files(client, run_id)
    assert record.name in kept[".md"]
    assert json.loads(kept[".json"])[0]["conditions"]["network"]["version"] == record.conditions["network"]["version"]


def test_a_registered_model_is_pinned_and_its_values_go_to_its_run(segan, digits, uri, tmp_path, capsys):
    client: MlflowClient = client_of(uri)
    run_id = client.create_run(experiment_id(client, uri, "i2idist"), run_name="first").info.run_id
    register(of_run(segan, digits, tmp_path / "model", run_id), "tiny", uri=uri)
    assert ended("evaluate", "models:/tiny@candidate", digits, "--protocol", "edge-iou", *FAST, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["mlflow_run_id"] == run_id
    assert told["values"][0]["model"]["uri"] == "models:/tiny/1"


def test_a_model_of_no_run_gets_one_and_keeps_it(segan, digits, uri, capsys):
    seen = []
    for _ in range(2):
        assert ended("evaluate", segan, digits, "--protocol", "diversity-segan", *FAST, "--json") == 0
        seen.append(json.loads(capsys.readouterr().out))
    assert seen[0]["mlflow_run_id"] == seen[1]["mlflow_run_id"]
    assert seen[0]["values"] == seen[1]["values"]
    run = client_of(uri).get_run(seen[0]["mlflow_run_id"])
    assert run.data.metrics[f"eval/{seen[0]['values'][0]['name']}"] == seen[0]["values"][0]["value"]
    assert run.info.status == "FINISHED"


def test_the_command_prints_a_table_and_refuses_what_it_must(segan, digits, uri, capsys, tmp_path):
    assert ended("evaluate", segan, digits, "--protocol", "diversity-segan", *FAST, "--offline") == 0
    shown = capsys.readouterr().out
    assert "diversity-segan/stlpips-alex/digits-test/" in shown
    assert " to " in shown
    assert not (tmp_path / "mlflow.db").exists()
    assert ended("evaluate", segan, digits, "--protocol", "lpips", "--offline") == 2
    assert "no protocol 'lpips'" in capsys.readouterr().err
    assert ended("evaluate", segan, digits, "--protocol", "fid", "--offline", *FAST[:2]) == 2
    assert "inception" in capsys.readouterr().err


def test_values_are_printed_before_an_mlflow_that_is_away_is_named(segan, digits, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert ended("evaluate", segan, digits, "--protocol", "diversity-segan", *FAST) == 8
    captured = capsys.readouterr()
    assert "diversity-segan/" in captured.out
    assert "MLflow" in captured.err


def test_the_catalog_finds_values_by_name_model_and_data(segan, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("I2IDIST_CATALOG", f"sqlite:///{tmp_path}/catalog.db")
    arguments = ["evaluate", segan, digits, "--protocol", "edge-iou", *FAST, "--offline", "--json"]
    for _ in range(2):  # the same again is one row
        assert ended(*arguments) == 0
    (value,) = json.loads(capsys.readouterr().out.splitlines()[-1])["values"]
    assert ended("ls", "evaluations", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["evaluations"]
    assert (row["name"], row["value"], row["low"]) == (value["name"], value["value"], value["low"])
    assert row["weights_sha256"] == value["model"]["weights_sha256"]
    assert ended("show", value["name"], "--json") == 0
    (shown,) = json.loads(capsys.readouterr().out)["found"]
    assert shown["type"] == "evaluation"

    def lineage(uri):
        assert ended("lineage", uri, "--json") == 0
        return json.loads(capsys.readouterr().out)

    found = lineage(value["name"])
    assert [link["kind"] for link in found["origins"]] == ["dataset", "model", "run"]
    for uri in (segan, digits):
        assert [(link["kind"], link["name"]) for link in lineage(uri)["uses"]] == [("evaluation", value["name"])]


def test_without_a_catalog_none_is_made(segan, digits, tmp_path, monkeypatch):
    monkeypatch.delenv("I2IDIST_CATALOG", raising=False)
    monkeypatch.setenv("I2IDIST_RUNS", str(tmp_path / "runs"))
    assert ended("evaluate", segan, digits, "--protocol", "edge-iou", *FAST, "--offline") == 0
    assert not (tmp_path / "runs").exists()
