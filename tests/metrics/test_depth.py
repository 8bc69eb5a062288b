import numpy as np
import pytest
import torch
from sklearn.metrics import root_mean_squared_error
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.depth import MEASURES, depth_errors, depth_sums


def depths(seed: int, n: int = 3) -> Tensor:
    return torch.rand(n, 1, 6, 5, generator=torch.Generator().manual_seed(seed)) * 9 + 1


def test_measures_are_numpy_s_and_scikit_learn_s_over_all_pixels() -> None:
    truth = depths(0)
    predicted = truth * (1 + 0.4 * (depths(1) - 5.5) / 4.5)
    found = {name: value.item() for name, value in depth_errors(depth_sums(predicted, truth).sum(0)).items()}
    p, t = predicted.double().numpy().ravel(), truth.double().numpy().ravel()
    ratio = np.maximum(p / t, t / p)
    assert found == pytest.approx(
        {
            "delta_1": (ratio < 1.25).mean(),
            "delta_2": (ratio < 1.25**2).mean(),
            "delta_3": (ratio < 1.25**3).mean(),
            "rmse_linear": root_mean_squared_error(t, p),
            "rmse_log": root_mean_squared_error(np.log(t), np.log(p)),
        }
    )
    assert 0 < found["delta_1"] < found["delta_2"] < found["delta_3"]
    assert tuple(found) == MEASURES


def test_by_hand() -> None:
    truth, predicted = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 4.0]]]])
    errors = depth_errors(depth_sums(predicted, truth)[0])
    assert errors["delta_3"].item() == 0.5
    assert errors["rmse_linear"].item() == pytest.approx(2**0.5)
    assert errors["rmse_log"].item() == pytest.approx(np.log(2) / 2**0.5)


def test_the_bound_itself_is_not_within() -> None:
    truth = torch.tensor([[[[4.0, 5.0]]]])
    assert depth_sums(truth.flip(3), truth)[0, 1].item() == 0
    assert depth_sums(truth.flip(3) * 0.999, truth)[0, 1].item() == 1


def test_pixels_without_a_measurement_do_not_count() -> None:
    truth = torch.tensor([[[[2.0, 0.0, torch.nan, torch.inf, -1.0]]]])
    predicted = torch.tensor([[[[3.0, 7.0, 7.0, 7.0, 7.0]]]])
    assert depth_sums(predicted, truth).tolist()[0] == pytest.approx([1, 0, 1, 1, 1, np.log(1.5) ** 2])


def test_predictions_are_raised_to_the_floor() -> None:
    truth = torch.ones(1, 1, 1, 2)
    predicted = torch.tensor([[[[-3.0, 0.0]]]])
    assert torch.equal(depth_sums(predicted, truth, floor=0.5), depth_sums(truth * 0.5, truth))


def test_many_sums_at_once_as_a_bootstrap_needs_them() -> None:
    sums = depth_sums(depths(1), depths(0))
    each = [depth_errors(row)["rmse_log"].item() for row in sums]
    assert depth_errors(sums / 3)["rmse_log"].tolist() == pytest.approx(each)


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs two of one shape"):
        depth_sums(depths(0)[:2], depths(0))
    with pytest.raises(ConfigError, match="not finite"):
        depth_sums(depths(0) * torch.nan, depths(0))
    with pytest.raises(ConfigError, match="must be positive"):
        depth_sums(depths(0), depths(0), floor=0)
    with pytest.raises(ConfigError, match="No depth was measured"):
        depth_errors(depth_sums(depths(0), depths(0) * 0).sum(0))
