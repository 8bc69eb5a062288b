import pytest
import torch
from torch import nn
from torch.nn import functional

from i2idist.errors import SourceError
from i2idist.nn.pooled import tilted_max_pool
from i2idist.nn.segnet import (
    BatchNormDiscriminator,
    Latent,
    SegNetDecoder,
    SegNetEncoder,
    UpsamplingDecoder,
)

VGG = (2, 2, 3, 3, 3)


def vgg16(width=64):
    """VGG16's convolutions, built from its paper's table D, with ReLUs and poolings as torchvision numbers them."""
    parts, channels = [], 3
    for step in (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8, 0):
        if step:
            parts += [nn.Conv2d(channels, step * width, 3, padding=1), nn.ReLU()]
            channels = step * width
        else:
            parts.append(nn.MaxPool2d(2))
    return nn.Sequential(*parts)


def test_filled_with_vgg16_the_encoder_is_vgg16():
    torch.manual_seed(0)
    reference = vgg16(4)
    encoder = SegNetEncoder(3, width=4, convs=VGG, side="indices", batch_norm=False, imagenet=True)
    encoder.fill(
        {f"features.{name}": t for name, t in reference.state_dict().items()} | {"classifier.0.bias": None}, "x"
    )
    x = torch.rand(2, 3, 32, 64)
    seen = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(encoder(x * 2 - 1).features, reference(seen), atol=4e-4, rtol=1e-3)  # the tilt


def test_weights_that_are_not_vgg16s_are_refused():
    encoder = SegNetEncoder(3, width=4, convs=VGG, side="none", batch_norm=False)
    state = {f"features.{name}": t for name, t in vgg16(4).state_dict().items()}
    for key, other in (("features.10.weight", None), ("features.28.bias", torch.zeros(5))):
        with pytest.raises(SourceError, match=rf"sources.vgg .*as {key}"):
            encoder.fill({k: v for k, v in {**state, key: other}.items() if v is not None}, "sources.vgg")


def test_of_equal_values_the_first_is_pooled_whatever_rounding_says():
    x = torch.full((1, 1, 4, 6), 0.3, dtype=torch.float64)
    x += torch.rand(1, 1, 4, 6, dtype=torch.float64) * 1e-12
    x[0, 0, 3, 5] = 1
    values, indices = tilted_max_pool(x)
    assert indices.flatten().tolist() == [0, 2, 4, 12, 14, 23]
    torch.testing.assert_close(values, functional.max_pool2d(x, 2), atol=4e-4, rtol=0)


def test_indices_lead_back_to_where_maxima_were():
    torch.manual_seed(0)
    encoder = SegNetEncoder(1, width=2, convs=(1, 1), side="indices", batch_norm=True)
    x = torch.randn(2, 1, 8, 12)
    latent = encoder(x)
    assert [tuple(t.shape) for t in latent.side] == [(2, 2, 4, 6), (2, 4, 2, 3)]
    spread = functional.max_unpool2d(torch.ones(2, 2, 4, 6), latent.side[0], (2, 2))
    assert (spread.unfold(2, 2, 2).unfold(3, 2, 2).sum((4, 5)) == 1).all()  # one place in each window


@pytest.mark.parametrize("side", ["indices", "skip", "none"])
def test_decoders_undo_what_encoders_did_and_use_their_side_information(side):
    torch.manual_seed(0)
    encoder = SegNetEncoder(3, width=2, convs=(1, 2), side=side, batch_norm=True)
    decoder = SegNetDecoder(5, width=2, convs=(1, 2), side=side)
    latent = encoder(torch.randn(2, 3, 8, 12))
    out = decoder(latent)
    assert out.shape == (2, 5, 8, 12)
    other = encoder(torch.randn(2, 3, 8, 12))
    assert torch.equal(out, decoder(Latent(latent.features, other.side))) == (side == "none")
    assert UpsamplingDecoder(5, width=2, ups=2)(Latent(latent.features, ())).shape == (2, 5, 8, 12)


