import math

import pytest
import torch

from i2idist.data.batches import Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.method import Domain, Domains
from i2idist.methods.cyclegan import CycleGAN, CycleGANNoise
from i2idist.nn.unet import UNet
from tests.methods import support
from tests.methods.support import Known, close, domains, flat, step_of


def make(method, **config):
    """Without the identity term, which domains of different channels can't have."""
    return support.make(method, **{"lambda_identity": 0.0, **config})


def known(**config):
    """G(x) = 2x, F(y) = 3y + 1; D_Y(y) = y, D_X(x) = -x."""
    method = make(CycleGAN, b=1, **{"pool_size": 0, **config})
    method.G = Known(lambda w, x, z, noise: w * 2 * x)
    method.F = Known(lambda w, y, z, noise: w * 3 * y + 1)
    method.D_Y = Known(lambda w, y: w * y)
    method.D_X = Known(lambda w, x: -w * x)
    return method


def run(method, a, b, images=0):
    step, terms = step_of(Unpaired(positions=torch.arange(len(a)) + images, a=a, b=b)), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms, step


def test_terms_by_hand():
    """x = 0.1, y = 0.2: y_hat = 0.2, x_hat = 1.6; F(y_hat) = 1.6, G(x_hat) = 3.2; G(y) = 0.4, F(x) = 1.3."""
    terms, _ = run(known(lambda_identity=5.0), flat(0.1), flat(0.2))
    close(
        terms["generators"],
        gan=[(0.2 - 1) ** 2 + (-1.6 - 1) ** 2],
        cycle=[1.5 + 3.0],
        identity=[0.2 + 1.2],
    )
    close(
        terms["discriminators"],
        D_Y=[0.5 * ((0.2 - 1) ** 2 + 0.2**2)],
        D_X=[0.5 * ((-0.1 - 1) ** 2 + 1.6**2)],
    )


def labelled(*classes, **config):
    """Networks for images of 16x16: label maps of so many classes, or three channels where that is None."""
    ends = (Domain(name, 1 if count else 3, 16, 16, count) for name, count in zip("ab", classes, strict=True))
    torch.manual_seed(0)
    small = {**vars(CycleGAN.tiny()["resnet"]), "pool_size": 0, "lambda_identity": 0.0, **config}
    return CycleGAN(CycleGAN.Config(**small), Domains(tuple(ends)))


@pytest.mark.parametrize("turned", [False, True])
def test_terms_of_a_label_map_by_hand(turned):
    """Logits (0, log 3) are probabilities (1/4, 3/4). To colours: half the second class. D: the last channel."""
    method = labelled(2, None) if turned else labelled(None, 2)
    logits = torch.tensor([0.0, math.log(3)], dtype=torch.float64)[:, None, None]
    to_labels = Known(lambda w, x, z, noise: w * logits.expand(len(x), 2, 16, 16))
    to_colours = Known(lambda w, x, z, noise: w * x[:, 1:2].expand(-1, 3, -1, -1) / 2)
    method.G, method.F = (to_colours, to_labels) if turned else (to_labels, to_colours)
    method.D_X = method.D_Y = Known(lambda w, x: w * x[:, -1:])
    colours = flat(0.5, 0.2).expand(-1, 3, -1, -1)
    levels = [level / 127.5 - 1 for level in (0, 1, 2)]  # of classes 0 and 1, and of none
    labels = flat(levels[1], levels[0])
    labels[1, :, :8] = levels[2]
    terms, _ = run(method, *((labels, colours) if turned else (colours, labels)))
    generators = terms["generators"]
    torch.testing.assert_close(generators["gan"], double((0.75 - 1) ** 2 + (0.5 - 1) ** 2, (0.75 - 1) ** 2 + 1))
    torch.testing.assert_close(generators["cycle"], double(0.5 - 0.375, 0.375 - 0.2))
    torch.testing.assert_close(generators["sem"], double(math.log(4 / 3), math.log(4)))
    assert set(generators) == {"gan", "cycle", "sem"}
    of_labels, of_colours = ("D_X", "D_Y") if turned else ("D_Y", "D_X")
    real = [0.0, 1.0]  # of the second map one half is class 0, and one half nothing: neither is the last class
    want = double(*(0.5 * ((1 - value) ** 2 + 0.75**2) for value in reversed(real)))
    torch.testing.assert_close(terms["discriminators"][of_labels], want)
    want = double(0.5 * ((0.5 - 1) ** 2 + 0.5**2), 0.5 * ((0.2 - 1) ** 2 + 0))
    torch.testing.assert_close(terms["discriminators"][of_colours], want)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("generator", ["resnet", "unet"])
