import pytest
import torch
from sklearn.metrics.pairwise import paired_distances
from sklearn.preprocessing import normalize
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.identity import id_distance


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_scikit_learn_s_distance_of_normalised_rows() -> None:
    inputs, outputs = features(6, 8), features(6, 3, 8, seed=1)
    each = [paired_distances(normalize(inputs), normalize(outputs[:, k])) for k in range(3)]
    assert id_distance(inputs, outputs).tolist() == pytest.approx((sum(each) / 3).tolist(), rel=1e-5)
    assert id_distance(inputs, outputs[:, 0]).tolist() == pytest.approx(each[0].tolist(), rel=1e-5)


def test_range() -> None:
    x = features(4, 8)
    assert id_distance(x, 4 * x).tolist() == pytest.approx([0.0] * 4, abs=1e-12)
    assert id_distance(x, -x).tolist() == pytest.approx([2.0] * 4)


def test_what_can_not_be_is_refused() -> None:
    x = features(4, 8)
    with pytest.raises(ConfigError, match="don't belong to 4 inputs"):
        id_distance(x, x[:3])
    with pytest.raises(ConfigError, match="width 7 and 8"):
        id_distance(x, x[:, :7])
    with pytest.raises(ConfigError, match="no direction"):
        id_distance(x, x * 0)
    with pytest.raises(ConfigError, match="not finite"):
        id_distance(x, x * torch.inf)
