"""What an MLflow server that is away costs training, beside one that is there."""

import statistics
import time

import pytest

from i2idist import launch
from tests.tracking.mlflow_process import MlflowProcess

pytestmark = pytest.mark.slow

ALTERNATIONS = 5
STEPS, BATCH = 300, 16
LIMIT = 0.03


@pytest.fixture
def server(tmp_path):
    server = MlflowProcess(tmp_path).start()
    yield server
    server.kill()


@pytest.fixture
def recipe(tmp_path):
    """Every step's terms are logged, which no recipe does: the most that tracking can cost."""
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""
method: {{name: pix2pix, width: 16, discriminator_width: 16, discriminator_layers: 2, depth: 4}}
data: {{url: "generated:edges?size=32&train=64&val=16&test=0", cache_dir: {tmp_path}/cache}}
train:
  total_images: {STEPS * BATCH}
  batch_size: {BATCH}
  log_every_images: {BATCH}
  validate_every_images: {STEPS * BATCH // 4}
  checkpoint_every_images: {STEPS * BATCH // 4}
resources: {{launcher: local, threads_per_worker: 1}}
tracking: {{wait_s: 0.0}}
"""
    )
    return str(path)


def cpu_time(recipe, root, name, uri, on_first=lambda: None):
    """CPU seconds of this process, all threads, from the first step that is told to the last."""
    marks = []

    def on_event(event):
        if event["event"] == "metrics" and not marks:
            on_first()
            marks.append(time.process_time())
        elif event["event"] == "done":
            marks.append(time.process_time())

    launch.train(recipe, run=name, root=root, overrides={"tracking.uri": uri}, on_event=on_event)
    return marks[1] - marks[0]


def test_mlflow_away_costs_training_nothing(server, recipe, tmp_path, report):
    root = str(tmp_path / "runs")
    cpu_time(recipe, root, "warm", server.uri)
    there, away = [], []
    for number in range(ALTERNATIONS):
        there.append(cpu_time(recipe, root, f"there-{number}", server.uri))
        away.append(cpu_time(recipe, root, f"away-{number}", server.uri, server.kill))
        server.start()
    more = statistics.median(a / t for a, t in zip(away, there, strict=True)) - 1
    report(
        "CPU time of training, MLflow away / there",
        f"{more:+.1%}",
        f"<= {LIMIT:+.0%}",
        f"pix2pix 32x32, batch {BATCH}, {STEPS} steps, each logged; median of {ALTERNATIONS} alternations, "
        f"{statistics.median(there):.1f} s there",
    )
    assert more <= LIMIT
