"""What the framework costs beside forward, backward and optimizer step: CPU time of all that it starts, at 128x128."""

import itertools
import statistics
import time
from pathlib import Path

import psutil
import pytest
import torch

from i2idist import launch
from i2idist.data.generated import resolve
from i2idist.data.reader import DataSettings, Reader
from i2idist.experiment import from_dict
from i2idist.method import Domain, Domains, Step
from i2idist.methods import CycleGAN, Pix2Pix
from i2idist.methods.cyclegan import CycleGANConfig
from i2idist.methods.pix2pix import Pix2PixConfig
from i2idist.train.comm import Comm

SIZE, FIRST = 128, 4
LOGGED = 4
"""Steps between logs: 250 times as often as the default, so that there are enough to take the median of."""
METHODS = {"pix2pix": (Pix2Pix, Pix2PixConfig(), 88), "cyclegan": (CycleGAN, CycleGANConfig(blocks=9), 20)}
"""Class, config and the steps that are taken; pix2pix has the shortest step of all methods for its parameters."""


def _experiment(name: str, data: str, launcher: str, log_every_images: int):
    _, config, steps = METHODS[name]
    return from_dict(
        {
            "method": {"name": name, **({"blocks": config.blocks} if name == "cyclegan" else {})},
            "data": {"url": data},
            "train": {"total_images": FIRST + steps, "batch_size": 1, "log_every_images": log_every_images},
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
    """The same losses and networks on one batch, with nothing around them but backward and torch's Adam."""

    def __init__(self, name: str, data: str) -> None:
        torch.manual_seed(0)
        domains = Domains((Domain("a", 3, SIZE, SIZE), Domain("b", 3, SIZE, SIZE)))
        kind, config, _ = METHODS[name]
        self.method = kind(config, domains).train()
        self.optimizers = {
            player.name: torch.optim.Adam(
                itertools.chain(*(getattr(self.method, n).parameters() for n in player.networks)),
                lr=2e-4,
                betas=(0.5, 0.999),
                fused=True,
            )
            for player in self.method.players()
        }
        alone = {"group_size": 1, "rank": 0, "world_size": 1, "seed": 0}
        self.batch = next(Reader(DataSettings(url=data), role=kind.batch_type(config), batch_size=1, **alone).batches())

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


def _beside_the_bare_step(name: str, data: str, root: str) -> tuple[float, str]:
    """The overhead of reader, loop, events, tracking and run folder: the median over windows of steps.

    Bare steps run in the training's own event callback, so that each pair of windows sees the same machine.
    """
    bare = _Bare(name, data)
    pairs: list[tuple[float, float]] = []
    left = 0.0

    def on_event(event: dict) -> None:
        nonlocal left
        if event["event"] == "metrics":
            begun = time.process_time()
            for _ in range(LOGGED):
                bare.step()
            if event["images"] > FIRST:
                pairs.append((begun - left, time.process_time() - begun))
            left = time.process_time()

    launch.train(_experiment(name, data, "local", LOGGED), root=root, on_event=on_event)
    bare_s = statistics.median(b for _, b in pairs)
    how = f"{len(pairs)} alternated windows of {LOGGED} steps, {bare_s / LOGGED:.2f} s each"
    return statistics.median(a / b - 1 for a, b in pairs), how


def _of_ray(name: str, data: str, root: str) -> tuple[float, str]:
    """What Ray's own processes and the driver use beside the worker, while it trains.

    Nine of Ray's processes, our channel and the driver took 0.6 to 1 % of a core each, most of it with nothing to do:
    an idle actor's main thread wakes a hundred times a second. On two cores that is 5 % of the work, whatever it is.
    """
    first, last = FIRST, FIRST + METHODS[name][2] - LOGGED  # the very last log is told when training ends
    seen: dict[int, tuple[float, float]] = {}

    def on_event(event: dict) -> None:
        if event["event"] == "metrics" and event["images"] in (first, last):
            seen[event["images"]] = _cpu_s()  # no oftener: to look at all processes costs the driver some itself

    launch.train(_experiment(name, data, "ray", LOGGED), root=root, on_event=on_event)
    worker, others = (after - before for before, after in zip(seen[first], seen[last], strict=True))
    return others / worker, f"{last - first} steps of {worker / (last - first):.2f} s"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", METHODS)
def test_overhead(name: str, tmp_path: Path, report):
    data = resolve(f"generated:maps?size={SIZE}&train=64&val=4&test=4", str(tmp_path / "data"))
    loop, loop_how = _beside_the_bare_step(name, data, str(tmp_path / "local"))
    ray, ray_how = _of_ray(name, data, str(tmp_path / "ray"))
    whole = (1 + loop) * (1 + ray) - 1
    report(
        f"Framework overhead, {name} at {SIZE}, batch 1",
        f"{whole:+.1%}",
        "<= 5%",
        f"CPU time; reader, loop, events, tracking, run folder {loop:+.1%} of a bare step with torch's Adam (median of "
        f"{loop_how}; one of {LOGGED} is logged), Ray and driver {ray:+.1%} of the worker ({ray_how}); "
        f"{torch.get_num_threads()} threads",
    )
    assert whole <= 0.05
