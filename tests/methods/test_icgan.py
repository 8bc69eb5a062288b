import math

import pytest
import torch
from torch import nn

from i2idist.errors import ConfigError, SizeError
from i2idist.methods.icgan import IcGAN
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.labelled import CLASSES, images, labelled, labelled_domains, make_labelled
from tests.methods.support import Drawn, Known, check_shared_work, close, flat, mean

Z = torch.tensor([[0.5, 0.25]], dtype=torch.float64)


def known():
    """G(z, y) = z_0 y_0 everywhere; D(x, y) = mean(x) + y_0; E_z(x) = (mean(x), 0); E_y(x) = (mean(x), -mean(x))."""
    method = make_labelled(IcGAN, labels=("plain", "striped"), latent_dim=2)
    method.G = Known(lambda w, z, y: w * (z[:, :1] * y[:, :1])[:, :, None, None].expand(-1, 1, 16, 16))
    method.D = Known(lambda w, x, y: w * (mean(x) + y[:, :1, None, None]))
    method.E_z = Known(lambda w, x: w * torch.cat([mean(x), 0 * mean(x)], 1)[:, :, 0, 0])
    method.E_y = Known(lambda w, x: w * torch.cat([mean(x), -mean(x)], 1)[:, :, 0, 0])
    return method


def run(method, batch, z=Z):
    step, terms = Drawn(batch, {"z": z}), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def sp(x):
    return math.log1p(math.exp(x))


def test_terms_by_hand():
    """x = 0.2 with y = (1, -1), z = (0.5, 0.25): x' = 0.5. D: real 1.2, generated 1.5, with other labels 0.2 - 1."""
    terms = run(known(), labelled(flat(0.2), [0]))
    close(terms["discriminator"], real=[sp(-1.2)], generated=[0.5 * sp(1.5)], mismatched=[0.5 * sp(-0.8)])
    close(terms["generator"], gan=[sp(-1.5)])
    close(terms["encoders"], z=[0.25**2 / 2], y=[(0.8**2 + 0.8**2) / 2])


def test_shared_work_gives_what_the_straightforward_form_gives():
    """G makes its images again for its own update, which changes its running averages and no number."""
    method, x = make_labelled(IcGAN).double(), images().double()
    y = 2 * nn.functional.one_hot(torch.tensor([0, 1, 2, 0]), 3).double() - 1
    softplus = nn.functional.softplus

    def generated(step):
        step.begin("discriminator")
        return method.G(step.normal("z", method.config.latent_dim), y)

    def discriminator(step):
        fakes = generated(step).detach()
        mismatched = 2 * method._mismatched((y + 1) / 2, step) - 1
        real, fake, wrong = method.D(x, y), method.D(fakes, y), method.D(x, mismatched)
        return (softplus(-real) + 0.5 * softplus(fake) + 0.5 * softplus(wrong)).flatten()

    def generator(step):
        return softplus(-method.D(generated(step), y)).flatten()

    check_shared_work(method, labelled(x, [0, 1, 2, 0]), {"discriminator": discriminator, "generator": generator})


def test_encoders_learn_on_generated_and_on_real_images():
    method = known()
    run(method, labelled(flat(0.2), [0]))
    assert float(method.E_z.calls[0][0].mean()) == 0.5 and float(method.E_y.calls[0][0].mean()) == pytest.approx(0.2)
    assert not method.E_z.calls[0][0].requires_grad


def test_mismatched_labels_are_always_others_and_all_of_them():
    method = make_labelled(IcGAN)
    step = Drawn(labelled(images(60), [0, 1, 2] * 20), {})
    step.begin("discriminator")
    y = method.labels.read(step.batch)
    found = method._mismatched(y, step).argmax(1)
    assert not bool((found == y.argmax(1)).any())
    assert len({(int(a), int(b)) for a, b in zip(y.argmax(1), found, strict=True)}) == 6


def test_stages_share_the_training_as_the_papers_epochs_do():
    method = make_labelled(IcGAN, gan_share=IcGAN.Config().gan_share)
    gan, encoders = method.stages()
    assert (gan.until, encoders.until) == (25 / 40, 1.0) and encoders.frozen == ("G", "D")
    trainer = Trainer(method, Training(total_images=32, batch_size=4), seed=0, comm=Comm.alone())
    batches = (labelled(images(), [0, 1, 2, 0], first=4 * n) for n in range(9))
    seen = []
    for _ in range(8):
        trainer.step(batches)
        seen.append(sorted({name.split("/")[0] for name in trainer.terms}))
    assert seen == [["discriminator", "generator"]] * 5 + [["encoders"]] * 3


