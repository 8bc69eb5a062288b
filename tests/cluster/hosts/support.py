"""Trainings on a cluster of hosts, what disturbs them, and what must be true afterwards."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from cluster.local.plan import HEAD
from i2idist import storage
from i2idist.launch import lease
from i2idist.launch.run_folder import RunFolder
from i2idist.train.checkpoint import Checkpoints
from services.processes import end
from services.supervise import read_record
from tests.faults.support import whole

ROOT = Path(__file__).parents[3]
RUNS = "s3://i2idist/runs"
TOTAL, BATCH, CHECKPOINT_EVERY = 400, 4, 40
SHARD_BYTES = 8_000
LAUNCH_S, TRAIN_S = 240, 600
IDLE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::TrainStateActor", "ray::_AutoscalingCo")
"""What Ray keeps when nothing runs: spare processes, agents, and two actors of its own for all trainings."""


def until(found, timeout_s, what, pause_s=0.3):
    """The first true value of `found()`; fails after `timeout_s`, saying what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what} didn't come to pass within {timeout_s} s"
        time.sleep(pause_s)
    return value


class Run:
    """A run on a cluster, as its folder tells of it."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.folder = RunFolder(RUNS, name)

    def holder(self):
        """The process of rank 0, by its lease."""
        return lease.newest(self.folder.lease)[1].holder

    def recorded(self):
        """The run's events, as it keeps them."""
        return [json.loads(line) for line in storage.read_bytes(self.folder.metrics).splitlines()]

    def launches(self):
        """How many workers each launch of workers had."""
        return [entry["facts"]["workers"] for entry in self.folder.record()["launches"]]

    def tensors(self):
        """Its last checkpoint's tensors."""
        return Checkpoints(self.folder.checkpoints).newest()[1].tensors

    def stepping_again(self, since):
        """Seconds from a moment to the first step that workers took who went on after it."""
        later = [event for event in self.recorded() if event["time"] > since]
        resumed = [event["time"] for event in later if event["event"] == "resumed"]
        assert resumed, "nothing went on after the fault"
        return min(e["time"] for e in later if e["event"] == "metrics" and e["time"] > resumed[0]) - since


class Training(Run):
    """A run whose driver is on the head."""

    def __init__(self, cluster, recipe, name, *, driven=False):
        """Start it; `driven`: by the supervisor, which starts it again when its driver dies."""
        super().__init__(cluster, name)
        self.driven = driven
        command = ["python", "-m", "tests.cluster.hosts.driver", str(recipe), name]
        self.said = cluster.folder / "hosts" / HEAD / f"driver-{name}.txt"
        if driven:
            cluster.drive(name, command)
            return
        line = [sys.executable, "-m", "cluster.local", "exec", "--folder", str(cluster.folder), HEAD, *command]
        with self.said.open("wb") as file:
            self.process = subprocess.Popen(
                line, stdout=file, stderr=file, env=clean(), cwd=ROOT, start_new_session=True
            )

    def events(self):
        """What its driver has told so far."""
        lines = self.said.read_text().splitlines() if self.said.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def at(self, images, timeout_s=LAUNCH_S):
        """Wait until it has seen so many images."""

        def reached():
            assert self.driven or self.process.poll() is None, f"it ended: {self.said.read_text()[-3000:]}"
            return any(event["event"] == "metrics" and event["images"] >= images for event in self.events())

        until(reached, timeout_s, f"{images} images of {self.name}: {self.said}")

    def abandon(self):
        """End it where a test left it in the middle, so that it doesn't disturb the next."""
        if self.driven or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: not leftovers(self.cluster), 60, f"the end of {leftovers(self.cluster)}")

    def end(self, timeout_s=TRAIN_S):
        """Wait for its end; the digest of its parameters."""
        if self.driven:
            until(lambda: self.cluster.unit(f"driver {self.name}").exit_code == 0, timeout_s, f"the end of {self.name}")
        else:
            assert self.process.wait(timeout_s) == 0, self.said.read_text()[-5000:]
        return self.events()[-1]["params_sha256"]


def workers(cluster):
    """Where the workers of the training are: pairs of a host's name and a process id inside it."""
    plan = cluster.plan()
    names = {plan.address(name): name for name in plan.hosts}
    nodes = {node["node_id"]: names[node["node_ip"]] for node in _ray(cluster, "nodes") if node["state"] == "ALIVE"}
    actors = [actor for actor in _ray(cluster, "actors") if actor["class_name"] == "RayTrainWorker"]
    return sorted((nodes[actor["node_id"]], actor["pid"]) for actor in actors if actor["state"] == "ALIVE")


def _ray(cluster, what):
    token = (cluster.folder / "ray_token").read_text()
    connection = http.client.HTTPConnection(cluster.plan().address(HEAD), 8265, timeout=10)
    connection.request("GET", f"/api/v0/{what}?limit=1000&detail=1", headers={"Authorization": f"Bearer {token}"})
    return json.loads(connection.getresponse().read())["data"]["result"]["result"]


def first_and_other(training):
    """Rank 0's worker and another one."""
    found = workers(training.cluster)
    holder = training.holder()
    first = next(worker for worker in found if worker == (holder.host.split("/")[0], holder.pid))
    return first, next(worker for worker in found if worker != first)


def signal_worker(cluster, worker, number=signal.SIGKILL):
    """Signal a worker's process; the moment when."""
    host, pid = worker
    cluster.exec(host, ["kill", f"-{number}", str(pid)], check=True)
    return time.time()


def outage(cluster, name, seconds):
    """One of the services killed, and brought back after some seconds."""
    record = read_record(cluster.folder / name)
    end(record.pid, record.started, signal.SIGKILL, 20)
    assert not cluster.running(name)
    time.sleep(seconds)
    cluster.start_services(cluster.plan().network.address(1))


def clean():
    """This process's environment, without what leads elsewhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def leftovers(cluster):
    """Names of processes on the cluster's hosts that belong to a training."""
    found = []
    for pid in cluster.plan().network.processes():
        try:
            process = psutil.Process(pid)
            title = " ".join(process.cmdline())
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
        except psutil.Error:
            continue
        if (title.startswith("ray::") and not title.startswith(IDLE)) or "tests.cluster.hosts" in title:
            found.append(title[:80])
    return found


def complete(training, checkpoints=TOTAL // CHECKPOINT_EVERY):
    """Nothing of a finished run is torn, doubled or missing, and nothing of it runs any more."""
    events = training.recorded()
    seen = [event["images"] for event in events if event["event"] == "metrics"]
    assert seen == list(range(BATCH, TOTAL + 1, BATCH))
    whole(training.folder.url, checkpoints)
    until(lambda: not leftovers(training.cluster), 40, f"the end of {leftovers(training.cluster)}")
