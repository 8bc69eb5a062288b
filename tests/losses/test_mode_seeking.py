import pytest
import torch

from i2idist.losses.mode_seeking import mode_seeking


def test_by_hand():
    """Images 0.5 apart, codes (3 + 1) / 2 apart: ratio 1/4. Equal images cost 1 / 1e-5."""
    x_1 = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    x_2 = x_1.clone()
    x_2[0] = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    z_1 = torch.zeros(2, 2, dtype=torch.float64)
    z_2 = torch.tensor([[3.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    assert mode_seeking(x_1, x_2, z_1, z_2).tolist() == pytest.approx([1 / (0.25 + 1e-5), 1e5])


def test_further_images_cost_less():
    x, z_1, z_2 = torch.randn(1, 3, 4, 4), torch.zeros(1, 2), torch.ones(1, 2)
    assert mode_seeking(x, x + 0.2, z_1, z_2) < mode_seeking(x, x + 0.1, z_1, z_2)
