import pytest
import torch
from torch.nn.functional import softplus

from i2idist.data.batches import Paired, Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.methods.msgan import MSGAN, MSGANDRIT
from tests.methods.support import Drawn, Known, close, domains, flat, make, mean, step_of


def run(method):
    """G(c, z) = c z with c = 0.5 and codes 1 and -2; D gives the output's mean + 0.1, and twice that."""
    method.G = Known(lambda w, c, z: w * c * z[:, :1, None, None])
    method.D = Known(lambda w, cx: (w * (mean(cx[:, 1:]) + 0.1), 2 * w * (mean(cx[:, 1:]) + 0.1)))
    codes = torch.tensor([[[1.0], [-2.0]]], dtype=torch.float64)
    step = Drawn(Paired(positions=torch.tensor([0]), a=flat(0.5), b=flat(0.25)), {"z": codes})
    terms = {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def test_terms_by_hand():
    """Outputs 0.5 and -1, target 0.25; logits 0.6 and 1.2, -0.9 and -1.8; 0.35 and 0.7 for the target."""
    method = make(MSGAN, b=1, code_dim=1)
    terms = run(method)
    close(
        terms["generator"],
        gan=[2 * (0.4**2 + 0.2**2), 2 * (1.9**2 + 2.8**2)],
        l1=[0.25],
        mode_seeking=[1 / (1.5 / 3 + 1e-5)],
    )
    close(
        terms["discriminator"],
        real=[2 * (0.65**2 + 0.3**2)],
        fake=[2 * (0.6**2 + 1.2**2), 2 * (0.9**2 + 1.8**2)],
    )
    assert method.weights() == {"mode_seeking": 1.0, "l1": 10.0}


def test_the_discriminator_sees_inputs_and_the_fakes_are_made_once():
    method = make(MSGAN, b=1, code_dim=1)
    run(method)
    assert len(method.G.calls) == 1
    assert [call[0][:, :, 0, 0].tolist() for call in method.D.calls] == [
        [[0.5, 0.5], [0.5, -1.0]],
        [[0.5, 0.25]],
        [[0.5, 0.5], [0.5, -1.0]],
    ]
    assert [call[0].requires_grad for call in method.D.calls] == [True, False, False]


def test_numbers_of_parameters_at_the_references_scale():
    """BicycleGAN's U-net and D, but for 16 * 3 more weights in each of 64 + 32 first filters: D sees six channels."""
    with torch.device("meta"):
        method = MSGAN(MSGAN.Config(), domains(3, 3, (256, 256)))
    count = {name: sum(p.numel() for p in net.parameters()) for name, net in method.networks()}
    assert count == {"G": 54_794_627, "D": 3_458_978 + 16 * 3 * (64 + 32)}


def test_translate_and_refusals():
    method = make(MSGAN)
    x, z = torch.randn(2, 1, 16, 16), torch.randn(2, method.code_dim)
    y = method.translate(x, z)
    torch.testing.assert_close(method.translate(x[1:], z[1:]), y[1:])
    assert not torch.allclose(method.translate(x, -z), y)
    with pytest.raises(ConfigError, match="none was given"):
        method.translate(x)
    with pytest.raises(SizeError, match="16x16"):
        method.translate(x[:, :, :15], z)
    with pytest.raises(ConfigError, match="lambda_mode_seeking is -1"):
        MSGAN.Config(lambda_mode_seeking=-1)
    with pytest.raises(ConfigError, match="lambda_mode_seeking is -1"):
        MSGANDRIT.Config(lambda_mode_seeking=-1)


def test_on_drit_each_direction_has_two_outputs_kept_apart():
    """Drawn images of a are 0.5 apart and of b 0.25, codes 2 apart; D2's losses count both, the latent one."""
    method = make(MSGANDRIT, a=1, b=1, code_dim=1)
    method.D2 = torch.nn.ModuleDict({n: Known(lambda w, x: (w * mean(x),)) for n in "ab"})
    method.E_a = torch.nn.ModuleDict(
        {n: Known(lambda w, x: (w * mean(x)[:, :, 0, 0], torch.zeros(len(x), 1))) for n in "ab"}
    )
    z = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    terms = method.drawn_terms(flat(0.0, 0.5), flat(0.25, 0.0), z)
    deceived = softplus(-torch.tensor([0.0, 0.5, 0.25, 0.0], dtype=torch.float64))
    close(
        terms,
        gan_drawn=(2 * (deceived[:2] + deceived[2:])).tolist(),
        latent=[1.0 + 0.75],
        mode_seeking=[1 / (0.25 + 1e-5) + 1 / (0.125 + 1e-5)],
    )


def test_on_drit_two_attributes_are_drawn_for_each_image():
    method = make(MSGANDRIT)
    batch = Unpaired(positions=torch.arange(4), a=torch.randn(4, 1, 16, 16), b=torch.randn(4, 3, 16, 16))
    step = step_of(batch)
    step.begin("content_discriminator")
    method.content_discriminator_terms(step)
    terms = method.discriminator_terms(step)
    first, second = step.shared.made_a.drawn.chunk(2)
    judged = [2 * softplus(-s) for s in method.D2["a"](batch.a[1::2])]
    judged += [softplus(s) for fake in (first, second) for s in method.D2["a"](fake)]
    torch.testing.assert_close(terms["D2_a"], sum(s.mean((1, 2, 3)) for s in judged))
    assert step.shared.z.unique(dim=0).shape == (4, method.code_dim)
    assert step.shared.made_a.drawn.shape == (4, 1, 16, 16)
    assert list(method.joint_terms(step))[-3:] == ["gan_drawn", "latent", "mode_seeking"]
    assert method.weights()["mode_seeking"] == 1.0
