"""What checkpoints to an object store cost a training: the time that it stands still, and what the writing slows it."""

import statistics
import time

import pytest
import torch

from i2idist import launch
from i2idist.experiment import from_dict

SIZE = 128
STEPS, PAIRS = 60, 5
"""Steps of a window; windows with a checkpoint and without one follow each other."""
METHOD = {"name": "pix2pix"}
LIMIT = 0.02


@pytest.mark.timeout(1800)
def test_a_checkpoint_hardly_stalls_training(s3_url, tmp_path, report):
    """The training stands still from the end of a step until its checkpoint is handed to the writer."""
    every, size = 2 * STEPS, f"size={SIZE}&train=64&val=4&test=4"
    experiment = from_dict(
        {
            "method": METHOD,
            "data": {"url": f"generated:maps?{size}", "cache_dir": str(tmp_path / "cache")},
            "train": {
                "total_images": (PAIRS + 1) * every,
                "batch_size": 1,
                "log_every_images": 1,
                "checkpoint_every_images": every,
            },
            "resources": {"launcher": "local", "threads_per_worker": torch.get_num_threads()},
            "tracking": {"offline": True},
        },
        "the benchmark",
    )
    stepped: dict[int, float] = {}
    stalls: dict[int, float] = {}

    def on_event(event):
        if event["event"] == "metrics":
            stepped[event["images"]] = time.perf_counter()
        elif event["event"] == "checkpoint":
            stalls[event["images"]] = time.perf_counter() - stepped[event["images"]]

    launch.train(experiment, root=s3_url, on_event=on_event)
    begins = range(every, (PAIRS + 1) * every, every)
    with_one = [stepped[n + STEPS] - stepped[n] for n in begins]
    without = [stepped[n + every] - stepped[n + STEPS] for n in begins]
    stalled = statistics.median(stalls[n] / (a + b) for n, a, b in zip(begins, with_one, without, strict=True))
    slower = statistics.median((a - b) / (a + b) for a, b in zip(with_one, without, strict=True))
    report(
        f"Checkpoints to S3 stall training, pix2pix at {SIZE}, one in {every} steps",
        f"{stalled:.1%}",
        f"< {LIMIT:.0%}",
        f"share of the time, median of {PAIRS}; {statistics.median(stalls[n] for n in begins):.2f} s a checkpoint; the "
        f"stall and the writing beside the next steps (the store is on the same cores): {slower:+.1%}, windows with "
        f"and without one alternated; {statistics.median(without) / STEPS:.2f} s a step; {torch.get_num_threads()} "
        "threads",
    )
    assert stalled < LIMIT
