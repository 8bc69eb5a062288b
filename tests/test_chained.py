"""Models one after the other, from their folders to an evaluation."""

import numpy as np
import pytest
import torch

from i2idist.data.pack import Sample, pack
from i2idist.errors import ConfigError
from i2idist.evaluate import choose, evaluate
from i2idist.method import Domain, Domains
from i2idist.model import load, save
from i2idist.translate import Options, translate
from tests.methods.modal import make_mmnet
from tests.styled import save_tiny

DEPTH, RGB, LABELS = Domain("depth", 1, 16, 16), Domain("rgb", 3, 16, 16), Domain("labels", 1, 16, 16, classes=3)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed, (name, a, b) in enumerate((("first", DEPTH, RGB), ("second", RGB, LABELS))):
        method = make_mmnet(seed=seed, domains=Domains((a, b)))
        save(str(folder / name), method, method_name="mmnet", domains=Domains((a, b)))
    return f"{folder / 'first'}|{folder / 'second'}"


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    draws, samples = np.random.default_rng(0), []
    for n in range(5):
        labels = draws.integers(0, 3, (4, 4), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        samples.append(
            Sample(f"s{n}", "test", {"depth": draws.integers(0, 256, (16, 16), dtype=np.uint8), "labels": labels})
        )
    url = str(tmp_path_factory.mktemp("data") / "rooms")
    pack(samples, url, name="rooms", role="multimodal", domains=("depth", "labels"), workers=1)
    return url


def test_each_translates_what_the_one_before_made(models):
    chain = load(models)
    first, second = (load(url) for url in models.split("|"))
    x = torch.rand(3, 1, 16, 16) * 2 - 1
    assert torch.equal(chain.translate(x), second.translate(first.translate(x)[:, 0]))
    assert chain.card.domains.route() == (DEPTH, LABELS)
    assert chain.card.method == "mmnet | mmnet"


def test_a_chain_is_evaluated_and_translates_in_batch(models, rooms, tmp_path):
    (record,) = evaluate(models, rooms, [choose("miou")], launcher="local").records
    assert record.estimate.counts["inputs"] == 5 and 0 <= record.estimate.value <= 1
    done = translate(models, rooms, str(tmp_path), Options(), launcher="local")
    assert done.outputs == 5 and done.model == "first-then-second"
    assert translate(models, rooms, str(tmp_path), Options(), launcher="local").kept == done.shards


def test_models_that_do_not_fit_each_other_are_refused(models, tmp_path):
    first, second = models.split("|")
    with pytest.raises(ConfigError, match="'labels' goes on as 'depth'"):
        load(f"{second}|{first}")
    save_tiny(str(tmp_path / "coded"))
    with pytest.raises(ConfigError, match="segan takes codes"):
        load(f"{tmp_path / 'coded'}|{second}")
