import json
from pathlib import Path

import pytest
import yaml

TINY = {
    "pix2pix": {"width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3},
    "cyclegan": {
        "width": 4,
        "discriminator_width": 4,
        "discriminator_layers": 1,
        "pool_size": 5,
        "blocks": 1,
        "lambda_identity": 0.0,
    },
}


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Generated data is made once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(tmp_path, cache):
    """Writes a recipe of a tiny training, of 12 steps on one process, and returns its path."""

    def write(method="pix2pix", **sections):
        raw = {
            "method": {"name": method, **TINY[method]},
            "data": {"url": "generated:edges?size=16&train=12&val=6&test=0", "cache_dir": str(cache)},
            "train": {
                "total_images": 48,
                "batch_size": 4,
                "precision": "float64",
                "log_every_images": 4,
                "checkpoint_every_images": 12,
            },
            "resources": {"launcher": "local", "threads_per_worker": 1},
            "tracking": {"offline": True},
        }
        for name, values in sections.items():
            raw[name] = {**raw.get(name, {}), **values}
        path = tmp_path / f"{method}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return str(path)

    return write


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "runs")


@pytest.fixture(scope="session")
def metrics():
    """Reads a run's events."""

    def read(root, name):
        return [json.loads(line) for line in Path(root, name, "metrics.jsonl").read_text().splitlines()]

    return read


@pytest.fixture(scope="session")
def steps(metrics):
    """Reads what an undisturbed and a disturbed run must have in common: every step's terms, once."""
    moving = {"time", "images_per_s", "data_wait_fraction"}

    def read(root, name):
        events = [event for event in metrics(root, name) if event["event"] == "metrics"]
        return [{key: value for key, value in event.items() if key not in moving} for event in events]

    return read
