import math

import pytest
import torch
from torch import nn

from i2idist.errors import ConfigError, SizeError
from i2idist.methods.labels import shuffled
from i2idist.methods.sdit import SDIT
from i2idist.methods.sdit.networks import ConditionalBlock
from i2idist.nn.labelled import Judgement
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.labelled import CLASSES, images, labelled, labelled_domains, make_labelled
from tests.methods.support import Drawn, Known, check_shared_work, close, flat, mean

Z = torch.tensor([[0.25, 0.75]], dtype=torch.float64)


def known(**config):
    """E(x, l) = x (1 + l_1), M(z) = z, G(e, m) = e + m_0; D: real x, classes (mean(x), 0), code 2 mean(x) twice."""
    method = make_labelled(SDIT, labels=("plain", "double"), code_dim=2, **config)
    method.E = Known(lambda w, x, c: w * x * (1 + c[:, 1, None, None, None]))
    method.M = Known(lambda w, z: w * z)
    method.G = Known(lambda w, e, m: w * (e + m[:, :1, None, None]))
    method.D = Known(
        lambda w, x: Judgement(
            w * x, w * torch.cat([mean(x), 0 * mean(x)], 1)[:, :, 0, 0], w * 2 * mean(x).expand(-1, 2, 1, 1)[:, :, 0, 0]
        )
    )
    return method


def run(method, batch, z=Z):
    step, terms = Drawn(batch, {"z": z}), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms, step


def sp(x):
    return math.log1p(math.exp(x))


def test_terms_by_hand():
    """One sample, so its target is its own label. x = 0.5, label 1: y = 1.25, and G(E(y, 1), M(z)) = 2.75."""
    terms, _ = run(known(), labelled(flat(0.5), [1]))
    close(terms["discriminator"], gan=[sp(-0.5) + sp(1.25)], real=[sp(0.5)], lat=[(2.25 + 1.75) / 2])
    close(terms["generator"], gan=[sp(-1.25)], fake=[sp(1.25)], rec=[2.25], lat=[2.0])


def test_real_images_are_read_as_what_they_are_and_translations_as_their_targets():
    """Eqs. 6.3 and 6.4, on samples whose targets are others' labels."""
    x, labels = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    z = torch.zeros(4, 2, dtype=torch.float64)
    terms, step = run(known(), labelled(flat(*x.tolist()), labels.tolist()), z)
    target = step.shared.target.argmax(1)
    assert target.tolist() != labels.tolist()
    y = x * (1 + target)

    def nll(means, wanted):
        return nn.functional.cross_entropy(torch.stack([means, 0 * means], 1), wanted, reduction="none")

    torch.testing.assert_close(terms["discriminator"]["real"], nll(x, labels))
    torch.testing.assert_close(terms["generator"]["fake"], nll(y, target))


def test_the_public_codes_critic_by_hand():
    """D_src has the gradient 1 on each of 256 pixels, of length 16."""
    method = known(gan="wgan_gp", critic_steps=5)
    terms, _ = run(method, labelled(flat(0.5), [1]))
    close(terms["discriminator"], gan=[-0.5 + 1.25], real=[sp(0.5)], lat=[2.0], gp=[15.0**2])
    assert terms["generator"]["gan"].tolist() == [-1.25]
    assert [update.repeat for update in method.updates()] == [5, 1]
    with torch.no_grad():
        assert "gp" not in run(method, labelled(flat(0.5), [1]))[0]["discriminator"]


def test_the_cycle_goes_back_to_the_source_with_the_same_code():
    method = known()
    batch = labelled(flat(0.1, 0.2, 0.3), [0, 1, 0])
    _, step = run(method, batch, torch.cat([Z, 2 * Z, 3 * Z]))
    assert len(method.M.calls) == 1 and len(method.G.calls) == 2
    assert torch.equal(method.G.calls[0][1], method.G.calls[1][1])
    assert torch.equal(method.E.calls[0][1], step.shared.target)
    assert method.E.calls[1][1].argmax(1).tolist() == [0, 1, 0]
    assert torch.equal(method.E.calls[1][0], step.shared.y)


