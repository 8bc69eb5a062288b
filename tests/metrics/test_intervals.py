"""Influences against the change that weighting a sample really makes; intervals against how values really vary."""

import pytest
import torch
from torch import Tensor

from i2idist.metrics import kernel
from i2idist.metrics.frechet import frechet_distance, frechet_influences
from i2idist.metrics.intervals import GROUPS, group_interval, influence_interval, scaled
from i2idist.metrics.moments import Moments
from i2idist.metrics.scores import inception_influences, inception_score


def features(n: int, width: int = 5, shift: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return torch.randn(n, width, generator=generator, dtype=torch.float64) @ (mixing / 2 + torch.eye(width)) + shift


def weighted(x: Tensor, weights: Tensor) -> Moments:
    """Moments of samples that count with weights summing to one; the covariance is that of the population."""
    moments = Moments(x.shape[1])
    moments.count = len(x)
    moments.mean = weights @ x
    d = x - moments.mean
    moments.m2 = (d * weights[:, None]).T @ d * (len(x) - 1)
    return moments


@pytest.mark.parametrize("which", [0, 1])
def test_frechet_influences_are_the_derivative_by_a_sample_s_weight(which: int) -> None:
    x, y = features(60), features(40, shift=0.5, seed=1)[:, :5] * 1.5
    uniform = torch.full((60,), 1 / 60, dtype=torch.float64)
    a, b, step = weighted(x, uniform), Moments.of(y), 1e-6

    def value(moved: Moments) -> float:
        return frechet_distance(*((moved, b) if which == 0 else (b, moved)))

    slopes = []
    for n in range(60):
        towards = torch.zeros(60, dtype=torch.float64)
        towards[n] = 1.0
        up, down = (value(weighted(x, uniform + sign * step * (towards - uniform))) for sign in (1, -1))
        slopes.append((up - down) / (2 * step))
    found = frechet_influences(a, b, x)
    assert (found - found.mean()).tolist() == pytest.approx(slopes, rel=1e-4, abs=1e-4)


def test_kernel_influences_are_the_derivative_by_a_sample_s_weight() -> None:
    x, y, step = features(30), features(20, shift=0.4, seed=1), 1e-5
    for k in (kernel.polynomial, kernel.gaussian(y)):
        within, across, rest = k(x, x), k(x, y).mean(1), k(y, y).mean()
        uniform = torch.full((30,), 1 / 30, dtype=torch.float64)
        weights = uniform.clone().requires_grad_()
        (weights @ within @ weights - 2 * weights @ across + rest).backward()
        slopes = weights.grad
        assert slopes is not None
        found = kernel.influences(k, x, y)
        expected = slopes - slopes @ uniform
        torch.testing.assert_close(found - found.mean(), expected, rtol=1e-8, atol=step)


def test_inception_influences_are_the_derivative_by_a_sample_s_weight() -> None:
    p = (features(20, 4) * 2).softmax(1)
    weights = torch.full((20,), 1 / 20, dtype=torch.float64, requires_grad=True)
    mean = weights @ p / weights.sum()
    entropy = -torch.xlogy(mean, mean).sum() + weights @ torch.xlogy(p, p).sum(1) / weights.sum()
    score = entropy.exp()
    assert score.item() == pytest.approx(inception_score(p, splits=1).mean)
    score.backward()
    assert weights.grad is not None
    torch.testing.assert_close(inception_influences(p, splits=1), weights.grad, rtol=1e-8, atol=1e-10)


def test_intervals_are_as_wide_as_values_vary() -> None:
    values, widths = [], []
    for seed in range(60):
        x, y = features(300, seed=2 * seed), features(300, shift=0.5, seed=2 * seed + 1) * 1.3
        a, b = Moments.of(x), Moments.of(y)
        value = frechet_distance(a, b)
        low, high = influence_interval(value, frechet_influences(a, b, x), frechet_influences(b, a, y))
        assert high - value == pytest.approx(value - low)
        values.append(value)
        widths.append((high - low) / 2 / 1.96)
    assert torch.tensor(widths).mean().item() == pytest.approx(torch.tensor(values).std().item(), rel=0.3)


def test_a_part_of_the_samples_gives_the_interval_of_all() -> None:
    x = features(4000)[:, 0]
    whole, part = influence_interval(1.0, x), influence_interval(1.0, scaled(x[:1000], 4000))
    assert part.high - part.low == pytest.approx(whole.high - whole.low, rel=0.1)
    more = influence_interval(1.0, x, extra_variance=1.0)
    assert more.high == pytest.approx(1 + 1.96 * (1 + x.var().item() / 4000) ** 0.5, rel=1e-3)


def test_groups_left_out_give_student_s_interval_of_a_mean() -> None:
    from scipy.stats import t

    groups = torch.tensor([float(n * n) for n in range(GROUPS)], dtype=torch.float64)
    without = (groups.sum() - groups) / (GROUPS - 1)
    low, high = group_interval(groups.mean().item(), without)
    expected = t.interval(0.95, GROUPS - 1, loc=groups.mean().item(), scale=(groups.std() / GROUPS**0.5).item())
    assert (low, high) == pytest.approx(expected, rel=1e-5)
