import pytest
import torch

from i2idist.errors import ConfigError
from i2idist.metrics.moments import Moments


def features(n: int = 50, width: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 3


def test_mean_and_covariance_are_torch_s_however_batches_are_cut() -> None:
    x = features()
    for sizes in ([50], [1] * 50, [3, 40, 7]):
        moments = Moments(7)
        for part in torch.split(x, sizes):
            moments.update(part)
        assert moments.count == 50
        torch.testing.assert_close(moments.mean, x.mean(0), rtol=1e-13, atol=0)
        torch.testing.assert_close(moments.covariance(), torch.cov(x.T), rtol=1e-11, atol=1e-13)


def test_merged_parts_equal_the_whole() -> None:
    x = features()
    whole, merged = Moments.of(x), Moments(7)
    for part in torch.split(x, [20, 1, 29]):
        merged.merge(Moments.of(part))
    merged.merge(Moments(7))
    assert merged.count == 50
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(merged.m2, whole.m2, rtol=1e-11, atol=1e-13)


def test_a_large_mean_costs_no_digits() -> None:
    x = features(width=2)
    moved = Moments(2)
    for part in torch.split(x + 1e7, 9):
        moved.update(part)
    torch.testing.assert_close(moved.covariance(), torch.cov(x.T), rtol=1e-7, atol=0)


def test_the_input_is_left_alone() -> None:
    x = features()
    kept = x.clone()
    Moments.of(x)
    assert torch.equal(x, kept)


def test_the_state_brings_back_the_same_bits_in_tensors_of_its_own() -> None:
    first = Moments.of(features())
    second = Moments.from_state(first.state())
    second.update(features(5, seed=1))
    again = Moments.from_state(first.state())
    again.update(features(5, seed=1))
    assert first.count == 50
    assert again.count == second.count == 55
    assert torch.equal(again.m2, second.m2)
    assert not torch.equal(first.m2, second.m2)


def test_too_few_samples_for_the_features_is_said() -> None:
    assert Moments.of(features(8)).caution() is None
    assert "7 samples for 7 features" in (Moments.of(features(7)).caution() or "")


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"one row a sample, \(N, F\), not the shape \(2, 3, 4\)"):
        Moments(3).update(torch.zeros(2, 3, 4))
    with pytest.raises(ConfigError, match="width 4 don't belong to moments of width 3"):
        Moments(3).update(torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="width 4"):
        Moments(3).merge(Moments(4))
    with pytest.raises(ConfigError, match="0 given, 1 needed"):
        Moments(3).update(torch.zeros(0, 3))
    with pytest.raises(ConfigError, match="1 of 6 numbers are not finite"):
        Moments(3).update(torch.tensor([[0.0, 1, 2], [3, float("nan"), 5]]))
    with pytest.raises(ConfigError, match="2 samples at least, not 1"):
        Moments.of(torch.zeros(1, 3)).covariance()
    with pytest.raises(ConfigError, match="no moments"):
        Moments.from_state({"mean": torch.zeros(3)})
