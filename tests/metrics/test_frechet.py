import numpy as np
import pytest
import scipy.linalg
import torch

from i2idist.errors import ConfigError
from i2idist.metrics.frechet import frechet_distance
from i2idist.metrics.moments import Moments


def features(n: int, width: int, seed: int) -> torch.Tensor:
    """Correlated features whose spread differs by a factor of a thousand, as a network's do."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    scales = torch.logspace(0, -3, width, dtype=torch.float64)
    return torch.randn(n, width, generator=generator, dtype=torch.float64) * scales @ mixing + seed / 10


@pytest.mark.parametrize(("n", "m"), [(400, 300), (20, 300), (20, 30)])
def test_it_is_torchmetrics_value_for_full_and_singular_covariances(n: int, m: int) -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    x, y = features(n, 40, 1), features(m, 40, 2)
    expected = fid._compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T)).item()
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-4)


def test_it_is_the_matrix_square_root_s_value() -> None:
    x, y = features(200, 12, 1), features(150, 12, 4) * 1.5
    s, t = np.cov(x.numpy().T), np.cov(y.numpy().T)
    gap = np.square(x.numpy().mean(0) - y.numpy().mean(0)).sum()
    expected = gap + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-7)


def test_one_dimension_by_hand() -> None:
    # Means 1 and 5, unbiased variances 2 and 8: (1 - 5)^2 + (sqrt 2 - sqrt 8)^2.
    a, b = Moments.of(torch.tensor([[0.0], [2.0]])), Moments.of(torch.tensor([[3.0], [7.0]]))
    assert frechet_distance(a, b) == pytest.approx(18.0)


def test_a_set_is_at_zero_from_itself_also_when_singular() -> None:
    for n in (500, 10):
        moments = Moments.of(features(n, 40, 3))
        assert frechet_distance(moments, moments) == pytest.approx(0.0, abs=1e-9)


def test_the_order_does_not_matter() -> None:
    a, b = Moments.of(features(30, 40, 1)), Moments.of(features(100, 40, 2))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)


def test_what_can_not_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="width 3 and 4"):
        frechet_distance(Moments.of(torch.rand(9, 3)), Moments.of(torch.rand(9, 4)))
    with pytest.raises(ConfigError, match="2 samples"):
        frechet_distance(Moments.of(torch.rand(9, 3)), Moments.of(torch.rand(1, 3)))
