"""A training step of ours beside the reference's, alternated in one process: design's costs to hold, section 11."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from i2idist.data.batches import Batch, Labelled, Paired, Unpaired
from i2idist.method import Domain, Domains
from i2idist.methods.bicyclegan import BicycleGAN, BicycleGANConfig
from i2idist.methods.cyclegan import CycleGAN, CycleGANConfig
from i2idist.methods.munit import MUNIT, MUNITConfig
from i2idist.methods.pix2pix import Pix2Pix, Pix2PixConfig
from i2idist.methods.stargan import StarGAN, StarGANConfig
from i2idist.methods.unit import UNIT, UNITConfig
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.benchmarks.reference import CycleGANReference, Pix2PixReference, StarGANReference
from tests.benchmarks.reference_bicyclegan import BicycleGANReference
from tests.benchmarks.reference_munit import MUNITReference
from tests.benchmarks.reference_unit import UNITReference

PAIRS = 7


def _domains(size: int) -> Domains:
    return Domains((Domain("a", 3, size, size), Domain("b", 3, size, size)))


def _batches(kind: type[Batch], size: int, batch_size: int = 1) -> Iterator[Batch]:
    a, b = torch.rand(2, batch_size, 3, size, size) * 2 - 1
    return (kind(positions=torch.arange(batch_size) + batch_size * i, a=a, b=b) for i in itertools.count())


def _trainer(method, precision: str, channels_last: bool, batch_size: int = 1) -> Trainer:
    training = Training(total_images=10**9, batch_size=batch_size, precision=precision, channels_last=channels_last)
    return Trainer(method, training, seed=0, comm=Comm.alone())


def _pix2pix(precision: str, channels_last: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    trainer = _trainer(Pix2Pix(Pix2PixConfig(), _domains(256)), precision, channels_last)
    rival = Pix2PixReference()
    counts = [sum(p.numel() for p in m.parameters()) for m in (trainer.method.G, trainer.method.D, rival.G, rival.D)]
    assert counts[:2] == counts[2:]
    batches = _batches(Paired, 256)
    batch = next(batches)
    return lambda: trainer.step(batches), lambda: rival.step(batch.a, batch.b)


def _cyclegan(precision: str, channels_last: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    trainer = _trainer(CycleGAN(CycleGANConfig(blocks=9), _domains(128)), precision, channels_last)
    rival = CycleGANReference()
    method = trainer.method
    counts = [sum(p.numel() for p in m.parameters()) for m in (method.G, method.D_X, rival.G, rival.D_X)]
    assert counts[:2] == counts[2:]
    batches = _batches(Unpaired, 128)
    batch = next(batches)
    return lambda: trainer.step(batches), lambda: rival.step(batch.a, batch.b)


def _bicyclegan(precision: str, channels_last: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """Batch 2: one sample is encoded."""
    trainer = _trainer(BicycleGAN(BicycleGANConfig(), _domains(256)), precision, channels_last, batch_size=2)
    rival = BicycleGANReference()
    method = trainer.method
    networks = (method.G, method.E, method.D, rival.G, rival.E, rival.D)
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts[:3] == counts[3:]
    batches = _batches(Paired, 256, 2)
    batch = next(batches)
    return lambda: trainer.step(batches), lambda: rival.step(batch.a, batch.b)


def _munit(precision: str, channels_last: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    trainer = _trainer(MUNIT(MUNITConfig(), _domains(128)), precision, channels_last)
    rival = MUNITReference()
    method = trainer.method
    networks = (method.G_1, method.D_1, rival.gen_a, rival.dis_a)
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts[:2] == counts[2:]
    batches = _batches(Unpaired, 128)
    batch = next(batches)
    return lambda: trainer.step(batches), lambda: rival.step(batch.a, batch.b)


def _unit(precision: str, channels_last: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """The public code's networks and loss."""
    config = UNITConfig(
        networks="public",
        gan="least_squares",
        shared_layers=0,
        lambda_gan=1.0,
        lambda_kl=0.0,
        lambda_recon=10.0,
        lambda_cycle_kl=0.02,
        lambda_cycle=10.0,
        discriminator_layers=4,
        weight_decay=1e-4,
    )
    trainer = _trainer(UNIT(config, _domains(128)), precision, channels_last)
    rival = UNITReference()
    method = trainer.method
    networks = (method.E_L1, method.G_L1, method.D_1, rival.gen_a.encoder, rival.gen_a.decoder, rival.dis_a)
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts[:3] == counts[3:]
    batches = _batches(Unpaired, 128)
    batch = next(batches)
    return lambda: trainer.step(batches), lambda: rival.step(batch.a, batch.b)


