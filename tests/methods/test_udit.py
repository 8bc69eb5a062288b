import pytest
import torch
from torch import nn

from i2idist.data.batches import Unpaired
from i2idist.errors import ConfigError, SizeError, SourceError
from i2idist.methods.udit import MUNITPI, UDIT
from i2idist.nn.extractor import FaceExtractor, SemanticClassifier, SemanticExtractor
from i2idist.nn.pooled import Content
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods import support
from tests.methods.support import Drawn, Known, close, domains, flat, step_of


def make(method=UDIT, **config):
    return support.make(method, a=3, **config)


class Stub(nn.Module):
    """Content k x, style the mean plus t, decoding c + sign * s."""

    def __init__(self, k, t, sign):
        super().__init__()
        self.k, self.t, self.sign = k, t, sign

    def content(self, x):
        return Content(self.k * x, ())

    def style(self, x):
        return x.mean((1, 2, 3))[:, None] + self.t

    def decode(self, c, s):
        return c.features + self.sign * s[:, :, None, None]


def known(**config):
    """D_A(x) = (x, 2x), D_B(x) = -x; h(x) = x^2."""
    method = support.make(UDIT, a=1, b=1, code_dim=1, **config)
    method.G_A, method.G_B = Stub(2.0, 1.0, 1), Stub(3.0, -1.0, -1)
    method.D_A, method.D_B = Known(lambda w, x: (w * x, 2 * x)), Known(lambda w, x: (-w * x,))
    method.h = Known(lambda w, x: w * x * x)
    return method


def run(method, step):
    terms = {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def test_terms_by_hand():
    """x_A = 0.1, x_B = 0.2, s_A = 0.3, s_B = 0.5: c_A = 0.2, c_B = 0.6, x_AB = -0.3, x_BA = 0.9."""
    batch = Unpaired(positions=torch.arange(1), a=flat(0.1), b=flat(0.2))
    draws = {"s_A": flat(0.3)[:, :, 0, 0], "s_B": flat(0.5)[:, :, 0, 0]}
    terms = run(known(), Drawn(batch, draws))
    close(
        terms["discriminators"],
        D_A=[(0.1 - 1) ** 2 + (0.2 - 1) ** 2 + 0.9**2 + 1.8**2],
        D_B=[(-0.2 - 1) ** 2 + 0.3**2],
    )
    close(
        terms["translators"],
        gan=[(0.3 - 1) ** 2 + (0.9 - 1) ** 2 + (1.8 - 1) ** 2],
        x=[abs(0.2 + 1.1 - 0.1) + abs(0.6 + 0.8 - 0.2)],
        c=[abs(-0.9 - 0.2) + abs(1.8 - 0.6)],
        s=[abs(-1.3 - 0.5) + abs(1.9 - 0.3)],
        U=[abs(0.09 - 0.01) + abs(0.81 - 0.04)],
    )


def test_weights_are_munits_and_the_constraints():
    assert UDIT.Config().lambda_U == 1.0
    assert make().weights() == {"U": 1.0, "x": 10.0, "c": 1.0, "s": 1.0}


def test_terms_without_a_weight_are_left_out_and_the_extractor_with_them():
    method = make(lambda_U=0.0, lambda_x=0.0, lambda_c=0.0, lambda_s=0.0)
    x = torch.randn(2, 3, 16, 16)
    terms = run(method, step_of(Unpaired(positions=torch.arange(2), a=x, b=x)))
    assert list(terms["translators"]) == ["gan"]
    assert not any(name.startswith("h.") for name in method.state_dict())


def test_shared_translations_give_what_new_ones_would():
    """Eqs. 5.3 to 5.8 written out, everything encoded and decoded anew: terms and gradients."""
    method = make(seed=1).double()
    x_A, x_B = torch.randn(2, 2, 3, 16, 16).double().unbind(0)
    step = step_of(Unpaired(positions=torch.arange(2), a=x_A, b=x_B))
    terms = run(method, step)["translators"]
    s_A, s_B = step.shared.s_A, step.shared.s_B
    G_A, G_B, h = method.G_A, method.G_B, method.h

    def distance(x, y):
        return (x - y).abs().flatten(1).mean(1)

    def real(d, x):
        return sum((scale - 1).square().flatten(1).mean(1) for scale in d(x))

    x_AB, x_BA = G_B.decode(G_A.content(x_A), s_B), G_A.decode(G_B.content(x_B), s_A)
    plain = {
        "gan": real(method.D_B, x_AB) + real(method.D_A, x_BA),
        "x": distance(G_A.decode(G_A.content(x_A), G_A.style(x_A)), x_A)
        + distance(G_B.decode(G_B.content(x_B), G_B.style(x_B)), x_B),
        "c": distance(G_B.content(x_AB).features, G_A.content(x_A).features)
        + distance(G_A.content(x_BA).features, G_B.content(x_B).features),
        "s": distance(G_B.style(x_AB), s_B) + distance(G_A.style(x_BA), s_A),
        "U": distance(h(x_AB), h(x_A)) + distance(h(x_BA), h(x_B)),
    }
    networks = [*G_A.parameters(), *G_B.parameters()]
    for name, value in plain.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-5)
        one, other = (
            torch.autograd.grad(t.sum(), networks, retain_graph=True, allow_unused=True) for t in (terms[name], value)
        )
        for p, q in zip(one, other, strict=True):
            assert (p is None) == (q is None)
            if p is not None:
                torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-5)


