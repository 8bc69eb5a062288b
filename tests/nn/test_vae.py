import torch
from torch import nn

from i2idist.nn.vae import LeakyBlock, back_end, discriminator, front_end, leaky_blocks, plain_decoder


def by_hand(x):
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / ((x - mean).square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def test_a_block_by_hand():
    block = LeakyBlock(2).double()
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    h = by_hand(nn.functional.conv2d(x, block.conv_1.weight, padding=1))
    h = torch.where(h > 0, h, 0.01 * h)
    want = x + by_hand(nn.functional.conv2d(h, block.conv_2.weight, padding=1))
    torch.testing.assert_close(block(x), want)


def test_no_block_is_the_identity():
    x = torch.randn(1, 3, 4, 4)
    assert leaky_blocks(3, 0)(x) is x


def test_ends_fit_together():
    x = torch.randn(2, 3, 12, 20)
    h = front_end(3, 4)(x)
    assert h.shape == (2, 16, 3, 5)
    y = back_end(1, 4)(h)
    assert y.shape == (2, 1, 12, 20)
    assert float(y.detach().abs().max()) <= 1
    plain = plain_decoder(1, width=4, ups=2, blocks=1)(h)
    assert plain.shape == (2, 1, 12, 20)
    assert float(plain.detach().abs().max()) <= 1


def test_a_discriminator_takes_any_size():
    assert discriminator(3, 4, 3)(torch.randn(2, 3, 9, 20)).shape == (2, 1, 2, 3)
    assert discriminator(3, 4, 5)(torch.randn(2, 3, 16, 16)).shape == (2, 1, 1, 1)
