import torch
from torch import nn

from i2idist.losses.penalty import between, gradient_penalty


def test_between_mixes_by_the_share_of_the_real_sample():
    real, fake = torch.tensor([[4.0, 8.0], [4.0, 8.0]]), torch.zeros(2, 2)
    x = between(real, fake, torch.tensor([[0.25], [1.0]]))
    assert x.tolist() == [[1.0, 2.0], [4.0, 8.0]]
    assert x.requires_grad and x.is_leaf


def test_penalty_by_hand():
    """f(x) = w (3 x_1 + 4 x_2) has a gradient of length 5 w; f's two values of a sample are added."""
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    values = torch.stack([3 * w * x[:, 0], 4 * w * x[:, 1]], 1)
    penalty = gradient_penalty(values, x)
    torch.testing.assert_close(penalty, torch.full((3,), 1.5**2, dtype=torch.float64))
    penalty.mean().backward()
    torch.testing.assert_close(w.grad, torch.tensor(2 * 1.5 * 5.0, dtype=torch.float64))


def test_its_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(2, 1, 2)).double()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = critic[0].weight

    def penalty(w):
        return gradient_penalty(torch.func.functional_call(critic, {"0.weight": w}, (x,)), x)

    assert torch.autograd.gradcheck(penalty, weight.detach().clone().requires_grad_())
