import math

import pytest
import torch

from i2idist.data.batches import Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.methods import tigan
from i2idist.methods.tigan import TIGAN
from tests.methods.support import Drawn, Known, close, domains, flat, make, mean, step_of
from tests.methods.test_unit import sp

A, B = (0.1, 0.4), (0.2, -0.3)


def known(**config):
    """T(x, xi) = x + xi; D(y) = 2y; S_noise(y, xi) = y + xi for each code; S_source(x, y) = x y."""
    method = make(TIGAN, b=1, **{"code_dim": 1, "report_information": False, "negatives_per_positive": 1, **config})
    method.T = Known(lambda w, x, xi: w * (x + xi[:, :, None, None]))
    method.D = Known(lambda w, y: 2 * w * mean(y)[:, :, 0, 0])
    method.S_noise = Known(lambda w, y, xi: w * (mean(y)[:, 0, 0] + xi[..., 0]))
    method.S_source = Known(lambda w, x, y: w * (mean(x) * mean(y))[:, 0, 0, 0])
    return method


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def drawn():
    """Codes 0.5 and -0.1, so that y_hat = 0.6 and 0.3; independent codes 1 and 2."""
    batch = Unpaired(positions=torch.arange(2), a=flat(*A), b=flat(*B))
    return Drawn(batch, {"xi": column(0.5, -0.1), "xi_independent": column(1.0, 2.0)[..., None]})


