import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.edges import edge_iou, edges


def images(*shape: int, seed: int = 0) -> Tensor:
    noise = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return noise.cumsum(-1).tanh()


def square(corner: int, side: int = 8) -> Tensor:
    image = torch.full((1, 3, 32, 32), -1.0)
    image[..., corner : corner + side, corner : corner + side] = 1.0
    return image


def scipy_edges(image: np.ndarray, share: float) -> np.ndarray:
    grey = image.astype(np.float64).mean(0)
    steep = np.hypot(ndimage.sobel(grey, 0, mode="nearest"), ndimage.sobel(grey, 1, mode="nearest"))
    return ndimage.binary_dilation(steep > np.quantile(steep, 1 - share) * (1 - 1e-5), np.ones((3, 3)))


def test_it_is_scipy_s_edges_overlap() -> None:
    inputs, outputs = images(3, 1, 20, 24), images(3, 3, 20, 24, seed=1)
    pairs = [(scipy_edges(a, 0.2), scipy_edges(b, 0.2)) for a, b in zip(inputs.numpy(), outputs.numpy(), strict=True)]
    expected = [(a & b).sum() / (a | b).sum() for a, b in pairs]
    assert 0 < min(expected) < max(expected) < 1
    assert edge_iou(inputs, outputs, share=0.2).tolist() == pytest.approx(expected)


def test_colour_and_contrast_do_not_count_and_places_do() -> None:
    inputs = square(8)
    recoloured = inputs * torch.tensor([-0.3, -0.2, 0.1]).reshape(1, 3, 1, 1) + 0.4
    assert edge_iou(inputs, recoloured).tolist() == [1.0]
    moved = [edge_iou(inputs, square(8 + by)).item() for by in (0, 1, 3, 16)]
    assert moved[0] == 1.0
    assert moved == sorted(moved, reverse=True)
    assert moved[1] > 0.4
    assert moved[3] == 0.0


def test_edges_of_a_square_are_its_outline() -> None:
    found = edges(square(8), tolerance=0)[0]
    assert found[12, 12].item() is False
    assert found[8, 12].item() is True
    assert found[7, 12].item() is True
    assert found[:6].any().item() is False


def test_edges_of_one_height_are_all_edges_however_many() -> None:
    bars = torch.tensor([-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0]).repeat(4).expand(1, 1, 32, 32)
    beside_a_step = [column for column in range(1, 31) if column % 4 in (3, 0)]
    assert edges(bars, tolerance=0)[0].all(0).nonzero().flatten().tolist() == beside_a_step
    assert edges(bars, tolerance=0).sum().item() == 32 * len(beside_a_step)
    assert edge_iou(bars, bars * 0.3 + 0.1).tolist() == [1.0]


def test_images_without_edges() -> None:
    flat = torch.zeros(1, 3, 32, 32)
    assert edge_iou(flat, flat + 0.3).tolist() == [1.0]
    assert edge_iou(square(8), flat).tolist() == [0.0]


def test_outputs_of_one_input_are_averaged() -> None:
    outputs = torch.stack([square(8), square(24)], dim=1)
    assert edge_iou(square(8), outputs).tolist() == [0.5]


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="don't belong to 1 inputs"):
        edge_iou(square(8), images(2, 3, 32, 32))
    with pytest.raises(ConfigError, match="can't be compared"):
        edge_iou(square(8), images(1, 3, 16, 16))
    with pytest.raises(ConfigError, match=r"share in \(0, 1\)"):
        edge_iou(square(8), square(8), share=10)
    with pytest.raises(ConfigError, match="not finite"):
        edge_iou(square(8), square(8) * torch.nan)