def test_label_maps_are_translated_as_levels(generator):
    method = labelled(None, 5, generator=generator, depth=3)
    y = method.translate(torch.rand(2, 3, 16, 16) * 2 - 1)
    levels = (y + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert y.shape == (2, 1, 16, 16) and levels.round().unique().numel() > 1 and levels.max() < 4.5
    hot = torch.stack([levels[:, 0].round() == k for k in range(5)], dim=1).float()
    torch.testing.assert_close(method.translate(y, target="a"), method.F(hot, None, None))


def test_label_maps_have_no_identity_term():
    with pytest.raises(ConfigError, match="with label maps there is no identity term: set it to 0"):
        labelled(3, None, lambda_identity=5.0)


def test_weights_are_the_papers():
    assert make(CycleGAN, a=3, lambda_identity=5.0).weights() == {"cycle": 10.0, "sem": 10.0, "identity": 5.0}
    assert vars(CycleGAN.Config())["lambda_identity"] == 5.0


def test_without_an_identity_weight_its_passes_are_left_out():
    method = known()
    terms, _ = run(method, flat(0.1), flat(0.2))
    assert list(terms["generators"]) == ["gan", "cycle"]
    assert (len(method.G.calls), len(method.F.calls)) == (2, 2)
    assert (len(method.D_X.calls), len(method.D_Y.calls)) == (3, 3)


def test_discriminators_see_the_pool():
    """Filled with the first step's fake, the pool gives it back later instead of the new one."""
    method = known(pool_size=1)
    seen = []
    for number in range(8):
        run(method, flat(0.1 * number), flat(0.2), images=number)
        seen.append(method.D_Y.calls[-1][0][0, 0, 0, 0].item() / 0.2)
    fresh = [pytest.approx(number, abs=1e-6) for number in range(8)]
    old = [number for number in range(8) if seen[number] != fresh[number]]
    assert 0 < len(old) < 7
    assert all(round(seen[number]) < number for number in old)
    assert not method.D_Y.calls[-1][0].requires_grad


def test_validation_leaves_the_pool_alone():
    method = known(pool_size=4).eval()
    run(method, flat(0.1), flat(0.2))
    assert method.pool_x.count == 0


def test_each_pass_draws_a_code_of_its_own():
    method = make(CycleGANNoise, code_dim=2, generator="resnet")
    codes = []
    for network in (method.G, method.F):
        network.register_forward_pre_hook(lambda _, args: codes.append(args[1]))
    run(method, torch.randn(2, 1, 16, 16), torch.randn(2, 3, 16, 16))
    assert len(codes) == 4
    assert len(torch.cat(codes).unique(dim=0)) == 8


def test_translates_both_ways():
    method = make(CycleGAN)
    assert method.translate(torch.randn(2, 1, 12, 16)).shape == (2, 3, 12, 16)
    assert method.translate(torch.randn(2, 3, 12, 16), target="a").shape == (2, 1, 12, 16)
    with pytest.raises(ConfigError, match="translates to b or a only"):
        method.translate(torch.randn(2, 1, 16, 16), target="x")
    with pytest.raises(SizeError, match="multiples of 4"):
        method.translate(torch.randn(2, 1, 14, 16))
    with pytest.raises(SizeError, match="8x8"):
        method.translate(torch.randn(2, 1, 4, 4))


@pytest.mark.parametrize("generator", ["resnet", "unet"])
def test_noise_reaches_both_outputs(generator):
    method = make(CycleGANNoise, generator=generator, depth=3)
    z = torch.randn(2, 8)
    for target, channels in (("b", 1), ("a", 3)):
        x = torch.randn(1, channels, 16, 16).expand(2, -1, -1, -1)
        y = method.translate(x, z, target=target)
        assert not torch.allclose(y[0], y[1])


def test_dropout_alone_is_noise_keyed_by_the_code():
    method = make(CycleGAN, dropout=0.5)
    assert method.code_dim == 1
    x = torch.randn(1, 1, 16, 16).expand(3, -1, -1, -1)
    y = method.translate(x, torch.tensor([[1.0], [2.0], [1.0]]))
    torch.testing.assert_close(y[0], y[2])
    assert not torch.allclose(y[0], y[1])


def test_configurations():
    blocks = {size: len(CycleGAN(small(), domains(3, 3, (size, size))).G.blocks) for size in (128, 256)}
    assert blocks == {128: 6, 256: 9}
    assert isinstance(make(CycleGAN, generator="unet", depth=3).F, UNet)
    with pytest.raises(ConfigError, match="1 and 3 channels"):
        make(CycleGAN, lambda_identity=5.0)
    with pytest.raises(ConfigError, match="code_dim is 0"):
        CycleGANNoise.Config(code_dim=0)


def small():
    return CycleGAN.Config(width=2, discriminator_width=2, pool_size=1)
