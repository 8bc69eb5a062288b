import pytest
import torch

from i2idist.metrics import perceptual
from i2idist.metrics.networks import network
from i2idist.metrics.perceptual import enlarged


def waves(channels: int = 3, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    n = torch.arange(2 * channels * side * side).reshape(2, channels, side, side)
    return torch.sin(n * 0.37) * 0.9, torch.cos(n * 0.11) * 0.8


def test_distances_equal_those_of_the_published_implementation() -> None:
    # Computed once with stlpips_pytorch 0.0.2's own network on these images.
    assert network().distance(*waves()).tolist() == pytest.approx([0.0947599, 0.0960538], abs=1e-5)


def test_equal_images_are_at_distance_zero_and_the_order_does_not_matter() -> None:
    x, y = waves()
    assert network().distance(x, x).tolist() == [0.0, 0.0]
    assert network().distance(y, x).tolist() == pytest.approx(network().distance(x, y).tolist())


def test_small_images_are_enlarged_and_large_ones_left_alone() -> None:
    assert enlarged(torch.zeros(1, 3, 32, 48), 64).shape == (1, 3, 64, 96)
    large = torch.zeros(1, 3, 64, 80)
    assert enlarged(large, 64).data_ptr() == large.data_ptr()


@pytest.mark.parametrize("size", [2, 3])
def test_pooling_by_maxima_equals_max_pooling_bit_for_bit_and_gradients_are_those_of_max_pooling(size: int) -> None:
    maps = torch.randn(2, 3, 9, 7).relu().requires_grad_()
    expected = torch.nn.functional.max_pool2d(maps, size, stride=1)
    with torch.no_grad():
        assert torch.equal(perceptual._MaxPool(size)(maps), expected)
    found = perceptual._MaxPool(size)(maps)
    grads = [torch.autograd.grad(output.square().sum(), maps)[0] for output in (found, expected)]
    assert torch.equal(*grads)
