import math

import pytest
import torch
from torch import nn

from i2idist.data.batches import Paired
from i2idist.errors import ConfigError, SizeError
from i2idist.method import Domain, Domains
from i2idist.methods.pix2pix import Pix2Pix
from tests.methods.support import Known, close, flat, make, step_of


def sp(x):
    return math.log1p(math.exp(x))


def run(method, a, b):
    step, terms = step_of(Paired(positions=torch.arange(len(a)), a=a, b=b)), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def test_terms_by_hand():
    """G(x) = 2x, and D's logit is input + output: real 0.5 + 0.25, fake 0.5 + 1. Eqs. 1 (halved), 3, 4."""
    method = make(Pix2Pix, b=1)
    method.G = Known(lambda w, x, z, noise: w * 2 * x)
    method.D = Known(lambda w, xy: w * xy.sum(1, keepdim=True))
    terms = run(method, flat(0.5), flat(0.25))
    close(terms["discriminator"], fake=[0.5 * sp(1.5)], real=[0.5 * sp(-0.75)])
    close(terms["generator"], gan=[sp(-1.5)], l1=[0.75])
    assert method.weights() == {"l1": 100.0, "sem": 100.0}


def labelled(*classes):
    """Networks for images of 16x16: label maps of so many classes, or three channels where that is None."""
    ends = (Domain(name, 1 if count else 3, 16, 16, count) for name, count in zip("ab", classes, strict=True))
    torch.manual_seed(0)
    return Pix2Pix(Pix2Pix.Config(**{**vars(Pix2Pix.tiny()["dropout"]), "dropout": 0.0}), Domains(tuple(ends)))


def test_terms_of_a_label_map_by_hand():
    """Logits (0, log 3) are probabilities (1/4, 3/4); D's logit is the input's second class plus the output's."""
    method = labelled(2, 2)
    logits = torch.tensor([0.0, math.log(3)], dtype=torch.float64)[:, None, None]
    method.G = Known(lambda w, x, z, noise: w * logits.expand_as(x))
    method.D = Known(lambda w, xy: w * (xy[:, 1:2] + xy[:, 3:4]))
    levels = [level / 127.5 - 1 for level in (0, 1, 2)]  # of classes 0 and 1, and of none
    b = flat(levels[0], levels[1])
    b[1, :, :8] = levels[2]
    terms = run(method, flat(levels[1], levels[0]), b)
    close(
        terms["discriminator"],
        fake=[0.5 * sp(1.75), 0.5 * sp(0.75)],
        real=[0.5 * sp(-1.0), 0.25 * sp(-1.0) + 0.25 * sp(0.0)],
    )
    close(terms["generator"], gan=[sp(-1.75), sp(-0.75)], sem=[math.log(4), math.log(4 / 3)])


def test_label_maps_are_translated_as_levels():
    to, back = labelled(None, 5), labelled(5, None)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    y = to.translate(x)
    levels = (y + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert y.shape == (2, 1, 16, 16) and levels.round().unique().numel() > 1 and levels.max() < 4.5
    hot = torch.stack([levels[:, 0].round() == k for k in range(5)], dim=1).float()
    torch.testing.assert_close(back.translate(y[:1]), back.train().G(hot[:1]))
    assert back.translate(y).shape == (2, 3, 16, 16)


def test_the_fake_is_made_once_and_its_graph_serves_both():
    method = make(Pix2Pix)
    calls = []
    method.G.register_forward_hook(lambda *_: calls.append(1))
    terms = run(method, torch.randn(2, 1, 16, 16), torch.randn(2, 3, 16, 16))
    assert len(calls) == 1
    d_loss = sum(t.mean() for t in terms["discriminator"].values())
    assert torch.autograd.grad(d_loss, list(method.G.parameters()), allow_unused=True)[0] is None
    g_loss = sum(t.mean() for t in terms["generator"].values())
    assert all(g is not None for g in torch.autograd.grad(g_loss, list(method.G.parameters())))


def test_training_drops_by_position():
    method = make(Pix2Pix)
    a = torch.randn(1, 1, 16, 16).expand(2, -1, -1, -1)
    batch = Paired(positions=torch.tensor([3, 8]), a=a, b=torch.zeros(2, 3, 16, 16))
    outs = []
    for _ in range(2):
        step = step_of(batch)
        step.begin("discriminator")
        method.discriminator_terms(step)
        outs.append(step.shared.y_hat)
    assert torch.equal(*outs)
    assert not torch.allclose(outs[0][0], outs[0][1])


def test_translation_is_training_mode_on_a_batch_of_one_with_masks_from_the_code():
    method = make(Pix2Pix)
    x, code = torch.randn(3, 1, 16, 16), torch.tensor([[0.3], [-1.2], [0.3]])
    y = method.translate(x, code)
    assert method.training
    torch.testing.assert_close(torch.cat([method.translate(x[i : i + 1], code[i : i + 1]) for i in range(3)]), y)
    same = method.translate(x[:1].expand(3, -1, -1, -1), code)
    torch.testing.assert_close(same[0], same[2])
    assert not torch.allclose(same[0], same[1])
    reference = make(Pix2Pix, dropout=0.0)
    trained = make(Pix2Pix, dropout=0.0)
    torch.testing.assert_close(reference.translate(x[:1]), trained.G.train()(x[:1]))


def test_running_statistics_are_an_option():
    method = make(Pix2Pix, dropout=0.0, statistics_at_test="running")
    x = torch.randn(2, 1, 16, 16)
    before = method.translate(x)
    run(method, x, torch.randn(2, 3, 16, 16))
    assert not torch.allclose(method.translate(x), before)
    plain = nn.BatchNorm2d(8).eval()
    norm = method.G.down_norm[1].eval()
    plain.load_state_dict(norm.state_dict(), strict=False)
    h = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(norm(h), plain(h))


def test_without_dropout_there_is_no_code():
    assert make(Pix2Pix, dropout=0.0).code_dim == 0
    assert make(Pix2Pix).code_dim == 1


def test_refusals():
    method = make(Pix2Pix, depth=3)
    with pytest.raises(SizeError, match="16x16"):
        method.translate(torch.randn(1, 1, 18, 18), torch.zeros(1, 1))
    with pytest.raises(ConfigError, match="none was given"):
        method.translate(torch.randn(1, 1, 16, 16))
    with pytest.raises(ConfigError, match=r"dropout is 1.0: it must be in \[0, 1\)"):
        Pix2Pix.Config(dropout=1.0)