def straightforward(method, x, source):
    """Both updates' weighted terms, each making the code's effect, the targets and the translations for itself."""
    weights, log = method.weights(), method.config.gan == "log"
    softplus, cross_entropy = nn.functional.softplus, nn.functional.cross_entropy

    def translations(step):
        step.begin("discriminator")
        z, target = step.normal("z", method.code_dim), shuffled(source, step)
        return z, target, method.G(method.E(x, target), method.M(z))

    def each(values):
        return values.flatten(1).mean(1)

    def discriminator(step):
        z, _, y = translations(step)
        real, fake = method.D(x), method.D(y.detach())
        gan = softplus(-real.real) + softplus(fake.real) if log else fake.real - real.real
        total = weights["gan"] * each(gan) + cross_entropy(real.labels, source, reduction="none")
        total = total + weights["lat"] * each((fake.code - z).abs())
        if log:
            return total
        epsilon = step.uniform("epsilon", 1, 1, 1)
        points = (epsilon * x + (1 - epsilon) * y.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(method.D(points).real.sum(), points, create_graph=True)
        return total + weights["gp"] * (slope.flatten(1).norm(dim=1) - 1).square()

    def generator(step):
        z, target, y = translations(step)
        fake = method.D(y)
        again = method.G(method.E(y, source), method.M(z))
        total = weights["gan"] * each(softplus(-fake.real) if log else -fake.real)
        total = total + cross_entropy(fake.labels, target, reduction="none")
        return total + weights["rec"] * each((again - x).abs()) + weights["lat"] * each((fake.code - z).abs())

    return {"discriminator": discriminator, "generator": generator}


@pytest.mark.parametrize("config", [{}, {"gan": "wgan_gp", "attention": False}], ids=["log", "wgan_gp"])
def test_shared_work_gives_what_the_straightforward_form_gives(config):
    method, x, y = make_labelled(SDIT, **config).double(), images().double(), [0, 1, 2, 0]
    source = nn.functional.one_hot(torch.tensor(y), 3).double()
    check_shared_work(method, labelled(x, y), straightforward(method, x, source))


def test_without_a_weight_the_code_is_not_rebuilt():
    method = make_labelled(SDIT, lambda_lat=0.0)
    assert method.D.code is None and method.code_dim == 3
    terms, _ = run(method, labelled(images(), [0, 1, 2, 0]), torch.randn(4, 3))
    assert [list(t) for t in terms.values()] == [["gan", "real"], ["gan", "fake", "rec"]]


def test_both_published_weightings():
    def weights(**config):
        return make_labelled(SDIT, **config).weights()

    assert weights() == {"gan": 10.0, "fake": 1.0, "real": 1.0, "lat": 10.0, "rec": 800.0, "gp": 10.0}
    assert weights(weighting="author") == {**weights(), "lat": 800.0, "rec": 10.0}
    assert weights(weighting="author", lambda_rec=3.0) == {**weights(), "lat": 800.0, "rec": 3.0}


def test_networks_are_the_thesiss_and_the_discriminator_as_large_as_published():
    """M has 256 and 4096 units; E, T^c, T^a 6 blocks of two 3x3 of 256: 23.65M, where the public code's have 19.68M.

    D has its 44.91M, with five attributes at 128x128.
    """
    names = ("bangs", "blond", "brown", "young", "male")
    with torch.device("meta"):
        method = SDIT(SDIT.Config(attributes=names), labelled_domains(names, 3, (128, 128)))
        counts = {name: sum(p.numel() for p in network.parameters()) for name, network in method.networks()}
        shapes = []
        for network in (method.E, method.G.up, method.D):
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
        z = torch.zeros(1, 8)
        method.D(method.G(method.E(torch.zeros(1, 3, 128, 128), torch.zeros(1, 5)), method.M(z)))
    block = 2 * 256 * 256 * 9
    down = 8 * 64 * 49 + 2 * 64 + 64 * 128 * 16 + 2 * 128 + 128 * 256 * 16 + 2 * 256
    up = 256 * 128 * 16 + 2 * 128 + 128 * 64 * 16 + 2 * 64 + 64 * 3 * 49
    content, attention = 4 * block + 2 * (block + 4 * 256), 6 * (block + 4 * 256) + 256 * 9 + 1
    assert [layer.out_features for layer in method.M.layers if isinstance(layer, nn.Linear)] == [256, 4096]
    assert counts == {
        "D": 44_909_776,
        "E": down + 6 * (block + 4 * 256),
        "G": content + attention + up,
        "M": 8 * 256 + 256 + 256 * 4096 + 4096,
    }
    assert counts["E"] + counts["G"] + counts["M"] == 23_651_777
    encoder = [(64, 128, 128), (128, 64, 64), (256, 32, 32), *[(256, 32, 32)] * 12]
    trunk = [(64 * 2**level, 64 >> level, 64 >> level) for level in range(6)]
    assert shapes == [*encoder, (128, 64, 64), (64, 128, 128), (3, 128, 128), *trunk, (8, 2, 2), (1, 2, 2), (5, 1, 1)]


def test_six_steered_blocks_take_6144():
    with torch.device("meta"):
        method = SDIT(SDIT.Config(cin_blocks=6), labelled_domains(CLASSES, 3, (128, 128)))
    assert method.M.layers[-1].out_features == 6144 and not len(method.G.plain)


def test_conditional_instance_norm_by_hand():
    """Eq. 6.10 behind both convolutions, these being the identity."""
    block = ConditionalBlock(2).double()
    identity = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    identity[[0, 1], [0, 1], 1, 1] = 1
    block.conv_1.weight.data, block.conv_2.weight.data = identity, identity.clone()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    gamma, beta = torch.randn(2, 1, 2, 2, 1, 1, dtype=torch.float64)

    def norm(e, number):
        mu, sigma = e.mean((2, 3), keepdim=True), (e.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        return gamma[:, number] * (e - mu) / sigma + beta[:, number]

    torch.testing.assert_close(block(x, gamma, beta), x + norm(norm(x, 0).relu(), 1))


@pytest.mark.parametrize(("cin", "outputs"), [("both", 64), ("gamma", 32), ("beta", 32)])
def test_the_code_steers_gamma_beta_or_both(cin, outputs):
    method = make_labelled(SDIT, cin=cin)
    assert method.M.layers[-1].out_features == outputs
    seen = []
    method.G.steered[0].register_forward_pre_hook(lambda _, args: seen.append(args[1:]))
    x = images(2)
    y = method.translate(x[:1].expand(2, -1, -1, -1), torch.randn(2, 3), target="red")
    assert not torch.allclose(y[0], y[1], atol=1e-7)
    gamma, beta = seen[0]
    assert gamma.shape == beta.shape == (2, 2, 16, 1, 1)
    assert bool((gamma == 1).all()) == (cin == "beta") and bool((beta == 0).all()) == (cin == "gamma")
    gamma, beta = method.M(torch.zeros(1, 3))[:, 0].unbind(1)
    assert bool((gamma == 1).all()) and bool((beta == 0).all())


def test_attention_mixes_the_encoding_with_what_the_code_made_of_it():
    """Eq. 6.9: shut, the code can't be seen; open, outputs are those without attention."""
    method = make_labelled(SDIT, blocks=2)
    x, z = images(2), torch.randn(2, 3)
    last = method.G.attention[-2]
    last.weight.data.zero_()
    for bias, seen in ((-200.0, False), (0.0, True), (200.0, True)):
        last.bias.data.fill_(bias)
        y, other = method.translate(x, z, target="red"), method.translate(x, -z, target="red")
        assert torch.equal(y, other) != seen
        a = method.attention(x, target="red")
        assert a.shape == (2, 1, 16, 16)
        torch.testing.assert_close(a, torch.full_like(a, bias).sigmoid())
    attention, method.G.attention = method.G.attention, None
    torch.testing.assert_close(method.translate(x, z, target="red"), y)
    assert method.attention(x, target="red") is None
    method.G.attention = attention
    e = method.E(x, method.labels.target("red", x))
    last.bias.data.fill_(-200.0)
    torch.testing.assert_close(method.translate(x, z, target="red"), method.G.up(e).tanh())


def test_without_cin_there_is_no_code():
    method = make_labelled(SDIT, cin="none")
    assert method.code_dim == 0 and method.translator_networks() == ("E", "G")
    assert method.D.code is None and len(method.G.plain) == 1
    assert method.translate(images(), target="blue").shape == (4, 1, 16, 16)


def test_attributes_train_and_translate():
    faces = ("bald", "hat", "young")
    method = make_labelled(SDIT, faces, attributes=("hat", "young"))
    y = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    trainer = Trainer(method, Training(total_images=4, batch_size=4), seed=0, comm=Comm.alone())
    trainer.step(iter([labelled(images(), y)]))
    assert all(math.isfinite(value) for value in trainer.logged_terms().values())
    assert method.translate(images(), torch.randn(4, 3), target="hat+young").shape == (4, 1, 16, 16)


def test_refusals():
    method = make_labelled(SDIT)
    with pytest.raises(ConfigError, match="code of length 3, but none was given"):
        method.translate(images(), target="red")
    with pytest.raises(ConfigError, match="translates to red, green, blue"):
        method.translate(images(), torch.randn(4, 3))
    with pytest.raises(SizeError, match="multiples of 4.*16x20"):
        method.translate(images(1, size=(15, 19)), torch.randn(1, 3), target="red")
    with pytest.raises(SizeError, match="at least 64"):
        SDIT(SDIT.Config(), labelled_domains(size=(32, 32)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"weighting": "thesys"}, "Did you mean 'thesis'"),
        ({"cin": "gama"}, "Did you mean 'gamma'"),
        ({"gan": "lsgan"}, "gan is 'lsgan'"),
        ({"lambda_lat": -1.0}, "lambda_lat is -1.0"),
        ({"cin_blocks": 7}, "T\\^c has 6 residual blocks"),
    ],
)
def test_settings_that_cant_work_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        SDIT.Config(**config)
