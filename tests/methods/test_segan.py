import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from i2idist.data.batches import Paired, Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.methods.segan import SEGAN, Pix2PixNoise
from i2idist.nn.resnet import ResnetGenerator
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.support import Comm, Drawn, Known, close, domains, flat, make, mean, step_of

LN2, LN3 = math.log(2), math.log(3)
A, B = flat(0.5), flat(0.25)
Z = torch.tensor([[LN3, 0.0], [-LN3, 0.0]], dtype=torch.float64)
OTHERS = torch.tensor([[[0.0, 0.0]], [[LN3, 0.0]]], dtype=torch.float64)


def known(paired=True, **config):
    """b_hat = a z_1; D's two scales give mean(b) and 2 mean(b); T gives mean(b_hat) + z_1."""
    method = make(SEGAN, b=1, paired=paired, code_dim=2, samples_per_input=2, **config)
    method.G = Known(lambda w, a, z: w * a * z[:, :1, None, None])
    method.D = Known(lambda w, b: (w * mean(b), 2 * w * mean(b)))
    method.T = Known(lambda w, b, codes: w * (mean(b)[:, :, 0, 0] + codes[:, :, 0]))
    return method


def run(method, kind=Paired):
    """The terms of one step with input 0.5 and target 0.25: b_hat is +-ln(3) / 2."""
    batch = kind(positions=torch.tensor([0]), a=A, b=B)
    step, terms = Drawn(batch, {"z": Z, "z_independent": OTHERS}), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def sp(x):
    return math.log1p(math.exp(x))


def test_generator_terms_by_hand():
    """Eqs. 2, 3, 6, 7. Scores: joint +-3/2 ln 3, marginal ln(3)/2 both times; sp(-+ln 3) = ln 4/3, ln 4."""
    half = LN3 / 2
    close(
        run(known())["generator"],
        gan=[sp(-half) + math.log(4 / 3), sp(half) + math.log(4)],
        mi=[sp(-3 * half) + sp(half), sp(3 * half) + sp(half)],
        l1=[half - 0.25, half + 0.25],
    )


def test_discriminator_and_statistics_terms_by_hand():
    half = LN3 / 2
    terms = run(known())
    close(
        terms["discriminator"],
        real=[sp(-0.25) + sp(-0.5)],
        fake=[sp(half) + math.log(4), sp(-half) + math.log(4 / 3)],
    )
    close(terms["statistics"], bound=[sp(-3 * half) + sp(half), sp(3 * half) + sp(half)])


def test_donsker_varadhan_by_hand():
    """Eq. 5: both marginal scores are ln(3) / 2, so the log-mean-exp is too."""
    half = LN3 / 2
    close(run(known(estimator="dv"))["statistics"], bound=[-3 * half + half, 3 * half + half])


def test_minimax_by_hand():
    half = LN3 / 2
    terms = run(known(generator_loss="minimax"))["generator"]
    want = [-sp(half) - math.log(4), -sp(-half) - math.log(4 / 3)]
    close({"gan": terms["gan"]}, gan=want)


def test_without_pairs_there_is_no_l1():
    assert list(run(known(paired=False), Unpaired)["generator"]) == ["gan", "mi"]
    assert SEGAN.batch_type(SEGAN.Config(paired=False)) is Unpaired
    assert SEGAN.batch_type(SEGAN.Config()) is Paired


def test_several_negatives_are_averaged():
    method = known(negatives_per_positive=2)
    others = torch.cat([OTHERS, OTHERS + 1], 1)
    batch = Paired(positions=torch.tensor([0]), a=A, b=B)
    information = method._information(method.G(A.repeat(2, 1, 1, 1), Z), Z, Drawn(batch, {"z_independent": others}))
    half = LN3 / 2
    marginal = (sp(half) + sp(half + 1)) / 2
    close({"mi": information}, mi=[-sp(-3 * half) - marginal, -sp(3 * half) - marginal])


