"""Servers to kill and bring back, and what must be true of a run afterwards."""

import json
import threading
import time
from pathlib import Path

from mlflow import MlflowClient

from i2idist import storage
from i2idist.train.checkpoint import Checkpoints

MOVING = ("images_per_s", "data_wait_fraction")


class Server:
    """A service that a test kills and brings back."""

    def __init__(self, start):
        self.start = start
        self.service = start()

    @property
    def folder(self):
        return self.service.folder

    def kill(self):
        self.service.kill()
        assert not self.service.alive

    def back(self):
        self.service = self.start()


class Outage:
    """Kills servers, and brings them back after some seconds, from a thread."""

    def __init__(self, *servers, seconds):
        self.servers, self.seconds = servers, seconds
        self.begun_at = self.ended_at = None
        self._thread = threading.Thread(target=self._end)

    def begin(self):
        self.begun_at = time.monotonic()
        for server in self.servers:
            server.kill()
        self._thread.start()

    def _end(self):
        time.sleep(self.seconds)
        for server in reversed(self.servers):
            server.back()
        self.ended_at = time.monotonic()

    def over(self):
        """Fails where what was disturbed was done before the servers were back: it wasn't disturbed then."""
        now = time.monotonic()
        self._thread.join(120)
        assert self.ended_at is not None, "the servers didn't come back"
        assert now > self.ended_at - 0.5, "it ended before the outage did"


def whole(run, checkpoints):
    """Every object that is visible under a finished run can be read, is as its digest says, and is where it belongs."""
    for name in storage.walk(run):
        data = storage.read_bytes(storage.join(run, name))
        assert data, f"{name} is empty"
        if name.endswith(".json"):
            json.loads(data)
        if name.endswith(".jsonl"):
            assert data.endswith(b"\n")
            assert [json.loads(line) for line in data.splitlines()]
    saved = Checkpoints(storage.join(run, "checkpoints"))
    names = saved.names()
    assert len(names) == checkpoints
    assert storage.list_dir(storage.join(run, "checkpoints")) == names, "a checkpoint without its COMMIT.json"
    for name in names:
        saved.load(name)


def tracked(uri, run_id):
    """All metrics of an MLflow run, its status and how many pictures it has. Fails where a step comes twice."""
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    found = {}
    for key in run.data.metrics:
        history = client.get_metric_history(run_id, key)
        steps = [point.step for point in history]
        assert sorted(set(steps)) == sorted(steps), f"{key} has steps twice: {sorted(steps)}"
        if key not in MOVING and not key.startswith("system/"):
            found |= {(key, point.step): point.value for point in history}
    pictures = [Path(entry.path).name for entry in client.list_artifacts(run_id, "images")]
    full = [name for name in pictures if name.endswith(".png")]
    assert len({name.split("+timestamp+")[0] for name in full}) == len(full), f"a picture comes twice: {full}"
    return found, run.info.status, len(full)


def at(images, action, pause_s=0.0):
    """An `on_event` that acts once, when so many images are reached; each step takes `pause_s` longer."""
    done = []

    def on_event(event):
        if event["event"] != "metrics":
            return
        time.sleep(pause_s)
        if event["images"] >= images and not done:
            done.append(event)
            action()

    return on_event