def test_training_leaves_the_extractor_alone():
    method = make()
    before = {name: tensor.clone() for name, tensor in method.h.state_dict().items()}
    training = Training(total_images=8, batch_size=4, ema_half_life_images=10)
    trainer = Trainer(method, training, seed=0, comm=Comm.alone())
    batch = Unpaired(positions=torch.arange(4), a=torch.randn(4, 3, 16, 16), b=torch.randn(4, 3, 16, 16))
    trainer.step(iter([batch]))
    assert all(torch.equal(before[name], tensor) for name, tensor in method.h.state_dict().items())


# --- the networks of the tables


def paper():
    with torch.device("meta"):
        return UDIT(UDIT.Config(lambda_U=0.0), domains(3, 3, (128, 128)))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_tables_a13_to_a18():
    """Worked by hand: a KxK convolution of i to o channels has K*K*i*o + o."""

    def conv(k, i, o):
        return k * k * i * o + o

    method = paper()
    residual = 6 * 2 * conv(7, 256, 256)
    assert count(method.G_A.content) == conv(7, 3, 64) + conv(7, 64, 128) + conv(7, 128, 256) + residual == 40_555_136
    assert count(method.G_A.style) == conv(7, 3, 64) + conv(4, 64, 128) + conv(4, 128, 256) + conv(1, 256, 8)
    assert count(method.G_A.affine) == conv(1, 8, 256) + conv(1, 256, 256) + 2 * conv(1, 256, 256) == 199_680
    assert count(method.G_A.decoder) == residual + conv(7, 256, 128) + conv(7, 128, 64) + conv(7, 64, 3) == 40_554_883
    assert count(method.D_A) == 3 * (
        conv(4, 3, 64) + conv(4, 64, 128) + conv(4, 128, 256) + conv(4, 256, 512) + conv(1, 512, 1)
    )
    assert count(method) == 2 * (81_976_971 + 8_271_171)


def test_shapes_of_tables_a13_to_a18():
    method, shapes = paper(), {}
    for name, module in method.named_modules():
        module.register_forward_hook(lambda _, args, out, name=name: shapes.update({name: getattr(out, "shape", None)}))
    with torch.device("meta"):
        x, s = torch.zeros(4, 3, 128, 128), torch.zeros(4, 8)
        content = method.G_A.content(x)
        assert method.G_A.style(x).shape == (4, 8)
        assert method.G_B.decode(content, s).shape == (4, 3, 128, 128)
        assert [tuple(logits.shape) for logits in method.D_B(x)] == [(4, 1, n, n) for n in (8, 4, 2)]
    assert content.features.shape == (4, 256, 16, 16)
    assert [tuple(i.shape) for i in content.indices] == [(4, 64, 64, 64), (4, 128, 32, 32), (4, 256, 16, 16)]
    expected = {
        "G_A.content.convs.0": (4, 64, 128, 128),
        "G_A.content.convs.1": (4, 128, 64, 64),
        "G_A.content.convs.2": (4, 256, 32, 32),
        "G_A.style.layers.2": (4, 64, 64, 64),
        "G_A.style.layers.3": (4, 128, 32, 32),
        "G_A.style.layers.5": (4, 256, 16, 16),
        "G_B.affine": (4, 512),
        "G_B.decoder.blocks.5": (4, 256, 16, 16),
        "G_B.decoder.convs.0": (4, 128, 32, 32),
        "G_B.decoder.convs.1": (4, 64, 64, 64),
        "D_B.scales.0.layers.6": (4, 512, 8, 8),
    }
    assert {name: tuple(shapes[name]) for name in expected} == expected


# --- translating


