"""The memory that a training step of mix-and-match networks takes at the thesis's size: 256x256, batches of 6."""

import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import torch

from i2idist.data.batches import Multimodal
from i2idist.method import Domain, Domains
from i2idist.methods.mmnet import MMNet
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer

LIMIT_GIB = 12.0
SIZE, BATCH = 256, 6
STAGES = ("seen", "aligned", "pseudo_pairs")
DOMAINS = Domains(
    (Domain("rgb", 3, SIZE, SIZE), Domain("depth", 1, SIZE, SIZE), Domain("segmentation", 1, SIZE, SIZE, 14))
)


def _batches() -> Iterator[Multimodal]:
    """Three pairs with depth and three with label maps."""
    images = tuple(torch.rand(BATCH, channels, SIZE, SIZE) * 2 - 1 for channels in (3, 1))
    labels = torch.randint(0, 14, (BATCH, 1, SIZE // 8, SIZE // 8)).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with_depth = torch.arange(BATCH) % 2 == 0
    present = torch.stack([torch.ones(BATCH, dtype=torch.bool), with_depth, ~with_depth], dim=1)
    for number in itertools.count():
        yield Multimodal(
            positions=torch.arange(BATCH) + BATCH * number, images=(*images, labels / 127.5 - 1), present=present
        )


def measure(stage: str) -> dict[str, float]:
    """Peak resident memory in GiB of this process after a step of a stage, and its seconds."""
    with torch.no_grad():
        method = MMNet(MMNet.Config(), DOMAINS)
    total = 1000 * BATCH
    trainer = Trainer(method, Training(total_images=total, batch_size=BATCH), seed=0, comm=Comm.alone())
    trainer.images = {"seen": 0, "aligned": total // 2, "pseudo_pairs": 9 * total // 10}[stage]
    assert trainer.stage.name == stage
    batches, begun = _batches(), time.perf_counter()
    trainer.step(batches)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
    return {"gib": peak, "seconds": time.perf_counter() - begun, "parameters": count(method)}


def count(method: MMNet) -> int:
    return sum(parameter.numel() for parameter in method.parameters())


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_at_the_thesis_size(stage, report):
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.test_memory", stage], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    report(
        f"mmnet at 256, batch 6, stage {stage}: peak memory of a training step",
        f"{found['gib']:.2f} GiB",
        f"<= {LIMIT_GIB:g} GiB",
        f"resident, whole process; {found['parameters'] / 1e6:.1f}M parameters, float32; "
        f"{found['seconds']:.0f} s; {torch.get_num_threads()} threads",
    )
    assert found["gib"] <= LIMIT_GIB


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
