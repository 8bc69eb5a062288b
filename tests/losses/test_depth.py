import torch

from i2idist.losses.depth import berhu


def test_by_hand():
    """Image 1: |d| = 1, 0.1, 5, so c = 1 and the last counts (25 + 1) / 2. Image 2: no difference at all."""
    x = torch.tensor([[[[1.0, 0.1, -5.0]]], [[[2.0, 3.0, 4.0]]]], requires_grad=True)
    y = torch.stack([torch.zeros(1, 1, 3), x[1].detach()])
    loss = berhu(x, y)
    torch.testing.assert_close(loss, torch.tensor([(1 + 0.1 + 13) / 3, 0.0]))
    loss.sum().backward()
    torch.testing.assert_close(x.grad[0], torch.tensor([[[1.0, 1.0, -5.0]]]) / 3)  # c is a constant
    assert not x.grad[1].any()


def test_what_is_not_known_does_not_count():
    x, y = torch.tensor([[1.0, 0.1, -5.0, 99.0], [1.0, 2.0, 3.0, 4.0]]), torch.zeros(2, 4)
    known = torch.tensor([[True, True, True, False], [False] * 4])
    torch.testing.assert_close(berhu(x, y, known), torch.stack([berhu(x[:1, :3], y[:1, :3])[0], torch.tensor(0.0)]))


def test_c_is_each_images_own():
    x, y = torch.tensor([[10.0, 1.0], [1.0, 0.1]]), torch.zeros(2, 2)
    torch.testing.assert_close(berhu(x, y), torch.stack([berhu(x[n : n + 1], y[:1])[0] for n in range(2)]))
    torch.testing.assert_close(berhu(x, y)[1] * 10, berhu(x, y)[0])


def test_half_precision_is_averaged_in_float32():
    assert berhu(torch.ones(1, 4, dtype=torch.bfloat16), torch.zeros(1, 4)).dtype == torch.float32
