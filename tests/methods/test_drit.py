import math

import pytest
import torch
from torch import nn

from i2idist.data.batches import Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.losses.latent import kl_to_standard_normal
from i2idist.methods.drit import DRIT
from i2idist.methods.drit.networks import ContentDiscriminator
from i2idist.nn.init import init_normal
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.support import Drawn, Known, close, domains, flat, make, mean, step_of


def sp(x):
    return math.log1p(math.exp(x))


def bce(logit, real):
    return sp(-logit) if real else sp(logit)


def known(**config):
    """Content is the image, an attribute N(mean, 1); G adds them, a's images being negative; D's give the mean.

    Noise is left out: its draws are 0, but for the drawn attribute of 2.
    """
    method = make(DRIT, b=1, code_dim=1, **config)
    method.E_c = Known(lambda w, x, _: w * x)
    method.G = Known(lambda w, c, z, domain: w * (c + z[:, :, None, None]) * (-1 if domain == "a" else 1))
    method.D_c = Known(lambda w, c: w * mean(c))
    for name in ("D", "D2"):
        setattr(method, name, nn.ModuleDict({n: Known(lambda w, x: (w * mean(x), 2 * w * mean(x))) for n in "ab"}))
    method.E_a = nn.ModuleDict(
        {n: Known(lambda w, x: (w * mean(x)[:, :, 0, 0], 0 * mean(x)[:, :, 0, 0])) for n in "ab"}
    )
    return method


def run(method):
    """a = 0.5, b = 0.25 are encoded; a = 3, b = -1 are the others."""
    zero = torch.zeros(2, 1, 16, 16, dtype=torch.float64)
    z = torch.tensor([[[2.0]], [[9.0]]], dtype=torch.float64)
    draws = {"content_noise": zero, "attribute_noise": zero[:, :, 0, 0], "z": z}
    batch = Unpaired(positions=torch.arange(2), a=flat(0.5, 3.0), b=flat(0.25, -1.0))
    step, terms = Drawn(batch, draws), []
    for update in method.updates():
        step.begin(update.player)
        functions = [update.backward] if callable(update.backward) else [b.terms for b in update.backward]
        terms += [function(step) for function in functions]
    return terms


def two(logit, real):
    """Over the scales, whose logits are the mean and twice the mean."""
    return bce(logit, real) + bce(2 * logit, real)


def generator_terms():
    """u = -(0.25 + 0.5), v = 0.5 + 0.25; the cycle: a_hat = -(v + u) = 0, b_hat = u + v = 0; own: -1 and 0.5."""
    return {
        "content": [0.5 * (sp(0.5) + sp(-0.5)) + 0.5 * (sp(0.25) + sp(-0.25))],
        "gan": [two(-0.75, True) + two(0.75, True)],
        "cross_cycle": [0.5 + 0.25],
        "reconstruction": [1.5 + 0.25],
        "kl": [0.5 * (0.5**2 + 0.25**2)],
        "content_l2": [0.5**2 + 0.25**2],
    }


def drawn_terms():
    """Drawn: -(0.25 + 2) and 0.5 + 2, whose attributes are their means."""
    return {"gan_drawn": [two(-2.25, True) + two(2.5, True)], "latent": [4.25 + 0.5]}


def test_terms_by_hand():
    content, judges, generator = run(known())
    close(content, real=[bce(0.25, True)], fake=[bce(0.5, False)])
    close(
        judges,
        D_a=[two(0.5, True) + two(-0.75, False)],
        D_b=[two(0.25, True) + two(0.75, False)],
        D2_a=[two(3.0, True) + two(-2.25, False)],
        D2_b=[two(-1.0, True) + two(2.5, False)],
    )
    close(generator, **generator_terms(), **drawn_terms())
    weights = {"content": 1, "cross_cycle": 10, "reconstruction": 10, "kl": 0.01, "content_l2": 0.01, "latent": 10}
    assert make(DRIT).weights() == weights


