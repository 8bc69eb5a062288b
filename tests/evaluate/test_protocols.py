"""Every protocol that needs no fetched weights, on small data; and what the list of them says."""

import json
from functools import partial

import pytest
import torch

from i2idist.cli import main
from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample, pack
from i2idist.errors import ConfigError
from i2idist.evaluate import PROTOCOLS, choose, evaluate, set_folds
from i2idist.evaluate.seen import Maps, Reals, Seen, Tools
from i2idist.metrics import networks, pixels
from i2idist.metrics.critic import CriticTraining, independent_wasserstein
from i2idist.model import load

OF_DIGITS = {
    "diversity-segan": (3, 3),
    "diversity-udit": (2, 20),
    "diversity-sdit": (3, 2),
    "frechet": (20, 1),
    "kmmd": (20, 1),
    "cis": (4, 8),
    "accuracy": (10, 2),
    "classifier-error": (10, 2),
    "misclassification": (10, 2),
    "confidence-drop": (10, 2),
    "reverse-classification": (40, 1),
    "mean-variance": (70, 1),
    "edge-iou": (10, 2),
}


@pytest.fixture(scope="module")
def found(segan, digits):
    """Every protocol's estimate, of one evaluation."""
    choices = [choose(name, inputs=inputs, samples=samples) for name, (inputs, samples) in OF_DIGITS.items()]
    records = evaluate(segan, digits, choices, launcher="local").records
    return {record.choice.protocol.name: record.estimate for record in records}


def test_all_give_a_number_of_the_inputs_and_outputs_that_were_asked_for(found):
    for name, (inputs, samples) in OF_DIGITS.items():
        assert found[name].value == found[name].value
        assert (found[name].counts["inputs"], found[name].counts["outputs"]) == (inputs, inputs * samples)
        assert (found[name].counts["reals"] > 0) == (PROTOCOLS[name].keep_real is not None)


def test_means_over_inputs_lie_in_their_intervals(found):
    for name in ("diversity-segan", "cis", "accuracy", "misclassification", "confidence-drop", "edge-iou"):
        assert found[name].low <= found[name].value <= found[name].high
        assert found[name].interval


def test_those_that_say_the_same_agree(found):
    assert 0 <= found["cis"].value <= found["cis"].details["is"] + 1e-12
    errors = [error for name, error in found["classifier-error"].details.items() if name.startswith("class-")]
    assert found["classifier-error"].value == pytest.approx(sum(errors) / len(errors))


def test_pixels_are_compared_with_the_inputs_own_target(plain, edges):
    choices = [choose("pixel-accuracy"), choose("best-l1", samples=2)]
    accuracy, best = evaluate(plain, edges, choices, launcher="local", split="test").records
    manifest = load_manifest(edges)
    from i2idist.data.batches import Paired
    from i2idist.data.reader import Reader
    from i2idist.data.settings import DataSettings

    reader = Reader(
        DataSettings(url=edges), role=Paired, batch_size=32, group_size=1, rank=0, world_size=1, seed=0, split="test"
    )
    batch = next(reader.epoch())
    reader.close()
    outputs = load(plain).translate(batch.a)
    assert manifest.role == "paired"
    torch.testing.assert_close(accuracy.estimate.each, pixels.pixel_accuracy(outputs, batch.b))
    torch.testing.assert_close(best.estimate.each, pixels.best_of_l1(outputs, batch.b))


def test_pairs_are_needed_where_targets_are(segan, digits):
    with pytest.raises(ConfigError, match="no paired dataset"):
        evaluate(segan, digits, [choose("pixel-accuracy")], launcher="local")


def test_a_discrepancy_of_subsets_needs_enough_inputs(segan, digits):
    with pytest.raises(ConfigError, match="takes 100 outputs at least, and there are 70"):
        evaluate(segan, digits, [choose("polynomial-mmd")], launcher="local")


def test_segmentation_and_depth_by_hand():
    truth = torch.tensor([[0, 1], [2, 2]])
    maps = torch.nn.functional.one_hot(truth, 3).permute(2, 0, 1)[None].float() * 2 - 1
    wrong = maps.clone()
    wrong[0, :, 1, 1] = torch.tensor([1.0, -1, -1])
    places = torch.arange(1)

    def value(name, outputs, targets):
        protocol, fold = PROTOCOLS[name], PROTOCOLS[name].fold()
        levels = ((targets + 1) * 127.5).round().long()
        seen = Seen(targets, outputs[:, None], places, 0, None, targets, Maps(levels, 255))
        fold.add(protocol.keep(seen, Tools()), False)
        return fold.estimate(0)

    assert value("miou", maps, maps).value == 1
    found = value("miou", wrong, maps)
    assert found.value == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert value("global-accuracy", wrong, maps).value == pytest.approx(0.75)
    assert found.details["iou-1"] == 1
    depths = torch.tensor([[[[0.2, 0.4], [0.8, -1.0]]]])
    assert value("depth", depths, depths).value == 1
    near = value("depth", depths, (depths + 1) * torch.tensor([1.2, 1.3]) - 1)
    assert near.value == pytest.approx(2 / 3)  # the pixel at -1 was never measured
    assert near.details["delta-2"] == 1


