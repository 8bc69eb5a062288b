"""WGAN-GP, AC-GAN, SNGAN and TransferGAN: losses by hand, schedules, sampling, what is transferred."""

import dataclasses
import math

import pytest
import torch

from i2idist.data.batches import Images, Labelled
from i2idist.errors import ConfigError, SizeError, SourceError
from i2idist.method import Described, Domain, Domains
from i2idist.methods import ACGAN, METHODS, SNGAN, WGANGP, Pix2Pix, TransferGAN
from i2idist.methods.gan import built
from i2idist.nn.norm import evaluating
from i2idist.nn.resnet_gan import Verdict
from tests.methods.support import Known, close, flat, mean, step_of

LN2 = math.log(2)
CLASSES = ("one", "two")


def domains(size=(16, 16), channels=1, labels=CLASSES, count=None):
    return Domains((Domain("image", channels, *size),), labels, count)


def make(method, seed=0, where=None, sources=None, **config):
    torch.manual_seed(seed)
    first = next(iter(method.tiny().values()))
    return method.build(method.Config(**{**vars(first), **config}), where or domains(), sources)


def known(method, classes=None):
    """G makes images of 0.5; D's value is 2 times their mean, and logits are those given for each image."""
    model = make(method)
    model.G = Known(lambda w, z, *y: flat(*[0.5] * len(z)) * w)
    model.D = Known(lambda w, x: Verdict(2 * w * mean(x).flatten(1), classes and torch.tensor(classes) * w))
    return model


def images(*values):
    return Images(positions=torch.arange(len(values)), x=flat(*values))


def labelled(y, *values):
    return Labelled(positions=torch.arange(len(values)), x=flat(*values), y=torch.tensor(y))


def test_wgan_gp_by_hand():
    model = known(WGANGP)
    step = step_of(images(1.0, -1.0))
    # The slope of 2 * mean is 2 / 256 for each of 256 pixels: a gradient of length 2 / 16.
    close(model.discriminator_terms(step), real=[-2.0, 2.0], fake=[1.0, 1.0], gp=[(1 - 2 / 16) ** 2] * 2)
    close(model.generator_terms(step), gan=[-1.0, -1.0])
    with torch.no_grad():
        close(model.discriminator_terms(step), real=[-2.0, 2.0], fake=[1.0, 1.0])
    assert model.weights()["gp"] == 10.0


def test_acgan_classifies_real_images_in_D_and_fakes_in_G():
    model = known(ACGAN, [[0.0, 0.0], [LN2, 0.0]])
    model.double()
    step = step_of(labelled([0, 1], 1.0, -1.0))
    wanted = [LN2, math.log(3)]
    terms = model.discriminator_terms(step)
    torch.testing.assert_close(terms["class_D"], torch.tensor(wanted, dtype=torch.float64))
    fake = model.generator_terms(step)
    torch.testing.assert_close(fake["class_G"], torch.tensor(wanted, dtype=torch.float64))
    assert (model.weights()["class_D"], model.weights()["class_G"]) == (1.0, 0.1)
    assert torch.equal(model.G.calls[0][1], torch.eye(2, dtype=torch.float64)), "fakes have the real images' classes"


def test_sngan_by_hand():
    model = known(SNGAN)
    step = step_of(images(1.0, -1.0))
    close(model.discriminator_terms(step), real=[0.0, 3.0], fake=[2.0, 2.0])
    close(model.generator_terms(step), gan=[-1.0, -1.0])


def test_D_steps_five_times_and_the_codes_differ():
    for method in (WGANGP, ACGAN, SNGAN):
        discriminator, generator = method(method.Config(blocks=2, width=4), domains()).updates()
        assert (discriminator.player, discriminator.repeat, generator.repeat) == ("discriminator", 5, 1)
    model = known(WGANGP)
    step = step_of(images(1.0, -1.0))
    step.begin("discriminator")
    model.discriminator_terms(step)
    step.begin("generator")
    model.generator_terms(step)
    assert not torch.equal(model.G.calls[0][0], model.G.calls[1][0]), "G steps on codes of its own"