def test_drawn_attributes_can_make_a_step_of_their_own():
    *_, generator, latent = run(known(separate_latent_step=True))
    close(generator, **generator_terms())
    close(latent, **drawn_terms())


def test_a_feature_wise_attribute_has_no_spread():
    method = known(generator="feature_wise")
    method.E_a = nn.ModuleDict({n: Known(lambda w, x: w * mean(x)[:, :, 0, 0]) for n in "ab"})
    *_, generator = run(method)
    assert generator["kl"].tolist() == pytest.approx([0.5**2 + 0.25**2])
    close({name: generator[name] for name in drawn_terms()}, **drawn_terms())


def a_batch(positions=4, seed=0):
    torch.manual_seed(seed)
    a, b = torch.rand(2, positions, 3, 16, 16, dtype=torch.float64) * 2 - 1
    return Unpaired(positions=torch.arange(positions), a=a[:, :1], b=b)


def trained(method, steps=1):
    seen = []
    training = Training(total_images=400, batch_size=4, precision="float64")
    observe = lambda name, gradients: seen.append((name, {k: g.clone() for k, g in gradients.items()}))  # noqa: E731
    trainer = Trainer(method, training, seed=3, comm=Comm.alone(), observer=observe)
    batch = a_batch()
    for _ in range(steps):
        trainer.step(iter([batch] * 3))
    return trainer, seen


def test_shared_work_has_the_gradients_of_the_straightforward_form():
    """G's images one by one, and the latent regression's gradient taken apart, with nothing frozen."""
    method = make(DRIT, content_steps=1, lr=0.0, content_lr=0.0).double()
    batch = a_batch()
    step = step_of(batch, seed=3)
    step.begin("content_discriminator")
    c_a, c_b = (method._content(x[::2], n, step) for n, x in (("a", batch.a), ("b", batch.b)))
    step.begin("discriminator")
    z_a, kl_a = method._attribute(batch.a[::2], "a", step)
    z_b, kl_b = method._attribute(batch.b[::2], "b", step)
    z = step.normal("z", 1, method.code_dim)[::2, 0]
    u, v = method.G(c_b, z_a, "a"), method.G(c_a, z_b, "b")
    step.begin("generator")
    (again_a, _), (again_b, _) = method._attribute(u, "a", step), method._attribute(v, "b", step)
    a_hat = method.G(method._content(v, "b", step), again_a, "a")
    b_hat = method.G(method._content(u, "a", step), again_b, "b")

    def l1(x, y):
        return (x - y).abs().mean()

    def deceive(judge, x):
        return sum(nn.functional.softplus(-s).mean() for s in judge(x))

    half = nn.functional.binary_cross_entropy_with_logits
    confused = sum(half(method.D_c(c), torch.full_like(method.D_c(c), 0.5)) for c in (c_a, c_b))
    a, b = batch.a[::2], batch.b[::2]
    first = confused + deceive(method.D["a"], u) + deceive(method.D["b"], v)
    first = first + 10 * (l1(a_hat, a) + l1(b_hat, b))
    first = first + 10 * (l1(method.G(c_a, z_a, "a"), a) + l1(method.G(c_b, z_b, "b"), b))
    first = first + 0.01 * (kl_a.mean() + kl_b.mean() + c_a.square().mean() + c_b.square().mean())
    drawn_a, drawn_b = method.G(c_b, z, "a"), method.G(c_a, z, "b")
    second = deceive(method.D2["a"], drawn_a) + deceive(method.D2["b"], drawn_b)
    second = second + 10 * (l1(method.E_a["a"](drawn_a)[0], z) + l1(method.E_a["b"](drawn_b)[0], z))

    names = [f"{n}.{k}" for n in ("E_c", "E_a", "G") for k, _ in getattr(method, n).named_parameters()]
    parameters = [p for n in ("E_c", "E_a", "G") for p in getattr(method, n).parameters()]
    want = dict(zip(names, torch.autograd.grad(first, parameters, retain_graph=True), strict=True))
    for name, extra in zip(names, torch.autograd.grad(second, parameters, allow_unused=True), strict=True):
        if not name.startswith("E_a."):
            want[name] = want[name] + extra
    got = dict(trained(method)[1])["generator"]
    largest = max(g.abs().max() for g in want.values())
    assert all((got[name] - g).abs().max() < 1e-5 * largest for name, g in want.items())


