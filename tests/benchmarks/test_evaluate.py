"""Evaluation beside the bare networks: what the protocols add to feature extraction."""

import statistics
import time

import pytest
import torch

from i2idist.evaluate import PROTOCOLS, choose
from i2idist.evaluate.measures import IMAGES_AT_ONCE
from i2idist.evaluate.seen import Reals, Seen, Tools
from i2idist.metrics import networks
from i2idist.metrics.inception import FidInception

IMAGES, CHUNK, PAIRS = 10_000, 64, 7


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seconds(work):
    """Of this process's one thread, whatever else the machine does."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def fold_cost(features_of_chunk):
    """Seconds that a Fréchet distance of 10,000 translations to 10,000 reals takes beside extraction, per image."""
    fold = PROTOCOLS["frechet"].fold()

    def work():
        for number in range(-(-IMAGES // CHUNK)):
            rows = {"features": features_of_chunk(number)}
            fold.add(rows, False)
            fold.add(rows, True)
        return fold.estimate(0)

    spent, estimate = seconds(work)
    assert estimate.value == pytest.approx(0, abs=1e-3)
    return spent / (2 * IMAGES)


@pytest.mark.timeout(1800)
@torch.inference_mode()
def test_a_frechet_distance_adds_little_to_its_features(report):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(CHUNK, 3, 64, 64, generator=generator) * 2 - 1
    tools = Tools(networks.network())
    keep = PROTOCOLS["frechet"].keep_real
    keep(Reals(images[:16]), tools)
    found = statistics.median(seconds(lambda: keep(Reals(images), tools))[0] for _ in range(PAIRS)) / CHUNK
    wide = torch.randn(CHUNK, networks.card("stlpips-alex").width, generator=generator)
    added = fold_cost(lambda number: wide + 0.01 * number)
    share = added / found
    report(
        "Fréchet distance of 10,000 images, over its feature extraction, stlpips-alex at 64",
        f"{share:.1%}",
        "< 5 %",
        f"moments of 2 x {IMAGES:,} features and the distance, {added * 1e3:.3f} ms an image; extraction "
        f"{found * 1e3:.2f} ms an image, median of {PAIRS} chunks of {CHUNK}; CPU time of 1 thread",
    )
    assert share < 0.05


@pytest.mark.timeout(1800)
@torch.inference_mode()
def test_fid_adds_little_to_inception(report):
    """The weights can't be had here: random ones cost the same."""
    torch.manual_seed(0)
    network = FidInception().eval()
    images = torch.rand(IMAGES_AT_ONCE, 3, 64, 64) * 2 - 1
    prepare = networks.card("inception-fid").prepare
    network.features(prepare(images[:2]))
    found = statistics.median(seconds(lambda: network.features(prepare(images)))[0] for _ in range(3)) / len(images)
    wide = torch.randn(CHUNK, networks.card("inception-fid").width)
    added = fold_cost(lambda number: wide + 0.001 * number)
    share = added / found
    report(
        "FID of 10,000 images, over its feature extraction, Inception at 299 with random weights",
        f"{share:.1%}",
        "< 5 %",
        f"moments of 2 x {IMAGES:,} features of 2,048 and the distance, {added * 1e3:.2f} ms an image; extraction "
        f"{found * 1e3:.0f} ms an image, median of 3 batches of {IMAGES_AT_ONCE}; CPU time of 1 thread",
    )
    assert share < 0.05


@pytest.mark.timeout(1800)
@torch.inference_mode()
def test_diversity_runs_at_the_networks_own_speed(report):
    choice = choose("diversity-segan")
    network = networks.network(choice.network)
    outputs = torch.rand(3, choice.sampling.samples, 3, 64, 64) * 2 - 1
    seen = Seen(outputs[:, 0], outputs, torch.arange(3), 0)

    def bare():
        return [network.features(images) for images in outputs]

    def protocol():
        return choice.protocol.keep(seen, Tools(network))

    bare(), protocol()
    ratios, rates = [], []
    for _ in range(PAIRS):
        alone, _ = seconds(bare)
        whole, _ = seconds(protocol)
        ratios.append(alone / whole)
        rates.append((60 / whole, 60 / alone))
    ours, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
    report(
        "diversity of all 190 pairs, over the network's bare throughput, stlpips-alex at 64",
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})",
        ">= 0.9",
        f"median of {PAIRS} alternated pairs of 3 inputs x 20 outputs; {ours:.1f} / {theirs:.1f} images/s; CPU time of "
        "1 thread",
    )
    assert statistics.median(ratios) >= 0.9
