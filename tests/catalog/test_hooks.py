"""What training and packing leave in the catalog, and what they do without one."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import yaml
from PIL import Image

from i2idist import launch
from i2idist.catalog import Catalog, hooks
from i2idist.cli import main
from i2idist.data.generated import generate
from i2idist.errors import RunError
from tests.data.samples import picture

METHOD = {"name": "pix2pix", "width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3}
NOWHERE = "postgresql://127.0.0.1:1/x"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe of three steps, in a folder of its own that is also where runs go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("I2IDIST_CATALOG", raising=False)
    monkeypatch.setenv("I2IDIST_RUNS", str(tmp_path / "runs"))
    raw = {
        "method": METHOD,
        "data": {"url": "generated:edges?size=16&train=8&val=0&test=0", "cache_dir": str(tmp_path / "cache")},
        "train": {"total_images": 12, "batch_size": 4, "log_every_images": 4, "checkpoint_every_images": 4},
        "resources": {"launcher": "local", "threads_per_worker": 1},
        "tracking": {"offline": True},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw))
    return str(tmp_path / "tiny.yaml")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(hooks, "PATIENCE_S", 1.0)
    monkeypatch.setattr(hooks, "SHORT_S", 1.0)


def rows():
    with Catalog() as catalog:
        return [(job.kind, job.name, job.state) for job in catalog.jobs()]


def test_a_training_its_stop_and_its_end(recipe, tmp_path):
    states = []

    def on_event(event):
        if event["event"] == "metrics" and event["images"] == 4:
            time.sleep(0.5)  # the row is written by a thread
            states.extend(rows())
            launch.stop("x")
            states.extend(rows())
            time.sleep(1.3)  # the request is looked for every second

    launch.train(recipe, run="x", on_event=on_event)
    assert states == [("train", "x", "running"), ("train", "x", "stopping")]
    assert rows() == [("train", "x", "stopped")]
    launch.resume("x")
    assert rows() == [("resume", "x", "done"), ("train", "x", "stopped")]
    launch.train(recipe, run="x")  # finished: nothing is launched
    assert len(rows()) == 2
    with Catalog() as catalog:
        job = catalog.find_job("x")
    assert (job.run_url, job.experiment["train"]["total_images"]) == (str(tmp_path / "runs" / "x"), 12)


def test_a_training_notes_the_dataset_that_it_read(recipe, tmp_path):
    made = generate("edges", str(tmp_path / "data"), size=16, train=8, val=0, test=0)
    launch.train(recipe, run="x", overrides={"data.url": str(tmp_path / "data")})
    with Catalog() as catalog:
        (row,) = catalog.datasets()
    assert (row.url, row.digest, row.counts) == (str(tmp_path / "data"), made.digest, made.counts)


def test_a_training_that_fails(recipe):
    def on_event(event):
        if event["event"] == "metrics":
            raise RunError("told to")

    with pytest.raises(RunError):
        launch.train(recipe, run="x", on_event=on_event)
    assert rows() == [("train", "x", "failed")]
    with Catalog() as catalog:
        assert catalog.find_job("x").error == "RunError: told to"


def test_a_killed_training_is_lost_once_it_is_resumed(recipe):
    command = [sys.executable, "-m", "i2idist.cli", "train", recipe, "train.total_images=1000000", "--run", "x"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (os.path.exists("runs/catalog.db") and ("train", "x", "running") in rows()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert rows() == [("train", "x", "running")]
    launch.train(recipe, run="x", overrides={"train.total_images": 4})
    assert rows() == [("train", "x", "done"), ("train", "x", "lost")]


def test_a_submitted_training_continues_the_submission(recipe, monkeypatch):
    with Catalog() as catalog:
        number = catalog.start_job("train", "x", submission_id="s-1", address="http://h:8265")
    monkeypatch.setenv(hooks.SUBMISSION, "s-1")
    launch.train(recipe, run="x")
    assert rows() == [("train", "x", "done")]
    with Catalog() as catalog:
        job = catalog.find_job("s-1")
    assert (job.id, job.address, job.run_url.endswith("/runs/x")) == (number, "http://h:8265", True)


@pytest.mark.parametrize("url", [NOWHERE, "mysql://h/x", "sqlite:////proc/nowhere/c.db"])
def test_a_catalog_that_is_away_costs_a_warning(recipe, monkeypatch, impatient, url):
    with_one = launch.train(recipe, run="x")
    monkeypatch.setenv("I2IDIST_CATALOG", url)
    said = []
    without = launch.train(recipe, run="y", say=said.append)
    assert without.params_sha256 == with_one.params_sha256
    assert any(message.startswith("Warning: ") and "catalog" in message.lower() for message in said)


def test_a_catalog_that_never_answers_is_not_waited_for(recipe, monkeypatch, impatient):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("I2IDIST_CATALOG", f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x")
        said = []
        recorder = hooks.Recorder(os.environ["I2IDIST_CATALOG"], said.append, 1.0)
        begun = time.monotonic()
        recorder.close()
        assert time.monotonic() - begun < 5
        assert "doesn't answer" in said[-1]


def test_what_happens_while_postgres_restarts_is_written_after(server, postgres_url):
    said = []
    Catalog(postgres_url).close()
    recorder = hooks.Recorder(postgres_url, said.append, 15.0)
    row = hooks.Launch(recorder, "train", "w2s", {"run_url": "/runs/w2s"})
    while not names(postgres_url):
        time.sleep(0.1)
    server.kill()
    row.ended("done", mlflow_run_id="f00")
    while not said:
        time.sleep(0.1)
    back = threading.Timer(2.0, server.back)
    back.start()
    recorder.close()
    back.join()
    with Catalog(postgres_url) as catalog:
        job = catalog.find_job("w2s")
        assert (job.state, job.mlflow_run_id, len(catalog.jobs())) == ("done", "f00", 1)
    (message,) = said
    assert message.startswith("Warning: The catalog")


def names(url):
    with Catalog(url) as catalog:
        return [job.name for job in catalog.jobs()]


@pytest.fixture
def photos(tmp_path):
    for number in range(2):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(number)).save(path)
    return str(tmp_path / "photos")


def data(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["data", *map(str, arguments)])
    assert ended.value.code == 0


def pack(photos, dest):
    data("pack", photos, dest, "--layout", "folder")


def test_packing_notes_the_dataset_where_there_is_a_catalog(recipe, photos, tmp_path, capsys):
    pack(photos, tmp_path / "one")
    assert not (tmp_path / "runs").exists()
    Catalog().close()
    pack(photos, tmp_path / "two")
    data("generate", "edges", tmp_path / "three", "--size", 16, "--train", 2, "--val", 0, "--test", 0)
    with Catalog() as catalog:
        assert [row.url for row in catalog.datasets()] == [str(tmp_path / "three"), str(tmp_path / "two")]
        assert catalog.datasets()[1].counts == {"train": {"image": 2}}


def test_packing_succeeds_without_its_catalog(recipe, photos, tmp_path, monkeypatch, impatient, capsys):
    monkeypatch.setenv("I2IDIST_CATALOG", NOWHERE)
    pack(photos, tmp_path / "one")
    assert (tmp_path / "one" / "manifest.json").exists()
    assert "Warning: not recorded. The catalog" in capsys.readouterr().err