def test_one_step_takes_three_batches_and_steps_the_content_discriminator_three_times():
    trainer, seen = trained(make(DRIT, content_steps=3))
    assert [name for name, _ in seen] == ["content_discriminator"] * 3 + ["discriminator", "generator"]
    assert (trainer.batches, trainer.images) == (3, 12)


def test_the_second_step_leaves_the_attribute_encoder_alone():
    _, seen = trained(make(DRIT, content_steps=1, separate_latent_step=True))
    assert [name for name, _ in seen][-2:] == ["generator", "generator_2"]
    assert {key.split(".")[0] for key in seen[-1][1]} == {"E_c", "G"}


def test_the_content_discriminators_gradient_is_clipped():
    _, seen = trained(make(DRIT, content_steps=1, content_clip=1e-3))
    norm = torch.stack([g.square().sum() for g in seen[0][1].values()]).sum().sqrt()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_layers_and_numbers_of_parameters_at_the_papers_scale():
    """At 216x216: content 256 x 54 x 54, which D_c takes to 25, 11, 4 and 1."""
    with torch.device("meta"):
        method = DRIT(DRIT.Config(), domains(3, 3, (216, 216)))
        content = method.E_c(torch.empty(1, 3, 216, 216), "a")
        sides = []
        for layer in method.D_c.layers:
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda _, __, out: sides.append(out.shape[2]))
        assert method.D_c(content).shape == (1, 1, 1, 1)
        image = method.G(content, torch.empty(1, 8), "b")
    assert content.shape == (1, 256, 54, 54)
    assert image.shape == (1, 3, 216, 216)
    assert sides == [25, 11, 4, 1, 1]

    def conv(kernel, below, above):
        return (kernel * kernel * below + 1) * above

    def block(n):
        return 2 * conv(3, n, n)

    count = {name: sum(p.numel() for p in net.parameters()) for name, net in method.networks()}
    own = conv(7, 3, 64) + conv(3, 64, 128) + conv(3, 128, 256) + 3 * block(256)
    assert count["E_c"] == 2 * own + block(256)
    attribute = conv(4, 3, 64) + 2 * 257 * 8
    attribute += sum(conv(3, m, m) + conv(3, m, n) + conv(1, m, n) for m, n in ((64, 128), (128, 192), (192, 256)))
    assert count["E_a"] == 2 * attribute
    up = conv(3, 272, 136) + 2 * 136 + conv(3, 144, 72) + 2 * 72 + conv(1, 80, 3)
    assert count["G"] == block(256) + 2 * (3 * block(264) + up)
    scale = conv(4, 3, 64) + conv(4, 64, 128) + conv(4, 128, 256) + conv(4, 256, 512) + conv(1, 512, 1)
    assert count["D"] == count["D2"] == 2 * 3 * scale
    assert count["D_c"] == 3 * conv(7, 256, 256) + conv(4, 256, 256) + conv(1, 256, 1)


def test_the_feature_wise_networks_at_the_papers_scale():
    with torch.device("meta"):
        method = DRIT(DRIT.Config(generator="feature_wise"), domains(3, 3, (216, 216)))
        assert method.G(torch.empty(2, 256, 54, 54), torch.empty(2, 8), "a").shape == (2, 3, 216, 216)
        assert method.E_a["a"](torch.empty(2, 3, 216, 216)).shape == (2, 8)
    mlp = 9 * 256 + 257 * 256 + 257 * 1024
    mixed = 2 * (257 - 1) * 9 * 256 + 2 * 256 + 2 * (513 * 512 + 513 * 256)
    up = (9 * 256 + 1) * 128 + 2 * 128 + (9 * 128 + 1) * 64 + 2 * 64 + 65 * 3
    assert sum(p.numel() for p in method.G.parameters()) == 2 * (mlp + 4 * mixed + up)


