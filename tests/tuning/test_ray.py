"""Trials on Ray: warm actors, and trainings of several workers that follow one decision."""

import os
import signal
import threading
import time

import pytest

from i2idist import launch
from i2idist.experiment import Resources
from i2idist.launch import lease
from i2idist.launch.cluster import cluster
from i2idist.launch.run_folder import RunFolder
from i2idist.tuning import read_search, tune
from i2idist.tuning.ledger import chains
from i2idist.tuning.results import standing
from i2idist.tuning.storage import storage_url
from i2idist.tuning.study import load

pytestmark = pytest.mark.slow
LR = "method.lr"


@pytest.fixture(scope="module")
def ray():
    with cluster(Resources(num_workers=2, threads_per_worker=1), print):
        yield


def test_a_killed_actor_costs_its_trial_an_attempt_and_the_others_nothing(ray, search_file, root):
    """Two warm actors with the local launcher; one is killed under its trial."""
    path = search_file({"train": {"total_images": 480, "checkpoint_every_images": 48}}, trials=4, concurrency=2)
    killed = []

    def kill():
        while not killed:
            time.sleep(0.05)
            folder = RunFolder(root, "tiny-t1")
            if not folder.exists() or len(list(launch.logs("tiny-t1", root=root))) < 30:
                continue
            holder = lease.newest(folder.lease)[1].holder
            os.kill(holder.pid, signal.SIGKILL)
            killed.append(holder.pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    summary = tune(read_search(path), root=root)
    assert killed
    assert summary.counts == {"complete": 4, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    study = load(storage_url(None, root), "tiny")
    (hit,) = [chain for chain in chains(study.trials) if len(chain.attempts) > 1]
    assert hit.origin == 1 and "its worker died" in hit.failures()[0]
    events = list(launch.logs("tiny-t1", root=root))
    steps = [event["images"] for event in events if event["event"] == "metrics"]
    assert steps == list(range(4, 481, 4))
    assert any(event["event"] == "resumed" for event in events)


def test_two_workers_follow_the_pruner_and_their_job_does_not_fail(ray, search_file, root):
    space = {LR: {"type": "categorical", "choices": [2e-3, 1e-12]}}
    sections = {"resources": {"launcher": "ray", "num_workers": 2}}
    path = search_file(
        sections,
        space=space,
        first=[{LR: 2e-3}, {LR: 1e-12}],
        trials=2,
        objectives=[{"metric": "generator/l1", "direction": "minimize"}],
        trial={"train.total_images": 96},
        evaluations=4,
        pruner={"name": "median", "startup_trials": 1},
    )
    said = []
    summary = tune(read_search(path), root=root, say=said.append)
    study = load(storage_url(None, root), "tiny")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"], said
    assert summary.counts["pruned"] == 1
    pruned = RunFolder(root, "tiny-t1")
    assert (pruned.result()["stopped"], pruned.result()["images"]) == ("pruned", 24)
    assert [entry["facts"]["workers"] for entry in pruned.record()["launches"]] == [2]
    assert standing(study)["trials"][1]["failures"] is None
    for rank in (0, 1):
        assert b"Traceback" not in launch_log(pruned, rank)


def test_trials_share_a_worker_group_until_it_loses_a_worker(ray, search_file, root):
    sections = {"resources": {"launcher": "ray", "num_workers": 1}}
    length = {"train.total_images": 240, "train.checkpoint_every_images": 24}
    path = search_file(sections, trials=4, concurrency=1, trial=length)
    killed = []
    killer = threading.Thread(target=kill_rank_0, args=(RunFolder(root, "tiny-t1"), killed), daemon=True)
    killer.start()
    summary = tune(read_search(path), root=root)
    assert killed and summary.counts["complete"] == 4
    folders = [RunFolder(root, f"tiny-t{number}") for number in range(4)]
    first, again, third, fourth = (lease.newest(folder.lease)[1].holder.pid for folder in folders)
    assert killed == [first]
    assert first != again and third not in (first, again) and fourth == third
    assert [len(folder.record()["launches"]) for folder in folders] == [1, 2, 1, 1]
    for name in ("tiny-t0", "tiny-t3"):
        events = list(launch.logs(name, root=root))
        assert [event["images"] for event in events if event["event"] == "metrics"] == list(range(4, 241, 4))


def kill_rank_0(folder, killed):
    """Kill who writes a run, once it has begun."""
    while not killed:
        time.sleep(0.05)
        if folder.exists() and len(list(launch.logs(folder.name, root=folder.root))) > 10:
            killed.append(lease.newest(folder.lease)[1].holder.pid)
            os.kill(killed[0], signal.SIGKILL)


def launch_log(folder, rank):
    from i2idist import storage

    return storage.read_bytes(folder.log(rank)) if storage.exists(folder.log(rank)) else b""
