import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, instance_norm, leaky_relu

from i2idist.nn.norm import InstanceNorm
from i2idist.nn.resnet import ReflectConv
from i2idist.nn.resnet_encoder import ResnetEncoder


def conv(kernel, below, above):
    return (kernel * kernel * below + 1) * above


def test_the_papers_encoder_at_256_has_these_layers():
    """64 at 128x128; blocks to 128, 192, 256, 256 channels at 64, 32, 16, 8; two layers of 8 from 256."""
    with torch.device("meta"):
        net = ResnetEncoder(3, width=64, levels=5, code_dim=8, norm=InstanceNorm)
        shapes = []
        for module in [net.first, *net.blocks]:
            module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
        mean, log_variance = net(torch.empty(2, 3, 256, 256))
    assert shapes == [(64, 128, 128), (128, 64, 64), (192, 32, 32), (256, 16, 16), (256, 8, 8)]
    assert mean.shape == log_variance.shape == (2, 8)
    blocks = [(64, 128), (128, 192), (192, 256), (256, 256)]
    want = conv(4, 3, 64) + sum(conv(3, m, m) + conv(3, m, n) + conv(1, m, n) for m, n in blocks) + 2 * 257 * 8
    assert sum(p.numel() for p in net.parameters()) == want == 2_590_032


def test_a_block_is_the_pooled_sum_of_two_convolutions_and_a_shortcut():
    torch.manual_seed(0)
    net = ResnetEncoder(1, width=2, levels=2, code_dim=3, norm=InstanceNorm)
    x = torch.randn(2, 1, 16, 8)
    block = net.blocks[0]
    h = conv2d(x, net.first.weight, net.first.bias, 2, 1)
    inner = conv2d(leaky_relu(instance_norm(h), 0.2), block.conv_1.weight, block.conv_1.bias, 1, 1)
    inner = conv2d(leaky_relu(instance_norm(inner), 0.2), block.conv_2.weight, block.conv_2.bias, 1, 1)
    out = avg_pool2d(inner, 2) + conv2d(avg_pool2d(h, 2), block.shortcut.weight, block.shortcut.bias)
    features = leaky_relu(out, 0.2).mean((2, 3))
    mean, log_variance = net(x)
    torch.testing.assert_close(mean, features @ net.mean.weight.T + net.mean.bias)
    torch.testing.assert_close(log_variance, features @ net.log_variance.weight.T + net.log_variance.bias)


def test_convolutions_can_reflect_and_norms_be_left_out():
    net = ResnetEncoder(3, width=2, levels=3, code_dim=3, norm=nn.Identity, conv=ReflectConv)
    assert isinstance(net.first, ReflectConv) and isinstance(net.blocks[1].conv_2, ReflectConv)
    assert net(torch.randn(1, 3, 17, 22))[0].shape == (1, 3)