def test_labels_must_be_given_and_be_known():
    code = torch.zeros(2, 4)
    with pytest.raises(ConfigError, match="makes images of one, two: each needs one"):
        make(ACGAN).sample(code)
    with pytest.raises(ConfigError, match="without labels: leave them out"):
        make(WGANGP).sample(code, torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match="labels are"):
        make(ACGAN, where=domains(labels=()))
    with pytest.raises(ConfigError, match="condition is 'none'"):
        ACGAN.Config(condition="none")
    with pytest.raises(SizeError, match="multiples of 4, not 16x18"):
        make(WGANGP, where=domains((16, 18)))


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("names", [(), ("generator",), ("discriminator",), ("generator", "discriminator")])
def test_each_network_comes_from_its_source_or_from_nothing(names):
    source = state(make(WGANGP, seed=1))
    target = state(make(TransferGAN, sources=dict.fromkeys(names, source)))
    for network, name in (("G", "generator"), ("D", "discriminator")):
        keys = [key for key in target if key.startswith(f"{network}.") and key.endswith("conv_1.weight")]
        same = [torch.equal(source[key], target[key]) for key in keys]
        assert keys and all(same) == (name in names) and any(same) == (name in names)


@pytest.mark.parametrize("sources", [{"generator": {}}, {"extractor": {}}])
def test_a_source_that_has_no_place_is_refused(sources):
    with pytest.raises((ConfigError, SourceError), match=r"sources\.(generator isn't|extractor, which)"):
        make(TransferGAN, sources=sources)


def test_a_source_of_other_widths_is_refused_by_name():
    wide = state(make(WGANGP, width=8))
    with pytest.raises(SourceError, match=r"sources.generator isn't the network G .*blocks.*\(\d+ tensors\)"):
        make(TransferGAN, sources={"generator": wide})


def test_appended_classes_get_random_weights_and_the_rest_comes_along():
    source = make(WGANGP, seed=1)
    sources = dict.fromkeys(("generator", "discriminator"), state(source))
    fresh, target = make(TransferGAN, condition="concat"), make(TransferGAN, condition="concat", sources=sources)
    weight = target.G.linear.weight
    assert torch.equal(weight[:, :4], source.G.linear.weight)
    assert torch.equal(weight[:, 4:], fresh.G.linear.weight[:, 4:]) and bool(weight[:, 4:].abs().sum() > 0)
    assert torch.equal(target.D.classes.weight, fresh.D.classes.weight)
    assert torch.equal(target.D.real.weight, source.D.real.weight)


def test_batch_norm_is_copied_to_every_class_so_that_images_stay_the_same():
    source = make(WGANGP, seed=1)
    with torch.no_grad():
        for name, parameter in source.G.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn(parameter.shape) / 4)
        source.G.norm.running_mean.add_(0.3)
    target = make(TransferGAN, condition="bnorm", sources={"generator": state(source)})
    code = torch.randn(4, 4)
    torch.testing.assert_close(target.sample(code, torch.tensor([0, 1, 0, 1])), source.sample(code))


def test_what_has_classes_starts_from_the_same_classes():
    source = make(ACGAN, seed=1)
    target = make(TransferGAN, condition="bnorm", sources=dict.fromkeys(("generator", "discriminator"), state(source)))
    assert all(torch.equal(tensor, state(source)[name]) for name, tensor in state(target).items())


THEIRS = ("red", "green", "blue")


def conditional(condition, labels=THEIRS):
    """A GAN of classes that differ in all that belongs to them."""
    source = make(ACGAN, seed=1, where=domains(labels=labels), condition=condition)
    with torch.no_grad():
        for name, parameter in source.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn(parameter.shape) / 4)
    return source


def transferred(source, labels, condition, knows=True):
    """What TransferGAN makes of a source, which tells its labels where it `knows` them."""
    sources = dict.fromkeys(("generator", "discriminator"), state(source))
    what = Described(method="acgan", config={}, domains=domains(labels=THEIRS))
    config = next(iter(TransferGAN.tiny().values()))
    config = TransferGAN.with_sources(config, dict.fromkeys(sources, what) if knows else {})
    changes = {**vars(config), "condition": condition}
    return make(TransferGAN, where=domains(labels=labels), sources=sources, **changes)


def classes_of(*places):
    return torch.eye(len(THEIRS))[list(places)]


@pytest.mark.parametrize("condition", ["bnorm", "concat"])
def test_a_class_comes_from_the_sources_of_the_same_name_and_an_unknown_one_from_all(condition):
    source, code = conditional(condition), torch.randn(3, 4)
    target = transferred(source, ("blue", "grey", "red"), condition)
    with evaluating(source), evaluating(target):
        made = target.generate(code, torch.eye(3))
        wanted = source.generate(code, torch.stack([*classes_of(2), torch.full((3,), 1 / 3), *classes_of(0)]))
        torch.testing.assert_close(made, wanted)
        assert not torch.allclose(made[1], source.generate(code, classes_of(0, 0, 0))[1], atol=1e-3)


