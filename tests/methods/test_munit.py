import copy

import pytest
import torch
from torch import nn

from i2idist.conformance import cases_of
from i2idist.conformance.training import make_batch, settings
from i2idist.data.batches import Unpaired
from i2idist.errors import ConfigError, SizeError, SourceError
from i2idist.losses.adversarial import least_squares_fake, least_squares_real, over_scales
from i2idist.losses.reconstruction import l1
from i2idist.methods.munit import MUNIT, MUNITConfig
from i2idist.model import load, save
from i2idist.nn.vgg import VGGFeatures
from i2idist.train.comm import Comm
from i2idist.train.trainer import Trainer
from tests.methods import support
from tests.methods.support import Drawn, Known, close, domains, flat, mean

S1, S2 = 0.3, -0.4


def make(**config):
    return support.make(MUNIT, **config)


class Parts(nn.Module):
    """Known functions as one domain's E^c, E^s and G."""

    def __init__(self, content, style, decode):
        super().__init__()
        self.content, self.style, self.decoder = Known(content), Known(style), Known(decode)

    def decode(self, c, s):
        return self.decoder(c, s)


def known(**config):
    """E_1^c(x) = 2x, E_1^s(x) = x, G_1(c, s) = c + s; E_2^c(x) = 3x, E_2^s(x) = 1 - x, G_2(c, s) = c / 2 - s."""
    method = make(b=1, code_dim=1, **config)
    method.G_1 = Parts(lambda w, x: w * 2 * x, lambda w, x: w * mean(x).flatten(1), lambda w, c, s: w * c + wide(s))
    method.G_2 = Parts(lambda w, x: w * 3 * x, lambda w, x: 1 - w * mean(x).flatten(1), lambda w, c, s: c / 2 - wide(s))
    method.D_1 = Known(lambda w, x: (w * x, w * 2 * x[:, :, ::2]))
    method.D_2 = Known(lambda w, x: (-w * x,))
    return method


def wide(s):
    return s[:, :, None, None]


def run(method, x1=0.1, x2=0.2):
    batch = Unpaired(positions=torch.arange(1), a=flat(x1), b=flat(x2))
    s1, s2 = (torch.tensor([[s]], dtype=torch.float64) for s in (S1, S2))
    step, terms = Drawn(batch, {"s1": s1, "s2": s2}), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def test_terms_by_hand():
    """c1 = 0.2, c2 = 0.6; x12 = 0.1 + 0.4 = 0.5, x21 = 0.6 + 0.3 = 0.9."""
    terms = run(known(lambda_cycle=10.0))
    close(
        terms["discriminators"],
        D_1=[(0.1 - 1) ** 2 + (0.2 - 1) ** 2 + 0.9**2 + 1.8**2],
        D_2=[(-0.2 - 1) ** 2 + 0.5**2],
    )
    close(
        terms["autoencoders"],
        gan=[(-0.5 - 1) ** 2 + (0.9 - 1) ** 2 + (1.8 - 1) ** 2],
        x=[abs(0.2 + 0.1 - 0.1) + abs(0.3 - 0.8 - 0.2)],  # G_1(c1, 0.1), G_2(c2, 0.8)
        c=[abs(3 * 0.5 - 0.2) + abs(2 * 0.9 - 0.6)],
        s=[abs(1 - 0.5 - S2) + abs(0.9 - S1)],
        cycle=[abs(1.5 + 0.1 - 0.1) + abs(0.9 - 0.8 - 0.2)],  # G_1(E_2^c(x12), 0.1), G_2(E_1^c(x21), 0.8)
    )


def test_weights_are_the_papers():
    assert MUNIT.weights(make(lambda_cycle=0.0)) == {"x": 10.0, "c": 1.0, "s": 1.0, "cycle": 0.0, "vgg": 0.0}


@pytest.mark.parametrize(
    ("without", "calls"),
    [  # of E_1^c, E_1^s and G_1: for x1 and x21, for x1 and x21, for x21, x11 and x121
        ("lambda_x", (2, 1, 1)),
        ("lambda_c", (1, 2, 2)),
        ("lambda_s", (2, 1, 2)),
        (None, (2, 2, 2)),
    ],
)
def test_without_a_weight_its_term_and_passes_are_left_out(without, calls):
    method = known(**({without: 0.0} if without else {}))
    terms = run(method)["autoencoders"]
    assert set(terms) == {"gan", "x", "c", "s"} - ({without.removeprefix("lambda_")} if without else set())
    for part in (method.G_1, method.G_2):
        assert (len(part.content.calls), len(part.style.calls), len(part.decoder.calls)) == calls


