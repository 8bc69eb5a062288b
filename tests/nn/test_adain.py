import pytest
import torch

from i2idist.nn.adain import AdaINBlock, AdaINDecoder, ContentEncoder, LayerNorm, StyleEncoder, adain, style_mlp


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_published_numbers_of_parameters():
    """MUNIT's public code: content 5.39M, style 2.76M, decoder 5.75M, MLP 1.12M."""
    with torch.device("meta"):
        decoder = AdaINDecoder(3, width=64, ups=2, blocks=4)
        assert decoder.affine_size == 4096
        assert count(decoder) == 5_754_627
        assert count(ContentEncoder(3, width=64, downs=2, blocks=4)) == 5_385_856
        assert count(StyleEncoder(3, width=64, downs=4, code_dim=8)) == 2_764_936
        assert count(style_mlp(8, 256, 4096)) == 1_120_768


def test_shapes_at_the_published_size():
    with torch.device("meta"):
        x = torch.empty(2, 3, 256, 256)
        c = ContentEncoder(3, width=64, downs=2, blocks=4)(x)
        assert c.shape == (2, 256, 64, 64)
        assert StyleEncoder(3, width=64, downs=4, code_dim=8)(x).shape == (2, 8)
        assert AdaINDecoder(3, width=64, ups=2, blocks=4)(c, torch.empty(2, 4096)).shape == (2, 3, 256, 256)


def test_adain_gives_each_channel_of_each_sample_its_mean_and_deviation():
    torch.manual_seed(0)
    x = torch.randn(3, 2, 9, 7, dtype=torch.float64) * 50 + 4
    shift, scale = torch.randn(2, 3, 2, dtype=torch.float64)
    y = adain(x, shift, scale)
    torch.testing.assert_close(y.mean((2, 3)), shift)
    torch.testing.assert_close(y.std((2, 3), correction=0), scale.abs(), rtol=1e-6, atol=0)
    torch.testing.assert_close(y[:1], adain(x[:1], shift[:1], scale[:1]))


def test_adain_is_the_formula_in_every_memory_format():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    shift, scale = torch.randn(2, 2, 3, 1, 1, dtype=torch.float64)
    var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    expected = scale * (x - mean) / (var + 1e-5).sqrt() + shift
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(adain(given, shift.flatten(1), scale.flatten(1)), expected)


def test_layer_norm_spans_channels_and_scales_each():
    torch.manual_seed(0)
    norm = LayerNorm(3).double()
    assert bool(((norm.weight >= 0) & (norm.weight < 1)).all()) and not norm.bias.any()
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1])[:, None, None]
    expected = torch.stack([(image - image.mean()) / image.std(correction=0) for image in x])
    expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)


def test_a_block_is_steered_norm_by_norm():
    """With zero scales the residual branch is the second shift, and the first shift reaches the second convolution."""
    torch.manual_seed(0)
    block = AdaINBlock(2)
    x = torch.randn(1, 2, 5, 5)
    silent = torch.tensor([[9.0, 9.0, 0.0, 0.0, 1.0, -2.0, 0.0, 0.0]])
    torch.testing.assert_close(block(x, silent), x + torch.tensor([1.0, -2.0])[:, None, None])
    seen = []
    block.conv_2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    block(x, silent)
    torch.testing.assert_close(seen[0], torch.full((1, 2, 5, 5), 9.0))


def test_content_forgets_contrast_and_brightness_and_style_does_not():
    """Instance norms remove what affine changes of an image do, so content can't carry it."""
    torch.manual_seed(0)
    content = ContentEncoder(1, width=4, downs=1, blocks=1).double()
    style = StyleEncoder(1, width=4, downs=1, code_dim=2).double()
    x = torch.randn(1, 1, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(content(x), content(3 * x + 1), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(style(x), style(3 * x + 1), rtol=0.1)


@pytest.mark.parametrize(("downs", "smallest"), [(1, 4), (2, 4), (3, 8), (4, 16)])
def test_the_smallest_image_with_a_style(downs, smallest):
    net = StyleEncoder(1, width=1, downs=downs, code_dim=2)
    assert net(torch.randn(1, 1, smallest, 64)).shape == (1, 2)
    with pytest.raises(RuntimeError):
        net(torch.randn(1, 1, smallest - 1, 64))


def test_the_decoder_stays_in_range_and_each_block_has_its_part():
    torch.manual_seed(0)
    net = AdaINDecoder(2, width=2, ups=1, blocks=2)
    c, affine = torch.randn(1, 4, 4, 4), torch.randn(1, net.affine_size)
    y = net(c, affine)
    assert y.shape == (1, 2, 8, 8)
    assert y.abs().max() <= 1
    parts = []
    for block in net.blocks:
        block.register_forward_pre_hook(lambda _, args: parts.append(args[1]))
    net(c, affine)
    torch.testing.assert_close(torch.cat(parts, dim=1), affine)