@pytest.mark.parametrize("condition", ["bnorm", "concat"])
@pytest.mark.parametrize("knows", [True, False])
def test_what_has_no_classes_starts_from_the_mean_of_the_sources(condition, knows):
    source, code = conditional(condition), torch.randn(3, 4)
    target = transferred(source, (), "none", knows)
    assert target.targets == () and target.D.classes is None
    with evaluating(source):
        torch.testing.assert_close(target.sample(code), source.generate(code, torch.full((3, 3), 1 / 3)))
    torch.testing.assert_close(target.judge(torch.ones(1, 1, 16, 16)).real, source.judge(torch.ones(1, 1, 16, 16)).real)


def test_classes_of_unknown_names_are_the_same_if_as_many_and_else_the_mean():
    source, code = conditional("bnorm"), torch.randn(3, 4)
    same = transferred(source, ("x", "y", "z"), "bnorm", knows=False)
    fewer = transferred(source, ("red", "y"), "bnorm", knows=False)
    for place in range(3):
        label = torch.full((3,), place)
        torch.testing.assert_close(same.sample(code, label), source.sample(code, label))
    with evaluating(source):
        wanted = source.generate(code, torch.full((3, 3), 1 / 3))
    torch.testing.assert_close(fewer.sample(code, torch.tensor([0, 1, 0])), wanted)


def test_a_classifier_comes_along_in_its_order_and_begins_anew_for_other_classes():
    source, x = conditional("bnorm"), torch.randn(2, 1, 16, 16)
    theirs = source.judge(x).classes
    turned = transferred(source, ("blue", "red", "green"), "bnorm")
    torch.testing.assert_close(turned.judge(x).classes, theirs[:, [2, 0, 1]])
    for labels in (("blue", "grey", "red"), ("blue", "red"), ("red", "green", "blue", "grey")):
        fresh = make(TransferGAN, where=domains(labels=labels), condition="bnorm")
        assert torch.equal(transferred(source, labels, "bnorm").D.classes.weight, fresh.D.classes.weight)


def test_classes_may_enter_otherwise_than_in_the_source():
    code, labels = torch.randn(2, 4), torch.tensor([0, 1])
    appended = transferred(conditional("concat"), ("blue", "red"), "bnorm")
    with evaluating(appended):
        wanted = conditional("concat").eval().generate(code, torch.full((2, 3), 1 / 3))
    torch.testing.assert_close(appended.sample(code, labels), wanted)
    source = conditional("bnorm")
    normed = transferred(source, ("blue", "red"), "concat")
    fresh = make(TransferGAN, where=domains(labels=("blue", "red")), condition="concat")
    torch.testing.assert_close(normed.G.norm.weight, source.G.norm.weight.mean(0))
    assert torch.equal(normed.G.linear.weight[:, :4], source.G.linear.weight)
    assert torch.equal(normed.G.linear.weight[:, 4:], fresh.G.linear.weight[:, 4:])


def test_a_conditional_source_of_another_width_is_refused():
    wide = state(make(ACGAN, where=domains(labels=THEIRS), condition="concat", width=8))
    with pytest.raises(SourceError, match=r"sources.generator isn't the network G .*\(\d+ tensors\)"):
        make(TransferGAN, condition="concat", sources={"generator": wide})


def test_small_targets_learn_slowly():
    for count, rate in ((None, 1e-4), (1001, 1e-4), (1000, 1e-5), (25, 1e-5)):
        players = make(TransferGAN, where=domains(count=count)).players()
        assert [player.optimizer.lr for player in players] == [rate, rate]
    assert make(WGANGP, where=domains(count=25)).players()[0].optimizer.lr == 1e-4


def test_a_described_generator_is_built_again_without_touching_the_draws():
    model = make(ACGAN)
    what = Described(
        method="acgan", config={**dataclasses.asdict(model.config), "betas": [0.0, 0.9]}, domains=domains()
    )
    torch.manual_seed(3)
    found = built(what)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert found.config == model.config and {k: v.shape for k, v in state(found).items()} == {
        k: v.shape for k, v in state(model).items()
    }
    with pytest.raises(ConfigError, match="pix2pix, which makes no images of codes alone"):
        built(Described(method="pix2pix", config={}, domains=domains()))
    assert not Pix2Pix.generates and all(METHODS[name].generates for name in ("wgan_gp", "acgan", "sngan"))
