"""`i2idist ls | show | lineage`."""

import json

import pytest

from i2idist.catalog import Catalog
from i2idist.cli import main

A, B = "a" * 64, "b" * 64


@pytest.fixture
def run(capsys):
    """Runs a command; returns exit code, stdout and stderr."""

    def call(*arguments):
        try:
            main([*map(str, arguments)])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.delenv("I2IDIST_CATALOG", raising=False)
    monkeypatch.setenv("I2IDIST_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def filled(runs):
    with Catalog() as catalog:
        catalog.record_dataset("s3://team/data/w2s", "w2s", A, "unpaired", {"train": {"a": 1231, "b": 962}})
        number = catalog.start_job("train", "w2s-1", run_url=str(runs / "w2s-1"), submission_id="raysubmit_1")
        catalog.update_job(number, state="failed", error="RunError: [no] more room")
        made = catalog.start_translation(
            B, "/team/models/m", None, "s3://team/data/w2s", A, "/team/out/m-v3-bb", {"seed": 1}
        )
        catalog.record_shard(made, "test/a-00000.tar", "done", 64, A)
    return runs


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("datasets", ["w2s", "unpaired", "train 1,231", "aaaaaaaaaaaa", "s3://team/data/w2s"]),
        ("jobs", ["w2s-1", "train", "failed", "raysubmit_1"]),
        ("translations", ["m-v3-bb", "running", "/team/models/m", "s3://team/data/w2s"]),
        ("runs", ["w2s-1", "failed"]),
    ],
)
def test_ls(run, filled, what, expected):
    code, out, _ = run("ls", what)
    assert code == 0
    header, row = out.splitlines()
    assert [text for text in expected if text not in row] == []
    assert header.split()[0] in ("name", "id")
    (listed,) = json.loads(run("ls", what, "--json")[1])[what]
    assert listed["name"] in row


def test_ls_of_nothing_and_of_many(run, runs):
    with Catalog() as catalog:
        assert run("ls")[:2] == (0, "No runs yet.\n")
        for number in range(5):
            catalog.start_job("train", f"run-{number}", run_url=f"/runs/run-{number}")
    code, out, _ = run("ls", "jobs", "--limit", 2, "--json")
    assert [job["name"] for job in json.loads(out)["jobs"]] == ["run-4", "run-3"]


def test_show(run, filled):
    code, out, _ = run("show", "w2s-1")
    assert code == 0
    assert "job w2s-1" in out
    assert "error: RunError: [no] more room" in out
    assert "experiment.yaml" in out  # the run's folder is away, and that is said
    assert "test/a-00000.tar  done  64" in run("show", "bbbbbb")[1]
    found = json.loads(run("show", "s3://team/data/w2s", "--json")[1])["found"]
    assert [(entry["type"], entry["digest"]) for entry in found] == [("dataset", A)]


def test_lineage(run, filled):
    code, out, _ = run("lineage", "/team/out/m-v3-bb/test/a-00000.tar#k.png", "--json", "--catalog", _url(filled))
    assert code == 0
    found = json.loads(out)
    assert found["subject"]["shard"]["digest"] == A
    assert found["subject"]["problem"].endswith("a-00000.tar is there no more.")
    assert [link["kind"] for link in found["origins"]] == ["translation", "dataset", "model", "run"]
    code, out, _ = run("lineage", "w2s")
    assert code == 0
    assert "dataset w2s" in out
    assert "led to" in out
    assert "translation m-v3-bb" in out


def _url(runs):
    return f"sqlite:///{runs}/catalog.db"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "w2s-2"], 9, "Did you mean 'w2s-1'?"),
        (["lineage", "/team/out/m-v3-bc"], 9, "Did you mean '/team/out/m-v3-bb'?"),
        (["ls", "--catalog", "sqlite:////nowhere/c.db"], 9, "There is no catalog sqlite:////nowhere/c.db yet"),
        (["ls", "--catalog", "postgresql://u:hush@127.0.0.1:1/x"], 9, "Connection refused"),
        (["ls", "models"], 2, "models"),
    ],
)
def test_errors_are_one_message_and_a_code(run, filled, arguments, code, message):
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert message in err.replace("\n", "")
    assert "hush" not in err
    assert "Traceback" not in err
