import pytest
import torch
from torch import nn

from i2idist.nn.dcgan import Critic, NoiseTranslator


def shapes(network):
    return [tuple(p.shape) for p in network.parameters() if p.dim() == 4]


def translator(depth, skips=0, size=(32, 32), width=64):
    return NoiseTranslator(1, 3, size=size, width=width, depth=depth, code_dim=5, skips=skips)


def test_two_halvings_of_32_pixels():
    """E to 8x8x128, F likewise from a linear layer, G from both."""
    with torch.device("meta"):
        net = translator(2)
    assert shapes(net.E) == [(64, 1, 4, 4), (128, 64, 4, 4)]
    assert net.F[0].weight.shape == (512 * 2 * 2, 5)
    assert shapes(net.F) == [(512, 256, 4, 4), (256, 128, 4, 4)]
    assert shapes(net.G) == [(256, 64, 4, 4), (64, 3, 4, 4)]


@pytest.mark.parametrize(
    ("skips", "decoder"),
    [(2, [(512, 128, 4, 4), (256, 64, 4, 4), (128, 3, 4, 4)]), (3, [(1024, 256, 4, 4), (512, 128, 4, 4)])],
)
def test_the_u_net_sees_the_levels_of_the_appendix(skips, decoder):
    """Skips at 16x16x64 and 8x8x128, and at 4x4x256 where there are three."""
    with torch.device("meta"):
        net = translator(skips + 1, skips)
    seen = []
    for level in net.E:
        level.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
    assert net(torch.empty(2, 1, 32, 32, device="meta"), torch.empty(2, 5, device="meta")).shape == (2, 3, 32, 32)
    assert seen[:skips] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)][:skips]
    assert shapes(net.G)[: len(decoder)] == decoder


def test_skips_carry_the_outer_levels():
    """With F and the deepest level silenced, only a network with skips still sees its input."""
    x, xi = torch.randn(2, 1, 16, 16), torch.randn(2, 5)
    for skips in (0, 1):
        net = translator(2, skips, (16, 16), 4).eval()
        net.E[1].register_forward_hook(lambda _, __, out: torch.zeros_like(out))
        a, b = net(x, xi), net(-x, xi)
        assert torch.equal(a, b) == (skips == 0)


@pytest.mark.parametrize("size", [(16, 16), (24, 16), (12, 20), (18, 6)])
def test_sizes(size):
    x, xi = torch.randn(2, 1, *size), torch.randn(2, 5)
    y = translator(1, size=size, width=2)(x, xi)
    assert y.shape == (2, 3, *size)
    assert float(y.detach().abs().max()) <= 1
    assert Critic(1, size, width=2)(x).shape == (2, 1)


def test_the_critic_halves_to_four_pixels():
    with torch.device("meta"):
        net = Critic(3, (32, 32), width=64)
    assert shapes(net) == [(64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4)]
    assert isinstance(net.layers[-1], nn.Linear)
    assert net.layers[-1].in_features == 256 * 4 * 4
