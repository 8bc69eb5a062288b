"""Batch translation beside the bare forward pass: design's costs to hold, section 11."""

import statistics
import time

import numpy as np
import pytest
import torch

from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample, pack
from i2idist.methods import SEGAN
from i2idist.methods.cyclegan import CycleGAN, CycleGANConfig
from i2idist.model import load, save
from i2idist.recipe import read_recipe
from i2idist.translate import Options, translate

BATCH, IMAGES, PAIRS = 16, 32, 5


@pytest.fixture(autouse=True)
def catalog(tmp_path, monkeypatch):
    monkeypatch.setenv("I2IDIST_CATALOG", f"sqlite:///{tmp_path}/catalog.db")


def photos(dest, size, count, channels=(3, 3)):
    """Smooth pictures, whose PNGs are as dear as photographs'."""
    generator = np.random.default_rng(0)

    def picture(channels):
        coarse = torch.from_numpy(generator.uniform(0, 255, (1, channels, 8, 8)).astype(np.float32))
        fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")[0].permute(1, 2, 0).numpy()
        noisy = fine + generator.normal(0, 4, fine.shape)
        return noisy.clip(0, 255).astype(np.uint8)

    samples = (
        Sample(f"s{n:04d}", "test", {d: picture(c) for d, c in zip("ab", channels, strict=True)}) for n in range(count)
    )
    pack(samples, dest, name="photos", role="paired")
    return dest


def saved(folder, method, name, domains):
    save(str(folder), method, method_name=name, domains=domains)
    return str(folder)


@torch.inference_mode()
def bare(translator, images, batch):
    """Seconds of the forward passes alone, in the same batches."""
    codes = translator.draw_codes(torch.arange(len(images)), 1, 0)[:, 0] if translator.card.code_dim else None
    begun = time.perf_counter()
    for at in range(0, len(images), batch):
        translator.method.translate(images[at : at + batch], None if codes is None else codes[at : at + batch])
    return time.perf_counter() - begun


def timed(url, data, out, options):
    begun = time.perf_counter()
    result = translate(url, data, out, options, launcher="local")
    return result, time.perf_counter() - begun


def compare(url, data, out, report, name, limit, threads):
    """The rate of jobs over that of the forward passes, alternated; a job of finished shards tells the fixed cost."""
    torch.set_num_threads(threads)
    translator = load(url)
    domain, count = translator.card.domains.a, load_manifest(data).pool("test", "a").count
    images = torch.rand(count, domain.channels, domain.height, domain.width) * 2 - 1
    bare(translator, images[:BATCH], BATCH)
    options, ratios, seconds = Options(threads=threads, batch_size=BATCH), [], []
    for number in range(PAIRS):
        forward = bare(translator, images, BATCH)
        result, whole = timed(url, data, f"{out}/{number}", options)
        again, fixed = timed(url, data, f"{out}/{number}", options)
        assert (result.kept, again.kept) == (0, result.shards)
        ratios.append(forward / (whole - fixed))
        seconds.append((forward, whole - fixed, fixed))
    forward, work, fixed = (statistics.median(side) for side in zip(*seconds, strict=True))
    stages = ", ".join(f"{stage} {each / count * 1e3:.2f}" for stage, each in result.stages.items())
    report(
        f"batch translation, {name}, over its bare forward passes",
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f}); limited by {result.limited_by}",
        limit,
        f"median of {PAIRS} alternated pairs of {count} images, batch {BATCH}, PNG; {count / work:.1f} / "
        f"{count / forward:.1f} images/s; ms an image: {stages}; fixed cost of a job {fixed:.2f} s; "
        f"{threads} threads",
    )
    return statistics.median(ratios)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("threads", [1, 2])
def test_cyclegan_at_128(tmp_path, report, threads):
    data = photos(str(tmp_path / "data"), 128, IMAGES)
    domains = load_manifest(data).domains_for(None)
    url = saved(tmp_path / "model", CycleGAN(CycleGANConfig(blocks=9), domains), "cyclegan", domains)
    ratio = compare(url, data, tmp_path, report, f"CycleGAN at 128, 9 blocks, {threads} threads", ">= 0.95", threads)
    assert ratio >= 0.95


def test_a_small_model_tells_its_slowest_stage(tmp_path, report):
    data = photos(str(tmp_path / "data"), 32, 1024, channels=(1, 3))
    domains = load_manifest(data).domains_for(None)
    values = read_recipe("segan_digits")[0]["method"]
    config = SEGAN.Config(**{key: value for key, value in values.items() if key != "name"})
    url = saved(tmp_path / "model", SEGAN(config, domains), "segan", domains)
    compare(url, data, tmp_path, report, "SEGAN of the demo at 32", "reported", 1)