@pytest.mark.parametrize(("side", "layers"), [(4, 0), (6, 0), (8, 1), (16, 1), (24, 2), (54, 3), (64, 3)])
def test_smaller_content_gets_fewer_strided_layers(side, layers):
    net = ContentDiscriminator(1, side)
    assert sum(isinstance(layer, nn.Conv2d) and layer.stride == (2, 2) for layer in net.layers) == layers
    assert net(torch.randn(2, 1, side, side + 2)).shape[:2] == (2, 1)


def test_content_has_noise_in_training_alone():
    method = make(DRIT)
    step = step_of(a_batch().to(torch.device("cpu"), torch.float32, torch.contiguous_format))
    x = torch.zeros(2, 1, 16, 16)
    noise = method._content(x, "a", step) - method.E_c(x, "a")
    assert 0.9 < noise.std() < 1.1 and abs(noise.mean()) < 0.1
    z = torch.zeros(2, 3)
    torch.testing.assert_close(method.translate(x, z), method.G(method.E_c(x, "a"), z, "b"))


@pytest.mark.parametrize("config", ["concatenation", "feature_wise"])
def test_translate_both_ways_by_code_and_by_style(config):
    method = make(DRIT, generator=config)
    init_normal(method, 0.3)
    a, b, z = torch.randn(2, 1, 16, 16), torch.randn(2, 3, 16, 16), torch.randn(2, 3)
    assert method.translate(a, z).shape == (2, 3, 16, 16)
    assert method.translate(b, z, target="a").shape == (2, 1, 16, 16)
    styled = method.translate(a, z, style_from=b[0])
    out = method.E_a["b"](b[:1])
    mean_of = out if config == "feature_wise" else out[0]
    torch.testing.assert_close(styled, method.translate(a, mean_of.expand(2, -1)))
    assert not torch.allclose(method.translate(a, style_from=b[1]), styled)


def test_refusals():
    method = make(DRIT)
    x, z = torch.randn(1, 1, 16, 16), torch.zeros(1, 3)
    with pytest.raises(ConfigError, match="none was given"):
        method.translate(x)
    with pytest.raises(ConfigError, match="translates to b or a only"):
        method.translate(x, z, target="c")
    with pytest.raises(SizeError, match="16x16"):
        method.translate(x[:, :, :15], z)
    for example in (torch.zeros(3, 16, 6), torch.zeros(1, 16, 16)):
        with pytest.raises(ConfigError, match=r"style_from is .*\(3, H, W\) with at least 8 pixels"):
            method.translate(x, style_from=example)
    with pytest.raises(SizeError, match="at least 61 pixels"):
        DRIT(DRIT.Config(), domains(3, 3, (32, 32)))
    with pytest.raises(ConfigError, match="generator is 'concat'.*Did you mean 'concatenation'"):
        DRIT.Config(generator="concat")
    with pytest.raises(ConfigError, match="content_steps is 0"):
        DRIT.Config(content_steps=0)


def test_the_divergence_is_of_encoded_attributes():
    method = make(DRIT)
    step = step_of(a_batch().to(torch.device("cpu"), torch.float32, torch.contiguous_format))
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(method._attribute(x, "a", step)[1], kl_to_standard_normal(*method.E_a["a"](x)))


def test_initial_weights_are_as_wide_as_set():
    method = make(DRIT, init_std=0.1, width=32)
    assert method.E_c.own["b"][2].weight.std().item() == pytest.approx(0.1, rel=0.02)