# --- the published networks, counted by hand: a KxK convolution of i to o channels has K*K*i*o + o, batch norm 2 o


def conv(i, o, k=3):
    return k * k * i * o + o


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


ENCODER = [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512), *[(512, 512)] * 5]
DECODER = [*[(512, 512)] * 5, (512, 256), (256, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64)]


@pytest.mark.parametrize("channels", [3, 1, 14])
def test_parameters_of_tables_a3_and_a4(channels):
    plan = [(channels, 64), *ENCODER]
    with torch.device("meta"):
        plain, normed = (
            SegNetEncoder(channels, width=64, convs=VGG, side="indices", batch_norm=norm) for norm in (False, True)
        )
        decoder = SegNetDecoder(channels, width=64, convs=VGG, side="indices")
    wanted = sum(conv(i, o) for i, o in plan)
    assert count(plain) == wanted and (channels != 3 or wanted == 14_714_688)  # VGG16's convolutions
    assert count(normed) == wanted + sum(2 * o for _, o in plan)
    assert count(decoder) == sum(conv(i, o) + 2 * o for i, o in DECODER) + conv(64, channels)


def test_parameters_of_tables_a5_and_a6():
    with torch.device("meta"):
        decoder = UpsamplingDecoder(3, width=64, ups=5)
        judge = BatchNormDiscriminator(3, width=64, layers=4)
    pairs = [(512, 512), (512, 256), (256, 128), (128, 64)]
    assert count(decoder) == sum(conv(i, o) + 2 * o for i, o in pairs) + conv(64, 3)
    layers = [(3, 64), (64, 128), (128, 256), (256, 512)]
    assert count(judge) == sum(conv(i, o, 5) + 2 * o for i, o in layers) + conv(512, 1, 1)


def shapes_of(network, *args):
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, a, out, name=name: found.update({name: tuple(out.shape[1:])}))
    return network(*args), list(found.values()), found


def test_shapes_of_tables_a3_to_a6():
    with torch.device("meta"):
        encoder = SegNetEncoder(14, width=64, convs=VGG, side="indices", batch_norm=True)
        latent, convs, _ = shapes_of(encoder, torch.zeros(6, 14, 256, 256))
        assert convs == [
            *[(64, 256, 256)] * 2,
            *[(128, 128, 128)] * 2,
            *[(256, 64, 64)] * 3,
            *[(512, 32, 32)] * 3,
            *[(512, 16, 16)] * 3,
        ]
        assert latent.features.shape == (6, 512, 8, 8)
        sides = [(64, 128), (128, 64), (256, 32), (512, 16), (512, 8)]
        assert [tuple(t.shape) for t in latent.side] == [(6, c, n, n) for c, n in sides]
        out, convs, _ = shapes_of(SegNetDecoder(14, width=64, convs=VGG, side="indices"), latent)
        assert out.shape == (6, 14, 256, 256)
        assert convs == [
            *[(512, 16, 16)] * 3,
            *[(512, 32, 32)] * 2,
            (256, 32, 32),
            *[(256, 64, 64)] * 2,
            (128, 64, 64),
            (128, 128, 128),
            (64, 128, 128),
            (64, 256, 256),
            (14, 256, 256),
        ]
        image, convs, _ = shapes_of(UpsamplingDecoder(3, width=64, ups=5), Latent(latent.features, ()))
        assert convs == [(512, 16, 16), (256, 32, 32), (128, 64, 64), (64, 128, 128), (3, 256, 256)]
        logits, convs, _ = shapes_of(BatchNormDiscriminator(3, width=64, layers=4), image)
        assert convs == [(64, 128, 128), (128, 64, 64), (256, 32, 32), (512, 16, 16), (1, 16, 16)]
        assert logits.shape == (6, 1, 16, 16)
