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
from i2idist.experiment import from_dict
from i2idist.method import Domain, Domains, Step
from i2idist.methods.pix2pix import Pix2Pix, Pix2PixConfig
from i2idist.train.comm import Comm

FIRST, STEPS, ALTERNATIONS = 8, 32, 5
SIZE = 128


def _cpu_s() -> float:
    """CPU seconds so far of this process and of all that it started."""
    total = 0.0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _framework_s(folder: Path, data: str, launcher: str) -> float:
    """CPU seconds a step of a whole training: reader, loop, events, launcher, and its idle parts."""
    experiment = from_dict(
        {
            "method": {"name": "pix2pix"},
            "data": {"url": data},
            "train": {"total_images": FIRST + STEPS, "batch_size": 1, "log_every_images": 8},
            "resources": {"num_workers": 1, "launcher": launcher, "threads_per_worker": torch.get_num_threads()},
        },
        "the benchmark",
    )
    seen: dict[int, float] = {}

    def on_event(event: dict) -> None:
        if event["event"] == "metrics":
            seen[event["images"]] = _cpu_s()

    launch.train(experiment, root=str(folder), on_event=on_event)
    return (seen[FIRST + STEPS] - seen[FIRST]) / STEPS


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

    def seconds(self) -> float:
        begun = time.process_time()
        for _ in range(STEPS):
            self.step()
        return (time.process_time() - begun) / STEPS


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_overhead(launcher, tmp_path, report):
    data = resolve(f"generated:maps?size={SIZE}&train=64&val=4&test=4", str(tmp_path / "data"))
    bare = _Bare()
    bare.step()
    pairs = [(_framework_s(tmp_path / f"{i}", data, launcher), bare.seconds()) for i in range(ALTERNATIONS)]
    overhead = statistics.median(a / b - 1 for a, b in pairs)
    spread = f"{min(a / b - 1 for a, b in pairs):+.1%} to {max(a / b - 1 for a, b in pairs):+.1%}"
    report(
        f"Framework overhead, {launcher} launcher, pix2pix at {SIZE}, batch 1",
        f"{overhead:+.1%} ({spread})",
        "<= 5%",
        f"CPU time beside the bare losses, backward and Adam; median of {ALTERNATIONS} alternations of {STEPS} steps; "
        f"{statistics.median(b for _, b in pairs):.2f} s a bare step; {torch.get_num_threads()} threads",
    )
    assert overhead <= 0.05
