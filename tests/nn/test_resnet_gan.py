import pytest
import torch
from torch.nn import functional

from i2idist.nn.norm import CrossReplicaBatchNorm
from i2idist.nn.resnet_gan import Critic, Discriminator, DownBlock, Generator, UpBlock
from i2idist.nn.spectral import spectrally_normed

G64 = 1_056_768 + 4_983_808 + 1_902_592 + 476_160 + 119_296 + 128 + 1_731
"""The 64x64 generator of WGAN-GP's public code: to 4x4x512, blocks to 512, 256, 128 and 64, norm, convolution."""

D64 = 1_792 + 119_296 + 476_160 + 1_902_592 + 4_983_808 + 8_193
"""Its critic: conv to 64, blocks to 128, 256, 512 and 512, the layer that reads 4x4x512."""


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_the_published_networks_have_their_layers():
    G, D = Generator(128, 3, (64, 64), width=64, blocks=4, most=8), Critic(3, (64, 64), width=64, blocks=4)
    assert (count(G), count(D)) == (G64, D64)
    assert [tuple(block.conv_1.weight.shape[:2]) for block in G.blocks] == [
        (512, 512),
        (256, 512),
        (128, 256),
        (64, 128),
    ]
    assert [tuple(block.conv_2.weight.shape[:2]) for block in D.blocks] == [
        (128, 64),
        (256, 128),
        (512, 256),
        (512, 512),
    ]
    assert Critic(3, (64, 64), width=64, blocks=4, classes=10).classes.weight.shape == (10, 8192)


def test_half_the_width_is_about_a_quarter_of_the_convolutions():
    half = Generator(128, 3, (64, 64), width=32, blocks=4, most=8)
    assert 3.5 < (G64 - 1_056_768) / (count(half) - half.linear.weight.numel()) < 4


def test_sngan_of_128_pixels_has_the_widths_of_its_table():
    G = Generator(128, 3, (128, 128), width=64, blocks=5, most=16)
    D = Discriminator(3, width=64, blocks=5)
    assert [block.conv_2.weight.shape[0] for block in G.blocks] == [1024, 512, 256, 128, 64]
    assert [block.conv_2.weight.shape[0] for block in D.blocks] == [64, 128, 256, 512, 1024, 1024]
    assert G.linear.weight.shape == (4 * 4 * 1024, 128) and D.real.weight.shape == (1, 1024)


@pytest.mark.parametrize("size", [(16, 16), (16, 24)])
def test_shapes(size):
    G, D = Generator(5, 3, size, width=4, blocks=2, most=8), Critic(3, size, width=4, blocks=2)
    x = G(torch.randn(2, 5))
    assert x.shape == (2, 3, *size) and bool((x.abs() <= 1).all())
    assert D(x).real.shape == (2, 1) and D(x).classes is None
    assert spectrally_normed(Discriminator(3, width=4, blocks=2))(x).real.shape == (2, 1)


def test_classes_enter_by_the_code_or_by_the_norms():
    z, y = torch.randn(3, 5), torch.eye(3)
    for condition in ("concat", "bnorm"):
        G = Generator(5, 1, (8, 8), width=4, blocks=1, most=8, classes=3, condition=condition).eval()
        with torch.no_grad():
            for name, parameter in G.named_parameters():
                if "norm" in name and name.endswith("weight"):
                    parameter.copy_(torch.rand(parameter.shape) + 0.5)
        alike = G(z[:1].expand(3, -1), y)
        assert (alike[0] - alike[1]).abs().max() > 1e-3
        half = torch.tensor([[0.5, 0.5, 0.0]])
        assert G(z[:1], half).shape == (1, 1, 8, 8)


def test_a_block_doubles_as_its_equation_says():
    torch.manual_seed(0)
    block = UpBlock(3, 2, CrossReplicaBatchNorm).double()
    x = torch.randn(4, 3, 5, 6, dtype=torch.float64)

    def up(t):
        return t.repeat_interleave(2, 2).repeat_interleave(2, 3)

    h = up(functional.relu(functional.batch_norm(x, None, None, training=True)))
    h = functional.conv2d(h, block.conv_1.weight, padding=1)
    h = functional.relu(functional.batch_norm(h, None, None, training=True))
    h = functional.conv2d(h, block.conv_2.weight, block.conv_2.bias, padding=1)
    shortcut = functional.conv2d(up(x), block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block(x), h + shortcut)


def test_a_block_halves_by_averages():
    block = DownBlock(3, 3).double()
    for conv in (block.conv_1, block.conv_2):
        conv.weight.data.zero_()
        conv.bias.data.zero_()
    block.shortcut.weight.data.copy_(torch.eye(3)[:, :, None, None])
    block.shortcut.bias.data.zero_()
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(block(x), x.unflatten(2, (2, 2)).unflatten(4, (3, 2)).mean((3, 5)))
    same = DownBlock(3, 3, halve=False).double()
    same.conv_2.weight.data.zero_()
    same.conv_2.bias.data.zero_()
    assert torch.equal(same(x), x)
