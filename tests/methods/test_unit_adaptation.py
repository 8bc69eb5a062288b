import math

import pytest
import torch

from i2idist.data.batches import SourceLabelled
from i2idist.errors import ConfigError, SizeError
from i2idist.method import Domain, Domains
from i2idist.methods.unit_adaptation import UNITAdaptation
from i2idist.nn.digits import Coordinates, Tied
from i2idist.randomness import Noise
from i2idist.train.trainer import _parameters
from tests.methods.support import Drawn, Known, close, flat, mean, step_of
from tests.methods.test_unit import sp


def domains(a=1, b=3, size=(16, 16), labels=("zero", "one")):
    return Domains((Domain("a", a, *size), Domain("b", b, *size)), labels)


def make(a=1, b=3, **config):
    torch.manual_seed(0)
    return UNITAdaptation(UNITAdaptation.Config(**{**vars(UNITAdaptation.tiny()["plain"]), **config}), domains(a, b))


def features(x, noise=None):
    """(N, 2): the image's mean and its double; three times that where features are dropped."""
    return (1 if noise is None else 3) * torch.cat([mean(x), 2 * mean(x)], dim=1)[:, :, 0, 0]


class Judged(torch.nn.Module):
    """A discriminator whose logit is the first of its features."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, x):
        return (self.features(x)[:, :1],)


def known():
    """E_1(x) = 2x, E_2(y) = 3y; G_1(z) = z + 1, G_2(z) = -z; f_1 and f_2 the mean and its double, of y less 1."""
    method = make(b=1)
    method.E_L1, method.E_L2 = Known(lambda w, x: w * 2 * x), Known(lambda w, y: w * 3 * y)
    method.E_H, method.G_H = Known(lambda w, h: w * h), Known(lambda w, z: w * z)
    method.G_L1, method.G_L2 = Known(lambda w, h: w * h + 1), Known(lambda w, h: -w * h)
    method.D_1, method.D_2 = Judged(features), Judged(lambda y: features(y - 1))
    method.D_real = Known(lambda w, f: w * f[:, :1])
    method.C = Known(lambda w, f: w * f)
    method.C.out_features = 2
    return method


def test_terms_by_hand():
    """x_1 = 0.1, class 1; x_2 = 0.2: x_11 = 1.3, x_12 = -0.3, x_22 = -0.4, x_21 = 1.4, as for UNIT.

    The real logits are 0.1 and 0.2 - 1; those of translations 1.4 and -0.3 - 1, of reconstructions 1.3 and -0.4 - 1;
    the class's logits, with features dropped, 0.3 and 0.6.
    """
    batch = SourceLabelled(positions=torch.arange(1), a=flat(0.1), b=flat(0.2), y=torch.tensor([1]))
    step, method = Drawn(batch, {"eta_1": flat(0.1), "eta_2": flat(-0.2)}), known()
    close(
        method.discriminator_terms(step),
        gan=[sp(-0.1) + sp(0.8) + (sp(1.4) + sp(-1.3) + sp(1.3) + sp(-1.4)) / 2],
        **{"class": [math.log(1 + math.exp(0.3 - 0.6))]},
        feature=[1.5 * (1.3 - (-0.3 - 1)) + 1.5 * (1.4 - (-0.4 - 1))],
    )
    close(
        method.generator_terms(step),
        gan=[sp(-1.4) + sp(1.3) + sp(-1.3) + sp(1.4)],
        kl=[(0.2**2 + 0.6**2) / 2],
        recon=[1.2 + 0.6],
    )


def test_half_of_the_targets_are_inverted_for_both_updates():
    method = make(invert=True)
    a, b, y = torch.rand(32, 1, 16, 16), torch.rand(32, 3, 16, 16) + 0.1, torch.zeros(32, dtype=torch.long)
    step = step_of(SourceLabelled(positions=torch.arange(32), a=a, b=b, y=y))
    method.discriminator_terms(step)
    x_1, x_2 = step.both
    signs = (x_2 / b).flatten(1)
    assert torch.equal(x_1, a) and torch.equal(signs, signs[:, :1].expand_as(signs))
    assert set(signs[:, 0].tolist()) == {-1.0, 1.0} and 8 <= (signs[:, 0] < 0).sum() <= 24


def test_weights_and_terms():
    """The authors' first public code weighs the adversarial terms 1, classes 10, and has no cycles."""
    weights = make().weights()
    assert (weights["cycle"], weights["cycle_kl"]) == (0.0, 0.0)
    assert {name: weights[name] for name in ("gan", "kl", "class")} == {"gan": 1.0, "kl": 0.2, "class": 10.0}


def shapes(network):
    return [tuple(p.shape) for p in network.parameters() if p.dim() == 4]


