import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.scores import conditional_inception_score, divergences, inception_score


def probabilities(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).mul(2).softmax(-1)


def test_the_inception_score_is_scipy_s_entropy_split_by_split() -> None:
    p = probabilities(60, 7)
    parts = np.split(p.numpy().astype(np.float64), 3)
    scores = [np.exp(np.mean([scipy.stats.entropy(row, part.mean(0)) for row in part])) for part in parts]
    found = inception_score(p, splits=3)
    assert found.mean == pytest.approx(np.mean(scores), rel=1e-6)
    assert found.std == pytest.approx(np.std(scores), rel=1e-5)


def test_the_conditional_score_takes_each_input_s_own_mean() -> None:
    p = probabilities(5, 4, 7)
    rows = p.numpy().astype(np.float64)
    slow = [np.mean([scipy.stats.entropy(one, many.mean(0)) for one in many]) for many in rows]
    assert conditional_inception_score(p).tolist() == pytest.approx(slow, rel=1e-6)


def test_extremes() -> None:
    sure = torch.eye(4)
    assert inception_score(sure.repeat(5, 1), splits=1).mean == pytest.approx(4)
    assert inception_score(torch.full((8, 4), 0.25), splits=2) == pytest.approx((1.0, 0.0))
    # Each input always gives one class, all classes occur: varied over inputs, not over codes.
    ignored = sure[:, None].expand(4, 3, 4)
    assert conditional_inception_score(ignored).tolist() == [0.0] * 4
    assert divergences(ignored.flatten(0, 1)).mean().item() == pytest.approx(math.log(4))


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="softmax"):
        inception_score(torch.randn(20, 4), splits=2)
    with pytest.raises(ConfigError, match="2 samples a split"):
        inception_score(probabilities(19, 4), splits=10)
    with pytest.raises(ConfigError, match="num_samples=2"):
        conditional_inception_score(probabilities(9, 1, 4))
    with pytest.raises(ConfigError, match="not finite"):
        divergences(torch.full((3, 4), torch.nan))
    with pytest.raises(ConfigError, match=r"\(samples, classes\)"):
        divergences(probabilities(4, 3)[:0])
