"""Runs as MLflow tells of them, on a real server that comes and goes."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from i2idist import launch
from i2idist.data.generated import resolve
from i2idist.errors import TrackingError
from i2idist.launch.run_folder import RunFolder
from i2idist.tracking.journal import parsed
from i2idist.train.checkpoint import Checkpoints

PICTURES = [
    (key, step, small)
    for key, steps in (("interpolation", [48]), ("translations", [0, 12, 24, 36, 48]))
    for step in steps
    for small in (False, True)
]
"""Key, step, and whether it is the thumbnail: at the start, validations and checkpoints, and the codes in the end."""


class Crash(Exception):
    pass


def at(images, action):
    """An `on_event` that acts once, when so many images are reached."""
    done = []

    def on_event(event):
        if event["event"] == "metrics" and event["images"] >= images and not done:
            done.append(event)
            action()

    return on_event


def crash():
    raise Crash


def journal(root, name):
    path = Path(root, name, "mlflow.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_run_page_tells_the_whole_story(client, check_complete, pictures, tiny, root):
    result = launch.train(tiny(), run="story", root=root)
    folder = RunFolder(root, "story")
    assert folder.result()["mlflow_run_id"] == result.mlflow_run_id == folder.record()["tracking"]["run_id"]
    run = check_complete(result, root)
    assert (run.info.run_name, run.info.status) == ("story", "FINISHED")
    assert "generator/l1" in run.data.metrics
    assert "validation/generator/l1" in run.data.metrics
    assert "lr/generator" in run.data.metrics
    assert run.data.params["method.lambda_l1"] == "100.0"
    assert run.data.params["data.url"].startswith("generated:edges")
    tags, record = run.data.tags, folder.record()
    assert tags["i2idist.run"] == folder.url
    assert tags["i2idist.versions.torch"] == record["launches"][0]["facts"]["versions"]["torch"]
    assert "**pix2pix** on **edges" in tags["mlflow.note.content"]
    newest = client.download_artifacts(result.mlflow_run_id, "translations.png")
    assert f"get-artifact?path={Path(newest).name}&run_uuid={result.mlflow_run_id})" in tags["mlflow.note.content"]
    [last] = Path(client.download_artifacts(result.mlflow_run_id, "images")).glob("translations+step+48+*.png")
    assert Path(newest).read_bytes() == last.read_bytes()
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.digest == record["data_digest"][:36]
    assert json.loads(dataset.dataset.profile)["digest"] == record["data_digest"]
    assert json.loads(dataset.dataset.profile)["samples"]["val"] == {"a+b": 6}
    text = client.download_artifacts(result.mlflow_run_id, "experiment.yaml")
    assert Path(text).read_text() == folder.experiment().as_yaml()
    assert pictures(result.mlflow_run_id) == PICTURES
    assert not Path(root, "story", "mlflow.jsonl").exists()


def test_metrics_have_the_time_at_which_they_were_made(client, events, tiny, root):
    result = launch.train(tiny(), run="x", root=root)
    made = [int(event["time"] * 1000) for event in events(root, "x")]
    history = client.get_metric_history(result.mlflow_run_id, "images_per_s")
    assert sorted(m.timestamp for m in history) == made


def test_a_run_may_be_nested(client, tiny, root):
    parent = client.create_run(client.create_experiment("studies")).info.run_id
    overrides = {"tracking.experiment": "studies", "tracking.parent": parent, "tracking.pictures": False}
    result = launch.train(tiny(), run="x", root=root, overrides=overrides)
    run = client.get_run(result.mlflow_run_id)
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert client.list_artifacts(result.mlflow_run_id, "images") == []


def test_steps_taken_again_are_not_told_twice(check_complete, pictures, tiny, root):
    """Two crashes: before the first checkpoint, and past one, each with everything delivered."""
    recipe = tiny()
    ids = set()
    for images in (8, 32):
        with pytest.raises(Crash):
            launch.train(recipe, run="x", root=root, on_event=at(images, crash))
        ids.add(RunFolder(root, "x").record()["tracking"]["run_id"])
    result = launch.train(recipe, run="x", root=root)
    assert {result.mlflow_run_id} == ids
    run = check_complete(result, root)
    assert run.info.status == "FINISHED"
    assert pictures(result.mlflow_run_id) == PICTURES


def test_a_stopped_run_goes_on_in_the_same_mlflow_run(client, check_complete, tiny, root):
    first = launch.train(tiny(), run="x", root=root, on_event=at(20, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert first.stopped == "stop"
    assert client.get_run(first.mlflow_run_id).info.status == "KILLED"
    second = launch.resume("x", root=root, overrides={"train.total_images": 60})
    assert second.mlflow_run_id == first.mlflow_run_id
    run = check_complete(second, root)
    assert run.data.params["train.total_images"] == "48"
    assert run.data.tags["changed.train.total_images"] == "60"
    assert run.info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.fault
def test_a_server_that_comes_back_hears_everything(server, check_complete, pictures, tiny, root):
    def back():
        threading.Timer(1.0, lambda: server.start(wait=False)).start()

    def disturb(event):
        down(event)
        up(event)

    down, up = at(8, server.kill), at(40, back)
    result = launch.train(tiny(), run="x", root=root, on_event=disturb)
    server.wait()
    check_complete(result, root)
    assert pictures(result.mlflow_run_id) == PICTURES
    log = Path(RunFolder(root, "x").log(0)).read_text()
    assert log.count("Can't deliver to MLflow") == 1


@pytest.mark.slow
@pytest.mark.fault
def test_server_and_training_killed_lose_nothing(server, check_complete, pictures, tiny, root):
    """The server at 8 images, the training at 32, eight past its newest checkpoint; they come back together."""
    recipe = tiny()
    whole = launch.train(recipe, run="whole", root=root)
    command = [sys.executable, "-m", "tests.tracking.crashing", recipe, root, "32", str(server.process.pid)]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    server.kill()
    carried = Checkpoints(RunFolder(root, "x").checkpoints).newest()[1].rest["tracking"]
    assert len(carried["run_id"]) == 32
    assert [line["images"] for line in parsed(carried["journal"]) if line["kind"] == "image"][-1] == 24
    Path(root, "x", "mlflow.jsonl").unlink()  # as on another host: the checkpoint alone must do
    server.start(wait=False)
    result = launch.resume("x", root=root)
    server.wait()
    assert result.params_sha256 == whole.params_sha256
    check_complete(result, root)
    assert pictures(result.mlflow_run_id) == PICTURES


@pytest.mark.slow
@pytest.mark.fault
def test_what_could_not_be_told_is_told_later(server, check_complete, pictures, tiny, root):
    recipe, notes = tiny(tracking={"wait_s": 0.5}), []

    def on_event(event):
        kill(event)
        if event["event"] == "note":
            notes.append(event["message"])

    kill = at(8, server.kill)
    first = launch.train(recipe, run="x", root=root, on_event=on_event)
    where = Path(root, "x", "mlflow.jsonl")
    assert first.stopped == "done"
    assert len(notes) == 2
    assert notes[0].startswith(f"Training ended. Waiting up to 0.5 s for MLflow at {server.uri} (")
    assert f"lies in {where}: `i2idist resume x` delivers it" in notes[1]
    assert where.exists()
    server.start()
    said = []
    second = launch.resume("x", root=root, say=said.append)
    assert said[-1].startswith("Delivered what was left to MLflow")
    assert not where.exists()
    assert second == first
    assert check_complete(second, root).info.status == "FINISHED"
    assert pictures(second.mlflow_run_id) == PICTURES


@pytest.mark.slow
@pytest.mark.fault
def test_starting_needs_the_server_or_offline(server, check_complete, pictures, tiny, root):
    server.kill()
    recipe = tiny()
    with pytest.raises(TrackingError, match=r"Can't reach MLflow at http://127.0.0.1:\d+: .*tracking.offline=true"):
        launch.train(recipe, run="x", root=root)
    assert not Path(root, "x").exists()
    offline = launch.train(recipe, run="x", root=root, overrides={"tracking.offline": True})
    assert (offline.stopped, offline.mlflow_run_id) == ("done", None)
    with pytest.raises(TrackingError, match="Can't reach MLflow"):
        launch.resume("x", root=root, overrides={"tracking.offline": False})
    server.start()
    told = launch.resume("x", root=root, overrides={"tracking.offline": False})
    run = check_complete(told, root)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "0"
    assert pictures(told.mlflow_run_id) == PICTURES
    assert launch.resume("x", root=root).mlflow_run_id == told.mlflow_run_id


def test_begun_offline_and_continued_with_the_server(check_complete, pictures, tiny, root):
    recipe = tiny()
    with pytest.raises(Crash):
        launch.train(recipe, run="x", root=root, overrides={"tracking.offline": True}, on_event=at(32, crash))
    assert journal(root, "x")[-1]["status"] == "FAILED"
    result = launch.resume("x", root=root, overrides={"tracking.offline": False})
    check_complete(result, root)
    assert pictures(result.mlflow_run_id) == PICTURES


def test_local_runs_need_no_server(tiny, root, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = launch.train(tiny(), run="x", root=root, overrides={"train.total_images": 12})
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    assert client.get_metric_history(result.mlflow_run_id, "images_per_s")[-1].step == 12
    assert Path(root, "mlartifacts", result.mlflow_run_id, "artifacts", "experiment.yaml").exists()


def test_tracking_changes_nothing_that_is_trained(server, tiny, root):
    recipe = tiny()
    tracked = launch.train(recipe, run="tracked", root=root)
    plain = launch.train(
        recipe, run="plain", root=root, overrides={"tracking.offline": True, "tracking.pictures": False}
    )
    assert tracked.params_sha256 == plain.params_sha256


def test_a_sample_that_only_pictures_need_may_be_damaged(tiny, root, tmp_path):
    resolve("generated:edges?size=16&train=12&val=6&test=0", str(tmp_path / "generated"))
    [shard] = (tmp_path / "generated").glob("*/val/*.tar")
    shard.write_bytes(b"x" * shard.stat().st_size)
    recipe = tiny(data={"cache_dir": str(tmp_path)}, train={"validate_every_images": None})
    result = launch.train(recipe, run="x", root=root, overrides={"tracking.offline": True})
    assert result.stopped == "done"
    assert "No pictures for MLflow: Shard" in Path(RunFolder(root, "x").log(0)).read_text()
    assert not any(line["kind"] == "image" for line in journal(root, "x"))
