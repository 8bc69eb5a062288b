import torch
from torch import nn

from i2idist.nn.frozen import frozen


def test_gradients_pass_through_and_stop_at_parameters():
    below, net = nn.Linear(2, 3), nn.Linear(3, 1)
    net.bias.requires_grad_(False)
    x = torch.randn(4, 2)
    h = below(x)
    with frozen(net):
        inside = net(h)
    outside = net(h.detach())
    (inside + outside).sum().backward()
    torch.testing.assert_close(below.weight.grad, (net.weight.T @ torch.ones(1, 4) @ x))
    torch.testing.assert_close(net.weight.grad, h.detach().sum(0, keepdim=True))
    assert net.weight.requires_grad and not net.bias.requires_grad