def test_translates_both_ways_by_code_or_in_the_style_of_an_image():
    method = make()
    x, z = torch.randn(2, 3, 16, 24), torch.randn(2, 3)
    for target, other in (("b", "a"), ("a", "b")):
        y = method.translate(x, z, target=target)
        assert y.shape == (2, 3, 16, 24)
        assert not torch.allclose(y, method.translate(x, z, target=other))
        assert not torch.allclose(y, method.translate(x, -z, target=target))
    styled = method.translate(x, z, style_from=x[1])
    torch.testing.assert_close(styled, method.translate(x, method.G_B.style(x[1:]).expand(2, -1)))
    with pytest.raises(ConfigError, match="translates to b or a only"):
        method.translate(x, z, target="x")
    with pytest.raises(ConfigError, match="code of length 3"):
        method.translate(x)
    with pytest.raises(SizeError, match="multiples of 4"):
        method.translate(torch.randn(1, 3, 14, 16), z[:1])
    with pytest.raises(SizeError, match="12x12"):
        method.translate(torch.randn(1, 3, 8, 8), z[:1])


def test_an_example_may_have_any_size_that_has_a_style():
    method, x = make(kernel=7), torch.randn(1, 3, 16, 16)
    assert method.translate(x, style_from=torch.randn(3, 4, 7)).shape == (1, 3, 16, 16)
    for example in (torch.zeros(3, 3, 8), torch.zeros(1, 8, 8)):
        with pytest.raises(ConfigError, match=r"\(3, H, W\) with at least 4 pixels a side"):
            method.translate(x, style_from=example)


# --- settings


def test_munit_pi_is_udit_without_the_constraint():
    method = support.make(MUNITPI, a=1)
    assert isinstance(method, UDIT) and method.config.pooling_indices and not hasattr(method, "h")
    with pytest.raises(ConfigError, match="munit_pi is UDIT with 0"):
        MUNITPI.Config(lambda_U=1.0)
    with pytest.raises(ConfigError, match="pooling_indices is off"):
        MUNITPI.Config(pooling_indices=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": 4}, "kernel is 4: it must be odd"),
        ({"extractor": "faces"}, "Did you mean 'face'"),
        ({"extractor_dim": -1}, "extractor_dim is -1"),
        ({"extractor_convs": ()}, "extractor_convs is 0"),
        ({"lambda_U": -1.0}, "lambda_U is -1"),
        ({"downs": 0}, "downs is 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        UDIT.Config(**settings)


def test_domains_that_cannot_be_compared_are_refused():
    with pytest.raises(ConfigError, match="1 and 3 channels: set it to 0"):
        support.make(UDIT, a=1)
    with pytest.raises(ConfigError, match="face takes images of 1 or 3 channels, not 2"):
        support.make(UDIT, a=2, b=2, extractor="face")
    with pytest.raises(SizeError, match="different|one size"):
        UDIT(
            next(iter(UDIT.tiny().values())),
            support.Domains((support.Domain("a", 3, 16, 16), support.Domain("b", 3, 16, 24))),
        )


# --- the extractor's source


def state_of(**settings):
    torch.manual_seed(5)
    extractor = SemanticExtractor(3, **{"width": 2, "convs": (1, 1), "dim": 2, **settings})
    return SemanticClassifier(extractor, (16, 16), 4).state_dict(), extractor.eval()


def build(sources, **settings):
    config = next(iter(UDIT.tiny().values()))
    return UDIT.build(type(config)(**{**vars(config), **settings}), domains(3, 3), sources)


def test_the_extractor_is_the_sources():
    state, extractor = state_of()
    method = build({"extractor": state})
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(method.h(x), extractor(x))
    build(None)  # a checkpoint follows


def test_a_face_network_can_be_the_extractor():
    network = FaceExtractor()
    method = build({"extractor": network.state_dict()}, extractor="face")
    assert torch.equal(method.h.network.block8.conv2d.weight, network.block8.conv2d.weight)
    step = step_of(Unpaired(positions=torch.arange(1), a=torch.randn(1, 3, 16, 16), b=torch.randn(1, 3, 16, 16)))
    assert run(method, step)["translators"]["U"].requires_grad


def test_a_missing_superfluous_or_other_extractor_is_refused():
    with pytest.raises(ConfigError, match="i2idist extractor.*sources: {extractor"):
        build({})
    with pytest.raises(ConfigError, match="no use for"):
        build({"extractor": state_of()[0]}, lambda_U=0.0)
    with pytest.raises(SourceError, match=r"extractor_width=2 extractor_convs=\[1, 1\] extractor_dim=2"):
        build({"extractor": state_of(dim=3)[0]})
    with pytest.raises(SourceError, match="extractor=face"):
        build({"extractor": state_of()[0]}, extractor="face")
