"""Commands submitted to a real Ray head, with token authentication."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import ray
import requests
from mlflow import MlflowClient
from PIL import Image

import i2idist
from i2idist import launch
from i2idist.catalog import Catalog
from i2idist.catalog.models import now
from i2idist.catalog.store import BEING_SENT
from i2idist.cli import main
from i2idist.data.manifest import load_manifest
from i2idist.launch.run_folder import RunFolder
from tests.data.samples import picture
from tests.launch.ray_head import RayHead

TWO = {"launcher": "ray", "num_workers": 2}
LONG = {"total_images": 800, "checkpoint_every_images": 40}
CLIENT = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH", "I2IDIST_CATALOG", "MLFLOW_TRACKING_URI")


@pytest.fixture(scope="module")
def head():
    started = RayHead()
    yield started
    started.stop()


@pytest.fixture
def client(head, tmp_path, monkeypatch):
    """The environment of a person who submits to the head; runs are in a folder of their own."""
    for name in CLIENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", head.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token_file))
    monkeypatch.setenv("I2IDIST_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def i2i(client, capsys):
    """Runs a command line; what it prints to stdout and stderr, and its exit code."""

    def run(*arguments):
        code = 0
        try:
            main(list(arguments))
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return captured.out, captured.err, code

    return run


def rows(root):
    with Catalog(f"sqlite:///{root}/catalog.db") as catalog:
        return [(job.kind, job.name, job.state) for job in catalog.jobs()]


def shown_by_the_cluster(head):
    """Everything that the head tells about its jobs, and their logs."""
    headers = {"Authorization": f"Bearer {head.token}"}
    jobs = requests.get(f"{head.address}/api/jobs/", headers=headers, timeout=10).json()
    ids = [job["submission_id"] for job in jobs if job["submission_id"]]
    logs = [requests.get(f"{head.address}/api/jobs/{id}/logs", headers=headers, timeout=10).text for id in ids]
    return json.dumps(jobs), "".join(logs)


def wait_for(condition, timeout_s=90):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def photos(folder):
    """A small folder of images in two domains."""
    for domain in ("trainA", "trainB"):
        (folder / domain).mkdir(parents=True)
        Image.fromarray(picture(8)).save(folder / domain / "a.png")


def background(*arguments, **options):
    command = [sys.executable, "-m", "i2idist.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_submitted_training_is_the_same_training(i2i, head, tiny, root, tmp_path):
    recipe = tiny("cyclegan", tracking={"offline": False})
    out, err, code = i2i("submit", "train", recipe, "resources.launcher=ray", "--run", "x", "--follow")
    assert code == 0, err
    assert f"to {head.address}: train x" in out
    assert f"run folder {root}/x" in out
    assert "Created run x" in out
    result = RunFolder(root, "x").result()
    assert f"parameters {result['params_sha256']}" in out
    whole = launch.train(recipe, run="whole", root=str(tmp_path / "local"))
    assert result["params_sha256"] == whole.params_sha256

    assert rows(root) == [("train", "x", "done")]
    found = json.loads(i2i("jobs", "status", "x", "--json")[0])
    assert (found["state"], found["exit_code"], found["error"]) == ("done", 0, None)
    run = MlflowClient(f"sqlite:///{root}/mlflow.db").get_run(found["mlflow_run_id"])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "x")

    id = found["submission_id"]
    listed = json.loads(i2i("jobs", "ls", "--json")[0])["jobs"]
    assert (id, "train", "x", "done") in [(o["submission_id"], o["kind"], o["name"], o["state"]) for o in listed]
    assert id in i2i("jobs", "ls")[0]
    assert "Created run x" in i2i("jobs", "logs", "x")[0]
    assert i2i("jobs", "logs", id, "--follow")[2] == 0
    _, err, code = i2i("jobs", "stop", "x")
    assert (code, err) == (11, f"Error: The job '{id}' has ended (done), so there is nothing to stop.\n")
    _, err, code = i2i("submit", "train", recipe, "--submission-id", id)
    assert (code, f"has a job '{id}' already" in err) == (11, True)
    _, err, code = i2i("jobs", "status", f"{id[:-1]}_")
    assert (code, f"Did you mean '{id}'?" in err) == (11, True)

    details, logs = shown_by_the_cluster(head)
    assert id in details
    assert head.token not in details + logs
    assert str(head.token_file) not in details


def test_a_run_is_stopped_with_a_checkpoint_and_resumed_to_the_same_end(i2i, tiny, root, tmp_path, steps):
    recipe = tiny(train=LONG)
    submitted = json.loads(i2i("submit", "train", recipe, "--run", "x", "--json")[0])
    assert (submitted["kind"], submitted["name"], submitted["run_url"]) == ("train", "x", f"{root}/x")
    wait_for(lambda: RunFolder(root, "x").exists())
    out, err, code = i2i("jobs", "stop", "x")
    assert code == 0, err
    assert "x stopped with a checkpoint" in out
    stopped = RunFolder(root, "x").result()
    assert stopped["stopped"] == "stop" and stopped["images"] < LONG["total_images"]
    assert json.loads(i2i("jobs", "status", "x", "--json")[0])["state"] == "stopped"
    assert rows(root) == [("train", "x", "stopped")]

    out, err, code = i2i("submit", "resume", "x", "--follow", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["kind"], found["name"], found["state"], found["exit_code"]) == ("resume", "x", "done", 0)
    assert "Continuing run x" in err
    assert rows(root) == [("resume", "x", "done"), ("train", "x", "stopped")]
    whole = launch.train(recipe, run="whole", root=str(tmp_path / "local"))
    assert RunFolder(root, "x").result()["params_sha256"] == whole.params_sha256
    assert steps(root, "x") == steps(str(tmp_path / "local"), "whole")


def test_other_code_than_the_clusters_is_refused_and_travels_when_told_to(head, client, tiny, root, tmp_path):
    clone = Path(i2idist.__file__).parents[1]
    for folder in ("i2idist", "jobs"):
        shutil.copytree(clone / folder, tmp_path / "copy" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / "copy" / "i2idist" / "__init__.py"
    source.write_text(source.read_text().replace(f'"{i2idist.__version__}"', '"0.1.0+mine"'))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "copy")}
    recipe = tiny(resources={"launcher": "ray"})
    command = ["submit", "train", recipe, "--run", "x", "--follow"]

    refused = background(*command, env=environment)
    out, err = refused.communicate(timeout=120)
    assert refused.returncode == 11, out + err
    message = next(line for line in out.splitlines() if line.startswith("Error: "))
    assert f"i2idist {i2idist.__version__}, revision" in message and "i2idist 0.1.0+mine, revision" in message
    digests = [word.rstrip(".") for word in message.replace(";", "").split() if len(word.rstrip(".;")) == 64]
    assert len(set(digests)) == 2
    assert "--ship-code" in message
    assert not Path(root, "x").exists()
    assert rows(root) == [("train", "x", "failed")]

    shipped = background(*command, "--ship-code", env=environment)
    out, err = shipped.communicate(timeout=120)
    assert shipped.returncode == 0, out + err
    facts = RunFolder(root, "x").record()["launches"][0]["facts"]  # as the worker, another process, found them
    assert facts["versions"]["i2idist"] == "0.1.0+mine"
    assert rows(root) == [("train", "x", "done"), ("train", "x", "failed")]


def test_a_wrong_token_a_missing_one_and_another_ray_are_refused(i2i, head, tmp_path, monkeypatch):
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    wrong.chmod(0o600)
    _, err, code = i2i("jobs", "ls", "--token-file", str(wrong))
    assert (code, f"{head.address} refuses the token" in err, "0" * 64 in err) == (11, True, False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    _, err, code = i2i("jobs", "ls")
    assert (code, "asks for a token. Give --token-file" in err) == (11, True)
    monkeypatch.setattr(ray, "__version__", "2.59.0")
    _, err, code = i2i("jobs", "ls", "--token-file", str(head.token_file))
    assert (code, "and this is Ray 2.59.0" in err) == (11, True)


def test_a_command_that_fails_fails_the_job_with_its_message_and_code(i2i, tmp_path, root):
    photos(tmp_path / "photos")
    broken = tmp_path / "photos" / "trainB" / "b.png"
    broken.write_bytes(b"no picture")
    out, err, code = i2i(
        "submit", "data", "pack", "photos", "packed", "--layout", "trainA-trainB", "--follow", "--json"
    )
    assert code == 3
    message = next(line for line in err.splitlines() if line.startswith("Error: "))
    assert str(broken) in message
    found = json.loads(out)
    assert (found["kind"], found["state"], found["exit_code"]) == ("data pack", "failed", 3)
    assert f"Error: {found['error']}" == message
    assert [(kind, state) for kind, _, state in rows(root)] == [("data pack", "failed")]


def test_a_job_that_its_cluster_forgot_is_lost(i2i, head, root):
    def note(id, created):
        with Catalog(f"sqlite:///{root}/catalog.db") as catalog, catalog._writing() as session:
            from i2idist.catalog.models import Job

            values = {"kind": "train", "name": "x", "state": "running", "address": head.address}
            session.add(Job(submission_id=id, created=created, **values))

    note("old", now() - 2 * BEING_SENT)
    note("new", now() + timedelta(0))
    states = {o["submission_id"]: o["state"] for o in json.loads(i2i("jobs", "ls", "--json")[0])["jobs"]}
    assert (states["old"], states["new"]) == ("lost", "running")
    assert "address: " + head.address in i2i("jobs", "status", "old")[0]
    _, err, code = i2i("jobs", "logs", "old")
    assert (code, "doesn't know the job 'old' any more: it is lost" in err) == (11, True)


@pytest.mark.slow
def test_two_workers_of_a_cluster_are_two_workers_here(i2i, tiny, root, tmp_path):
    recipe = tiny("cyclegan", resources=TWO)
    out, err, code = i2i("submit", "train", recipe, "--run", "x", "--follow")
    assert code == 0, out + err
    assert RunFolder(root, "x").record()["launches"][0]["facts"]["workers"] == 2
    whole = launch.train(recipe, run="whole", root=str(tmp_path / "local"))
    assert RunFolder(root, "x").result()["params_sha256"] == whole.params_sha256


@pytest.mark.slow
def test_following_ends_with_ctrl_c_and_what_does_not_stop_in_time_is_ended_by_ray(i2i, tiny, root):
    i2i("submit", "train", tiny(train={"total_images": 10**6}), "--run", "x")
    follower = background("jobs", "logs", "x", "--follow")
    wait_for(lambda: Path(root, "x", "metrics.jsonl").exists())
    assert follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=30)
    assert follower.returncode == 130, out + err
    assert "The job goes on" in err and "Traceback" not in err
    assert json.loads(i2i("jobs", "status", "x", "--json")[0])["state"] == "running"

    out, err, code = i2i("jobs", "stop", "x", "--grace", "0", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["stopped_by"], found["state"]) == ("ray", "stopped")
    assert rows(root) == [("train", "x", "stopped")]


@pytest.mark.slow
def test_data_pack_translate_and_evaluate_travel_with_every_option(i2i, tiny, root, tmp_path):
    photos(tmp_path / "photos")
    packing = ["data", "pack", "photos", "packed", "--layout", "trainA-trainB", "--name", "mine"]
    out, err, code = i2i("submit", *packing, "--follow")
    assert code == 0, out + err
    assert load_manifest(str(tmp_path / "packed")).name == "mine"
    launch.train(tiny(), run="x", root=root)
    launch.export("x", str(tmp_path / "model"), root=root)
    command = ["translate", "model", "generated:edges?size=16&train=4&val=2&test=3", "out", "--split", "test"]
    command += ["--launcher", "local", "--batch-size", "2"]
    out, err, code = i2i("submit", *command, "--follow")
    assert code == 0, out + err
    (job,) = (tmp_path / "out").iterdir()
    made = {path.name: path.read_bytes() for path in job.rglob("*") if path.is_file()}
    shutil.rmtree(job)
    i2i(*command)
    assert {path.name: path.read_bytes() for path in job.rglob("*") if path.is_file()} == made
    assert json.loads(made["job.json"])["options"]["batch_size"] == 2
    command = ["evaluate", *command[1:3], "--protocol", "edge-iou", "--protocol", "pixel-accuracy", "--inputs", "3"]
    command += ["--launcher", "local", "--root", root]
    out, err, code = i2i("submit", *command, "--follow")
    assert code == 0, out + err
    here = json.loads(i2i(*command, "--offline", "--json")[0])["values"]
    assert len(here) == 2
    assert all(value["name"] in out and f"{value['value']:.4g}" in out for value in here)
