import numpy as np
import pytest
import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.pixels import best_of_l1, pixel_accuracy


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def level(value: int) -> float:
    return value / 127.5 - 1


def test_sixteen_levels_count_and_seventeen_do_not() -> None:
    truth = torch.full((3, 3, 2, 2), level(100))
    outputs = truth.clone()
    outputs[0, 1, 0, 0] = level(116)
    outputs[1, 1, 0, 0] = level(117)
    outputs[2, 2, 0, :] = level(83)
    assert pixel_accuracy(outputs, truth).tolist() == [1.0, 0.75, 0.5]


def test_it_is_numpy_s_count_on_stored_bytes() -> None:
    outputs, truth = images(4, 3, 9, 7), images(4, 3, 9, 7, seed=1) * 0.3
    stored = [np.rint((x.numpy().astype(np.float64) + 1) * 127.5).astype(int) for x in (outputs, truth)]
    expected = (np.abs(stored[0] - stored[1]) <= 40).all(1).mean((1, 2))
    assert 0 < expected.mean() < 1
    assert pixel_accuracy(outputs, truth, levels=40).tolist() == pytest.approx(expected.tolist())


def test_outputs_of_one_input_are_averaged_for_accuracy_and_the_best_is_taken_for_l1() -> None:
    truth = images(2, 3, 4, 4) * 0.5
    offsets = torch.tensor([[0.5, 0.01], [0.2, 0.3]])
    outputs = truth[:, None] + offsets[:, :, None, None, None]
    assert pixel_accuracy(outputs, truth).tolist() == [0.5, 0.0]
    assert best_of_l1(outputs, truth).tolist() == pytest.approx([0.01, 0.2], abs=1e-6)


def test_best_of_l1_is_numpy_s() -> None:
    outputs, truth = images(3, 5, 3, 6, 6), images(3, 3, 6, 6, seed=1)
    slow = [min(np.abs(o - t).mean() for o in many) for many, t in zip(outputs.numpy(), truth.numpy(), strict=True)]
    assert best_of_l1(outputs, truth).tolist() == pytest.approx(slow, rel=1e-5)


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="don't belong to 3 inputs"):
        pixel_accuracy(images(2, 3, 4, 4), images(3, 3, 4, 4))
    with pytest.raises(ConfigError, match="can't be compared"):
        best_of_l1(images(3, 2, 3, 4, 4), images(3, 1, 4, 4))
    with pytest.raises(ConfigError, match="not finite"):
        pixel_accuracy(images(1, 3, 4, 4) * torch.inf, images(1, 3, 4, 4))