def test_the_perceptual_term_compares_normalised_features_with_the_inputs():
    method = known(lambda_vgg=1.0, vgg_width=1)
    ramp = torch.linspace(0, 1, 16, dtype=torch.float64).expand(1, 1, 16, 16)
    method.G_1.decoder = Known(lambda w, c, s: w * 5 * ramp + 3)  # what normalising makes a plain ramp
    method.G_2.decoder = Known(lambda w, c, s: -w * ramp)  # and this its opposite
    method.vgg = Known(lambda w, x: w * x)
    batch = Unpaired(positions=torch.arange(1), a=ramp, b=ramp)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    step = Drawn(batch, {"s1": zero, "s2": zero})
    method.discriminator_terms(step)
    term = method.autoencoder_terms(step)["vgg"]
    torch.testing.assert_close(
        term, torch.tensor([4.0], dtype=torch.float64), rtol=1e-3, atol=0
    )  # (2 * 1)^2 on average


def test_shared_translations_train_as_if_made_anew():
    """The autoencoders' gradients equal those of a second pass with the same styles, as the public code makes it."""
    case = next(case for case in cases_of("munit", every=True) if case.config_name == "every_term")
    method, gradients = case.build(), {}
    before = copy.deepcopy(method).double()
    trainer = Trainer(
        method,
        settings(method, "float64", 1),
        seed=3,
        comm=Comm.alone(),
        observer=lambda name, found: gradients.update({name: {k: g.clone() for k, g in found.items()}}),
    )
    batch = make_batch(Unpaired, case.domains, torch.arange(4))
    trainer.step(iter([batch]))
    seen = support.step_of(batch, seed=3)
    seen.begin("discriminators")
    s1, s2 = seen.normal("s1", 3), seen.normal("s2", 3)
    for player in method.players():
        step = plain_step(before, batch.a, batch.b, s1, s2)
        own = {f"{n}.{k}": p for n in player.networks for k, p in getattr(before, n).named_parameters()}
        expected = torch.autograd.grad(step[player.name].mean(), list(own.values()))
        for (key, _), gradient in zip(own.items(), expected, strict=True):
            torch.testing.assert_close(gradients[player.name][key], gradient, rtol=1e-5, atol=1e-9)
        for name in ("D_1", "D_2"):  # the discriminators have stepped by now
            getattr(before, name).load_state_dict(getattr(method, name).state_dict())


def plain_step(m, x1, x2, s1, s2):
    """Both players' losses, everything computed where it is used."""
    x12 = lambda: m.G_2.decode(m.G_1.content(x1), s2)  # noqa: E731
    x21 = lambda: m.G_1.decode(m.G_2.content(x2), s1)  # noqa: E731
    real, fake = (lambda logits, f=f: over_scales(f, logits) for f in (least_squares_real, least_squares_fake))
    d = real(m.D_1(x1)) + fake(m.D_1(x21())) + real(m.D_2(x2)) + fake(m.D_2(x12()))
    g = real(m.D_1(x21())) + real(m.D_2(x12()))
    for a, b, x, other, s in ((m.G_1, m.G_2, x1, x12, s2), (m.G_2, m.G_1, x2, x21, s1)):
        g = g + 10 * l1(a.decode(a.content(x), a.style(x)), x)
        g = g + l1(b.content(other()), a.content(x)) + l1(b.style(other()), s)
        g = g + 10 * l1(a.decode(b.content(other()), a.style(x)), x)
        normalised = [nn.functional.instance_norm(m.vgg(image)) for image in (other(), x)]
        g = g + (normalised[0] - normalised[1]).square().mean((1, 2, 3))
    return {"discriminators": d, "autoencoders": g}