def _stargan(precision: str, channels_last: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """Batch 4, five attributes; one step of D and one of G."""
    names, batch_size = ("a", "b", "c", "d", "e"), 4
    domains = Domains((Domain("image", 3, 128, 128),), names)
    method = StarGAN(StarGANConfig(attributes=names, critic_steps=1), domains)
    trainer = _trainer(method, precision, channels_last, batch_size)
    rival = StarGANReference(len(names), 128)
    counts = [sum(p.numel() for p in m.parameters()) for m in (method.G, method.D, rival.G, rival.D)]
    assert counts[:2] == counts[2:]
    x, y = torch.rand(batch_size, 3, 128, 128) * 2 - 1, torch.randint(2, (batch_size, len(names))).float()
    positions = torch.arange(batch_size)
    batches = (Labelled(positions=positions + i * batch_size, x=x, y=y) for i in itertools.count())
    return lambda: trainer.step(batches), lambda: rival.step(x, y)


def _seconds(function: Callable[[], None]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def _convolution(dtype: torch.dtype) -> Callable[[], None]:
    """Forward and backward of the 64 -> 64 3x3 convolution that design's costs are counted in."""
    x = torch.randn(1, 64, 128, 128, dtype=dtype, requires_grad=True)
    weight = (0.02 * torch.randn(64, 64, 3, 3)).to(dtype).requires_grad_()
    return lambda: torch.nn.functional.conv2d(x, weight, padding=1).sum().backward()


def _bare_bfloat16_ratio() -> float:
    half, full = _convolution(torch.bfloat16), _convolution(torch.float32)
    for function in (half, full, half, full):
        function()
    return statistics.median(_seconds(half) / _seconds(full) for _ in range(15))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "make", "precision", "limit"),
    [
        ("pix2pix step at 256, batch 1", _pix2pix, "float32", 1.0),
        ("pix2pix step at 256, batch 1", _pix2pix, "bfloat16", 0.62),
        ("CycleGAN step at 128, 9 blocks, batch 1", _cyclegan, "float32", 1.0),
        ("CycleGAN step at 128, 9 blocks, batch 1", _cyclegan, "bfloat16", 0.62),
        ("BicycleGAN step at 256, batch 2", _bicyclegan, "float32", 0.9),
        ("BicycleGAN step at 256, batch 2", _bicyclegan, "bfloat16", 0.62),
        ("MUNIT step at 128, batch 1", _munit, "float32", 0.9),
        ("MUNIT step at 128, batch 1", _munit, "bfloat16", 0.62),
        ("UNIT step at 128, batch 1", _unit, "float32", 0.9),
        ("UNIT step at 128, batch 1", _unit, "bfloat16", 0.62),
        ("StarGAN step at 128, one of D and one of G, batch 4", _stargan, "float32", 1.0),
        ("StarGAN step at 128, one of D and one of G, batch 4", _stargan, "bfloat16", 0.62),
    ],
)
def test_step_beside_the_reference(name, make, precision, limit, report):
    if precision == "bfloat16" and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this CPU has no avx512_bf16")
    ours, reference = make(precision, channels_last=False)
    for function in (ours, reference, ours, reference):
        function()
    pairs = [(_seconds(ours), _seconds(reference)) for _ in range(PAIRS)]
    ratio = statistics.median(a / b for a, b in pairs)
    spread = f"{min(a / b for a, b in pairs):.2f}-{max(a / b for a, b in pairs):.2f}"
    seconds = " / ".join(f"{statistics.median(side):.2f}" for side in zip(*pairs, strict=True))
    report(
        f"{name}, {precision}, over the float32 reference",
        f"{ratio:.2f} ({spread})",
        f"<= {limit}",
        f"median of {PAIRS} alternated pairs; {seconds} s; {torch.get_num_threads()} threads",
    )
    if precision == "bfloat16":
        bare = _bare_bfloat16_ratio()
        report(
            "Bare 64->64 3x3 convolution, bfloat16 over float32",
            f"{bare:.2f}",
            "-",
            "forward and backward, median of 15",
        )
        if bare > limit:
            pytest.skip(f"SKIPPED: a bare bfloat16 convolution takes {bare:.2f} of float32's time on this CPU")
    assert ratio <= limit
