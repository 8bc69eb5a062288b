import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.losses.alignment import alignment, alignment_terms


def latents(seed: int) -> Tensor:
    return torch.randn(5, 3, 2, 4, generator=torch.Generator().manual_seed(seed)) + 0.3


def test_it_is_scikit_learn_s_cosine() -> None:
    f, g = latents(0), latents(1)
    expected = cosine_similarity(f.flatten(1), g.flatten(1)).diagonal()
    assert alignment(f, g).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_length_does_not_count_and_direction_does() -> None:
    f = latents(0)
    assert alignment(f, 7 * f).tolist() == pytest.approx([1.0] * 5)
    assert alignment(f, -0.1 * f).tolist() == pytest.approx([-1.0] * 5)


def test_every_two_modalities() -> None:
    modalities = {name: latents(seed) for seed, name in enumerate(("rgb", "depth", "segmentation"))}
    found = alignment_terms(modalities)
    assert list(found) == ["alignment/rgb-depth", "alignment/rgb-segmentation", "alignment/depth-segmentation"]
    assert torch.equal(found["alignment/depth-segmentation"], alignment(latents(1), latents(2)))


def test_what_can_not_be_is_refused() -> None:
    f = latents(0)
    with pytest.raises(ConfigError, match="one shape"):
        alignment(f, f[:, :2])
    with pytest.raises(ConfigError, match="sample 3 are all zero"):
        alignment(f, f * (torch.arange(5) != 3)[:, None, None, None])
    with pytest.raises(ConfigError, match="not finite"):
        alignment(f, f * torch.nan)
    with pytest.raises(ConfigError, match="2 modalities"):
        alignment_terms({"rgb": f})
