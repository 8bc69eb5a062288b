import math

import pytest
import torch

from i2idist.data.batches import Multimodal
from i2idist.errors import ConfigError, SizeError
from i2idist.method import Domain, Domains, Step
from i2idist.methods.stargan_modal import StarGANModal
from i2idist.nn.labelled import Judgement
from i2idist.train.comm import Comm
from tests.methods.modal import CLASSES, batch_of, modalities
from tests.methods.support import Known, close, domains, flat, make, mean, step_of

LN2, LN3 = math.log(2), math.log(3)
TO_SECOND = math.log(4 / 3)
"""-log of the probability that logits (0, log 3) give the second class; of the first it is log 4."""


def known(paired):
    """G(x, c, s, t) = 2 x to b and x - 1 to a; D_src(x) = x, minus for b; D_cls(x) = (0, mean(x))."""
    method = make(StarGANModal, b=1, paired=paired)
    method.G = Known(lambda w, x, c, source, target: w * (2 * x if target else x - 1))
    method.D = Known(
        lambda w, x, m: Judgement(
            w * (-x if m else x), w * torch.cat([0 * mean(x), mean(x)], 1)[:, :, 0, 0], x.new_empty(len(x), 0)
        )
    )
    return method


def known_rooms(paired):
    """Grey, depth, two classes. G: half the last channel, or logits (0, log 3); D_src: the last channel; D_cls: 0."""
    sizes = (16, 16)
    rooms = Domains((Domain("rgb", 1, *sizes), Domain("depth", 1, *sizes), Domain("labels", 1, *sizes, classes=2)))
    method = StarGANModal(StarGANModal.Config(**{**vars(StarGANModal.tiny()["paired"]), "paired": paired}), rooms)
    logits = torch.tensor([0.0, LN3], dtype=torch.float64)[:, None, None]
    method.G = Known(lambda w, x, c, s, t: w * (logits.expand(len(x), 2, 16, 16) if t == 2 else x[:, -1:] / 2))
    method.D = Known(lambda w, x, m: Judgement(w * x[:, -1:], x.new_zeros(len(x), 3), x.new_empty(len(x), 0)))
    return method


def level(number):
    return number / 127.5 - 1


def modal(present, *images):
    mask = torch.tensor(present, dtype=torch.bool)
    return Multimodal(positions=torch.arange(len(mask)), images=images, present=mask)


def both(a, b):
    return modal([[1, 1]] * len(a), a, b)


def run(method, batch, step=None):
    step, terms = step or step_of(batch), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def close_means(terms, **want):
    assert {name: float(value.detach().mean()) for name, value in terms.items()} == {
        name: pytest.approx(value, rel=1e-12) for name, value in want.items()
    }


def routes(method):
    return [(source, target) for _, _, source, target in method.G.calls]


