import torch
from torch import nn

from i2idist.nn.init import init_kaiming, init_normal, init_xavier
from i2idist.nn.norm import CrossReplicaBatchNorm


def test_weights_scales_and_biases():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(20, 30, 5), CrossReplicaBatchNorm(5000), nn.ConvTranspose2d(30, 20, 5))
    network.append(nn.Linear(100, 200))
    init_normal(network)
    conv, norm, deconv, linear = network
    for layer in (conv, deconv, linear):
        assert abs(layer.weight.mean()) < 1e-3
        assert abs(layer.weight.std() - 0.02) < 1e-3
        assert not layer.bias.any()
    assert abs(norm.weight.mean() - 1) < 2e-3
    assert abs(norm.weight.std() - 0.02) < 1e-3
    assert not norm.bias.any()


def test_kaiming_keeps_the_size_of_relu_features():
    torch.manual_seed(0)
    network = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(400, 400), nn.ReLU())))
    init_kaiming(network)
    assert not network[0].bias.any()
    assert abs(network[0].weight.std() - (2 / 400) ** 0.5) < 1e-3
    x = torch.randn(1000, 400)
    assert 0.8 < network(x).square().mean() / x.square().mean() < 1.25


def test_xavier_counts_inputs_and_outputs():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(20, 30, 5), nn.Linear(300, 200))
    init_xavier(network, 0.5)
    conv, linear = network
    assert abs(conv.weight.std() / (0.5 * (2 / (25 * 50)) ** 0.5) - 1) < 0.03
    assert abs(linear.weight.std() / (0.5 * (2 / 500) ** 0.5) - 1) < 0.03
    assert not conv.bias.any() and not linear.bias.any()
