import math

import pytest
import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.diversity import all_pairs, pair_distances, random_pairs, tabled_pair_distances
from i2idist.metrics.networks import network


def images(n: int, k: int, side: int = 8) -> Tensor:
    return torch.rand(n, k, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def squared(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().flatten(1).sum(1)


def squared_table(x: Tensor) -> Tensor:
    return torch.cdist(x.flatten(1), x.flatten(1)).square()


def test_all_pairs_are_190_of_20_and_45_of_10() -> None:
    assert len(all_pairs(20)) == 190
    assert len(all_pairs(10)) == 45
    assert all_pairs(3).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_random_pairs_are_different_ones_that_depend_on_seed_and_input_alone() -> None:
    pairs = random_pairs(20, 19, torch.arange(100), seed=0)
    assert pairs.shape == (100, 19, 2)
    assert (pairs[..., 0] < pairs[..., 1]).all()
    assert all(len({tuple(pair) for pair in rows}) == 19 for rows in pairs.tolist())
    assert torch.equal(random_pairs(20, 19, torch.tensor([7]), seed=0)[0], pairs[7])
    assert not torch.equal(pairs[7], pairs[8])
    assert not torch.equal(random_pairs(20, 19, torch.tensor([7]), seed=1)[0], pairs[7])


def test_every_pair_is_drawn_equally_often() -> None:
    drawn = random_pairs(5, 3, torch.arange(2000), seed=0).reshape(-1, 2)
    counts = torch.unique(drawn, dim=0, return_counts=True)[1]
    assert len(counts) == 10
    assert ((counts - 600).abs() < 5 * math.sqrt(600 * 0.7)).all()


def test_distances_are_those_of_the_named_pairs() -> None:
    outputs, pairs = images(3, 4), torch.tensor([[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[0, 3], [1, 2]]])
    slow = [[(outputs[n, i] - outputs[n, j]).square().sum().item() for i, j in pairs[n].tolist()] for n in range(3)]
    expected = torch.tensor(slow, dtype=torch.float64)
    torch.testing.assert_close(pair_distances(outputs, pairs, squared), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(tabled_pair_distances(outputs, pairs, squared_table), expected, rtol=1e-5, atol=0)


def test_segan_s_protocol_sees_each_image_once_and_gives_the_mean_of_all_pairs() -> None:
    outputs = images(2, 4, 32)
    values = pair_distances(outputs, all_pairs(4), network().distance)
    assert values.shape == (2, 6)
    tabled = tabled_pair_distances(outputs, all_pairs(4), network().distances)
    torch.testing.assert_close(tabled, values, rtol=1e-4, atol=1e-7)


def test_the_mean_of_random_pairs_estimates_that_of_all() -> None:
    outputs = images(60, 20)
    whole = pair_distances(outputs, all_pairs(20), squared).mean(1)
    drawn = pair_distances(outputs, random_pairs(20, 19, torch.arange(60), 3), squared).mean(1)
    assert drawn.mean().item() == pytest.approx(whole.mean().item(), rel=0.01)


def test_inputs_are_measured_one_by_one() -> None:
    outputs = images(70, 2)
    for measure in (
        lambda part: pair_distances(part, all_pairs(2), squared),
        lambda part: tabled_pair_distances(part, all_pairs(2), squared_table),
    ):
        assert torch.equal(torch.cat([measure(part) for part in outputs.split(32)]), measure(outputs))


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_samples=2"):
        all_pairs(1)
    with pytest.raises(ConfigError, match="4 pairs of 3 outputs: there are 3"):
        random_pairs(3, 4, torch.arange(2), seed=0)
    with pytest.raises(ConfigError, match="output 3 of 3"):
        pair_distances(images(1, 3), all_pairs(4), squared)
    with pytest.raises(ConfigError, match="don't belong to 2 inputs"):
        pair_distances(images(2, 3), random_pairs(3, 1, torch.arange(3), 0), squared)
    with pytest.raises(ConfigError, match="one input at least"):
        pair_distances(images(1, 3)[:0], all_pairs(3), squared)
