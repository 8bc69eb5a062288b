import itertools

import pytest
import torch

from i2idist.errors import ConfigError
from i2idist.metrics import perceptual
from i2idist.metrics.perceptual import blur_pool, distance, diversity, load_network, prepare


def waves(channels: int = 3, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    n = torch.arange(2 * channels * side * side).reshape(2, channels, side, side)
    return torch.sin(n * 0.37) * 0.9, torch.cos(n * 0.11) * 0.8


def test_distances_equal_those_of_the_published_implementation() -> None:
    # Computed once with stlpips_pytorch 0.0.2's own network on these images.
    assert distance(*waves()).tolist() == pytest.approx([0.0947599, 0.0960538], abs=1e-5)


def test_equal_images_are_at_distance_zero_and_the_order_does_not_matter() -> None:
    x, y = waves()
    assert distance(x, x).tolist() == [0.0, 0.0]
    assert distance(y, x).tolist() == pytest.approx(distance(x, y).tolist())


def test_grey_images_are_compared_as_three_equal_channels() -> None:
    x, y = waves(channels=1)
    assert torch.equal(distance(x, y), distance(x.repeat(1, 3, 1, 1), y.repeat(1, 3, 1, 1)))


def test_small_images_are_enlarged_and_large_ones_left_alone() -> None:
    assert prepare(torch.zeros(1, 1, 32, 48)).shape == (1, 3, 64, 96)
    large = torch.zeros(1, 3, 64, 80)
    assert prepare(large).data_ptr() == large.data_ptr()


def test_two_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 or 3 channels, not 2"):
        prepare(torch.zeros(1, 2, 64, 64))


def test_diversity_is_the_mean_over_all_pairs() -> None:
    images = torch.rand(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pairs = [distance(images[:, i], images[:, j]) for i, j in itertools.combinations(range(4), 2)]
    assert diversity(images) == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-5)


def test_diversity_does_not_depend_on_how_inputs_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(4, 2, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = diversity(images)
    monkeypatch.setattr(perceptual, "_IMAGES_AT_ONCE", 2)
    assert diversity(images) == pytest.approx(whole, rel=1e-6)


def test_equal_outputs_have_no_diversity() -> None:
    assert diversity(torch.rand(2, 1, 3, 32, 32).expand(-1, 3, -1, -1, -1)) == pytest.approx(0.0, abs=1e-9)


def test_one_output_an_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_samples=2"):
        diversity(torch.zeros(2, 1, 3, 64, 64))


def test_blur_pool_keeps_a_constant_and_halves_the_size() -> None:
    pooled = blur_pool(torch.full((1, 2, 6, 9), 3.0))
    assert pooled.shape == (1, 2, 4, 6)
    assert torch.equal(pooled, torch.full((1, 2, 4, 6), 3.0))


def test_the_network_is_frozen() -> None:
    assert not any(p.requires_grad for p in load_network().parameters())
