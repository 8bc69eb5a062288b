import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics import kernel
from i2idist.metrics.kernel import kid, kmmd


def features(n: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_kid_of_whole_sets_is_torchmetrics_value() -> None:
    theirs = pytest.importorskip("torchmetrics.image.kid")
    x, y = features(50, 0), features(50, 1, 0.4)
    value = kid(x, y, seed=0, subsets=3, subset_size=50)
    assert value.mean == pytest.approx(theirs.poly_mmd(x, y).item(), rel=1e-10)
    assert value.std == pytest.approx(0.0, abs=1e-12)


def test_kid_of_whole_sets_is_scikit_learn_s_kernel_summed_by_hand() -> None:
    x, y = features(20, 0).numpy(), features(20, 1, 0.4).numpy()
    within = [polynomial_kernel(s, degree=3, coef0=1) for s in (x, y)]
    expected = sum((k.sum() - np.trace(k)) / (20 * 19) for k in within) - 2 * polynomial_kernel(x, y).mean()
    assert kid(torch.tensor(x), torch.tensor(y), seed=0, subsets=1, subset_size=20).mean == pytest.approx(expected)


def test_kid_does_not_depend_on_the_number_of_samples_as_a_biased_estimate_would() -> None:
    x, y = features(2000, 0), features(2000, 1, 0.3)
    large = kid(x, y, seed=0, subsets=10, subset_size=1000).mean
    small = kid(x, y, seed=0, subsets=2000, subset_size=15).mean
    assert large > 0.1
    assert small == pytest.approx(large, rel=0.15)
    assert abs(kid(x, features(2000, 2), seed=0, subsets=20, subset_size=500).mean) < 0.01


def test_kid_s_subsets_depend_on_the_seed_alone() -> None:
    x, y = features(60, 0), features(50, 1, 0.4)
    first = kid(x, y, seed=0, subsets=5, subset_size=20)
    torch.manual_seed(7)
    assert kid(x, y, seed=0, subsets=5, subset_size=20) == first
    assert kid(x, y, seed=1, subsets=5, subset_size=20) != first
    assert first.std > 0


def test_kmmd_is_scikit_learn_s_kernel_summed_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_ROWS_AT_ONCE", 7)
    x, y = features(30, 0).numpy(), features(20, 1, 0.8).numpy()
    apart = [np.square(a - b).sum() for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    gamma = 1 / (2 * 0.5**2 * np.mean(apart))
    squared = rbf_kernel(x, x, gamma).mean() + rbf_kernel(y, y, gamma).mean() - 2 * rbf_kernel(x, y, gamma).mean()
    assert kmmd(torch.tensor(x), torch.tensor(y), sigma=0.5) == pytest.approx(squared**0.5)


def test_kmmd_does_not_depend_on_the_unit_and_is_zero_for_equal_sets() -> None:
    x, y = features(40, 0), features(40, 1, 0.8)
    assert kmmd(x * 100 + 1e6, y * 100 + 1e6) == pytest.approx(kmmd(x, y))
    assert kmmd(x, x) == pytest.approx(0.0, abs=1e-7)
    assert kmmd(x, features(40, 1, 0.1)) < kmmd(x, y) < kmmd(x, features(40, 1, 3)) < 2**0.5


def test_what_can_not_be_is_refused() -> None:
    x = features(30, 0)
    with pytest.raises(ConfigError, match="30 given, 1000 needed"):
        kid(x, x, seed=0)
    with pytest.raises(ConfigError, match="2 samples at least"):
        kid(x, x, seed=0, subsets=5, subset_size=1)
    with pytest.raises(ConfigError, match="width 6 and 5"):
        kmmd(x, x[:, :5])
    with pytest.raises(ConfigError, match="samples that differ"):
        kmmd(torch.ones(5, 6), x)
    with pytest.raises(ConfigError, match="positive sigma, not 0"):
        kmmd(x, x, sigma=0)
    with pytest.raises(ConfigError, match="not finite"):
        kmmd(x * torch.nan, x)
