import json
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.tracking.mlflow_process import MlflowProcess


@pytest.fixture(scope="session")
def session_server(tmp_path_factory):
    server = MlflowProcess(tmp_path_factory.mktemp("mlflow")).start()
    yield server
    server.kill()


@pytest.fixture
def server(session_server, monkeypatch):
    """A running server, whatever an earlier test did to it; this process's environment points to it."""
    if session_server.process is None:
        session_server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", session_server.uri)
    return session_server


@pytest.fixture
def client(server):
    return MlflowClient(server.uri)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "runs")


@pytest.fixture
def tiny(tmp_path, cache):
    """Writes a recipe of 12 steps on one process, and returns its path."""

    def write(**sections):
        raw = {
            "method": {"name": "pix2pix", "width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3},
            "data": {"url": "generated:edges?size=16&train=12&val=6&test=0", "cache_dir": str(cache)},
            "train": {
                "total_images": 48,
                "batch_size": 4,
                "precision": "float64",
                "log_every_images": 4,
                "checkpoint_every_images": 12,
                "validate_every_images": 24,
            },
            "resources": {"launcher": "local", "threads_per_worker": 1},
        }
        for name, values in sections.items():
            raw[name] = {**raw.get(name, {}), **values}
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(raw))
        return str(path)

    return write


@pytest.fixture
def events():
    """Reads a run's events of a kind."""

    def read(root, name, kind="metrics"):
        lines = Path(root, name, "metrics.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    return read


@pytest.fixture
def check_complete(client, events):
    """Asserts that MLflow holds every metric of a run once, with the run folder's values, and every picture once."""

    def check(result, root):
        run = client.get_run(result.mlflow_run_id)
        expected = {}
        for prefix, kind in (("", "metrics"), ("validation/", "validation")):
            for event in events(root, result.run, kind):
                for key, value in event.items():
                    if isinstance(value, float) and key not in ("time",):
                        expected.setdefault(prefix + key, []).append((event["images"], value))
        assert expected.keys() == {key for key in run.data.metrics if not key.startswith("system/")}
        moving = ("images_per_s", "data_wait_fraction")  # a step taken again has the first time's speed
        for key, points in expected.items():
            found = sorted((m.step, m.value) for m in client.get_metric_history(result.mlflow_run_id, key))
            assert [step for step, _ in found] == [step for step, _ in points], key
            if key not in moving:
                assert found == points, key
        return run

    return check


@pytest.fixture
def pictures(client):
    """The names of a run's pictures: (key, step, whether it is the thumbnail), sorted."""

    def read(run_id):
        names = [Path(entry.path).name for entry in client.list_artifacts(run_id, "images")]
        return sorted((n.split("+")[0], int(n.split("+")[2]), n.endswith("+compressed.webp")) for n in names)

    return read