def test_reals_are_bounded_where_a_protocol_says_so(segan, digits, monkeypatch):
    import dataclasses

    small = dataclasses.replace(PROTOCOLS["kmmd"], reals=30)
    monkeypatch.setitem(PROTOCOLS, "kmmd", small)
    (record,) = evaluate(segan, digits, [choose("kmmd", inputs=10)], launcher="local").records
    assert record.estimate.counts["reals"] == 30


def test_the_list_says_what_each_needs(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["protocols", "--json"])
    assert not stop.value.code
    listed = {one["protocol"]: one for one in json.loads(capsys.readouterr().out)["protocols"]}
    assert list(listed) == list(PROTOCOLS)
    assert listed["diversity-segan"]["needs"] == ["codes", "weights:stlpips-alex"]
    assert listed["fid"]["networks"] == ["inception-fid"]
    assert listed["accuracy"]["needs"] == ["labels", "classifier"]
    assert listed["pixel-accuracy"]["needs"] == ["pairs"]
    for one in listed.values():
        assert one["measures"] and one["better"] in ("higher", "lower")
        assert bool(one["resize"]) == bool(one["network"])
    with pytest.raises(SystemExit):
        main(["protocols"])
    assert "diversity-segan" in capsys.readouterr().out


def test_a_network_is_refused_that_cannot_give_what_is_needed():
    with pytest.raises(ConfigError, match="stlpips-alex"):
        choose("diversity-segan:inception-fid")
    with pytest.raises(ConfigError, match="inception-fid"):
        choose("fid:stlpips-alex")
    assert choose("fid", network="stlpips-alex").network == "inception-fid"
    assert choose("frechet", network="stlpips-vgg").network == "stlpips-vgg"
    assert choose("frechet:stlpips-alex", network="stlpips-vgg").network == "stlpips-alex"


def test_grey_images_are_read_as_coloured_ones():
    from i2idist.evaluate.measures import confidence_drop
    from i2idist.metrics.classifier import Classifier

    torch.manual_seed(0)
    classifier = Classifier(3, 4).eval().requires_grad_(False)
    grey = torch.rand(2, 1, 16, 16) * 2 - 1
    seen = Seen(grey, grey.expand(-1, 3, -1, -1)[:, None], torch.arange(2), 0, torch.tensor([0, 3]))
    drop = confidence_drop(seen, Tools(classifier_or_none=classifier))["value"]
    torch.testing.assert_close(drop, torch.zeros(2, dtype=torch.float64), atol=1e-7, rtol=0)


def test_reals_give_the_features_of_the_network():
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    kept = PROTOCOLS["frechet"].keep_real(Reals(images), Tools(networks.network()))
    torch.testing.assert_close(kept["features"], networks.network().features(images), rtol=1e-4, atol=1e-6)


def test_the_critic_sees_translations_that_are_not_real(monkeypatch):
    """Real images against themselves and against noise, through the protocol's own functions; trained shortly."""
    short = CriticTraining(steps=40, batch=16, width=8)
    monkeypatch.setattr(set_folds, "independent_wasserstein", partial(independent_wasserstein, training=short))
    protocol = PROTOCOLS["wasserstein"]
    generator = torch.Generator().manual_seed(0)
    flat = torch.full((40, 3, 16, 16), 0.5) + torch.randn(40, 3, 16, 16, generator=generator) * 0.05
    noise = torch.rand(40, 3, 16, 16, generator=generator) * 2 - 1

    def distance(fakes):
        fold = protocol.fold()
        fold.add(protocol.keep(Seen(fakes, fakes[:, None], torch.arange(40), 0), Tools()), False)
        fold.add(protocol.keep_real(Reals(flat), Tools()), True)
        return fold.estimate(0).value

    assert distance(noise) > 10 * abs(distance(flat.flip(0)))


def test_classes_missing_on_inputs_are_named(plain, tmp_path):
    import numpy as np

    generator = np.random.default_rng(0)
    samples = [
        Sample(
            f"s{n}",
            "test",
            {d: generator.integers(0, 256, (16, 16, c), dtype=np.uint8) for d, c in (("a", 1), ("b", 3))},
        )
        for n in range(4)
    ]
    data = str(tmp_path / "pairs")
    pack(samples, data, name="pairs", role="paired", workers=1)
    with pytest.raises(ConfigError, match="no classes"):
        evaluate(plain, data, [choose("accuracy")], launcher="local")
