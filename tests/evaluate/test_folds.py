"""Folds: what they keep, and in what they don't differ."""

import pickle

import pytest
import torch

from i2idist.errors import DataError
from i2idist.evaluate import PROTOCOLS
from i2idist.evaluate.folds import MeanOverInputs
from i2idist.evaluate.set_folds import Frechet, MeanVariance
from i2idist.metrics.frechet import frechet_distance
from i2idist.metrics.moments import Moments


def chunks(count, size=64, width=8):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, width, generator=generator) for _ in range(count)]


def test_the_frechet_distance_is_that_of_all_features_together():
    fakes, reals = chunks(40), [chunk * 2 + 1 for chunk in chunks(30)]
    fold = Frechet()
    for fake in fakes:
        fold.add({"features": fake}, False)
    for real in reals:
        fold.add({"features": real}, True)
    whole = frechet_distance(Moments.of(torch.cat(fakes)), Moments.of(torch.cat(reals)))
    assert fold.estimate(0).value == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(("fold", "name"), [(Frechet, "features"), (MeanVariance, None)])
def test_memory_is_flat_in_the_number_of_images(fold, name):
    def size(count):
        made = fold()
        for chunk in chunks(count):
            rows = {name: chunk} if name else PROTOCOLS["mean-variance"].keep(_seen(chunk), None)
            made.add(rows, False)
        return len(pickle.dumps(made))

    assert size(640) < 1.2 * size(62)  # 3968 features: nearly as many as are kept at any time


def _seen(chunk):
    from i2idist.evaluate.seen import Seen

    images = chunk.reshape(64, 1, 1, 2, 4)
    return Seen(images[:, 0], images, torch.arange(64), 0)


def test_nothing_folded_is_no_value():
    for protocol in PROTOCOLS.values():
        with pytest.raises(DataError, match="There are no"):
            protocol.fold().estimate(0)


def test_one_input_has_no_interval():
    fold = MeanOverInputs()
    fold.add({"value": torch.tensor([0.5])}, False)
    found = fold.estimate(0)
    assert (found.value, found.low, found.high, found.interval) == (0.5, None, None, "")
