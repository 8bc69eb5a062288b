import functools

import pytest
import torch

from i2idist.errors import SizeError
from i2idist.nn.norm import CrossReplicaBatchNorm, InstanceNorm
from i2idist.nn.unet import UNet, unet_depth
from i2idist.randomness import Noise, sample_keys

SMALL = functools.partial(UNet, 2, 3, width=4, depth=4, norm=InstanceNorm, norm_bias=True)


def noise(*positions):
    return Noise(sample_keys(5, torch.tensor(positions)))


def test_pix2pix_has_the_published_number_of_parameters():
    with torch.device("meta"):
        net = UNet(3, 3, width=64, depth=8, norm=CrossReplicaBatchNorm, norm_bias=False, dropout=0.5)
    assert sum(p.numel() for p in net.parameters()) == 54_413_955


def test_widths_double_up_to_eight_times_and_the_code_enters_every_level():
    with torch.device("meta"):
        net = UNet(3, 1, width=64, depth=8, norm=InstanceNorm, norm_bias=True, code_dim=8)
    assert [conv.out_channels for conv in net.down] == [64, 128, 256, 512, 512, 512, 512, 512]
    assert [conv.in_channels - 8 for conv in net.down] == [3, 64, 128, 256, 512, 512, 512, 512]
    assert [conv.in_channels for conv in net.up] == [128, 256, 512, 1024, 1024, 1024, 1024, 512]


@pytest.mark.parametrize("upsample", ["deconv", "resize"])
@pytest.mark.parametrize("size", [(16, 16), (16, 48)])
def test_shape_and_range(upsample, size):
    y = SMALL(upsample=upsample)(torch.randn(2, 2, *size) * 10)
    assert y.shape == (2, 3, *size)
    assert y.abs().max() <= 1


def test_unbounded_is_the_same_before_its_tanh():
    torch.manual_seed(0)
    free = SMALL(bounded=False)
    net = SMALL()
    net.load_state_dict(free.state_dict())
    x = torch.randn(2, 2, 16, 16) * 10
    assert torch.equal(free(x).tanh(), net(x))


def test_resize_enlarges_by_nearest_neighbour_then_convolves():
    up = SMALL(upsample="resize").up[1]
    x = torch.randn(1, 16, 3, 2)
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(up(x), torch.nn.functional.conv2d(doubled, up[1].weight, up[1].bias, padding=1))


def test_skips_carry_features_of_the_same_resolution():
    """The same net written as the paper draws it: nested, with the ReLU behind each concatenation."""
    torch.manual_seed(0)
    net = SMALL(code_dim=2)
    x, z = torch.randn(2, 2, 16, 16), torch.randn(2, 2)

    def level(i, h):
        maps = z[:, :, None, None].expand(-1, -1, *h.shape[2:])
        down = net.down_norm[i](net.down[i](torch.cat([h, maps], 1)))
        inside = down if i == 3 else torch.cat([down, level(i + 1, torch.nn.functional.leaky_relu(down, 0.2))], 1)
        return net.up_norm[i](net.up[i](inside.relu()))

    torch.testing.assert_close(net(x, z), level(0, x).tanh())


def test_code_changes_the_output():
    net = SMALL(code_dim=2)
    x = torch.randn(1, 2, 16, 16)
    assert not torch.allclose(net(x, torch.ones(1, 2)), net(x, -torch.ones(1, 2)))


def test_dropout_masks_belong_to_the_sample():
    net = SMALL(dropout=0.5)
    x = torch.randn(1, 2, 16, 16).expand(3, -1, -1, -1)
    y = net(x, None, noise(4, 9, 4))
    torch.testing.assert_close(y[0], y[2])
    assert not torch.allclose(y[0], y[1])
    torch.testing.assert_close(net(x[:1], None, noise(9)), y[1:2])
    torch.testing.assert_close(net(x, None, None)[0], net(x, None, None)[1])


def test_dropout_falls_in_the_three_levels_after_the_innermost_and_keeps_the_mean():
    net = UNet(1, 1, width=8, depth=6, norm=InstanceNorm, norm_bias=True, dropout=0.25)
    drops = []
    net._drop = lambda h, level, n: drops.append((level, UNet._drop(net, torch.ones_like(h), level, n))) or h
    net(torch.randn(4, 1, 64, 64), None, noise(0, 1, 2, 3))
    fractions = {level: (d == 0).double().mean().item() for level, d in drops}
    assert [level for level, fraction in fractions.items() if fraction > 0] == [4, 3, 2]
    for level, d in drops:
        assert abs(d.mean() - 1) < 0.05, level
        assert ((d == 0) | (d == 1) | ((d - 4 / 3).abs() < 1e-6)).all()


@pytest.mark.parametrize(
    ("size", "depth"), [((256, 256), 8), ((512, 512), 8), ((128, 128), 7), ((96, 64), 5), ((8, 8), 3)]
)
def test_depth_follows_the_size(size, depth):
    assert unet_depth(*size) == depth


def test_a_size_with_too_few_halvings_is_refused_with_one_that_works():
    with pytest.raises(SizeError, match="multiples of 8, not 20x33.*16x32"):
        unet_depth(20, 33)


def test_double_backward():
    net = UNet(1, 1, width=2, depth=3, norm=InstanceNorm, norm_bias=True, code_dim=1).double()
    x, z = torch.randn(1, 1, 8, 8, dtype=torch.float64), torch.randn(1, 1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x, z).sum(), z, create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), net.down[0].weight)[0].abs().max() > 0
