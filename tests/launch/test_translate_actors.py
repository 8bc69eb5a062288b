"""Translation on Ray actors: the bytes of one process, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from i2idist import storage
from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample, pack
from i2idist.errors import DataError, RunError
from i2idist.experiment import Resources
from i2idist.launch import actors
from i2idist.launch.cluster import cluster
from i2idist.launch.reap import private_folder
from i2idist.methods import Pix2Pix
from i2idist.model import save
from i2idist.translate import Options, translate
from i2idist.translate.inputs import Item

SHARDS = 6
OPTIONS = Options(batch_size=2)


@pytest.fixture(autouse=True)
def catalog(tmp_path, monkeypatch):
    monkeypatch.setenv("I2IDIST_CATALOG", f"sqlite:///{tmp_path}/catalog.db")


@pytest.fixture(scope="module")
def ray():
    with cluster(Resources(num_workers=2, threads_per_worker=1), print):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    dest = str(tmp_path_factory.mktemp("data") / "pairs")
    generator = np.random.default_rng(0)

    def samples():
        for n in range(48):
            yield Sample(
                f"s{n:02d}", "test", {d: generator.integers(0, 256, (64, 64, 3), dtype=np.uint8) for d in "ab"}
            )

    manifest = pack(samples(), dest, name="pairs", role="paired", shard_bytes=200_000, workers=1)
    assert len(manifest.pool("test", "a").shards) == SHARDS
    return dest


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    """Slow enough to be killed at work."""
    domains = load_manifest(data).domains_for(None)
    config = Pix2Pix.Config(width=24, discriminator_width=4, discriminator_layers=2, depth=4)
    torch.manual_seed(0)
    url = str(tmp_path_factory.mktemp("models") / "pix2pix")
    save(url, Pix2Pix(config, domains), method_name="pix2pix", domains=domains)
    return url


def tree(url):
    return {name: storage.read_bytes(storage.join(url, name)) for name in storage.walk(url)}


@pytest.fixture(scope="module")
def whole(model, data, tmp_path_factory):
    """What one process makes: every file of the job, and the job folder's name."""
    os.environ["I2IDIST_CATALOG"] = f"sqlite:///{tmp_path_factory.mktemp('catalog')}/catalog.db"
    try:
        result = translate(model, data, str(tmp_path_factory.mktemp("whole")), OPTIONS, launcher="local")
    finally:
        del os.environ["I2IDIST_CATALOG"]
    return Path(result.url).name, tree(result.url)


def workers():
    """The actors' processes."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "_Worker" in process.name() or "_Worker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_actors_give_the_bytes_of_one_process(ray, model, data, whole, tmp_path):
    seen = []
    result = translate(model, data, str(tmp_path), OPTIONS, workers=2, on_progress=seen.append)
    assert Path(result.url).name == whole[0]
    assert tree(result.url) == whole[1]
    assert (result.shards, result.kept, result.outputs) == (SHARDS, 0, 48)
    assert (seen[-1].done, seen[-1].total) == (48, 48)


def test_a_killed_actor_is_replaced_and_no_byte_changes(ray, model, data, whole, tmp_path):
    killed, told = [], []

    def kill(progress):
        if progress.done >= 16 and not killed:
            process = workers()[0]
            killed.append(process.pid)
            process.send_signal(signal.SIGKILL)

    result = translate(model, data, str(tmp_path), OPTIONS, workers=2, on_progress=kill, say=told.append)
    assert killed
    assert any("A worker died" in message for message in told)
    assert tree(result.url) == whole[1]


def test_an_error_on_purpose_is_raised_as_it_is(ray, model, data, tmp_path):
    copy = tmp_path / "copy"
    for name, content in tree(data).items():
        storage.write_bytes(str(copy / name), content)
    shard = sorted((copy / "test").glob("samples-00003-*.tar"))[0]
    shard.unlink()
    with pytest.raises(DataError, match=rf"{shard.name} is missing"):
        translate(model, str(copy), str(tmp_path / "out"), OPTIONS, workers=1)


def test_workers_that_die_again_and_again_end_the_work(ray):
    def fatal(item, report):
        os.kill(os.getpid(), signal.SIGKILL)

    told = []
    items = [Item(0, "test", "test/a-00000.tar", 0, 1, "")]
    with pytest.raises(RunError, match=r"while it worked on test/a-00000.tar"):
        list(
            actors.work_off(
                lambda: fatal,
                items,
                workers=1,
                threads=1,
                gpu=False,
                report=lambda *_: None,
                say=told.append,
                max_failures=1,
            )
        )
    assert len([line for line in told if "A worker died" in line]) == 1


def test_a_worker_that_the_cluster_has_no_room_for_is_told(ray, monkeypatch):
    monkeypatch.setattr(actors, "_SLOW_S", 0.5)

    def say(message):
        raise RunError(message)

    items = [Item(0, "test", "test/a-00000.tar", 0, 1, "")]
    work = actors.work_off(print, items, workers=1, threads=512, gpu=False, report=lambda *_: None, say=say)
    with pytest.raises(RunError, match="Still waiting for a worker, which takes a node with 512 free cores: see"):
        list(work)


@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_and_the_next_one_finishes(model, data, whole, tmp_path):
    command = [sys.executable, "-m", "i2idist.cli", "translate", model, data, str(tmp_path / "out")]
    command += ["--batch-size", "2", "--workers", "2"]
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/*/test/*.json")):
        assert driver.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    assert not list(tmp_path.glob("out/*/_SUCCESS"))
    result = translate(model, data, str(tmp_path / "out"), OPTIONS, workers=2)
    assert result.kept >= 1
    assert tree(result.url) == whole[1]
    assert not list(private_folder().glob(f"{driver.pid}-*"))
