"""What the framework costs beside forward, backward and optimizer step: CPU time of all that it starts, at 128x128."""

import itertools
import statistics
import time
from pathlib import Path

import psutil
import pytest
import torch

from i2idist import launch
from i2idist.data.batches import Paired
from i2idist.data.generated import resolve
from i2idist.data.reader import DataSettings, Reader
from i2idist.experiment import from_dict
from i2idist.method import Domain, Domains, Step
from i2idist.methods.pix2pix import Pix2Pix, Pix2PixConfig
from i2idist.train.comm import Comm

FIRST, LAST, TOTAL = 4, 44, 48
SIZE = 128
_ALONE = {"rank": 0, "world_size": 1, "seed": 0}


def _experiment(data: str, launcher: str, log_every_images: int):
    return from_dict(
        {
            "method": {"name": "pix2pix"},
            "data": {"url": data},
            "train": {"total_images": TOTAL, "batch_size": 1, "log_every_images": log_every_images},
            "resources": {"num_workers": 1, "launcher": launcher, "threads_per_worker": torch.get_num_threads()},
        },
        "the benchmark",
    )


def _cpu_s() -> tuple[float, float]:
    """CPU seconds so far of Ray's training worker, and of this process and all else that it started."""
    worker = others = 0.0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            times, name = process.cpu_times(), process.cmdline()[:1]
        except psutil.Error:
            continue
        if name and name[0].startswith("ray::RayTrainWorker"):
            worker += times.user + times.system
        else:
            others += times.user + times.system
    return worker, others


class _Bare:
    """The same losses and networks with nothing around them but backward and torch's Adam."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        domains = Domains((Domain("a", 3, SIZE, SIZE), Domain("b", 3, SIZE, SIZE)))
        self.method = Pix2Pix(Pix2PixConfig(), domains).train()
        self.optimizers = {
            player.name: torch.optim.Adam(
                itertools.chain(*(getattr(self.method, n).parameters() for n in player.networks)),
                lr=2e-4,
                betas=(0.5, 0.999),
                fused=True,
            )
            for player in self.method.players()
        }
        a, b = torch.rand(2, 1, 3, SIZE, SIZE) * 2 - 1
        self.batch = Paired(positions=torch.tensor([0]), a=a, b=b)

    def step(self) -> None:
        step = Step(self.batch, images=0, seed=0, comm=Comm.alone(), weights=self.method.weights(), global_batch=1)
        for update in self.method.updates():
            step.begin(update.player)
            terms = update.backward(step)
            loss = sum(step.weights.get(name, 1.0) * value.mean() for name, value in terms.items())
            optimizer = self.optimizers[update.player]
            loss.backward(inputs=[p for group in optimizer.param_groups for p in group["params"]])
            optimizer.step()
            optimizer.zero_grad()


@pytest.fixture
def data(tmp_path: Path) -> str:
    return resolve(f"generated:maps?size={SIZE}&train=64&val=4&test=4", str(tmp_path / "data"))


@pytest.mark.timeout(600)
def test_overhead_of_reader_loop_and_run_folder(data, tmp_path, report):
    """A bare step runs in the training's own event callback, so that each pair of steps sees the same machine."""
    bare = _Bare()
    bare.batch = next(Reader(DataSettings(url=data), role=Paired, batch_size=1, group_size=1, **_ALONE).batches())
    pairs: list[tuple[float, float]] = []
    left = 0.0

    def on_event(event: dict) -> None:
        nonlocal left
        if event["event"] == "metrics":
            begun = time.process_time()
            bare.step()
            if event["images"] > FIRST:
                pairs.append((begun - left, time.process_time() - begun))
            left = time.process_time()

    launch.train(_experiment(data, "local", 1), root=str(tmp_path / "runs"), on_event=on_event)
    overhead = statistics.median(a / b - 1 for a, b in pairs)
    report(
        f"Framework overhead (reader, loop, events, run folder), pix2pix at {SIZE}, batch 1",
        f"{overhead:+.1%}",
        "<= 5%",
        f"CPU time beside the bare losses, backward and Adam, every step logged; median of {len(pairs)} alternated "
        f"steps; {statistics.median(b for _, b in pairs):.2f} s a bare step; {torch.get_num_threads()} threads",
    )
    assert overhead <= 0.05


@pytest.mark.timeout(600)
def test_overhead_of_ray(data, tmp_path, report):
    """What Ray's own processes and the driver use while a worker trains."""
    seen: dict[int, tuple[float, float]] = {}

    def on_event(event: dict) -> None:
        if event["event"] == "metrics":
            seen[event["images"]] = _cpu_s()

    launch.train(_experiment(data, "ray", FIRST), root=str(tmp_path / "runs"), on_event=on_event)
    worker, others = (after - before for before, after in zip(seen[FIRST], seen[LAST], strict=True))
    report(
        f"Ray's processes and the driver, pix2pix at {SIZE}, batch 1",
        f"{others / worker:+.1%}",
        "<= 5%",
        f"CPU time beside the training worker's, {LAST - FIRST} steps; {worker / (LAST - FIRST):.2f} s a step",
    )
    assert others / worker <= 0.05
