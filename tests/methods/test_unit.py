import pytest
import torch

from i2idist.data.batches import Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.losses.adversarial import log_fake, log_real, over_scales
from i2idist.losses.reconstruction import l1
from i2idist.methods.unit import UNIT, kl
from tests.methods.support import Drawn, Known, close, domains, flat, make, step_of


def sp(x):
    """log(1 + e^x)."""
    return float(torch.nn.functional.softplus(torch.tensor(x, dtype=torch.float64)))


def known(**config):
    """E_1(x) = 2x, E_2(y) = 3y; G_1(z) = z + 1, G_2(z) = -z; D_1(x) = x, D_2(y) = 2y."""
    method = make(UNIT, b=1, **config)
    method.E_L1, method.E_L2 = Known(lambda w, x: w * 2 * x), Known(lambda w, y: w * 3 * y)
    method.E_H, method.G_H = Known(lambda w, h: w * h), Known(lambda w, z: w * z)
    method.G_L1, method.G_L2 = Known(lambda w, h: w * h + 1), Known(lambda w, h: -w * h)
    method.D_1, method.D_2 = Known(lambda w, x: (w * x,)), Known(lambda w, y: (w * 2 * y,))
    return method


def run(method, step):
    terms = {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def drawn(**eta):
    batch = Unpaired(positions=torch.arange(1), a=flat(0.1), b=flat(0.2))
    return Drawn(batch, {name: flat(value) for name, value in eta.items()})


def test_terms_by_hand():
    """mu_1 = 0.2, z_1 = 0.3: x_11 = 1.3, x_12 = -0.3; mu_2 = 0.6, z_2 = 0.4: x_22 = -0.4, x_21 = 1.4.

    mu_12 = -0.9, z_12 = -0.6: x_121 = 0.4; mu_21 = 2.8, z_21 = 3.0: x_212 = -3.0.
    """
    terms = run(known(), drawn(eta_1=0.1, eta_2=-0.2, eta_12=0.3, eta_21=0.2))
    close(terms["discriminators"], gan=[sp(-0.1) + sp(1.4) + sp(-0.4) + sp(-0.6)])
    close(
        terms["generators"],
        gan=[sp(-1.4) + sp(0.6)],
        kl=[(0.2**2 + 0.6**2) / 2],
        recon=[1.2 + 0.6],
        cycle_kl=[(0.2**2 + 0.9**2 + 0.6**2 + 2.8**2) / 2],
        cycle=[0.3 + 3.2],
    )


def test_least_squares_are_the_public_codes():
    terms = run(known(gan="least_squares"), drawn(eta_1=0.1, eta_2=-0.2, eta_12=0.3, eta_21=0.2))
    close(terms["discriminators"], gan=[0.9**2 + 1.4**2 + 0.6**2 + 0.6**2])
    torch.testing.assert_close(terms["generators"]["gan"].item(), 0.4**2 + 1.6**2)


def test_the_divergence_is_that_of_two_unit_normals():
    mu = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    normal = torch.distributions.Normal
    want = torch.distributions.kl_divergence(normal(mu, 1.0), normal(torch.zeros_like(mu), 1.0)).mean((1, 2, 3))
    torch.testing.assert_close(kl(mu), want)


def test_weights_are_the_papers():
    want = {"gan": 10.0, "kl": 0.1, "recon": 100.0, "cycle_kl": 0.1, "cycle": 100.0}
    assert make(UNIT, shared_layers=1, blocks=4).weights() == want


@pytest.mark.parametrize(
    ("config", "terms", "passes"),
    [
        ({}, ["gan", "kl", "recon", "cycle_kl", "cycle"], 2),
        ({"lambda_cycle": 0.0}, ["gan", "kl", "recon", "cycle_kl", "cycle"], 2),
        ({"lambda_cycle": 0.0, "lambda_cycle_kl": 0.0}, ["gan", "kl", "recon"], 1),
        ({"lambda_recon": 0.0, "lambda_kl": 0.0, "shared_layers": 0}, ["gan", "kl", "cycle_kl", "cycle"], 2),
    ],
)
def test_what_has_no_weight_is_left_out(config, terms, passes):
    method = known(**config)
    found = run(method, drawn(eta_1=0.0, eta_2=0.0, eta_12=0.0, eta_21=0.0))
    assert list(found["generators"]) == terms
    assert len(method.E_L1.calls) == len(method.G_L1.calls) == passes
    first = sum(len(call[0]) for call in method.G_L1.calls[:1])
    assert first == (2 if "recon" in terms else 1)


def straightforward(method, step):
    """Both updates' terms as the equations have them, each image made where it is needed."""
    x_1, x_2 = step.batch.a, step.batch.b
    step.begin("discriminators")
    encode = {1: lambda x: method.E_H(method.E_L1(x)), 2: lambda x: method.E_H(method.E_L2(x))}
    generate = {1: lambda z: method.G_L1(method.G_H(z)), 2: lambda z: method.G_L2(method.G_H(z))}
    z_1 = encode[1](x_1) + step.normal("eta_1", *encode[1](x_1).shape[1:])
    z_2 = encode[2](x_2) + step.normal("eta_2", *encode[2](x_2).shape[1:])
    x_12, x_21 = generate[2](z_1), generate[1](z_2)
    d = over_scales(log_real, method.D_1(x_1)) + over_scales(log_fake, method.D_1(x_21))
    d = d + over_scales(log_real, method.D_2(x_2)) + over_scales(log_fake, method.D_2(x_12))
    step.begin("generators")
    mu_12, mu_21 = encode[2](x_12), encode[1](x_21)
    x_121 = generate[1](mu_12 + step.normal("eta_12", *mu_12.shape[1:]))
    x_212 = generate[2](mu_21 + step.normal("eta_21", *mu_21.shape[1:]))
    divergence = 0.1 * (kl(encode[1](x_1)) + kl(encode[2](x_2)))
    g = 10 * (over_scales(log_real, method.D_1(x_21)) + over_scales(log_real, method.D_2(x_12))) + divergence
    g = g + 100 * (l1(generate[1](z_1), x_1) + l1(generate[2](z_2), x_2))
    g = g + divergence + 0.1 * (kl(mu_12) + kl(mu_21)) + 100 * (l1(x_121, x_1) + l1(x_212, x_2))
    return 10 * d.mean(), g.mean()


def test_shared_work_gives_what_the_straightforward_form_gives():
    method = make(UNIT, a=3, blocks=2).double()
    a, b = torch.rand(2, 3, 3, 16, 16, dtype=torch.float64) * 2 - 1
    batch = Unpaired(positions=torch.arange(3), a=a, b=b)
    weights = method.weights()
    found = run(method, step_of(batch, seed=5))
    ours = [sum(weights[name] * value for name, value in terms.items()).mean() for terms in found.values()]
    wanted = straightforward(method, step_of(batch, seed=5))
    for mine, theirs, player in zip(ours, wanted, method.players(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=0)
        parameters = [p for name in player.networks for p in getattr(method, name).parameters()]
        one, other = (torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (mine, theirs))
        largest = max(float(g.abs().max()) for g in other)
        assert all(float((a - b).abs().max()) <= 1e-10 * largest for a, b in zip(one, other, strict=True))


def shapes(network):
    return [tuple(p.shape) for p in network.parameters() if p.dim() == 4]


def test_networks_of_the_paper():
    """Section 4: three convolutions and four residual blocks; the same back again; discriminators of five layers."""
    with torch.device("meta"):
        method = UNIT(UNIT.Config(), domains(3, 1, (64, 64)))
    block = [(256, 256, 3, 3)] * 2
    assert shapes(method.E_L1) == [(64, 3, 7, 7), (128, 64, 3, 3), (256, 128, 3, 3), *block * 3]
    assert shapes(method.E_H) == shapes(method.G_H) == block
    assert shapes(method.G_L2) == [*block * 3, (256, 128, 3, 3), (128, 64, 3, 3), (64, 1, 1, 1)]
    widths = [3, 64, 128, 256, 512, 1024]
    assert shapes(method.D_1) == [
        *((b, a, 3, 3) for a, b in zip(widths, widths[1:], strict=False)),
        (1, 1024, 1, 1),
    ]
    x = torch.empty(2, 3, 64, 64, device="meta")
    assert method.E_L1(x).shape == (2, 256, 16, 16)
    assert [logits.shape for logits in method.D_1(x)] == [(2, 1, 2, 2)]


def test_networks_of_the_public_code():
    """MUNIT's encoder of content and decoder, and its discriminators: 5.39M, 5.75M and 8.27M parameters."""
    public = UNIT.Config(networks="public", gan="least_squares", shared_layers=0, discriminator_layers=4)
    with torch.device("meta"):
        method = UNIT(public, domains(3, 3, (64, 64)))
    millions = [sum(p.numel() for p in n.parameters()) / 1e6 for n in (method.E_L1, method.G_L1, method.D_1)]
    assert [round(m, 2) for m in millions] == [5.39, 5.75, 8.27]


def test_the_public_codes_initial_weights():
    """Its configs say `init: kaiming`; its discriminators, and all networks of the paper, start from N(0, 0.02^2)."""
    public = make(UNIT, networks="public", gan="least_squares", shared_layers=0, width=16, discriminator_width=64)
    block = public.E_L1.layers[-1].conv_1.weight  # (64, 64, 3, 3)
    last = public.D_1.scales[0].layers[-1].weight  # of 128 channels
    assert block.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)
    assert last.std().item() == pytest.approx(0.02, rel=0.25)
    assert make(UNIT, width=16).G_H[0].conv_1.weight.std().item() == pytest.approx(0.02, rel=0.03)


@pytest.mark.parametrize("layers", range(5))
def test_any_number_of_blocks_is_shared(layers):
    with torch.device("meta"):
        method = UNIT(UNIT.Config(shared_layers=layers), domains(3, 3))
    assert [len(method.E_H), len(method.E_L1[1]), len(method.G_L1[0])] == [layers, 4 - layers, 4 - layers]
    assert ("E_H" in method.translator_networks()) == (layers > 0)


def test_translates_both_ways():
    method = make(UNIT)
    assert method.translate(torch.randn(2, 1, 12, 16)).shape == (2, 3, 12, 16)
    assert method.translate(torch.randn(2, 3, 12, 16), target="a").shape == (2, 1, 12, 16)
    with pytest.raises(ConfigError, match="translates to b or a only"):
        method.translate(torch.randn(2, 1, 16, 16), target="x")
    with pytest.raises(SizeError, match="multiples of 4"):
        method.translate(torch.randn(2, 1, 14, 16))


def test_translation_is_by_the_mean_or_by_a_sample_that_the_code_draws():
    x = torch.randn(1, 1, 16, 16).expand(3, -1, -1, -1)
    mean, sampled = make(UNIT), make(UNIT, sample_at_test=True)
    torch.testing.assert_close(mean.translate(x), mean.G_L2(mean.G_H(mean.E_H(mean.E_L1(x)))))
    y = sampled.translate(x, torch.tensor([[1.0], [2.0], [1.0]]))
    torch.testing.assert_close(y[0], y[2])
    assert not torch.allclose(y[0], y[1])
    with pytest.raises(ConfigError, match="code of length 1"):
        sampled.translate(x)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"shared_layers": 5}, "4 residual blocks to share"),
        ({"networks": "public"}, "set method.shared_layers to 0"),
        ({"networks": "public_code"}, "Did you mean 'public'"),
        ({"lambda_cycle": -1.0}, "lambda_cycle is -1"),
    ],
)
def test_refusals(config, message):
    with pytest.raises(ConfigError, match=message):
        UNIT.Config(**config)


def test_images_too_small_for_the_public_discriminators_are_refused():
    config = UNIT.Config(networks="public", shared_layers=0, discriminator_layers=4)
    with pytest.raises(SizeError, match="61x61"):
        UNIT(config, domains(3, 3, (32, 32)))
