import torch

from i2idist.losses.reconstruction import l1, l2


def test_by_hand():
    x = torch.tensor([[[[1.0, -1.0]], [[0.5, 0.0]]], [[[0.0, 0.0]], [[0.0, 1.0]]]])
    y = torch.tensor([[[[0.0, -1.0]], [[-0.5, 2.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    assert l1(x, y).tolist() == [1.0, 0.25]
    assert l2(x, y).tolist() == [1.5, 0.25]


def test_half_precision_is_averaged_in_float32():
    x = torch.zeros(1, 3, 40, 40, dtype=torch.bfloat16)
    assert l1(x, x + 1).dtype == l2(x, x + 1).dtype == torch.float32
