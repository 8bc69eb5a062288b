import math

import numpy as np
import pytest
import scipy.stats
import torch

from i2idist.errors import ConfigError
from i2idist.metrics.bootstrap import bootstrap_interval


def values(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).exp()


def test_it_is_scipy_s_percentile_interval_up_to_the_draws() -> None:
    x = values(80)
    theirs = scipy.stats.bootstrap(
        (x.numpy(),), np.mean, method="percentile", n_resamples=20000, confidence_level=0.9, rng=1
    ).confidence_interval
    ours = bootstrap_interval(x, seed=0, level=0.9, resamples=20000)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_of_two_values_every_resample_is_known() -> None:
    # Means 0, 1/2, 1 have the probabilities 1/4, 1/2, 1/4.
    x = torch.tensor([0.0, 1.0])
    assert bootstrap_interval(x, seed=0, level=0.2) == (0.5, 0.5)
    assert bootstrap_interval(x, seed=0, level=0.9) == (0.0, 1.0)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        x = torch.randn(60, generator=torch.Generator().manual_seed(seed))
        low, high = bootstrap_interval(x, seed=seed, level=0.8, resamples=300)
        covered += low <= 0 <= high
    assert abs(covered / 300 - 0.8) < 4 * math.sqrt(0.8 * 0.2 / 300)


def test_a_statistic_of_several_means() -> None:
    # A ratio of sums: inputs with many pixels weigh more.
    hits, pixels = values(50), values(50, seed=1) * 10
    ours = bootstrap_interval(
        torch.stack([hits, pixels], 1), seed=0, resamples=20000, statistic=lambda means: means[:, 0] / means[:, 1]
    )
    theirs = scipy.stats.bootstrap(
        (hits.numpy(), pixels.numpy()),
        lambda h, p, axis: h.sum(axis=axis) / p.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=20000,
        rng=1,
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, rel=0.03)
    assert ours.high == pytest.approx(theirs.high, rel=0.03)


def test_it_depends_on_the_seed_alone_and_not_on_how_resamples_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    x = values(30)
    first = bootstrap_interval(x, seed=3)
    torch.manual_seed(5)
    assert bootstrap_interval(x, seed=3) == first
    assert bootstrap_interval(x, seed=4) != first
    monkeypatch.setattr("i2idist.metrics.bootstrap._DRAWS_AT_ONCE", 300)
    assert bootstrap_interval(x, seed=3) == pytest.approx(first, rel=1e-12)


def test_one_input_gives_no_width() -> None:
    assert bootstrap_interval(torch.tensor([0.7], dtype=torch.float64), seed=0) == (0.7, 0.7)


def test_undefined_resamples_are_left_out() -> None:
    x = torch.tensor([0.0, 4.0, 4.0])
    assert bootstrap_interval(x, seed=0, statistic=lambda m: 1 / m[:, 0].where(m[:, 0] > 0, torch.nan)).low == 0.25


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 given, 1 needed"):
        bootstrap_interval(torch.zeros(0), seed=0)
    with pytest.raises(ConfigError, match="not finite"):
        bootstrap_interval(torch.tensor([1.0, math.inf]), seed=0)
    with pytest.raises(ConfigError, match=r"level in \(0, 1\)"):
        bootstrap_interval(torch.ones(3), seed=0, level=95)
    with pytest.raises(ConfigError, match="not defined on any"):
        bootstrap_interval(torch.zeros(3), seed=0, statistic=lambda means: means[:, 0] / means[:, 0])
