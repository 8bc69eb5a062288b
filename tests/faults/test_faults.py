"""Servers killed under a training. It ends as if they hadn't been: same parameters, every metric once, nothing torn."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import s3fs

from i2idist import launch, storage
from i2idist.catalog import Catalog
from tests.faults.support import Outage, at, whole

pytestmark = [pytest.mark.slow, pytest.mark.fault]

AWAY_S = float(os.environ.get("I2IDIST_OUTAGE_S", "5"))
"""How long a server stays away, besides what it needs to start."""

ROOT = Path(__file__).parents[2]


def log_of(result):
    return storage.read_bytes(storage.join(result.url, "log.txt")).decode()


def test_the_store_is_gone_for_a_while(recipe, runs, store, as_undisturbed):
    outage = Outage(store, seconds=AWAY_S)
    result = launch.train(recipe(), run="store", root=runs, on_event=at(16, outage.begin, pause_s=0.5))
    outage.over()
    as_undisturbed(result)


@pytest.fixture
def impatient_client(monkeypatch):
    """Without the S3 client's own retries, which hide a short outage."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("impatient_client")
@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "COMMIT.json"])
def test_the_store_is_killed_before_a_file_of_a_checkpoint(recipe, runs, store, as_undisturbed, monkeypatch, file):
    outage = Outage(store, seconds=1.0)
    write = storage.write_bytes
    seen = []

    def dying(url, data):
        if url.endswith(f"images-000000000024/{file}") and not seen:
            seen.append(url)
            outage.begin()
        write(url, data)

    monkeypatch.setattr(storage, "write_bytes", dying)
    result = launch.train(recipe(), run=f"before-{file}", root=runs, on_event=at(0, lambda: None, pause_s=0.1))
    outage.over()
    assert seen
    as_undisturbed(result)
    assert "Trying again" in log_of(result)


def test_the_store_is_killed_while_it_receives_a_checkpoint(recipe, runs, store, monkeypatch):
    """A large checkpoint, cut off in the midst of its bytes, is never seen; then it is there."""
    outage = Outage(store, seconds=1.0)
    write = storage.write_bytes
    sizes, ended = [], []

    def dying(url, data):
        if not url.endswith("images-000000000012/state.safetensors") or sizes:
            write(url, data)
            return
        sizes.append(len(data))
        killer = threading.Timer(0.05, outage.begin)
        killer.start()
        try:
            write(url, data)
        finally:
            ended.append(time.monotonic())
            killer.join()

    monkeypatch.setattr(storage, "write_bytes", dying)
    wide = {"width": 48, "discriminator_width": 48}
    train = partial(launch.train, recipe(method=wide), root=runs, overrides={"train.total_images": 24})
    result = train(run="midst")
    outage.over()
    assert sizes[0] > 8e6
    assert ended[0] > outage.begun_at + 0.5, "the bytes were sent before the kill"
    assert train(run="midst-in-peace").params_sha256 == result.params_sha256
    whole(storage.join(runs, "midst"), checkpoints=2)


def test_mlflow_is_gone_for_a_while(recipe, runs, mlflow, as_undisturbed):
    outage = Outage(mlflow, seconds=AWAY_S)
    result = launch.train(recipe(), run="mlflow", root=runs, on_event=at(16, outage.begin, pause_s=0.5))
    outage.over()
    as_undisturbed(result)


@pytest.mark.parametrize("back", ["before it resumes", "after it resumed"])
def test_mlflow_is_gone_and_the_training_killed(recipe, runs, mlflow, as_undisturbed, back):
    """Killed at 32 images, when the checkpoint at 24 is written; MLflow is away since 16.

    Where it comes back after the training resumed, it does so at the last step but one.
    """
    name = f"killed-{back.split()[0]}"
    arguments = [recipe(), name, runs, str(mlflow.folder), "16", "32"]
    victim = subprocess.run(
        [sys.executable, str(ROOT / "tests/faults/victim.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert victim.returncode == -signal.SIGKILL, victim.stderr
    assert not mlflow.service.alive
    if back == "before it resumes":
        mlflow.back()
        result = launch.resume(name, root=runs)
    else:
        returning = threading.Thread(target=mlflow.back)
        result = launch.resume(name, root=runs, on_event=at(44, returning.start))
        returning.join()
    as_undisturbed(result)


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_postgres_goes_and_comes_back(recipe, runs, database, mlflow, catalog, as_undisturbed, how):
    outage = Outage(database, seconds=AWAY_S if how == "killed" else 0.0)
    if how == "restarted":
        database.kill = database.service.stop
    try:
        result = launch.train(recipe(), run=f"postgres-{how}", root=runs, on_event=at(16, outage.begin, pause_s=0.3))
    finally:
        vars(database).pop("kill", None)
    outage.over()
    as_undisturbed(result)
    with Catalog(catalog) as rows:
        job = rows.find_job(result.run)
    assert (job.state, job.mlflow_run_id) == ("done", result.mlflow_run_id)


def test_everything_is_gone_at_once(recipe, runs, store, database, mlflow, as_undisturbed):
    """As when the machine that serves them all is started anew."""
    outage = Outage(mlflow, database, store, seconds=2.0)
    result = launch.train(recipe(), run="everything", root=runs, on_event=at(16, outage.begin, pause_s=0.3))
    outage.over()
    as_undisturbed(result)
