import pytest
import torch
from torch import nn

from i2idist.errors import ConfigError, SizeError
from i2idist.method import Domain, Domains
from i2idist.methods.mmnet import MMNet, MMNetUnpaired
from i2idist.nn.pooled import Content
from i2idist.tracking.pictures import Pictures
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.labelled import images, labelled, labelled_domains, make_labelled
from tests.methods.support import Known, close, flat, step_of


def make(**config):
    return make_labelled(MMNetUnpaired, **{"anchor": "green", **config})


def known(**config):
    """f_y(x) = (y + 1) x, g_y(h) = h + 0.1 y, C_y(x) = (y + 1) x; the anchor is the second, green."""
    method = make(**config)
    method.encoders = nn.ModuleList(Known(lambda w, x, y=y: Content(w * (y + 1) * x, ())) for y in range(3))
    method.decoders = nn.ModuleList(Known(lambda w, c, y=y: w * c.features + 0.1 * y) for y in range(3))
    method.discriminators = nn.ModuleList(Known(lambda w, x, y=y: w * (y + 1) * x) for y in range(3))
    return method


def run(method, batch):
    step, terms = step_of(batch), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms, step


def tanh(x):
    return float(torch.tensor(x, dtype=torch.float64).tanh())


def test_terms_by_hand():
    """Red 0.1 and blue 0.3 go to the anchor; green 0.2 to red or blue, whichever is drawn."""
    terms, step = run(known(), labelled(flat(0.1, 0.2, 0.3), [0, 1, 2]))
    goal = int(step.shared.goals[1])
    assert step.shared.goals.tolist() == [1, goal, 1] and goal in (0, 2)
    red, green, blue = tanh(0.1 + 0.1), tanh(2 * 0.2 + 0.1 * goal), tanh(3 * 0.3 + 0.1)
    close(
        terms["discriminators"],
        real=[(0.1 - 0.9) ** 2, (0.4 - 0.9) ** 2, (0.9 - 0.9) ** 2],
        fake=[(2 * red) ** 2, ((goal + 1) * green) ** 2, (2 * blue) ** 2],
    )
    back = [tanh(2 * red), tanh((goal + 1) * green + 0.1), tanh(2 * blue + 0.2)]
    close(
        terms["translators"],
        gan=[(2 * red - 1) ** 2, ((goal + 1) * green - 1) ** 2, (2 * blue - 1) ** 2],
        cycle=[abs(y - x) for x, y in zip((0.1, 0.2, 0.3), back, strict=True)],
        auto=[abs(y - x) for x, y in zip((0.1, 0.2, 0.3), (tanh(0.1), tanh(0.4 + 0.1), tanh(0.9 + 0.2)), strict=True)],
    )


def test_the_thesis_has_the_adversarial_loss_alone():
    terms, _ = run(make(lambda_cycle=0.0, lambda_auto=0.0).double(), labelled(images(3).double(), [0, 1, 2]))
    assert set(terms["translators"]) == {"gan"} and set(terms["discriminators"]) == {"real", "fake"}
    config = MMNetUnpaired.Config()
    assert (config.lambda_cycle, config.lambda_auto, config.real_label) == (0.0, 0.0, 1.0)


def test_the_anchors_images_go_everywhere_else():
    method = make()
    _, step = run(method.double(), labelled(images(64).double(), [1] * 64))
    assert set(step.shared.goals.tolist()) == {0, 2}


def test_every_sample_meets_the_networks_of_its_own_domains():
    method = make().double().eval()
    x, sources, goals = images(6).double(), torch.tensor([2, 0, 1, 0, 2, 1]), torch.tensor([1, 1, 0, 2, 0, 2])
    labels = method.labels
    alone = [
        method.translate(x[n : n + 1], target=f"{labels[s]}->{labels[g]}")
        for n, (s, g) in enumerate(zip(sources.tolist(), goals.tolist(), strict=True))
    ]
    torch.testing.assert_close(method._decoded(method._content(x, sources), goals), torch.cat(alone))


def test_targets_are_all_pairs_seen_or_not():
    method = make()
    assert len(method.targets) == 6 and "red->blue" in method.targets
    with pytest.raises(ConfigError, match="Did you mean 'red->blue'"):
        method.translate(images(), target="red->blu")
    with pytest.raises(ConfigError, match="which is no label. Did you mean 'green'"):
        make(anchor="gren")
    with pytest.raises(ConfigError, match="two or more"):
        make_labelled(MMNetUnpaired, labels=("one",))
    with pytest.raises(SizeError, match="multiples of 8"):
        method.translate(torch.zeros(1, 1, 20, 16), target="red->blue")


def test_pictures_translate_each_image_from_its_own_label():
    method = make(channels=3)
    trainer = Trainer(method, Training(total_images=8, batch_size=4), seed=0, comm=Comm.alone())
    picture = Pictures(lambda: labelled(images(4, 3), [0, 2, 1, 0]), seed=0).grid(trainer)
    assert picture.size[0] > 4 * 80  # the image, and one column for each label


# --- the networks of Tables A.7 to A.9, A.11 and A.12; a KxK convolution of i to o channels has K*K*i*o + o


def conv(k, i, o):
    return k * k * i * o + o


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


RESIDUAL = 6 * 2 * conv(7, 256, 256)


def test_parameters_of_tables_a7_to_a9():
    with torch.device("meta"):
        method = MMNetUnpaired(MMNetUnpaired.Config(), labelled_domains(tuple("abcdefghijk"), 3, (128, 128)))
    assert [len(networks) for networks in (method.encoders, method.decoders)] == [11, 11]
    ends = conv(7, 64, 128) + conv(7, 128, 256)
    assert count(method.encoders[0]) == conv(7, 3, 64) + ends + RESIDUAL
    assert count(method.decoders[0]) == RESIDUAL + conv(7, 256, 128) + conv(7, 128, 64) + conv(7, 64, 3)
    judge = conv(4, 3, 64) + conv(4, 64, 128) + conv(4, 128, 256) + conv(4, 256, 512) + conv(1, 512, 1)
    assert count(method.discriminators[0]) == judge


def test_parameters_and_shapes_of_tables_a11_and_a12():
    names = (("theta2", 1), ("theta3", 3), ("theta1", 1))
    domains = Domains(tuple(Domain(name, channels, 128, 128) for name, channels in names))
    config = MMNet.Config(
        anchor="theta1", adversarial=("theta3",), plain=(), regression="l2", networks="residual", pretrained=False
    )
    with torch.device("meta"):
        method = MMNet(config, domains)
        latent = method._encode("theta1", torch.zeros(4, 1, 128, 128))
        assert latent.features.shape == (4, 256, 16, 16)
        assert [tuple(t.shape) for t in latent.side] == [(4, 64, 64, 64), (4, 128, 32, 32), (4, 256, 16, 16)]
        assert method._decode("theta2", latent).shape == (4, 1, 128, 128)
        assert method._decode("theta3", latent).shape == (4, 3, 128, 128)
    ends = conv(7, 64, 128) + conv(7, 128, 256)
    assert count(method.anchor_encoder) == count(method.encoders["theta2"]) == conv(7, 1, 64) + ends + RESIDUAL
    assert count(method.decoders["theta1"]) == RESIDUAL + conv(7, 256, 128) + conv(7, 128, 64) + conv(7, 64, 1)
    assert count(method.decoders["theta3"]) - count(method.decoders["theta1"]) == 2 * (49 * 64 + 1)
    assert list(method.discriminators) == ["theta3"]