def test_networks_at_the_published_size():
    """Generator 15.03M and discriminator 8.27M parameters per domain; patches of 16, 8 and 4 at 256x256."""
    with torch.device("meta"):
        method = MUNIT(MUNITConfig(), domains(3, 3, (256, 256)))
        counts = [sum(p.numel() for p in getattr(method, n).parameters()) for n in ("G_1", "G_2", "D_1", "D_2")]
        assert counts == [15_026_187] * 2 + [8_271_171] * 2
        logits = method.D_1(torch.empty(1, 3, 256, 256))
        assert [tuple(scale.shape) for scale in logits] == [(1, 1, n, n) for n in (16, 8, 4)]
        assert method.translate(torch.empty(1, 3, 256, 256), torch.empty(1, 8)).shape == (1, 3, 256, 256)


def test_translates_both_ways_by_code_or_by_example():
    method = make()
    z = torch.randn(2, 3)
    x = torch.randn(1, 1, 12, 16).expand(2, -1, -1, -1)
    y = method.translate(x, z)
    assert y.shape == (2, 3, 12, 16)
    assert not torch.allclose(y[0], y[1])
    assert method.translate(torch.randn(2, 3, 12, 16), z, target="a").shape == (2, 1, 12, 16)
    example = torch.rand(3, 20, 9) * 2 - 1
    styled = method.translate(x, z, style_from=example)
    torch.testing.assert_close(styled, method.translate(x, method.G_2.style(example[None]).expand(2, -1)))
    torch.testing.assert_close(styled, method.translate(x, style_from=example))


def test_a_saved_model_takes_the_style_of_an_image(tmp_path):
    method = make().eval()
    save(str(tmp_path), method, method_name="munit", domains=domains())
    x, example = torch.rand(2, 1, 16, 16), torch.rand(3, 16, 16)
    translator = load(str(tmp_path))
    assert translator.takes_style and translator.targets == ("b", "a")
    with torch.no_grad():
        expected = method.translate(x, style_from=example)
    torch.testing.assert_close(translator.translate(x, style_from=example)[:, 0], expected)


def test_what_cannot_be_translated_says_why():
    method, z = make(), torch.randn(1, 3)
    with pytest.raises(ConfigError, match="translates to b or a only"):
        method.translate(torch.randn(1, 1, 16, 16), z, target="x")
    with pytest.raises(ConfigError, match="code of length 3"):
        method.translate(torch.randn(1, 1, 16, 16))
    with pytest.raises(SizeError, match="multiples of 4"):
        method.translate(torch.randn(1, 1, 14, 16), z)
    for example in (torch.zeros(3, 3, 8), torch.zeros(1, 8, 8), torch.zeros(1, 3, 8, 8)):
        with pytest.raises(ConfigError, match=r"style_from is .*\(3, H, W\) with at least 4 pixels"):
            method.translate(torch.randn(1, 1, 16, 16), style_from=example)


def test_sizes_that_suit_no_network_are_refused():
    with pytest.raises(SizeError, match="at least 16 pixels a side"):
        make(size=(12, 16), style_downs=4)
    with pytest.raises(SizeError, match="61x61"):
        make(size=(60, 64), discriminator_layers=4, discriminator_scales=3)


def test_the_perceptual_network_comes_from_a_source():
    config = make(lambda_vgg=1.0, vgg_width=2).config
    torch.manual_seed(1)
    given = VGGFeatures(2).state_dict()
    method = MUNIT.build(config, domains(3), {"vgg": {**given, "classifier.0.weight": torch.zeros(1)}})
    torch.testing.assert_close(method.vgg.state_dict(), given)
    assert any(key.startswith("vgg.") for key in method.state_dict())
    assert not any(name.startswith("vgg") for player in method.players() for name in player.networks)
    with pytest.raises(ConfigError, match=r"weights:vgg16.*sources: \{vgg: URI\}"):
        MUNIT.build(config, domains(3), {})
    with pytest.raises(ConfigError, match="sources.vgg, which this configuration has no use for"):
        MUNIT.build(make().config, domains(3), {"vgg": given})
    with pytest.raises(SourceError, match="sources.vgg has none as features.0.weight"):
        MUNIT.build(config, domains(3), {"vgg": {}})
    with pytest.raises(ConfigError, match="a has 2"):
        MUNIT(config, domains(2, 3))


def test_a_missing_code_or_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="code_dim is 0"):
        MUNITConfig(code_dim=0)
    with pytest.raises(ConfigError, match="lambda_s is -1"):
        MUNITConfig(lambda_s=-1)