def sp(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("paired", [True, False])
def test_terms_by_hand(paired):
    """a = 0.5, b = 0.2: b_hat = 1, a_hat = -0.8; back again: a = 0, b = -1.6. D_src's gradient is 1 on 256 pixels."""
    terms = run(known(paired), both(flat(0.5), flat(0.2)))
    close(
        terms["discriminator"],
        real=[-0.5 + 0.2],
        fake=[-0.8 - 1.0],
        cls=[sp(0.5) + sp(-0.2)],
        gp=[2 * 15.0**2],
    )
    last = {"l1": [1.3 + 0.8]} if paired else {"rec": [0.5 + 1.8]}
    close(terms["generator"], gan=[0.8 + 1.0], cls=[sp(-0.8) + sp(-1.0)], **last)


def test_pairs_that_the_data_hold_are_trained_by_hand():
    """To depth 0.25 and 0.3, to RGB 0.1, -0.1 and, of labels, 0.5 and 0 in halves; each mean over what is there."""
    labels = flat(0.0, level(1), 0.0)
    labels[1, :, :8] = level(0)
    present = [[1, 1, 0], [1, 0, 1], [1, 1, 0]]
    method = known_rooms(True)
    terms = run(method, modal(present, flat(0.5, -0.4, 0.6), flat(0.2, 0.0, -0.2), labels))
    assert routes(method) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    fake = (0.1 - 0.1 + 0.25) / 3 + (0.25 + 0.3) / 2 + 0.75
    close_means(
        terms["discriminator"],
        real=-(0.5 - 0.4 + 0.6) / 3 - (0.2 - 0.2) / 2 - 0.5,
        fake=fake,
        cls=3 * LN3,
        gp=3 * 15.0**2,
    )
    close_means(
        terms["generator"],
        gan=-fake,
        cls=3 * LN3,
        l1=(0.05 + 0.5) / 2 + (0.4 + 0.7) / 2 + (0.9 + 0.4) / 2,
        sem=(TO_SECOND + 2 * LN2) / 2,
    )


def test_without_pairs_all_lead_to_all_and_back_by_hand():
    """To depth 0.25, -0.2, 0.5, to RGB 0.1, 0.5; back again half of it, of label maps' probabilities 0.375."""
    method = known_rooms(False)
    batch = modal([[1, 1, 0], [1, 0, 1]], flat(0.5, -0.4), flat(0.2, 0.0), flat(0.0, level(1)))
    terms = run(method, batch)
    there = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert routes(method) == there + [(t, s) for s, t in there]
    fake = (0.1 + 0.5) / 2 + (0.25 - 0.2 + 0.5) / 3 + 0.75
    real = -(0.5 - 0.4) / 2 - 0.2 - 1.0
    close_means(terms["discriminator"], real=real, fake=fake, cls=3 * LN3, gp=3 * 15.0**2)
    to_rgb = (0.375 + 0.3) / 2 + (0.125 + 0.775) / 2
    close_means(terms["generator"], gan=-fake, cls=3 * LN3, rec=to_rgb + 0.15 + 0.175, sem=2 * TO_SECOND)


class OnReal(Step):
    """A step whose gradient penalty is taken at the real images, of which the last sample draws the first."""

    def uniform(self, purpose, *shape, per_sample=1):
        values = {"epsilon": [1.0] * len(self.batch), "real": [0.99, 0.6, 0.0]}[purpose]
        return torch.tensor(values, dtype=torch.float64).reshape(-1, *shape)


@pytest.mark.parametrize(("paired", "want"), [(True, [0.2, -0.2]), (False, [-0.2, -0.2, 0.2, 0.2])])
def test_the_penalty_is_between_translations_and_real_images_of_their_modality(paired, want):
    """Depths are 0.2 and -0.2. Without pairs three colours and one label map become depths, and draw from these."""
    method = known_rooms(paired)
    batch = modal([[1, 1, 0], [1, 1, 0], [1, 0, 1]], flat(0.5, 0.6, 0.7), flat(0.2, -0.2, 0.0), flat(0.0, 0.0, -1.0))
    run(method, batch, OnReal(batch, images=0, seed=0, comm=Comm.alone(), weights={}, global_batch=3))
    points = [x for x, m in method.D.calls[:9] if m == 1][2]
    assert points[:, 0, 0, 0].tolist() == pytest.approx(want)


def test_the_label_names_the_target():
    method = known(True)
    run(method, both(flat(0.5), flat(0.2)))
    assert [(c.tolist(), s, t) for _, c, s, t in method.G.calls] == [([[0, 1]], 0, 1), ([[1, 0]], 1, 0)]


def rooms(seed=0):
    torch.manual_seed(seed)
    return StarGANModal(StarGANModal.tiny()["paired"], modalities())


def test_modalities_share_all_but_the_outer_layers():
    method = rooms()
    assert [layer.in_channels for layer in method.G.first] == [3 + 3, 1 + 3, CLASSES + 3]
    assert [layer.out_channels for layer in method.G.last] == [3, 1, CLASSES]
    assert [layer.in_channels for layer in method.D.first] == [3, 1, CLASSES]
    assert method.targets[:3] == ("rgb->depth", "rgb->segmentation", "depth->rgb") and len(method.targets) == 6


def test_any_modality_is_translated_to_any_other():
    method = rooms()
    x = torch.rand(2, 1, 16, 16) * 2 - 1
    labels = method.translate(x, target="depth->segmentation")
    levels = (labels + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert labels.shape == (2, 1, 16, 16) and set(levels.round().unique().tolist()) <= {0.0, 1.0, 2.0}
    hot = torch.stack([levels[:, 0].round() == k for k in range(CLASSES)], dim=1).float()
    depth_label = torch.tensor([[0.0, 1.0, 0.0]]).expand(2, -1)
    torch.testing.assert_close(method.translate(labels, target="segmentation->depth"), method.G(hot, depth_label, 2, 1))
    rgb = method.translate(x, target="depth->rgb")
    assert rgb.shape == (2, 3, 16, 16)
    cascade = method.translate(x, target="depth->rgb->segmentation")
    assert torch.equal(cascade, method.translate(rgb, target="rgb->segmentation"))


def test_logits_of_label_maps_are_unbounded_and_images_are_not():
    method = rooms()
    with torch.no_grad():
        for layer in method.G.last:
            layer.weight.mul_(100)
    x, label = torch.rand(1, 1, 16, 16), torch.tensor([[0.0, 0.0, 1.0]])
    assert method.G(x, label, 1, 2).abs().max() > 1
    assert method.G(x, label, 1, 0).abs().max() <= 1


def test_validation_measures_each_translation_whose_truth_is_there():
    method = known_rooms(True)
    batch = modal([[0, 1, 1]], flat(0.0), flat(0.2), flat(level(1)))
    found = method.validation_terms(step_of(batch))
    close_means(found, **{"loss/depth-to-labels": TO_SECOND, "loss/labels-to-depth": 0.3})


def test_samples_without_a_pair_train_nothing_with_pairs():
    assert run(rooms().double(), batch_of([[1, 0, 0], [0, 1, 0]])) == {"discriminator": {}, "generator": {}}


def test_refusals():
    method = rooms()
    with pytest.raises(ConfigError, match="no domain 'c'"):
        method.translate(torch.rand(1, 1, 16, 16), target="depth->c")
    with pytest.raises(ConfigError, match="translates from one modality"):
        method.translate(torch.rand(1, 4, 16, 16), target="rgb+depth->segmentation")
    with pytest.raises(ConfigError, match="takes images of 3 channels, not 1"):
        method.translate(torch.rand(1, 1, 16, 16), target="rgb->depth")
    with pytest.raises(SizeError, match="multiples of 4"):
        method.translate(torch.rand(1, 1, 18, 16), target="depth->rgb")
    with pytest.raises(ConfigError, match="use the method stargan"):
        StarGANModal.Config(attributes=("young",))
    with pytest.raises(SizeError, match="at least 64"):
        StarGANModal(StarGANModal.Config(), domains(size=(32, 32)))
