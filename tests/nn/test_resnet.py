import pytest
import torch

from i2idist.nn.resnet import ReflectConv, ResidualBlock, ResnetGenerator
from i2idist.randomness import Noise, sample_keys


@pytest.mark.parametrize(("blocks", "count"), [(9, 11_378_179), (6, 7_837_699)])
def test_cyclegan_has_the_published_number_of_parameters(blocks, count):
    with torch.device("meta"):
        net = ResnetGenerator(3, 3, width=64, blocks=blocks)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize("upsample", ["deconv", "resize"])
@pytest.mark.parametrize("size", [(8, 8), (12, 20)])
def test_shape_and_range(upsample, size):
    net = ResnetGenerator(1, 3, width=4, blocks=2, upsample=upsample)
    y = net(torch.randn(2, 1, *size) * 10)
    assert y.shape == (2, 3, *size)
    assert y.abs().max() <= 1


def test_reflection_by_hand():
    conv = ReflectConv(1, 1, 3)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]]]))
        conv.bias.zero_()
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert conv(x).tolist() == [[[[4.0, 3.0], [2.0, 1.0]]]]


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (7, 1), (4, 2)])
def test_a_reflecting_convolution_keeps_or_halves(kernel, stride):
    conv = ReflectConv(1, 1, kernel, stride)
    torch.nn.init.constant_(conv.weight, 1 / kernel**2)
    torch.nn.init.zeros_(conv.bias)
    torch.testing.assert_close(conv(torch.ones(1, 1, 8, 12)), torch.ones(1, 1, 8 // stride, 12 // stride))


def test_a_block_with_silent_convolutions_is_the_identity():
    block = ResidualBlock(2)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_code_and_dropout_reach_the_output_by_sample():
    net = ResnetGenerator(1, 1, width=4, blocks=1, code_dim=2, dropout=0.5)
    x = torch.randn(1, 1, 8, 8).expand(3, -1, -1, -1)
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    y = net(x, z)
    torch.testing.assert_close(y[0], y[2])
    assert not torch.allclose(y[0], y[1])
    dropped = net(x, z[:1].expand(3, -1), Noise(sample_keys(1, torch.tensor([3, 5, 3]))))
    torch.testing.assert_close(dropped[0], dropped[2])
    assert not torch.allclose(dropped[0], dropped[1])
