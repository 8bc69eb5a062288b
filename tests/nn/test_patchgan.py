import pytest
import torch
from torch import nn

from i2idist.errors import SizeError
from i2idist.nn.norm import CrossReplicaBatchNorm, InstanceNorm
from i2idist.nn.patchgan import (
    MultiScale,
    MultiScalePatchGAN,
    PatchGAN,
    StridedPatchGAN,
    check_patches,
    check_strided_patches,
)


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_published_numbers_of_parameters():
    with torch.device("meta"):
        cyclegan = PatchGAN(3, width=64, layers=3, norm=InstanceNorm, norm_bias=True)
        pix2pix = PatchGAN(6, width=64, layers=3, norm=CrossReplicaBatchNorm, norm_bias=False)
        munit = MultiScale(StridedPatchGAN(3, width=64, layers=4) for _ in range(3))
    assert count(cyclegan) == 2_764_737
    assert count(pix2pix) == 2_768_705
    assert count(munit) == 8_271_171


def test_a_patch_is_70_pixels_wide():
    net = PatchGAN(1, width=1, layers=3, norm=nn.Identity, norm_bias=True)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)
    x = torch.ones(1, 1, 256, 256, requires_grad=True)
    y = net(x)
    assert y.shape == (1, 1, 30, 30)
    y[0, 0, 15, 15].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero().flatten()
    assert len(rows) == rows[-1] - rows[0] + 1 == 70


def test_scales_see_averages_of_the_image():
    torch.manual_seed(0)
    net = MultiScalePatchGAN(1, scales=3, width=2, layers=1, norm=InstanceNorm, norm_bias=True)
    x = torch.randn(2, 1, 32, 24)
    logits = net(x)
    assert [tuple(scale.shape) for scale in logits] == [(2, 1, 14, 10), (2, 1, 6, 4), (2, 1, 2, 1)]
    half = torch.stack([x[:, :, i : i + 3, 3:6].mean((2, 3)) for i in (1, 3)], 2)
    averaged = nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    torch.testing.assert_close(averaged[:, :, 1:3, 2], half)
    corner = x[:, :, :2, :2].mean((2, 3))
    torch.testing.assert_close(averaged[:, :, 0, 0], corner)
    torch.testing.assert_close(logits[1], net.scales[1](averaged))


@pytest.mark.parametrize(("layers", "scales"), [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_the_smallest_size_allowed_is_the_smallest_that_works(layers, scales):
    net = MultiScalePatchGAN(1, scales=scales, width=1, layers=layers, norm=InstanceNorm, norm_bias=True)
    smallest = next(s for s in range(2, 100) if works(net, s))
    check_patches(smallest, 100, layers=layers, scales=scales)
    with pytest.raises(SizeError, match=f"{smallest}x{smallest}"):
        check_patches(100, smallest - 1, layers=layers, scales=scales)


@pytest.mark.parametrize(("layers", "scales"), [(1, 1), (4, 1), (2, 2), (3, 3)])
def test_the_smallest_size_allowed_with_strides_throughout(layers, scales):
    net = MultiScale(StridedPatchGAN(1, width=1, layers=layers) for _ in range(scales))
    smallest = next(s for s in range(2, 100) if works(net, s))
    check_strided_patches(100, smallest, layers=layers, scales=scales)
    with pytest.raises(SizeError, match=f"{smallest}x{smallest}"):
        check_strided_patches(smallest - 1, 100, layers=layers, scales=scales)


def works(net, side):
    try:
        return net(torch.randn(1, 1, side, 100))[-1].numel() > 0
    except (RuntimeError, ValueError):
        return False


def test_coarser_scales_can_be_narrower():
    net = MultiScalePatchGAN(3, scales=3, width=8, layers=2, norm=InstanceNorm, norm_bias=True, narrowing=True)
    assert [scale.layers[0].out_channels for scale in net.scales] == [8, 4, 2]
    assert [logits.shape[1] for logits in net(torch.randn(1, 3, 64, 64))] == [1, 1, 1]
