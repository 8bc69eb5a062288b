import math

import pytest
import torch

from i2idist.data.batches import Paired
from i2idist.errors import ConfigError, SizeError
from i2idist.methods.bicyclegan import BicycleGAN
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.support import Drawn, Known, close, domains, flat, make, mean, step_of


def known(**config):
    """G(A, z) = A z, E(B) = (B, ln 4), D and D2 give mean(B) and 2 mean(B)."""
    method = make(BicycleGAN, b=1, code_dim=1, **config)
    method.G = Known(lambda w, a, z, noise=None: w * a * z[:, :1, None, None])
    method.E = Known(lambda w, b: (w * mean(b)[:, :, 0, 0], torch.full((len(b), 1), math.log(4), dtype=b.dtype)))
    for name in ("D", "D2"):
        setattr(method, name, Known(lambda w, b: (w * mean(b), 2 * w * mean(b))))
    return method


NOISE = torch.tensor([[[0.25], [-2.0]], [[9.0], [9.0]]], dtype=torch.float64)
"""Of the encoded sample: eps 0.25, z -2. The other sample's draws must not matter."""


def run(method):
    """A = 0.5, B = 0.25 are encoded, z = 0.25 + 2 * 0.25 = 0.75; A = 3, B = -1 are the others."""
    batch = Paired(positions=torch.arange(2), a=flat(0.5, 3.0), b=flat(0.25, -1.0))
    step, terms = Drawn(batch, {"z": NOISE}), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def ls(value, goal):
    """Least squares at two scales."""
    return [(value - goal) ** 2 + (2 * value - goal) ** 2]


def test_terms_by_hand():
    """Outputs are 0.5 * 0.75 = 0.375 with the encoded code, and 0.5 * -2 = -1 with the drawn one."""
    method = known()
    terms = run(method)
    close(
        terms["generator"],
        gan=ls(0.375, 1),
        l1=[0.125],
        kl=[(0.0625 + 4 - math.log(4) - 1) / 2],
        gan_drawn=ls(-1.0, 1),
        latent=[1.0],
    )
    close(
        terms["discriminator"],
        real=ls(0.25, 1),
        fake=ls(0.375, 0),
        real_drawn=ls(-1.0, 1),
        fake_drawn=ls(-1.0, 0),
    )
    assert method.weights() == {"l1": 10.0, "kl": 0.01, "latent": 0.5}


def test_fakes_are_made_once_and_handed_over_detached():
    method = known()
    run(method)
    assert len(method.G.calls) == 1
    assert [call[0].requires_grad for call in method.D.calls] == [True, False, False]
    assert [call[0].requires_grad for call in method.D2.calls] == [True, False, False]


def test_one_discriminator_can_judge_both():
    method = known(same_d=True)
    assert run(method).keys() == {"generator", "discriminator"}
    assert len(method.D.calls) == 6
    assert not method.D2.calls
    assert method.players()[1].networks == ("D",)


def test_discriminators_can_see_the_input_of_each_output():
    method = known(condition_d=True)
    method.D = Known(lambda w, ab: (w * ab[:, :1], w * ab[:, 1:]))
    method.D2 = Known(lambda w, ab: (w * ab[:, :1], w * ab[:, 1:]))
    run(method)
    assert [call[0][0, :, 0, 0].tolist() for call in method.D.calls] == [[0.5, 0.375], [0.5, 0.25], [0.5, 0.375]]
    assert [call[0][0, :, 0, 0].tolist() for call in method.D2.calls] == [[0.5, -1], [3, -1], [0.5, -1]]


