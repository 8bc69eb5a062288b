"""Folds of whole sets: their intervals, and what must not change their values."""

import pytest
import torch

from i2idist.evaluate import PROTOCOLS
from i2idist.evaluate.set_folds import KEPT, Frechet, InceptionScore, MeanVariance


def test_every_protocol_says_how_its_interval_is_made():
    for protocol in PROTOCOLS.values():
        assert protocol.describe()["interval"].startswith("95 %")


def test_an_inception_score_does_not_depend_on_how_storage_is_sorted():
    """By class, say: then each split of neighbours would hold few classes."""
    classes = torch.arange(200) // 20
    probabilities = torch.nn.functional.one_hot(classes, 10).double()[:, None]
    fold = InceptionScore()
    fold.add({"probabilities": probabilities}, False)
    found = fold.estimate(0)
    assert found.value > 5  # of the 10 that there are; 1 in the order of storage
    assert found.low < found.value < found.high


def fed(fold, count, *, clusters=1, seed=0, width=4):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count // 50):
        fakes = torch.randn(50, 1, width, generator=generator).expand(-1, clusters, -1)
        fold.add({"features": fakes}, False)
        fold.add({"features": torch.randn(50, width, generator=generator) + 0.7}, True)
    return fold


def width_of(found):
    return found.high - found.low


def test_equal_outputs_of_an_input_do_not_narrow_an_interval():
    one, ten = (fed(Frechet(), 300, clusters=clusters).estimate(0) for clusters in (1, 10))
    assert ten.value == pytest.approx(one.value, rel=0.05)
    assert width_of(ten) == pytest.approx(width_of(one), rel=0.05)


def test_the_features_that_are_kept_stand_for_all():
    many, few = fed(Frechet(), 20 * KEPT), fed(Frechet(), 5 * KEPT)
    assert width_of(many.estimate(0)) == pytest.approx(width_of(few.estimate(0)) / 2, rel=0.1)


def test_a_singular_covariance_has_no_interval():
    found = fed(Frechet(), 50, width=64).estimate(0)
    assert found.low is None
    assert found.notes


@pytest.mark.parametrize("name", ["polynomial-mmd", "kmmd"])
def test_discrepancies_have_intervals_that_narrow(name):
    few, many = (fed(PROTOCOLS[name].fold(), count).estimate(0) for count in (200, 800))
    assert many.low < many.value < many.high
    assert width_of(many) < 0.75 * width_of(few)


def test_a_mean_variance_has_one_where_every_group_has_inputs():
    keep = PROTOCOLS["mean-variance"].keep

    def estimate(inputs):
        from i2idist.evaluate.seen import Seen, Tools

        images = torch.rand(inputs, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
        fold = MeanVariance()
        for start in range(0, inputs, 5):
            part = images[start : start + 5]
            places = torch.arange(start, start + len(part))
            fold.add(keep(Seen(part[:, 0], part, places, 0), Tools()), False)
        assert fold.estimate(0).value == pytest.approx(images.flatten(1).double().var(0).mean().item(), rel=1e-6)
        return fold.estimate(0)

    assert estimate(7).low is None
    found = estimate(203)
    assert found.low < 1 / 3 < found.high  # the variance of a uniform number in [-1, 1]
