"""The reader beside a plain loop over tar files with the same decoder; and its cost beside a training step."""

import io
import itertools
import statistics
import tarfile
import time

import numpy as np
import pytest
import torch
from PIL import Image

from i2idist import storage
from i2idist.data.batches import Images, Unpaired
from i2idist.data.images import decode
from i2idist.data.pack import Sample, pack
from i2idist.data.reader import DataSettings, Reader
from i2idist.data.transforms import to_unit

pytestmark = pytest.mark.slow

BATCH = 32
COUNT = 4_000
ALTERNATIONS = 5


def photo(number, size):
    """Smooth enough that JPEG compresses it as it does photographs."""
    generator = np.random.default_rng(number)
    small = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture
def photos(s3_url):
    samples = (Sample(f"s{number:05d}", "train", {"x": photo(number, 128)}) for number in range(COUNT))
    manifest = pack(samples, s3_url, name="photos", role="images", shard_bytes=4 * 2**20)
    return s3_url, manifest


def plain_loop(url, manifest):
    """Fetch each shard, walk its members, decode, stack."""
    images = []
    for shard in manifest.pool("train", "x").shards:
        data = storage.read_bytes(storage.join(url, shard.name))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                images.append(decode(tar.extractfile(member).read(), 3, 8, member.name))
                if len(images) == BATCH:
                    to_unit(np.stack(images))
                    images = []


def reader_loop(url, cache):
    settings = DataSettings(url=url, cache_dir=cache, memory_bytes=0)
    reader = Reader(settings, role=Images, batch_size=BATCH, group_size=1, rank=0, world_size=1, seed=0)
    for _ in itertools.islice(reader.batches(), COUNT // BATCH):
        pass
    reader.close()


def timed(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def test_the_reader_keeps_up_with_a_plain_loop_from_s3(photos, tmp_path, report):
    url, manifest = photos
    plain_loop(url, manifest)
    plain, cold, warm = [], [], []
    for number in range(ALTERNATIONS):
        plain.append(timed(plain_loop, url, manifest))
        cold.append(timed(reader_loop, url, str(tmp_path / str(number))))
        warm.append(timed(reader_loop, url, str(tmp_path / str(number))))
    ratios = [a / b for a, b in zip(plain, cold, strict=True)]
    rates = [f"{COUNT / statistics.median(times):,.0f}" for times in (cold, plain, warm)]
    report(
        "Reader from S3, first epoch, over a plain tar loop with the same decoder",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        ">= 0.9",
        f"median of {ALTERNATIONS} alternated pairs, {COUNT} JPEGs of 128x128, start included; {rates[0]} / {rates[1]} "
        f"images/s, {rates[2]} from the local cache",
    )
    assert statistics.median(ratios) >= 0.9


def test_small_images_cost_little_beside_a_training_step(tmp_path, report):
    """At most 5 % of an 80 ms step, batch 32, two pools of 32x32."""
    generator = np.random.default_rng(0)
    samples = [
        Sample(f"s{n:04d}", "train", {d: generator.integers(0, 256, (32, 32, c), dtype=np.uint8)})
        for n in range(1_500)
        for d, c in (("a", 1), ("b", 3))
    ]
    pack(samples, str(tmp_path / "d"), name="d", role="unpaired")
    settings = DataSettings(url=str(tmp_path / "d"), flip=True)
    torch.set_num_threads(1)
    reader = Reader(settings, role=Unpaired, batch_size=BATCH, group_size=1, rank=0, world_size=1, seed=0)
    costs = []
    for epoch in range(6):
        start = time.process_time()
        for _ in itertools.islice(reader.batches(epoch * 47), 47):
            pass
        costs.append((time.process_time() - start) / 47)
    reader.close()
    report(
        "Reader of two pools at 32x32, batch 32, from memory",
        f"{statistics.median(costs[1:]) * 1e3:.2f} ms a batch",
        "<= 4 ms",
        f"CPU time, median of {len(costs) - 1} epochs; {costs[0] * 1e3:.2f} ms in the first; 1 thread",
    )
    assert statistics.median(costs[1:]) <= 0.05 * 0.080
