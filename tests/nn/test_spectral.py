import torch
from torch import nn

from i2idist.nn.spectral import spectrally_normed


def largest(layer):
    return float(torch.linalg.svdvals(layer.weight.detach().flatten(1))[0])


def test_weights_get_a_largest_singular_value_of_one():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 4), nn.ELU(), nn.Flatten(), nn.Linear(4, 2))
    assert spectrally_normed(net) is net
    for _ in range(200):
        net(torch.randn(1, 3, 4, 4))
    assert abs(largest(net[0]) - 1) < 1e-3
    assert abs(largest(net[3]) - 1) < 1e-3


def test_the_power_iteration_is_state_and_rests_in_evaluation():
    net = spectrally_normed(nn.Sequential(nn.Linear(6, 5)))
    buffers = {name: t.clone() for name, t in net.state_dict().items() if name.endswith(("_u", "_v"))}
    assert len(buffers) == 2
    net.eval()(torch.randn(2, 6))
    assert all(torch.equal(net.state_dict()[name], t) for name, t in buffers.items())
    net.train()(torch.randn(2, 6))
    assert not all(torch.equal(net.state_dict()[name], t) for name, t in buffers.items())
