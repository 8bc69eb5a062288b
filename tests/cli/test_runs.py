import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from i2idist.cli import main


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe file, in a folder of its own that is also where runs go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("I2IDIST_RUNS", str(tmp_path / "runs"))
    raw = {
        "method": {"name": "pix2pix", "width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3},
        "data": {"url": "generated:edges?size=16&train=8&val=0&test=0", "cache_dir": str(tmp_path / "cache")},
        "train": {"total_images": 16, "batch_size": 4, "log_every_images": 4, "checkpoint_every_images": 8},
        "resources": {"launcher": "local", "threads_per_worker": 1},
        "tracking": {"offline": True},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw))
    return "./tiny.yaml"


def run(capsys, *arguments):
    """What a command prints to stdout and stderr, and its exit code."""
    code = 0
    try:
        main(list(arguments))
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return captured.out, captured.err, code


def test_train_ends_with_one_json_object(capsys, recipe):
    out, err, code = run(capsys, "train", recipe, "train.total_images=12", "--run", "x", "--json")
    assert code == 0
    (line,) = out.splitlines()
    result = json.loads(line)
    assert {"run", "images", "checkpoint", "params_sha256", "stopped", "images_per_s"} <= result.keys()
    assert (result["run"], result["images"], result["stopped"]) == ("x", 12, "done")
    assert len(result["params_sha256"]) == 64
    assert Path(result["checkpoint"], "COMMIT.json").exists()
    assert "Created run x" in err
    assert "/12 images" in err
    assert "generator/l1" in err


def test_the_same_command_again_and_resume(capsys, recipe):
    first, _, _ = run(capsys, "train", recipe, "--run", "x", "--json")
    again, err, code = run(capsys, "train", recipe, "--run", "x", "--json")
    assert (again, code) == (first, 0)
    assert "The run x is finished: 16 images (done)." in err
    longer, _, _ = run(capsys, "resume", "x", "train.total_images=24")
    assert "x: 24 images (done)" in longer
    _, err, code = run(capsys, "train", recipe, "--run", "x", "seed=5", "train.total_images=24")
    assert code == 5
    assert "another experiment: seed is 0 there, 5 here" in err


def test_logs_are_for_people_or_programs(capsys, recipe):
    run(capsys, "train", recipe, "--run", "x")
    out, _, _ = run(capsys, "logs", "x")
    assert "4 images" in out
    assert "ended (done)" in out
    out, _, _ = run(capsys, "logs", "x", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [e["images"] for e in events if e["event"] == "metrics"] == [4, 8, 12, 16]
    assert events[-1]["event"] == "done"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "./tiny.yaml", "train.totl_images=3"], 2, "Did you mean 'train.total_images'?"),
        (["train", "./tiny.yaml", "method.lambda_l2=3"], 2, "Did you mean 'method.lambda_l1'?"),
        (["train", "./absent.yaml"], 2, "There is no recipe file ./absent.yaml"),
        (["train", "./tiny.yaml", "--run", "../x"], 2, "can't name a run"),
        (["train", "./tiny.yaml", "data.url=/nowhere"], 3, "/nowhere"),
        (["resume", "absent"], 5, "There is no run 'absent'"),
        (["stop", "absent"], 5, "There is no run 'absent'"),
        (["logs", "absent"], 5, "There is no run 'absent'"),
    ],
)
def test_errors_are_one_message_and_a_code(capsys, recipe, arguments, code, message):
    out, err, found = run(capsys, *arguments)
    assert found == code
    assert err.startswith("Error: ")
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert not Path("runs").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_a_signal_ends_stops_with_a_checkpoint_and_says_so_by_its_status(recipe, number, status):
    command = [
        sys.executable,
        "-m",
        "i2idist.cli",
        "train",
        recipe,
        "train.total_images=1000000",
        "--run",
        "x",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = ""
    while "images" not in line:
        line = process.stderr.readline()
        assert line, process.communicate()
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    result = json.loads(out)
    assert process.returncode == status
    assert (result["stopped"], result["signal"]) == ("stop", number)
    assert Path(result["checkpoint"], "COMMIT.json").exists()
    assert "Stopping with a checkpoint" in err
