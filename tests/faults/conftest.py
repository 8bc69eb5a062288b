"""Trainings with everything real: data, checkpoints and pictures in S3, MLflow on Postgres, and servers to kill."""

import time
from functools import partial

import numpy as np
import pytest
import yaml

import services
from i2idist import launch, storage
from i2idist.data.pack import Sample, pack
from services import object_store, postgres, tracking_server
from tests.faults.support import Server, tracked, whole

TOTAL, BATCH, CHECKPOINT_EVERY = 48, 4, 12


@pytest.fixture(scope="session")
def store(s3_server, services_folder):
    return Server(partial(object_store.start, services_folder / "s3", volume_size_mb=64))


@pytest.fixture(scope="session")
def database(services_folder):
    server = Server(partial(postgres.start, services_folder / "postgres", databases=("mlflow", "catalog")))
    yield server
    services.stop(server.folder)


@pytest.fixture(scope="session")
def mlflow(services_folder, store, database):
    server = Server(
        partial(
            tracking_server.start,
            services_folder / "mlflow",
            database=postgres.address(database.service, "mlflow"),
            artifacts="s3://data/mlflow",
            environment=store.service.environment,
        )
    )
    yield server
    services.stop(server.folder)


@pytest.fixture(autouse=True)
def catalog(database, monkeypatch):
    url = postgres.address(database.service, "catalog")
    monkeypatch.setenv("I2IDIST_CATALOG", url)
    return url


@pytest.fixture(scope="session")
def data(store):
    """Twelve shards of four samples, so that training fetches some until its end."""
    url = "s3://data/faults/pairs"
    noise = np.random.default_rng(0).integers(0, 256, (TOTAL + 4, 2, 16, 16, 3), dtype=np.uint8)
    samples = [
        Sample(f"s{n:03d}", "val" if n >= TOTAL else "train", {"a": a, "b": b}) for n, (a, b) in enumerate(noise)
    ]
    manifest = pack(samples, url, name="pairs", role="paired", shard_bytes=4_000, workers=1)
    assert len(manifest.pools("train")[0].shards) > 8
    return url


@pytest.fixture
def recipe(data, mlflow, tmp_path):
    """Writes a recipe of 12 steps; each test's shard cache is its own, and cold."""

    def write(**sections):
        raw = {
            "method": {"name": "pix2pix", "width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3},
            "data": {
                "url": data,
                "cache_dir": str(tmp_path / "cache"),
                "memory_bytes": 0,
                "canonical_streams": 1,
                "shuffle_block": 4,
            },
            "train": {
                "total_images": TOTAL,
                "batch_size": BATCH,
                "precision": "float64",
                "log_every_images": BATCH,
                "validate_every_images": 24,
                "checkpoint_every_images": CHECKPOINT_EVERY,
                "keep_checkpoints": 20,
            },
            "resources": {"launcher": "local", "threads_per_worker": 1},
            "tracking": {"uri": mlflow.service.url, "wait_s": 120.0},
        }
        for name, values in sections.items():
            raw[name] = {**raw.get(name, {}), **values}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(raw))
        return str(path)

    return write


@pytest.fixture(scope="session")
def runs(store):
    return "s3://data/faults/runs"


@pytest.fixture
def undisturbed(recipe, runs, request, mlflow, tmp_path):
    """What a run of the same recipe gives in peace: digest of its parameters, metrics, status, pictures. Made once."""
    kept = request.session.stash.setdefault(_UNDISTURBED, {})
    if "result" not in kept:
        cold = {"data.cache_dir": str(tmp_path / "other cache")}  # and so it is for the test itself
        result = launch.train(recipe(), run=f"undisturbed-{time.time_ns()}", root=runs, overrides=cold)
        kept["result"] = (result.params_sha256, *tracked(mlflow.service.url, result.mlflow_run_id))
    return kept["result"]


_UNDISTURBED = pytest.StashKey()


@pytest.fixture
def as_undisturbed(undisturbed, runs, mlflow):
    """Holds a run that was disturbed against one that wasn't, and looks for anything half-written."""

    def check(result):
        params, metrics, status, pictures = undisturbed
        assert (result.stopped, result.images) == ("done", TOTAL)
        assert result.params_sha256 == params
        found = tracked(mlflow.service.url, result.mlflow_run_id)
        assert found[0] == metrics
        assert found[1:] == (status, pictures)
        events = [event for event in launch.logs(result.run, root=runs) if event["event"] == "metrics"]
        assert [event["images"] for event in events] == list(range(BATCH, TOTAL + 1, BATCH))
        whole(storage.join(runs, result.run), TOTAL // CHECKPOINT_EVERY)

    return check