def test_the_second_stage_leaves_g_and_its_statistics_alone():
    method = make_labelled(IcGAN, gan_share=0.0)
    before = {name: tensor.clone() for name, tensor in method.G.state_dict().items()}
    trainer = Trainer(method, Training(total_images=8, batch_size=4), seed=0, comm=Comm.alone())
    trainer.step(iter([labelled(images(), [0, 1, 2, 0])]))
    assert all(torch.equal(before[name], tensor) for name, tensor in method.G.state_dict().items())
    assert method.G.training


def test_networks_are_the_papers():
    """64x64, 18 attributes, z of 100."""
    names = tuple(f"a{number}" for number in range(18))
    shapes = {}
    with torch.device("meta"):
        method = IcGAN(IcGAN.Config(attributes=names), labelled_domains(names, 3, (64, 64)))
        for name, network in method.networks():
            shapes[name] = []
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                    module.register_forward_hook(lambda _, __, out, n=name: shapes[n].append(tuple(out.shape[1:])))
        y, z = torch.zeros(2, 18), torch.zeros(2, 100)
        x = method.G(z, y)
        method.D(x, y), method.E_z(x), method.E_y(x)
    encoder = [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert shapes == {
        "D": [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (1, 1, 1)],
        "G": [(512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 64, 64)],
        "E_z": [*encoder, (100,)],
        "E_y": [*encoder, (18,)],
    }
    assert method.G.layers[0].in_channels == 118 and method.D.layers[0].in_channels == 64 + 18


def test_attributes_train_and_translate():
    faces = ("bald", "hat", "young")
    method = make_labelled(IcGAN, faces, attributes=("hat", "young"))
    y = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    trainer = Trainer(method, Training(total_images=8, batch_size=4), seed=0, comm=Comm.alone())
    trainer.step(iter([labelled(images(), y)]))
    assert all(math.isfinite(value) for value in trainer.logged_terms().values())
    assert not torch.allclose(method.translate(images(), target="hat"), method.translate(images(), target="hat+young"))


def test_attributes_that_a_target_does_not_name_stay_as_they_are_read():
    """E_y says that the first image has a hat and no beard, the second the reverse; both become young."""
    faces = ("beard", "hat", "young")
    method = make_labelled(IcGAN, faces, attributes=faces, latent_dim=2).eval()
    method.E_z = Known(lambda w, x: w * torch.zeros(2, 2))
    method.E_y = Known(lambda w, x: w * torch.tensor([[-0.2, 0.7, -0.9], [0.1, -1.3, 0.4]]))
    method.G = Known(lambda w, z, y: w * torch.zeros(2, 1, 16, 16))
    x = images(2)
    method.translate(x, target="young")
    assert method.G.calls[0][1].tolist() == [[-1, 1, 1], [1, -1, 1]]
    assert torch.equal(method.E_y.calls[0][0], x)
    assert method.translator_networks() == ("G", "E_z", "E_y")
    assert make_labelled(IcGAN).translator_networks() == ("G", "E_z")


def test_translation_encodes_and_generates_with_other_labels():
    method = make_labelled(IcGAN).eval()
    x = images()
    for place, name in enumerate(CLASSES):
        y = -torch.ones(4, 3)
        y[:, place] = 1
        torch.testing.assert_close(method.translate(x, target=name), method.G(method.E_z(x), y))


def test_refusals():
    method = make_labelled(IcGAN)
    with pytest.raises(ConfigError, match="translates to red, green, blue"):
        method.translate(images(), target="pink")
    with pytest.raises(SizeError, match="trained for images of 16x16 and translates no others, such as 16x20"):
        method.translate(images(1, size=(16, 20)), target="red")
    with pytest.raises(SizeError, match="multiples of 16"):
        IcGAN(IcGAN.Config(), labelled_domains(size=(24, 16)))
    with pytest.raises(ConfigError, match="gan_share is 1.0"):
        IcGAN.Config(gan_share=1.0)
    with pytest.raises(ConfigError, match="latent_dim is 0"):
        IcGAN.Config(latent_dim=0)
