"""Runs on Ray workers: equal to one process, and unharmed by SIGKILL."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from i2idist import launch
from i2idist.errors import NonFiniteError
from i2idist.experiment import Resources
from i2idist.launch import lease, worker_group
from i2idist.launch.cluster import cluster
from i2idist.launch.processes import cores
from i2idist.launch.reap import private_folder
from i2idist.launch.run_folder import RunFolder
from i2idist.train.checkpoint import Checkpoints

ONE = {"resources.launcher": "ray", "resources.num_workers": 1}
TWO = {"resources.launcher": "ray", "resources.num_workers": 2}


@pytest.fixture(scope="module")
def ray():
    with cluster(Resources(num_workers=(2, 8), threads_per_worker=1), print):
        yield


@pytest.fixture
def kept_group(monkeypatch):
    """Trainings on as many workers share them, as a search's do, until one is killed."""
    monkeypatch.setattr(worker_group, "_kept", None)
    worker_group.keep_groups()
    yield
    worker_group.release_group()


def tensors(root, name):
    return Checkpoints(RunFolder(root, name).checkpoints).newest()[1].tensors


def launches(root, name):
    return [entry["facts"]["workers"] for entry in RunFolder(root, name).record()["launches"]]


def test_two_workers_equal_one_process_and_a_killed_worker_changes_nothing(ray, kept_group, tiny, root, steps):
    recipe = tiny("cyclegan", train={"total_images": 96})
    launch.train(recipe, run="one", root=root)
    whole = launch.train(recipe, run="two", root=root, overrides=TWO)
    one, two = tensors(root, "one"), tensors(root, "two")
    assert one.keys() == two.keys()
    assert all((one[name] - two[name]).abs().max() <= 1e-9 for name in one if one[name].is_floating_point())

    def kill(event):
        if event["event"] == "metrics" and event["images"] >= 20 and len(launches(root, "killed")) == 1:
            holder = lease.newest(RunFolder(root, "killed").lease)[1].holder
            if holder.alive() and not killed:
                killed.append(holder.pid)
                os.kill(holder.pid, signal.SIGKILL)

    killed = []
    result = launch.train(recipe, run="killed", root=root, overrides=TWO, on_event=kill)
    assert killed
    assert launches(root, "killed") == [2, 2]
    assert result.params_sha256 == whole.params_sha256
    assert steps(root, "killed") == steps(root, "two")


def test_a_killed_driver_leaves_no_process_and_its_run_goes_on(ray, tiny, root, steps):
    recipe = tiny(train={"total_images": 400, "checkpoint_every_images": 40})
    overrides = [f"{key}={value}" for key, value in ONE.items()]
    command = [sys.executable, "-m", "i2idist.cli", "train", recipe, *overrides, "--run", "killed", "--root", root]
    with Path(root).parent.joinpath("driver.txt").open("w") as output:
        driver = subprocess.Popen(command, stdout=output, stderr=output)
    whole = launch.train(recipe, run="whole", root=root)
    metrics = Path(root, "killed", "metrics.jsonl")
    deadline = time.monotonic() + 120
    while not (metrics.exists() and '"images": 100,' in metrics.read_text()):
        assert driver.poll() is None and time.monotonic() < deadline, (
            Path(root).parent.joinpath("driver.txt").read_text()
        )
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    record = json.loads(next(private_folder().glob(f"{driver.pid}-*/record.json")).read_text())
    result = launch.resume("killed", root=root)
    assert not list(private_folder().glob(f"{driver.pid}-*"))
    left = [p for p in record["processes"] if psutil.pid_exists(p["pid"])]
    assert [p for p in left if abs(psutil.Process(p["pid"]).create_time() - p["started"]) < 0.05] == []
    assert any(event["event"] == "resumed" and event["images"] >= 80 for event in launch.logs("killed", root=root))
    assert result.params_sha256 == whole.params_sha256
    assert steps(root, "killed") == steps(root, "whole")


def test_a_deliberate_error_is_raised_as_it_is_and_not_retried_on_as_many_workers_as_there_are_cores(ray, tiny, root):
    elastic = {"resources.launcher": "ray", "resources.num_workers": [1, 8]}
    with pytest.raises(NonFiniteError, match="not finite at .* on ranks 0"):
        launch.train(tiny(), run="x", root=root, overrides={**elastic, "method.lr": 1e300})
    assert launches(root, "x") == [min(max(2, cores()), 4)]  # a batch of 4 has 4 groups
