"""Whatever is killed under a search: every trial of its budget ends once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import optuna
import pytest

import services
from i2idist import launch
from i2idist.errors import I2IError
from i2idist.launch import lease
from i2idist.launch.reap import reap
from i2idist.launch.run_folder import RunFolder
from i2idist.tuning.ledger import DRIVER, chains
from i2idist.tuning.storage import storage_url
from i2idist.tuning.study import load
from services import postgres
from tests.faults.support import Server

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(900)]

TRIALS, IMAGES = 4, 4000
ROOT = Path(__file__).parents[2]
LONGER = {"train": {"total_images": IMAGES, "log_every_images": 20, "checkpoint_every_images": 400}}


@pytest.fixture(scope="module")
def database(services_folder):
    server = Server(partial(postgres.start, services_folder / "studies", databases=("studies",)))
    yield server
    services.stop(server.folder)


@pytest.fixture
def driver(search_file, root, tmp_path):
    """Starts a driver of a study as a process of its own; the test's end ends those that are left."""
    path = search_file(LONGER, trials=TRIALS)
    started = []

    def start(study, url, *more):
        command = [
            sys.executable,
            "-m",
            "i2idist.cli",
            "tune",
            path,
            "--study",
            study,
            "--storage",
            url,
            "--root",
            root,
        ]
        log = (tmp_path / f"driver-{len(started)}.txt").open("w+")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, *more, "--json"], stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        )
        process.log = log
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    reap()  # what is left of their Ray


def said(process):
    process.log.flush()
    return Path(process.log.name).read_text()


def finish(process, status=0):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == status, said(process)
    return json.loads(output.splitlines()[-1])


def wait_for(url, study, condition, *processes, timeout_s=240):
    """Waits until the study's trials meet a condition, while the processes live."""
    deadline, found = time.monotonic() + timeout_s, None
    while time.monotonic() < deadline:
        for process in processes:
            assert process.poll() is None, said(process)
        try:
            found = found or load(url, study)
            if condition(found.trials):
                return
        except I2IError:
            pass
        time.sleep(0.3)
    raise AssertionError("".join(said(process) for process in processes))


def running(trials):
    return [trial for trial in trials if trial.state.name == "RUNNING"]


def complete(trials):
    return [trial for trial in trials if trial.state.name == "COMPLETE"]


def is_training(root, study, images):
    """Whether a run of the study is in the midst of its training: looked up in files, which costs next to nothing."""
    for run in Path(root).glob(f"{study}-t*"):
        lines = (run / "metrics.jsonl").read_bytes().split(b"\n") if (run / "metrics.jsonl").exists() else []
        is_open = len(lines) > 1 and not (run / "result.json").exists()
        if is_open and images <= json.loads(lines[-2])["images"] < IMAGES - 400:
            return True
    return False


def wait_for_training(root, study, images, process, timeout_s=240):
    """Waits until a run is in the midst of its training, while the process lives."""
    deadline = time.monotonic() + timeout_s
    while not is_training(root, study, images):
        assert process.poll() is None and time.monotonic() < deadline, said(process)
        time.sleep(0.05)


def each_ended_once(url, study, root, count=TRIALS):
    found = load(url, study)
    assert [chain.state for chain in chains(found.trials)] == ["complete"] * count
    assert Counter(trial.state.name for trial in found.trials)["COMPLETE"] == count
    points = {json.dumps(trial.params) for trial in complete(found.trials)}
    assert len(points) == count
    for chain in chains(found.trials):
        (name,) = chain.latest.user_attrs["runs"]
        steps = [event["images"] for event in launch.logs(name, root=root) if event["event"] == "metrics"]
        assert steps == list(range(20, IMAGES + 1, 20)), f"{name} took steps twice, or not at all"
    assert len(list(Path(root).glob(f"{study}-t*"))) == count
    return found


def test_a_driver_is_killed_again_and_again(driver, root):
    url = storage_url(None, root)
    for kills in range(2):
        process = driver("killed", url)
        wait_for(url, "killed", lambda trials, k=kills: len(complete(trials)) >= k, process)
        wait_for_training(root, "killed", 500, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    summary = finish(driver("killed", url))
    assert summary["counts"]["complete"] == TRIALS
    study = each_ended_once(url, "killed", root)
    lost = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert len(lost) == 2
    assert all("died" in trial.user_attrs["failure"]["why"] for trial in lost)


def test_ctrl_c_ends_a_search_with_a_checkpoint_and_it_goes_on(driver, root):
    url = storage_url(None, root)
    process = driver("stopped", url)
    wait_for_training(root, "stopped", 100, process)
    process.send_signal(signal.SIGINT)
    first = finish(process, 130)
    assert first["counts"]["waiting"] == 1
    assert finish(driver("stopped", url))["counts"]["complete"] == TRIALS
    each_ended_once(url, "stopped", root)


def test_two_drivers_share_a_study_and_one_takes_over_what_the_other_lost(driver, root, database):
    url = storage_url(postgres.address(database.service, "studies"))
    one, other = driver("shared", url), driver("shared", url)
    wait_for(
        url, "shared", lambda trials: len({t.user_attrs.get(DRIVER) for t in running(trials)} - {None}) == 2, one, other
    )
    wait_for_training(root, "shared", 100, one)
    one.send_signal(signal.SIGKILL)
    one.wait()
    assert finish(other)["counts"]["complete"] == TRIALS
    study = each_ended_once(url, "shared", root)
    lost = [
        trial for trial in study.trials if trial.state.name == "FAIL" and trial.user_attrs["failure"]["kind"] == "lost"
    ]
    assert len(lost) == 1


def test_postgres_is_killed_and_comes_back(driver, root, database):
    url = storage_url(postgres.address(database.service, "studies"))
    process = driver("outage", url)
    wait_for(url, "outage", lambda trials: len(complete(trials)) >= 1, process)
    wait_for_training(root, "outage", 100, process)
    database.kill()
    time.sleep(10)
    assert process.poll() is None
    database.back()
    assert finish(process)["counts"]["complete"] == TRIALS
    study = each_ended_once(url, "outage", root)
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)
    assert "waiting for it" in said(process)
    optuna.delete_study(study_name="outage", storage=url)


def test_worker_postgres_and_driver_are_killed_under_twelve_trials_two_at_a_time(driver, root, database):
    """On warm Ray actors. The new driver ends what the killed one's Ray left, and goes on."""
    count, url = 12, storage_url(postgres.address(database.service, "studies"))
    start = partial(driver, "twelve", url, "--trials", str(count), "--concurrency", "2")
    process = start()
    wait_for(url, "twelve", lambda trials: len(complete(trials)) >= 2, process)
    wait_for_training(root, "twelve", 500, process)
    trial = next(trial for trial in running(load(url, "twelve").trials) if "runs" in trial.user_attrs)
    holder = lease.newest(RunFolder(root, trial.user_attrs["runs"][0]).lease)[1].holder
    os.kill(holder.pid, signal.SIGKILL)
    wait_for(url, "twelve", lambda trials: any(trial.state.name == "FAIL" for trial in trials), process)
    database.kill()
    time.sleep(5)
    database.back()
    wait_for(url, "twelve", lambda trials: len(complete(trials)) >= 6, process)
    wait_for_training(root, "twelve", 500, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert finish(start())["counts"]["complete"] == count
    each_ended_once(url, "twelve", root, count)