def run(method, step):
    terms = {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


NOISE = math.log((math.exp(1.6) + math.exp(2.3)) / 2)
SOURCE = math.log((math.exp(0.4 * 0.6) + math.exp(0.1 * 0.3)) / 2)


def test_min_noise_by_hand():
    """Scores of true pairs 0.6 + 0.5 and 0.3 - 0.1, of independent ones 0.6 + 1 and 0.3 + 2."""
    terms = run(known(), drawn())
    estimate = [1.1 - NOISE, 0.2 - NOISE]
    close(terms["translator"], gan=[sp(-1.2), sp(-0.6)], mi=estimate)
    close(terms["discriminator"], real=[sp(-0.4), sp(0.6)], fake=[sp(1.2), sp(0.6)])
    close(terms["statistics"], noise=[-value for value in estimate])


def test_max_source_by_hand():
    """Two samples: each is the other's independent input."""
    terms = run(known(information="max_source"), drawn())
    estimate = [0.1 * 0.6 - SOURCE, 0.4 * 0.3 - SOURCE]
    close(terms["translator"], gan=[sp(-1.2), sp(-0.6)], mi=[-value for value in estimate])
    close(terms["statistics"], source=[-value for value in estimate])


def test_the_gan_alone_has_no_statistics_unless_they_are_reported():
    alone = run(known(information="none"), drawn())
    assert list(alone) == ["translator", "discriminator"]
    close(alone["translator"], gan=[sp(-1.2), sp(-0.6)])
    reported = run(known(information="none", report_information=True), drawn())
    close(reported["translator"], gan=[sp(-1.2), sp(-0.6)])
    close(
        reported["statistics"],
        noise=[NOISE - 1.1, NOISE - 0.2],
        source=[SOURCE - 0.1 * 0.6, SOURCE - 0.4 * 0.3],
    )


def test_wgan_gp_by_hand():
    """D(y) = 2 mean(y) has the gradient 2 / 256 in each of 256 pixels, of length 2 / 16."""
    method = known(gan="wgan_gp", information="none", critic_steps=5)
    terms = run(method, drawn())
    close(terms["translator"], gan=[-1.2, -0.6])
    close(terms["discriminator"], real=[-0.4, 0.6], fake=[1.2, 0.6], gp=[(1 / 8 - 1) ** 2] * 2)
    critic, translator = method.updates()
    assert (critic.player, critic.repeat, translator.repeat) == ("discriminator", 5, 1)
    assert method.weights()["gp"] == 10.0


def test_validation_leaves_the_penalty_out():
    method = known(gan="wgan_gp", information="none").eval()
    with torch.no_grad():
        assert list(method.validation_terms(drawn())) == ["discriminator/real", "discriminator/fake", "translator/gan"]


def test_others_are_others_each_once():
    for seed in range(20):
        batch = Unpaired(positions=torch.arange(5) + 7, a=flat(*range(5)), b=flat(*range(5)))
        step = step_of(batch, seed)
        step.begin("translator")
        others = tigan._of_others(batch.a, step)[:, 0, 0, 0].long().tolist()
        assert sorted(others) == list(range(5))
        assert all(mine != other for mine, other in enumerate(others))


def test_a_batch_of_one_has_no_others():
    step = step_of(Unpaired(positions=torch.arange(1), a=flat(0.0), b=flat(0.0)))
    step.begin("translator")
    with pytest.raises(ConfigError, match=r"raise train\.batch_size"):
        tigan._of_others(flat(0.0), step)


@pytest.mark.parametrize(("gan", "normed"), [("non_saturating", True), ("wgan_gp", False)])
def test_what_is_spectrally_normed(gan, normed):
    method = make(TIGAN, gan=gan)
    names = {name.split(".")[0] for name in method.state_dict() if "parametrizations" in name}
    assert names == {"S_noise", "S_source"} | ({"D"} if normed else set())


def test_batch_norm_is_in_the_translator_alone():
    method = make(TIGAN)
    assert {name.split(".")[0] for name in method.state_dict() if "running_mean" in name} == {"T"}


@pytest.mark.parametrize(("size", "bottleneck"), [(32, 8), (64, 8), (16, 8)])
def test_the_dcgan_like_encoder_halves_to_eight_pixels(size, bottleneck):
    with torch.device("meta"):
        method = TIGAN(TIGAN.Config(), domains(1, 3, (size, size)))
    h = torch.empty(2, 1, size, size, device="meta")
    for level in method.T.E:
        h = level(h)
    assert h.shape[2:] == (bottleneck, bottleneck)


@pytest.mark.parametrize(("skips", "bottleneck"), [(2, (256, 4, 4)), (3, (512, 2, 2))])
def test_the_u_net_of_the_appendix(skips, bottleneck):
    with torch.device("meta"):
        method = TIGAN(TIGAN.Config(translator="unet", skips=skips), domains(1, 3, (32, 32)))
    assert method.T.F(torch.empty(2, 64, device="meta")).shape[1:] == bottleneck
    assert method.T.skips == skips


def test_translation_depends_on_input_and_code():
    method = make(TIGAN)
    x, xi = torch.randn(2, 1, 16, 16), torch.randn(2, 3)
    y = method.translate(x, xi)
    assert y.shape == (2, 3, 16, 16)
    assert not torch.allclose(y, method.translate(x.flip(0), xi))
    assert not torch.allclose(y, method.translate(x, xi.flip(0)))
    with pytest.raises(ConfigError, match="code of length 3"):
        method.translate(x)
    with pytest.raises(SizeError, match="16x16, not 16x32"):
        method.translate(torch.randn(2, 1, 16, 32), xi)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"information": "max_noise"}, "Did you mean"),
        ({"lambda_mi": -1.0}, "lambda_mi is -1"),
        ({"critic_steps": 0}, "critic_steps is 0"),
        ({"gan": "wgan"}, "Did you mean 'wgan_gp'"),
        ({"translator": "unet", "depth": 3}, "method.translator=unet doesn't read it"),
        ({"skips": 2}, "method.translator=dcgan doesn't read it"),
    ],
)
def test_refusals(config, message):
    with pytest.raises(ConfigError, match=message):
        TIGAN.Config(**config)


def test_images_that_cannot_be_halved_so_often_are_refused():
    with pytest.raises(SizeError, match="multiples of 8"):
        TIGAN(TIGAN.Config(translator="unet"), domains(1, 3, (20, 20)))