def test_a_conditional_discriminator_sees_the_input_too():
    method = known(condition_d=True)
    method.D = Known(lambda w, ab: (w * ab[:, :1], w * ab[:, 1:]))
    run(method)
    fake_for_g, real, fake = [call[0] for call in method.D.calls]
    assert real[0, :, 0, 0].tolist() == [0.5, 0.25]
    torch.testing.assert_close(fake[:, :, 0, 0], torch.tensor([[0.5, LN3 / 2], [0.5, -LN3 / 2]], dtype=torch.float64))
    torch.testing.assert_close(fake_for_g, fake)


def test_the_fakes_are_made_once_and_handed_over_detached():
    method = known()
    run(method)
    assert len(method.G.calls) == 1
    assert [call[0].requires_grad for call in method.D.calls] == [True, False, False]
    assert [call[0].requires_grad for call in method.T.calls] == [True, False]


def test_codes_of_an_input_lie_together_and_all_differ():
    method = make(SEGAN, samples_per_input=3, code_dim=2)
    method.G = Known(lambda w, a, z: (w * a * z[:, :1, None, None]).float().expand(-1, 3, -1, -1))
    a = torch.randn(4, 1, 16, 16)
    step = step_of(Paired(positions=torch.arange(4) + 10, a=a, b=torch.randn(4, 3, 16, 16)))
    step.begin("generator")
    terms = method.generator_terms(step)
    inputs, z = method.G.calls[0]
    assert torch.equal(inputs, a.repeat_interleave(3, 0))
    assert len(z.unique(dim=0)) == 12
    assert {name: tuple(term.shape) for name, term in terms.items()} == {"gan": (12,), "mi": (12,)}
    later = step_of(Paired(positions=torch.arange(2) + 12, a=a[2:], b=torch.randn(2, 3, 16, 16)))
    later.begin("generator")
    method.generator_terms(later)
    assert torch.equal(method.G.calls[1][1], z[6:])


def test_weights_are_the_papers_and_dont_touch_the_statistics_network():
    weights = make(SEGAN).weights()
    assert weights == {"mi": 1.0, "l1": 3.0}
    assert not set(run(known())["statistics"]) & set(weights)


def trained(method):
    """Two steps by the real trainer: all that changed."""
    batch = Paired(
        positions=torch.arange(2),
        a=torch.linspace(-1, 1, 512).reshape(2, 1, 16, 16),
        b=torch.linspace(1, -1, 1536).reshape(2, 3, 16, 16),
    )
    training = Training(total_images=4, batch_size=2, precision="float64")
    trainer = Trainer(method, training, seed=3, comm=Comm.alone())
    trainer.step(iter([batch]))
    first = trainer.logged_terms()
    trainer.step(iter([batch]))
    return first, {name: tensor.clone() for name, tensor in method.state_dict().items()}


