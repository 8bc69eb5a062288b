import math

import pytest
import torch
from torch import nn

from i2idist.data.batches import Labelled
from i2idist.errors import ConfigError, SizeError
from i2idist.methods.stargan import StarGAN
from i2idist.nn.labelled import Judgement
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.labelled import CLASSES, images, labelled, labelled_domains, make_labelled
from tests.methods.support import Known, close, flat, mean, step_of

LN2, LN3 = math.log(2), math.log(3)


def known():
    """G(x, c) = x (1 + c_1); D_src(x) = 2 x on each pixel, D_cls(x) = (mean(x), 0)."""
    method = make_labelled(StarGAN, labels=("plain", "double"))
    method.G = Known(lambda w, x, c: w * x * (1 + c[:, 1, None, None, None]))
    logits = lambda x: torch.cat([mean(x), 0 * mean(x)], 1)[:, :, 0, 0]  # noqa: E731
    method.D = Known(lambda w, x: Judgement(w * 2 * x, w * logits(x), x.new_empty(len(x), 0)))
    return method


def run(method, batch):
    step, terms = step_of(batch), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms, step


def test_terms_by_hand():
    """One sample, so its target is its own label. x = ln 3 with label 1: x_hat = 2 ln 3, G(x_hat, 1) = 4 ln 3.

    D_cls gives x (3/4, 1/4), x_hat (9/10, 1/10). D_src has the gradient 2 on each of 256 pixels, of length 32.
    """
    terms, _ = run(known(), labelled(flat(LN3), [1]))
    close(terms["discriminator"], real=[-2 * LN3], fake=[4 * LN3], cls=[math.log(4)], gp=[31.0**2])
    close(terms["generator"], gan=[-4 * LN3], cls=[math.log(10)], rec=[3 * LN3])


def test_real_images_are_read_as_what_they_are_and_fakes_as_their_targets():
    """Eqs. 2 and 3, on samples whose targets are others' labels."""
    method = known()
    x = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64)
    terms, step = run(method, labelled(flat(*x.tolist()), [0, 1, 0, 1]))
    target = step.shared.target.argmax(1)
    assert target.tolist() != [0, 1, 0, 1]
    x_hat = x * (1 + target)
    own, others = (
        nn.functional.cross_entropy(torch.stack([v, 0 * v], 1), y, reduction="none")
        for v, y in (
            (x, torch.tensor([0, 1, 0, 1])),
            (x_hat, target),
        )
    )
    torch.testing.assert_close(terms["discriminator"]["cls"], own)
    torch.testing.assert_close(terms["generator"]["cls"], others)


def test_the_penalty_is_taken_between_fakes_and_real_images():
    method = known()
    _, step = run(method, labelled(flat(LN3, LN3), [1, 1]))
    points = method.D.calls[2][0]
    shares = (2 * LN3 - points[:, 0, 0, 0]) / LN3
    again = step_of(step.batch)
    again.begin("discriminator")
    torch.testing.assert_close(shares, again.uniform("epsilon", 1, 1, 1).flatten())


def test_weights_are_the_papers():
    assert StarGAN(StarGAN.Config(discriminator_layers=2, width=2), labelled_domains()).weights() == {
        "cls": 1.0,
        "rec": 10.0,
        "gp": 10.0,
    }


def test_fakes_and_targets_are_made_once_for_both_players():
    """The shared work changes no number: G's terms are those of fakes made again."""
    method = make_labelled(StarGAN)
    calls = []
    method.G.register_forward_pre_hook(lambda _, args: calls.append(args))
    terms, step = run(method, labelled(images(), [0, 1, 2, 0]))
    assert len(calls) == 2
    x, target = images(), calls[0][1]
    x_hat = method.G(x, target)
    fake = method.D(x_hat)
    torch.testing.assert_close(terms["generator"]["gan"], -fake.real.mean((1, 2, 3)), rtol=1e-5, atol=1e-6)
    rec = (method.G(x_hat, nn.functional.one_hot(step.batch.y).float()) - x).abs().mean((1, 2, 3))
    torch.testing.assert_close(terms["generator"]["rec"], rec, rtol=1e-5, atol=1e-6)
    cls = nn.functional.cross_entropy(fake.labels, target.argmax(1), reduction="none")
    torch.testing.assert_close(terms["generator"]["cls"], cls, rtol=1e-5, atol=1e-6)
    shared = torch.autograd.grad(sum(term.sum() for term in terms["generator"].values()), method.G.first[0].weight)
    alone = torch.autograd.grad((rec + cls - fake.real.mean((1, 2, 3))).sum(), method.G.first[0].weight)
    torch.testing.assert_close(shared, alone, rtol=1e-5, atol=1e-6)


