"""What only a GPU can show. Skipped, plainly, where there is none: `make test-gpu` says so."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from i2idist import randomness
from i2idist.conformance import cases_of
from i2idist.conformance.training import SEED, batches, settings
from i2idist.methods import METHODS
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED: no CUDA device here")]


def test_keyed_randomness_is_equal_on_cpu_and_cuda():
    positions = torch.arange(1000)
    key = randomness.key_of(SEED, "gpu")
    cpu, cuda = (randomness.sample_keys(key, positions.to(device)) for device in ("cpu", "cuda"))
    assert torch.equal(cpu, cuda.cpu())
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(randomness.uniform(cpu, (257,), dtype), randomness.uniform(cuda, (257,), dtype).cpu())
        a, b = randomness.normal(cpu, (257,), dtype), randomness.normal(cuda, (257,), dtype).cpu()
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)
    assert torch.equal(randomness.bernoulli(cpu, 0.3, (257,)), randomness.bernoulli(cuda, 0.3, (257,)).cpu())
    assert torch.equal(randomness.permutation(key, 1000), randomness.permutation(key, 1000, "cuda").cpu())


def _trained(method: str, device: str, precision: str, steps: int = 3) -> dict[str, torch.Tensor]:
    case = cases_of(method)[0]
    built = case.build()
    trainer = Trainer(built, settings(built, precision, steps), seed=SEED, comm=Comm.alone(), device=device)
    for _ in range(steps):
        trainer.step(batches(case, built, Comm.alone(), trainer.batches, trainer.training.batch_size))
    return {name: tensor.cpu() for name, tensor in trainer.state().tensors.items() if name.startswith("method.")}


@pytest.mark.parametrize("method", METHODS)
def test_cuda_trains_as_the_cpu_does(method):
    cpu, cuda = (_trained(method, device, "float64") for device in ("cpu", "cuda"))
    for name, tensor in cpu.items():
        torch.testing.assert_close(cuda[name], tensor, rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_trains(method):
    assert all(bool(tensor.isfinite().all()) for tensor in _trained(method, "cuda", "bfloat16").values())


def _on_rank(rank: int, world_size: int, port: int, method: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=world_size)
    comm = Comm(device=f"cuda:{rank}")
    case = cases_of(method)[0]
    built = case.build()
    trainer = Trainer(built, settings(built, "float64", 3), seed=SEED, comm=comm, device=f"cuda:{rank}")
    for _ in range(3):
        trainer.step(batches(case, built, comm, trainer.batches, trainer.training.batch_size))
    assert trainer.same_everywhere()
    alone = _trained(method, f"cuda:{rank}", "float64")
    for name, tensor in alone.items():
        torch.testing.assert_close(trainer.state().tensors[f"{name}"].cpu(), tensor, rtol=0, atol=1e-7, msg=name)
    dist.destroy_process_group()


@pytest.mark.parametrize("method", METHODS)
def test_nccl_workers_equal_one(method):
    world_size = min(torch.cuda.device_count(), 4)
    if world_size < 2:
        pytest.skip("SKIPPED: NCCL across workers needs two GPUs; one worker over NCCL is tested by the others")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_on_rank, args=(world_size, port, method), nprocs=world_size)


def test_memory_does_not_grow():
    case = cases_of("cyclegan")[0]
    method = case.build()
    trainer = Trainer(method, Training(total_images=400, batch_size=4), seed=SEED, comm=Comm.alone(), device="cuda")
    used = []
    for _ in range(40):
        trainer.step(batches(case, method, Comm.alone(), trainer.batches, 4))
        used.append(torch.cuda.memory_allocated())
    assert max(used[20:]) <= max(used[10:20])
