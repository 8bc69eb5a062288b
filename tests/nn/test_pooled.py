import torch
from torch.nn import functional

from i2idist.nn.pooled import Content, PooledEncoder, PooledStyleEncoder, UnpoolingDecoder


def encoder(**settings):
    torch.manual_seed(0)
    return PooledEncoder(3, **{"width": 4, "downs": 2, "blocks": 1, "kernel": 3, **settings}).double()


def test_an_encoder_halves_and_remembers_where():
    content = encoder()(torch.randn(2, 3, 16, 24).double())
    assert content.features.shape == (2, 8, 4, 6)
    assert [tuple(places.shape) for places in content.indices] == [(2, 4, 8, 12), (2, 8, 4, 6)]
    assert encoder(indices=False)(torch.randn(1, 3, 16, 16).double()).indices == ()


def test_it_is_convolution_norm_and_pooling_with_a_relu():
    """The same numbers as with the ReLU before the pooling; the indices are those of the maxima themselves."""
    network, x = encoder(downs=1), torch.randn(2, 3, 8, 8).double()
    normed = functional.instance_norm(network.convs[0](x))
    expected = network.blocks(functional.max_pool2d(functional.relu(normed), 2))
    content = network(x)
    assert torch.allclose(content.features, expected)
    found = normed.flatten(2).gather(2, content.indices[0].flatten(2)).reshape(2, 4, 4, 4)
    assert torch.equal(found, functional.max_pool2d(normed, 2))


def test_a_decoder_puts_values_back_where_the_maxima_were():
    """With 1x1 convolutions, an output is the bias alone but for the places that the indices name."""
    torch.manual_seed(0)
    network = UnpoolingDecoder(1, width=2, ups=1, blocks=1, kernel=1).double()
    x = torch.randn(1, 2, 6, 6).double()
    pooled, places = functional.max_pool2d(x, 2, return_indices=True)
    out = network(Content(pooled, (places,)), torch.randn(1, 4).double())
    elsewhere = torch.tanh(network.convs[0].bias)
    named = torch.zeros(2, 36, dtype=torch.bool).scatter_(1, places[0].flatten(1), True).any(0).reshape(6, 6)
    assert torch.equal((out[0, 0] - elsewhere).abs() > 1e-12, named)


def test_a_decoder_without_indices_enlarges():
    network = UnpoolingDecoder(3, width=2, ups=2, blocks=1, kernel=3)
    out = network(Content(torch.randn(2, 4, 4, 6), ()), torch.randn(2, 8))
    assert out.shape == (2, 3, 16, 24) and out.abs().max() <= 1


def test_all_adain_layers_share_one_shift_and_scale():
    network = UnpoolingDecoder(3, width=2, ups=1, blocks=3, kernel=3)
    seen = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    affine = torch.randn(2, 4)
    network(Content(torch.randn(2, 2, 4, 4), ()), affine)
    assert len(seen) == 3
    for given in seen:
        shift_1, scale_1, shift_2, scale_2 = given.chunk(4, 1)
        assert torch.equal(torch.cat([shift_1, scale_1], 1), affine) and torch.equal(shift_1, shift_2)
        assert torch.equal(scale_1, scale_2)


def test_style_is_one_vector_for_an_image_of_any_size():
    network = PooledStyleEncoder(3, width=4, downs=2, kernel=3, code_dim=5)
    assert network(torch.randn(2, 3, 8, 12)).shape == network(torch.randn(2, 3, 16, 16)).shape == (2, 5)