def test_networks_are_as_large_as_the_papers():
    """Reference counts: G 8.43M, D 44.76M; appendix, Tables 4 and 5, at 128x128 with five attributes."""
    names = ("black", "blond", "brown", "male", "young")
    with torch.device("meta"):
        method = StarGAN(StarGAN.Config(attributes=names), labelled_domains(names, 3, (128, 128)))
        counts = [sum(p.numel() for p in network.parameters()) for network in (method.G, method.D)]
        assert counts == [8_430_528, 44_762_048]
        shapes = []
        for module in (*method.G.modules(), *method.D.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
        method.D(method.G(torch.zeros(1, 3, 128, 128), torch.zeros(1, 5)))
    blocks = [(256, 32, 32)] * 12
    up = [(128, 64, 64), (64, 128, 128), (3, 128, 128)]
    down = [(64 * 2**level, 64 >> level, 64 >> level) for level in range(6)]
    heads = [(1, 2, 2), (5, 1, 1)]
    assert shapes == [(64, 128, 128), (128, 64, 64), (256, 32, 32), *blocks, *up, *down, *heads]


def test_the_paper_trains_five_critic_steps_on_a_new_batch_each():
    method = make_labelled(StarGAN, critic_steps=5)
    assert [(u.player, u.repeat) for u in method.updates()] == [("discriminator", 5), ("generator", 1)]
    seen = []
    method.D.register_forward_pre_hook(lambda _, args: seen.append(float(args[0].detach().sum())))
    trainer = Trainer(method, Training(total_images=20, batch_size=4), seed=0, comm=Comm.alone())
    batches = (labelled(images() + 0.01 * n, [0, 1, 2, 0], first=4 * n) for n in range(5))
    trainer.step(batches)
    assert trainer.images == 20 and len(seen) == 5 * 3 + 1
    assert len({seen[3 * n] for n in range(5)}) == 5


def test_attributes_train_and_translate():
    faces = ("bald", "hat", "young")
    method = make_labelled(StarGAN, faces, attributes=("hat", "young"), critic_steps=1)
    y = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    trainer = Trainer(method, Training(total_images=4, batch_size=4), seed=0, comm=Comm.alone())
    trainer.step(iter([labelled(images(), y)]))
    assert all(math.isfinite(value) for value in trainer.logged_terms().values())
    assert method.targets == ("hat", "young")
    one, both = (method.translate(images(2), target=target) for target in ("hat", "hat+young"))
    assert one.shape == (2, 1, 16, 16) and not torch.allclose(one, both)


def test_validation_needs_no_gradients_and_leaves_out_the_penalty():
    method = make_labelled(StarGAN).eval()
    with torch.no_grad():
        terms = method.validation_terms(step_of(labelled(images(), [0, 1, 2, 0])))
    want = ["discriminator/real", "discriminator/fake", "discriminator/cls"]
    assert list(terms) == [*want, "generator/gan", "generator/cls", "generator/rec"]


def test_translation_depends_on_the_target():
    method = make_labelled(StarGAN)
    outputs = [method.translate(images(), target=name) for name in CLASSES]
    assert all(not torch.allclose(outputs[0], other) for other in outputs[1:])
    with pytest.raises(ConfigError, match="translates to red, green, blue"):
        method.translate(images())
    assert method.translate(images(1, size=(20, 12)), target="red").shape == (1, 1, 20, 12)
    with pytest.raises(SizeError, match="multiples of 4.*16x20"):
        method.translate(images(1, size=(15, 19)), target="red")


def test_running_statistics_are_used_only_where_asked_for():
    plain, running = make_labelled(StarGAN), make_labelled(StarGAN, statistics_at_test="running")
    assert not list(plain.buffers())
    batch = labelled(images(), [0, 1, 2, 0])
    before = running.translate(images(), target="red")
    run(running, batch)
    assert not torch.allclose(running.translate(images(), target="red"), before)
    assert running.training


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"statistics_at_test": "batch"}, "statistics_at_test is 'batch'"),
        ({"critic_steps": 0}, "critic_steps is 0: it must be at least 1"),
        ({"lambda_rec": -1.0}, "lambda_rec is -1.0"),
    ],
)
def test_settings_that_cant_work_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        StarGAN.Config(**config)


def test_sizes_that_dont_suit_the_networks_are_refused():
    with pytest.raises(SizeError, match="at least 64 pixels a side, not 32x32"):
        StarGAN(StarGAN.Config(), labelled_domains(size=(32, 32)))
    with pytest.raises(SizeError, match="multiples of 4, not 18x16"):
        make_labelled(StarGAN, size=(18, 16))
    assert StarGAN.batch_type(StarGAN.Config()) is Labelled
