import math

import pytest
import torch
from torch.nn.functional import cross_entropy, softplus

from i2idist.data.batches import SourceLabelled
from i2idist.errors import ConfigError, SizeError
from i2idist.method import Domain, Domains
from i2idist.methods.unit_adaptation import UNITAdaptation
from i2idist.train.trainer import _parameters
from tests.methods.support import Drawn, Known, check_shared_work, close, flat, mean
from tests.methods.test_unit import sp


def domains(a=1, b=3, size=(16, 16), labels=("zero", "one")):
    return Domains((Domain("a", a, *size), Domain("b", b, *size)), labels)


def make(a=1, b=3, **config):
    torch.manual_seed(0)
    return UNITAdaptation(UNITAdaptation.Config(**{**vars(UNITAdaptation.tiny()["plain"]), **config}), domains(a, b))


def features(x):
    """(N, 2): the image's mean and its double."""
    return torch.cat([mean(x), 2 * mean(x)], dim=1)[:, :, 0, 0]


def known():
    """E_1(x) = 2x, E_2(y) = 3y; G_1(z) = z + 1, G_2(z) = -z; f_1 and f_2 the mean and its double, of y less 1."""
    method = make(b=1)
    method.E_L1, method.E_L2 = Known(lambda w, x: w * 2 * x), Known(lambda w, y: w * 3 * y)
    method.E_H, method.G_H = Known(lambda w, h: w * h), Known(lambda w, z: w * z)
    method.G_L1, method.G_L2 = Known(lambda w, h: w * h + 1), Known(lambda w, h: -w * h)
    method.D_1.features, method.D_2.features = features, lambda y: features(y - 1)
    method.D_real = Known(lambda w, f: w * f[:, :1])
    method.C = Known(lambda w, f: w * f)
    method.C.out_features = 2
    return method


def test_discriminator_terms_by_hand():
    """x_1 = 0.1, class 1; x_2 = 0.2: x_11 = 1.3, x_12 = -0.3, x_22 = -0.4, x_21 = 1.4, as for UNIT.

    The real logits are 0.1 and 0.2 - 1, the fake ones 1.4 and -0.3 - 1; the class's logits 0.1 and 0.2.
    """
    batch = SourceLabelled(positions=torch.arange(1), a=flat(0.1), b=flat(0.2), y=torch.tensor([1]))
    step = Drawn(batch, {"eta_1": flat(0.1), "eta_2": flat(-0.2)})
    close(
        known().discriminator_terms(step),
        gan=[sp(-0.1) + sp(1.4) + sp(0.8) + sp(-1.3)],
        **{"class": [math.log(1 + math.exp(0.1 - 0.2))]},
        feature=[1.5 * (1.3 - (-0.3 - 1)) + 1.5 * (1.4 - (-0.4 - 1))],
    )


def straightforward(method, x_1, x_2, y_1):
    """Both updates' weighted terms, each image made where it is needed and judged by itself."""
    weights = method.weights()

    def encodings(step):
        mu_1, mu_2 = method.E_H(method.E_L1(x_1)), method.E_H(method.E_L2(x_2))
        step.begin("discriminators")
        z_1, z_2 = (mu + step.normal(name, *mu.shape[1:]) for mu, name in ((mu_1, "eta_1"), (mu_2, "eta_2")))
        return mu_1, mu_2, z_1, z_2

    def generate(z, domain):
        return (method.G_L1 if domain == 1 else method.G_L2)(method.G_H(z))

    def logit(network, x):
        return method.D_real(network.features(x)).flatten()

    def distance(one, other):
        return (one - other).flatten(1).abs().mean(1)

    def discriminators(step):
        D_1, D_2 = method.D_1, method.D_2
        _, _, z_1, z_2 = encodings(step)
        x_11, x_12, x_22, x_21 = (generate(z, n).detach() for z, n in ((z_1, 1), (z_1, 2), (z_2, 2), (z_2, 1)))
        gan = softplus(-logit(D_1, x_1)) + softplus(logit(D_1, x_21))
        gan = gan + softplus(-logit(D_2, x_2)) + softplus(logit(D_2, x_12))
        total = weights["gan"] * gan
        total = total + weights["class"] * cross_entropy(method.C(D_1.features(x_1)), y_1, reduction="none")
        pairs = distance(D_1.features(x_11), D_2.features(x_12)), distance(D_2.features(x_22), D_1.features(x_21))
        return total + weights["feature"] * (pairs[0] + pairs[1])

    def generators(step):
        mu_1, mu_2, z_1, z_2 = encodings(step)
        gan = softplus(-logit(method.D_1, generate(z_2, 1))) + softplus(-logit(method.D_2, generate(z_1, 2)))
        kl = 0.5 * (mu_1.square().flatten(1).mean(1) + mu_2.square().flatten(1).mean(1))
        recon = distance(generate(z_1, 1), x_1) + distance(generate(z_2, 2), x_2)
        return weights["gan"] * gan + weights["kl"] * kl + weights["recon"] * recon

    return {"discriminators": discriminators, "generators": generators}


def test_shared_work_gives_what_the_straightforward_form_gives():
    method = make(lambda_feature=2.0).double()
    x_1, x_2 = torch.randn(2, 1, 16, 16).double(), torch.randn(2, 3, 16, 16).double()
    y_1 = torch.tensor([0, 1])
    batch = SourceLabelled(positions=torch.arange(2), a=x_1, b=x_2, y=y_1)
    check_shared_work(method, batch, straightforward(method, x_1, x_2, y_1))


def test_weights_and_terms():
    config = UNITAdaptation.Config()
    assert (config.lambda_cycle, config.lambda_cycle_kl) == (0.0, 0.0)
    weights = make().weights()
    assert {name: weights[name] for name in ("gan", "recon", "class")} == {"gan": 10.0, "recon": 100.0, "class": 10.0}


def test_high_layers_are_one_network_and_low_ones_are_not():
    method = make(discriminator_layers=3, private_layers=1)
    discriminators, generators = method.players()
    names = _parameters(method, discriminators.networks)
    assert {name.split(".")[0] for name in names} == {"D_1", "D_2", "D_H", "D_real", "C"}
    assert len([name for name in method.state_dict() if name.startswith("D_1.")]) == 2
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = method.D_1.features(x.mean(1, keepdim=True)), method.D_2.features(x)
        method.D_H[2 * 2 + 1].weight.mul_(2)
        after = method.D_1.features(x.mean(1, keepdim=True)), method.D_2.features(x)
    assert not any(torch.allclose(one, other) for one, other in zip(before, after, strict=True))
    assert not set(generators.networks) & set(discriminators.networks)


def test_the_classifier_is_reached_by_labels_alone():
    """What trains the generators leaves it alone, and images of the second domain have no class."""
    method = make()
    a, b = torch.randn(2, 1, 16, 16), torch.randn(2, 3, 16, 16)
    eta = {name: torch.randn(2, 16, 4, 4) for name in ("eta_1", "eta_2")}
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
        method.classify(torch.randn(4, 3, 16, 20))
    with pytest.raises(ConfigError, match="b or a"):
        method.classify(torch.randn(4, 3, 16, 16), domain="c")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"private_layers": 3}, "none of the 3 layers"),
        ({"networks": "public", "shared_layers": 0}, "leave method.networks"),
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
