"""A search of twelve trials beside bare training steps: issue 7's bounds. Half an hour for each path."""

import dataclasses
import os
import statistics
from pathlib import Path

import pytest

from i2idist import launch
from i2idist.tuning import read_search, tune
from i2idist.tuning.ledger import chains
from i2idist.tuning.storage import storage_url
from i2idist.tuning.study import load

TRIALS, CONCURRENCY = 12, 2
LEAST_S = 90.0
IMAGES = int(os.environ.get("I2IDIST_BENCH_IMAGES", "8000"))
"""Of a trial; as many as take `LEAST_S` on one core."""
WAYS = {"warm actors": "local", "Ray Train": "ray"}


@pytest.fixture(autouse=True)
def catalog(tmp_path, monkeypatch):
    monkeypatch.setenv("I2IDIST_CATALOG", f"sqlite:///{tmp_path}/catalog.db")


def evaluation_s(root, run):
    """Seconds from the last step to the end of the last evaluation."""
    events = list(launch.logs(run, root=root))
    last = [event["time"] for event in events if event["event"] == "metrics"][-1]
    return [event["time"] for event in events if event["event"] == "validation"][-1] - last


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("way", WAYS)
def test_twelve_trials(tmp_path, report, way):
    root = str(tmp_path / "runs")
    overrides = {"resources.launcher": WAYS[way], "resources.num_workers": 1, "resources.threads_per_worker": 1}
    search = read_search("segan_lambda_mi", overrides, trials=TRIALS, concurrency=CONCURRENCY)
    search = dataclasses.replace(search, trial={"train.total_images": IMAGES})
    summary = tune(search, root=root, say=print)
    assert summary.counts["complete"] == TRIALS
    trials = [chain.latest for chain in chains(load(storage_url(None, root), summary.study).trials)]
    wall = max(t.datetime_complete for t in trials) - min(t.datetime_start for t in trials)
    inside = [trial.user_attrs["step_s"] for trial in trials]
    evaluating = [evaluation_s(root, trial.user_attrs["runs"][0]) for trial in trials]
    seconds = [trial.user_attrs["seconds"] for trial in trials]
    overhead = [s - i - e for s, i, e in zip(seconds, inside, evaluating, strict=True)]
    share = sum(inside) / (CONCURRENCY * wall.total_seconds())
    how = f"{TRIALS} trials of {IMAGES} images of segan_digits, {min(seconds):.0f}-{max(seconds):.0f} s each"
    report(f"search over {way}: core time inside steps", f"{share:.1%}", ">= 75 %", f"{how}, {CONCURRENCY} at once")
    report(
        f"search over {way}: overhead of a trial",
        f"{statistics.median(overhead):.1f} s ({min(overhead):.1f}-{max(overhead):.1f})",
        "<= 20 s",
        f"from asked to told, without steps and evaluation ({statistics.median(evaluating):.1f} s); {how}",
    )
    assert min(seconds) >= LEAST_S, "too short to tell: set I2IDIST_BENCH_IMAGES"
    assert share >= 0.75
    assert statistics.median(overhead) <= 20
    assert len(list(Path(root).glob(f"{summary.study}-t*"))) == TRIALS
