"""One cluster of three hosts and a head for all tests of the session, with real services behind passwords."""

import os
import secrets
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cluster.local.cluster import Cluster
from i2idist import launch
from i2idist.data.pack import Sample, pack
from tests.cluster.hosts.support import BATCH, CHECKPOINT_EVERY, RUNS, SHARD_BYTES, TOTAL, Run, Training, complete
from tests.faults.support import tracked
from tests.results import write_row

HOSTS = 3


@pytest.fixture(scope="session")
def cluster():
    if os.geteuid() != 0:
        pytest.skip("hosts in network namespaces need root")
    with tempfile.TemporaryDirectory(prefix="i2idist-hosts-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        made = Cluster(name)
        try:
            made.up(HOSTS)
            with pytest.MonkeyPatch.context() as patch:
                for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CA_BUNDLE"):
                    patch.delenv(variable, raising=False)
                found = made.client_environment() | {"HOME": f"{name}/hosts/head/home"}  # with MLflow's password
                for variable, value in found.items():
                    patch.setenv(variable, value)
                yield made
        finally:
            network = made.plan().network
            made.down()
            assert network.processes() == []


@pytest.fixture(scope="session")
def data(cluster):
    """One epoch in shards of four samples, so that training fetches some until its end."""
    url = "s3://i2idist/data/pairs"
    noise = np.random.default_rng(0).integers(0, 256, (TOTAL + 4, 2, 16, 16, 3), dtype=np.uint8)
    samples = [
        Sample(f"s{n:04d}", "val" if n >= TOTAL else "train", {"a": a, "b": b}) for n, (a, b) in enumerate(noise)
    ]
    pack(samples, url, name="pairs", role="paired", shard_bytes=SHARD_BYTES, workers=1)
    return url


@pytest.fixture
def recipe(data, tmp_path):
    """Writes a recipe of 100 steps, which take 25 s and what they compute."""

    def write(name="recipe", **sections):
        raw = {
            "method": {
                "name": "tests.cluster.hosts.slow:Slow",
                **{"width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3},
            },
            "data": {"url": data, "memory_bytes": 0, "canonical_streams": 1, "shuffle_block": 4},
            "train": {
                "total_images": TOTAL,
                "batch_size": BATCH,
                "precision": "float64",
                "log_every_images": BATCH,
                "checkpoint_every_images": CHECKPOINT_EVERY,
                "keep_checkpoints": 20,
            },
            "resources": {"launcher": "ray", "num_workers": 2, "threads_per_worker": 1},
            "tracking": {"wait_s": 120.0},
        }
        for section, values in sections.items():
            raw[section] = {**raw[section], **values}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return write


@pytest.fixture
def ready(cluster):
    """All hosts are there, with cold caches."""
    plan = cluster.plan()
    for name, host in plan.hosts.items():
        if not (host.up and host.again) and name in ("host1", "host2", "host3"):
            cluster.start(name)
        if not plan.network.plugged(name) and host.up:
            cluster.mend(name)
    cluster.wait(timeout_s=120)
    for name, host in cluster.plan().hosts.items():
        if host.up:
            cluster.exec(name, ["sh", "-c", "rm -rf ~/.cache/*"], check=True)


@pytest.fixture
def train(cluster, ready, recipe):
    """Starts a training of two workers, of the name given."""

    started = []

    def start(name, *, driven=False, **sections):
        started.append(Training(cluster, recipe(name, **sections), f"{name}-{secrets.token_hex(2)}", driven=driven))
        return started[-1]

    yield start
    for training in started:
        training.abandon()


_ALONE, _TWO = pytest.StashKey(), pytest.StashKey()


@pytest.fixture
def undisturbed(train, request):
    """What two workers give in peace: digest of the parameters, tensors, and what MLflow has. Made once."""
    kept = request.session.stash.setdefault(_TWO, {})
    if not kept:
        training = train("undisturbed")
        kept["sha256"] = training.end()
        complete(training)
        kept["tensors"], kept["mlflow"] = training.tensors(), _tracked(training)
    return kept


@pytest.fixture
def alone(data, recipe, request):
    """What one process without Ray gives: its tensors. Made once."""
    kept = request.session.stash.setdefault(_ALONE, {})
    if not kept:
        changes = {"resources.launcher": "local", "resources.num_workers": 1, "method.pause_s": 0.0}
        name = f"alone-{secrets.token_hex(2)}"
        launch.train(str(recipe("alone")), run=name, root=RUNS, overrides=changes)
        kept["tensors"] = Run(None, name).tensors()
    return kept["tensors"]


def _tracked(training):
    run = training.folder.record()["tracking"]["run_id"]
    return tracked(os.environ["MLFLOW_TRACKING_URI"], run)


@pytest.fixture
def as_undisturbed(undisturbed):
    """Holds a run that was disturbed against one that wasn't, bit for bit: as many workers went on."""

    def check(training, timeout_s=600):
        assert training.end(timeout_s) == undisturbed["sha256"]
        assert set(training.launches()) == {2}
        complete(training)
        assert _tracked(training) == undisturbed["mlflow"]

    return check


@pytest.fixture
def near(alone):
    """Holds a run of any number of workers against one process, within the tolerance of float64."""

    def check(training):
        training.end()
        complete(training)
        found = training.tensors()
        assert found.keys() == alone.keys()
        worst = max(float((found[name] - alone[name]).abs().max()) for name in found if found[name].is_floating_point())
        assert worst <= 1e-9
        assert all(torch.equal(found[name], alone[name]) for name in found if not found[name].is_floating_point())
        _tracked(training)
        return worst

    return check


@pytest.fixture(scope="session")
def report():
    """`report(what, measured, limit, how)`: a row of RESULTS.md beside the suite."""
    head = "# Faults on a cluster of hosts\n\n`make test-cluster` writes this file."

    def write(what, measured, limit, how):
        load = f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
        write_row(Path(__file__).with_name("RESULTS.md"), head, what, measured, limit, f"{how}; {load}")

    return write