def test_networks_of_the_authors_first_public_code():
    """CoVAE32x32 and CoDis32x32 at 64 channels, but for the deviation of q(z | x): SVHN and MNIST."""
    with torch.device("meta"):
        method = UNITAdaptation(UNITAdaptation.Config(), domains(3, 1, (32, 32), tuple("0123456789")))
    assert shapes(method.E_L1) == [(64, 5, 5, 5)] and shapes(method.E_L2) == [(64, 3, 5, 5)]
    assert shapes(method.E_H) == [(128, 64, 5, 5), (256, 128, 8, 8), (512, 256, 1, 1), (512, 512, 1, 1)]
    assert shapes(method.G_H) == [(512, 512, 4, 4), (512, 256, 4, 4), (256, 128, 4, 4)]
    assert shapes(method.G_L2) == [(128, 64, 4, 4), (64, 1, 1, 1)]
    assert shapes(method.D_1) == [(64, 3, 5, 5)] and shapes(method.D_2) == [(64, 1, 5, 5)]
    assert shapes(method.D_H) == [(128, 64, 5, 5), (256, 128, 5, 5), (512, 256, 5, 5)]
    assert method.D_real.in_features == method.C.in_features == 512 * 2 * 2 and method.C.out_features == 10


def test_encoders_see_where_a_pixel_is():
    places = Coordinates()(torch.zeros(2, 1, 3, 5))[:, 1:]
    torch.testing.assert_close(places[1, 0, :, 2], torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(places[0, 1, 1], torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))


def test_features_are_dropped_at_the_published_rates_where_noise_is_given():
    """Levels that keep what they are given, on ones: what stays is scaled up, a factor a level."""
    tied = Tied(4)
    tied.levels = torch.nn.ModuleList(torch.nn.Identity() for _ in range(3))
    ones = torch.ones(64, 4, 16, 16)
    assert torch.equal(tied(ones), ones.flatten(1))
    kept = tied(ones, Noise(torch.arange(64)))
    share = 0.9 * 0.7 * 0.5 * 0.5
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / share])
    assert (kept > 0).double().mean().item() == pytest.approx(share, rel=0.05)


def test_high_layers_are_one_network_and_low_ones_are_not():
    method = make()
    discriminators, generators = method.players()
    names = _parameters(method, discriminators.networks)
    assert {name.split(".")[0] for name in names} == {"D_1", "D_2", "D_H", "D_real", "C"}
    assert len([name for name in method.state_dict() if name.startswith("D_1.")]) == 2
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = method.D_1.features(x.mean(1, keepdim=True)), method.D_2.features(x)
        method.D_H.levels[-1][0].weight.mul_(2)
        after = method.D_1.features(x.mean(1, keepdim=True)), method.D_2.features(x)
    assert not any(torch.allclose(one, other) for one, other in zip(before, after, strict=True))
    assert not set(generators.networks) & set(discriminators.networks)


def test_the_classifier_is_reached_by_labels_alone():
    """What trains the generators leaves it alone, and images of the second domain have no class."""
    method = make()
    a, b = torch.randn(2, 1, 16, 16), torch.randn(2, 3, 16, 16)
    eta = {name: torch.randn(2, 32, 1, 1) for name in ("eta_1", "eta_2")}
    batch = SourceLabelled(positions=torch.arange(2), a=a, b=b, y=torch.tensor([0, 1]))
    step = Drawn(batch, eta)
    terms = method.discriminator_terms(step)
    grads = torch.autograd.grad(
        terms["class"].sum(), [*method.D_2.parameters(), *method.C.parameters()], allow_unused=True
    )
    assert [g is None for g in grads] == [True, True, False, False]
    assert all(p.grad_fn is None for p in method.C.parameters())
    generated = sum(term.sum() for term in method.generator_terms(step).values())
    assert torch.autograd.grad(generated, [*method.C.parameters()], allow_unused=True) == (None, None)


def test_classifies_both_domains():
    method = make()
    assert method.classify(torch.randn(4, 3, 16, 16)).shape == (4, 2)
    assert method.classify(torch.randn(4, 1, 16, 16), domain="a").shape == (4, 2)
    assert {"D_1", "D_2", "D_H", "C"} < set(method.translator_networks())
    with pytest.raises(SizeError, match="16x16"):
        method.classify(torch.randn(4, 3, 16, 32))
    with pytest.raises(SizeError, match="16x16, as in training"):
        method.translate(torch.randn(4, 1, 32, 32))
    with pytest.raises(ConfigError, match="b or a"):
        method.classify(torch.randn(4, 3, 16, 16), domain="c")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"networks": "public", "shared_layers": 0}, "leave method.networks"),
        ({"blocks": 2}, "leave method.blocks"),
        ({"lambda_recon": 0.0}, "lambda_recon above 0"),
        ({"lambda_class": -1.0}, "lambda_class is -1"),
    ],
)
def test_refusals(config, message):
    with pytest.raises(ConfigError, match=message):
        UNITAdaptation.Config(**config)


def test_data_without_classes_is_refused():
    with pytest.raises(ConfigError, match="at least two classes"):
        UNITAdaptation(UNITAdaptation.tiny()["plain"], domains(labels=()))