def test_without_mutual_information_it_is_pix2pix_noise():
    """The same code path and the same numbers, and those that pix2pix+noise has when written out."""
    segan = make(SEGAN, paired=True, lambda_mi=0.0)
    noise = make(Pix2PixNoise, **{**vars(segan.config)})
    assert [player.name for player in segan.players()] == ["generator", "discriminator"]
    assert not hasattr(segan, "T")
    (terms, state), (other_terms, other_state) = trained(segan), trained(noise)
    assert terms == other_terms
    assert list(state) == list(other_state)
    assert all(torch.equal(state[name], other_state[name]) for name in state)

    fresh = make(SEGAN, paired=True, lambda_mi=0.0).double()
    a = torch.linspace(-1, 1, 512).double().reshape(2, 1, 16, 16)
    b = torch.linspace(1, -1, 1536).double().reshape(2, 3, 16, 16)
    step = step_of(Paired(positions=torch.arange(2), a=a, b=b), seed=3)
    step.begin("generator")
    z = step.normal("z", fresh.code_dim, per_sample=2)
    fakes = torch.cat([fresh.G(a[i // 2 : i // 2 + 1], z[i : i + 1]) for i in range(4)])
    gan = sum(-logsigmoid(scale).mean() for scale in fresh.D(fakes))
    l1 = (fakes - b[[0, 0, 1, 1]]).abs().mean()
    assert terms["generator/gan"] == pytest.approx(gan.item(), rel=1e-5)
    assert terms["generator/l1"] == pytest.approx(l1.item(), rel=1e-5)


def test_the_statistics_network_learns_the_code():
    """Its bound rises above that of an ignored code, -2 ln 2, where the output shows the code."""
    method = make(SEGAN, paired=False, code_dim=2, samples_per_input=8, statistics_hidden=32)
    method.G = Known(lambda w, a, z: z[:, :1, None, None].clamp(-1, 1).expand(-1, 3, 16, 16) * w.float())
    optimizer = torch.optim.Adam(method.T.parameters(), lr=1e-2)
    for number in range(80):
        positions = torch.arange(4) + 4 * number
        batch = Unpaired(positions=positions, a=torch.zeros(4, 1, 16, 16), b=torch.zeros(4, 3, 16, 16))
        step = step_of(batch)
        step.begin("generator")
        method.generator_terms(step)
        step.begin("statistics")
        bound = method.statistics_terms(step)["bound"].mean()
        optimizer.zero_grad()
        bound.backward()
        optimizer.step()
    assert -bound > -2 * LN2 + 0.2


def test_translate_depends_on_the_code():
    method = make(SEGAN)
    x, z = torch.randn(2, 1, 16, 16), torch.randn(2, method.code_dim)
    y = method.translate(x, z)
    assert y.shape == (2, 3, 16, 16)
    torch.testing.assert_close(method.translate(x[1:], z[1:]), y[1:])
    assert not torch.allclose(method.translate(x, -z), y)


def test_the_ablation_has_a_resnet_that_takes_the_code():
    method = make(SEGAN, generator="resnet", blocks=1)
    assert isinstance(method.G, ResnetGenerator)
    x = torch.randn(1, 1, 16, 16)
    z = torch.ones(1, method.code_dim)
    assert not torch.allclose(method.translate(x, z), method.translate(x, -z))


def test_translate_refuses():
    method = make(SEGAN, depth=3)
    x, z = torch.randn(2, 1, 16, 16), torch.randn(2, method.code_dim)
    with pytest.raises(ConfigError, match="code of length 3, but none was given"):
        method.translate(x)
    with pytest.raises(ConfigError, match=r"shape \(2, 2\)"):
        method.translate(x, z[:, :2])
    with pytest.raises(ConfigError, match="'c', but this method translates to b only"):
        method.translate(x, z, target="c")
    with pytest.raises(SizeError, match="16x24"):
        method.translate(x[:, :, :15].repeat(1, 1, 1, 2)[..., :26], z)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"estimator": "jds"}, "estimator is 'jds'.*Did you mean 'jsd'"),
        ({"generator": "vgg"}, "generator is 'vgg'"),
        ({"samples_per_input": 0}, "samples_per_input is 0: it must be at least 1"),
        ({"lambda_mi": -1.0}, "lambda_mi is -1.0"),
        ({"paired": False, "condition_d": True}, "condition_d"),
    ],
)
def test_settings_that_cant_work_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        SEGAN.Config(**config)
    with pytest.raises(ConfigError, match="Use the method segan"):
        Pix2PixNoise.Config(lambda_mi=1.0)


def test_sizes_that_dont_suit_the_networks_are_refused():
    with pytest.raises(SizeError, match="multiples of 8, not 20x20"):
        SEGAN(SEGAN.Config(discriminator_layers=1, discriminator_scales=1), domains(size=(20, 20)))
    with pytest.raises(SizeError, match="at least 93 pixels"):
        SEGAN(SEGAN.Config(), domains(size=(64, 64)))
