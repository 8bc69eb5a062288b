import numpy as np
import pytest
import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.variance import Variances, mean_variance


def images(n: int = 30) -> Tensor:
    return torch.rand(n, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_it_is_numpy_s_variance_averaged() -> None:
    expected = images().numpy().astype(np.float64).var(0, ddof=1).mean()
    assert mean_variance(Variances.of(images())) == pytest.approx(expected, rel=1e-12)


def test_parts_updated_or_merged_equal_the_whole() -> None:
    updated, merged = Variances(60), Variances(60)
    for part in images().split([1, 20, 9]):
        updated.update(part)
        merged.merge(Variances.from_state(Variances.of(part).state()))
    merged.merge(Variances(60))
    whole = mean_variance(Variances.of(images()))
    assert mean_variance(updated) == pytest.approx(whole, rel=1e-12)
    assert mean_variance(merged) == pytest.approx(whole, rel=1e-12)
    assert merged.count == 30


def test_equal_images_have_none_and_spread_counts_squared() -> None:
    assert mean_variance(Variances.of(images(1).expand(5, -1, -1, -1))) == 0.0
    assert mean_variance(Variances.of(images() * 0.5)) == pytest.approx(mean_variance(Variances.of(images())) / 4)


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 images at least, not 1"):
        mean_variance(Variances.of(images(1)))
    with pytest.raises(ConfigError, match="60 numbers an image, and 9 before"):
        Variances(9).update(images())
    with pytest.raises(ConfigError, match="60 numbers"):
        Variances(9).merge(Variances.of(images()))
    with pytest.raises(ConfigError, match="not finite"):
        Variances.of(images() * torch.nan)