def straightforward(method, batch, step):
    """The gradients of G and E as the reference has them: two passes of G, and two backwards, one with E frozen."""
    step.begin("generator")
    noise, z = step.normal("z", 2, method.code_dim)[::2].unbind(1)
    a, b = batch.a[::2], batch.b[::2]
    mu, logvar = method.E(b)
    encoded, drawn = method.G(a, mu + noise * logvar.mul(0.5).exp()), method.G(a, z)
    gan = sum((s - 1).square().mean() for s in method.D(encoded))
    gan += sum((s - 1).square().mean() for s in method.D2(drawn))
    kl = torch.sum(1 + logvar - mu.square() - logvar.exp()) * -0.5 / len(a)
    loss = gan + 10 * (encoded - b).abs().mean() + 0.01 * kl
    parameters = list(method.G.parameters()) + list(method.E.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    latent = 0.5 * (method.E(drawn)[0] - z).abs().mean()
    second = torch.autograd.grad(latent, list(method.G.parameters()))
    return [g + h for g, h in zip(first, second, strict=False)] + list(first[len(second) :])


def test_one_backward_has_the_gradients_of_the_straightforward_two():
    torch.manual_seed(1)
    method = make(BicycleGAN).double()
    batch = Paired(
        positions=torch.arange(4), a=torch.randn(4, 1, 16, 16).double(), b=torch.rand(4, 3, 16, 16).double() * 2 - 1
    )
    want = straightforward(method, batch, step_of(batch, seed=3))
    seen = {}
    training = Training(total_images=4, batch_size=4, precision="float64")
    observe = lambda name, gradients: seen.setdefault(name, [g.clone() for g in gradients.values()])  # noqa: E731
    Trainer(method, training, seed=3, comm=Comm.alone(), observer=observe).step(iter([batch]))
    largest = max(g.abs().max() for g in want)
    assert all((g - h).abs().max() < 1e-5 * largest for g, h in zip(seen["generator"], want, strict=True))


def test_numbers_of_parameters_at_the_papers_scale():
    """The U-net has 8 more input channels at each of 8 levels than pix2pix's, and biases before its norms."""
    with torch.device("meta"):
        method = BicycleGAN(BicycleGAN.Config(), domains(3, 3, (256, 256)))
    widths = [64, 128, 256, 512, 512, 512, 512, 512]
    down = sum((16 * (below + 8) + 1) * n for below, n in zip([3, *widths], widths, strict=False))
    doubled = [2 * n for n in widths[:-1]] + [512]
    up = sum((16 * n + 1) * above for n, above in zip(doubled, [3, *widths], strict=False))
    count = {name: sum(p.numel() for p in net.parameters()) for name, net in method.networks()}
    assert count["G"] == down + up
    full = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 128 + 256 + 512 + 1
    half = 16 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256) + 32 + 64 + 128 + 256 + 1
    assert full == 2_764_737
    assert count["D"] == count["D2"] == full + half
    assert count["E"] == 2_590_032
    with torch.device("meta"):
        at_128 = BicycleGAN(BicycleGAN.Config(), domains(3, 3, (128, 128)))
    assert (len(at_128.G.down), len(at_128.E.blocks)) == (7, 3)


def test_translate_by_code_and_by_style():
    method = make(BicycleGAN)
    x, z = torch.randn(2, 1, 16, 16), torch.randn(2, method.code_dim)
    y = method.translate(x, z)
    assert y.shape == (2, 3, 16, 16)
    assert not torch.allclose(method.translate(x, -z), y)
    style = torch.rand(3, 24, 16)
    of_style = method.translate(x, z, style_from=style)
    mu, _ = method.E(style[None])
    torch.testing.assert_close(of_style, method.translate(x, mu.expand(2, -1)))
    assert not torch.allclose(method.translate(x, style_from=-style), of_style)


def test_refusals():
    method = make(BicycleGAN)
    x, z = torch.randn(1, 1, 16, 16), torch.zeros(1, 3)
    with pytest.raises(ConfigError, match="code of length 3, but none was given"):
        method.translate(x)
    with pytest.raises(SizeError, match="16x16"):
        method.translate(x[:, :, :15], z)
    for example in (torch.zeros(3, 4, 16), torch.zeros(1, 16, 16), torch.zeros(1, 3, 16, 16)):
        with pytest.raises(ConfigError, match=r"style_from is .*\(3, H, W\) with at least 8 pixels"):
            method.translate(x, style_from=example)
    with pytest.raises(ConfigError, match="'a', but this method translates to b only"):
        method.translate(x, z, target="a")
    with pytest.raises(SizeError, match="at least 32x32, not 16x16"):
        make(BicycleGAN, encoder_levels=5)
    with pytest.raises(ConfigError, match="lambda_kl is -1"):
        BicycleGAN.Config(lambda_kl=-1)
    with pytest.raises(ConfigError, match="discriminator_width is 2: it must be at least 4"):
        BicycleGAN.Config(discriminator_width=2, discriminator_scales=3)
