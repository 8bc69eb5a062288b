import pytest
import torch
from torch import nn

from i2idist.conformance.training import SEED
from i2idist.data.batches import Multimodal
from i2idist.errors import ConfigError, SizeError, SourceError
from i2idist.losses.segmentation import pixel_cross_entropy
from i2idist.method import Domain, Domains
from i2idist.methods.mmnet import MMNet
from i2idist.nn.norm import CrossReplicaBatchNorm
from i2idist.nn.segnet import Latent
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.modal import CLASSES, SMALL, batch_of, make_mmnet, modalities
from tests.methods.support import Known, flat, step_of

PAIRS = [[1, 1, 0], [1, 0, 1], [1, 1, 0], [1, 0, 1]]


def known(**config):
    """f_rgb(x) = 2 mean(x), f_depth(x) = 3x, f_theta(x) = -x; g_j(h) = h + 0.1 (j + 1); C(x) = x. One channel each."""
    domains = Domains(tuple(Domain(name, 1, 16, 16) for name in ("rgb", "depth", "theta")))
    method = make_mmnet(domains=domains, regression="l2", **config)
    method.anchor_encoder = Known(lambda w, x: (2 * w * x, ()))
    method.encoders = nn.ModuleDict(
        {"depth": Known(lambda w, x: (3 * w * x, ())), "theta": Known(lambda w, x: (-w * x, ()))}
    )
    method.decoders = nn.ModuleDict(
        {
            name: Known(lambda w, latent, j=j: w * latent.features + 0.1 * (j + 1))
            for j, name in enumerate(("rgb", "depth", "theta"))
        }
    )
    method.discriminators = nn.ModuleDict({"rgb": Known(lambda w, x: w * x)})
    return method


def values():
    """Sample 0: rgb 0.1, depth 0.2. Sample 1: rgb 0.3, theta 0.4. Sample 2: rgb -0.1, depth 0.5."""
    present = torch.tensor([[1, 1, 0], [1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    images = (flat(0.1, 0.3, -0.1), flat(0.2, 0.0, 0.5), flat(0.0, 0.4, 0.0))
    return Multimodal(positions=torch.arange(3), images=images, present=present)


def terms_of(method, stage, batch=None):
    step = step_of(batch or values())
    found = {}
    for update in method.stages()[stage].updates:
        step.begin(update.player)
        found[update.player] = update.backward(step)
    return found


def means(terms):
    return {name: round(float(value.detach().mean()), 12) for name, value in terms.items()}


def tanh(*inputs):
    return [float(torch.tensor(x, dtype=torch.float64).tanh()) for x in inputs]


def squared(x, y):
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x)


def test_terms_of_seen_translations_by_hand():
    """Expectations are over the samples that have both: two with depth, one with theta."""
    found = terms_of(known(), 0)
    from_depth, from_theta = tanh(0.6 + 0.1, 1.5 + 0.1), tanh(-0.4 + 0.1)
    fakes = [*from_depth, *from_theta]
    real = squared([0.1, 0.3, -0.1], [1, 1, 1])
    assert means(found["discriminators"]) == {"C_rgb": pytest.approx(real + squared(fakes, [0] * 3))}
    assert means(found["translators"]) == {
        "l2": pytest.approx(squared(from_depth, [0.1, -0.1]) + squared(from_theta, [0.3])),
        "depth": pytest.approx(squared([0.2 + 0.2, -0.2 + 0.2], [0.2, 0.5]) + squared([0.6 + 0.3], [0.4])),
        "gan": pytest.approx(squared(fakes, [1] * 3)),
    }


def test_terms_of_alignment_and_of_pseudo_pairs_by_hand():
    method = known(noise=0.0)
    aligned, last = (terms_of(method, stage)["translators"] for stage in (1, 2))
    own = tanh(0.2 + 0.1, 0.6 + 0.1, -0.2 + 0.1)
    seen = means(terms_of(method, 0)["translators"])
    assert means(aligned) == {
        "l2": pytest.approx(seen["l2"] + squared(own, [0.1, 0.3, -0.1])),
        "depth": pytest.approx(
            seen["depth"] + squared([0.6 + 0.2, 1.5 + 0.2], [0.2, 0.5]) + squared([-0.4 + 0.3], [0.4])
        ),
        "gan": pytest.approx(squared([*own, *tanh(0.7, 1.6, -0.3)], [1] * 6)),
        "lat": pytest.approx(squared([0.2, -0.2], [0.6, 1.5]) + squared([0.6], [-0.4])),
    }
    # T_RTheta stands for theta where there is depth, T_RD for depth where there is theta.
    pseudo = squared([0.6 + 0.3, 1.5 + 0.3], [0.2 + 0.3, -0.2 + 0.3]) + squared([-0.4 + 0.2], [0.6 + 0.2])
    assert means(last) == {**means(aligned), "pp": pytest.approx(pseudo)}


def test_label_maps_have_cross_entropy_over_labelled_pixels():
    method = make_mmnet(noise=0.0)
    batch = batch_of([[1, 0, 1], [1, 0, 1]])
    batch.images[2][0, :, :8] = 200 / 127.5 - 1  # unlabelled
    method.decoders["segmentation"] = Known(
        lambda w, latent: w * torch.arange(3.0).double()[:, None, None].expand(len(latent.features), 3, 16, 16)
    )
    method.double()
    terms = terms_of(method, 0, batch)["translators"]
    labels = ((batch.images[2][:, 0] + 1) * 127.5).round().long()
    each = -torch.arange(3.0).double().log_softmax(0)[labels.clamp_max(2)]
    wanted = [each[0][labels[0] < 3].mean(), each[1].mean()]
    torch.testing.assert_close(terms["sem"], torch.stack(wanted))


def test_pixels_without_a_measurement_do_not_count():
    method = make_mmnet(domains=modalities(holes=True), holes=("depth",))
    truth = torch.tensor([-1.0, 0.0, -1.0, 0.5]).reshape(1, 1, 2, 2)
    y = torch.tensor([9.0, 0.1, 9.0, 0.5]).reshape(1, 1, 2, 2)
    found = method._error("depth", y, truth)
    torch.testing.assert_close(found, method._distance("depth", y[:, :, :, 1:], truth[:, :, :, 1:]))
    assert make_mmnet()._error("depth", y, truth) > 1
    with pytest.raises(ConfigError, match=r"Set data\.nearest=\[depth\]"):
        make_mmnet(holes=("depth",))


def test_every_weight_of_every_stage():
    method = make_mmnet()
    stages = method.stages()
    assert [(stage.name, stage.until) for stage in stages] == [("seen", 0.4), ("aligned", 0.8), ("pseudo_pairs", 1.0)]
    first = {"gan": 1.0, "l2": 1.0, "sem": 100.0, "depth": 10.0}
    assert {name: method.weights()[name] for name in first} == first and not stages[0].weights
    later = {"gan": 10.0, "l2": 1000.0, "sem": 100.0, "depth": 10.0, "lat": 10.0, "pp": 100.0}
    assert stages[1].weights == stages[2].weights == later
    assert [stage.frozen for stage in stages] == [(), ("anchor_encoder",), ("anchor_encoder",)]
    assert len(make_mmnet(stages=(0.5, 1.0)).stages()) == 2
    terms = {stage: set(terms_of(make_mmnet().double(), stage, batch_of(PAIRS))["translators"]) for stage in range(3)}
    assert terms == {0: {"l2", "depth", "sem", "gan"}, 1: {*terms[0], "lat"}, 2: {*terms[1], "pp"}}


def test_no_weight_of_translators_is_one_of_discriminators():
    method = make_mmnet(adversarial=("rgb", "depth")).double()
    judges = terms_of(method, 2, batch_of(PAIRS))["discriminators"]
    assert set(judges) == {"C_rgb", "C_depth"} and not judges.keys() & method.weights().keys()


def test_the_learning_rate_falls_where_the_third_stage_begins():
    schedule = make_mmnet().players()[1].schedule
    assert [schedule.factor(images, 100) for images in (0, 79, 80, 99)] == pytest.approx([1, 1, 0.1, 0.1])


@pytest.mark.parametrize("freeze", [True, False])
def test_nothing_of_pseudo_pairs_reaches_the_anchors_encoder(freeze):
    """Decoders and the other encoders learn from them."""
    method = make_mmnet(freeze_anchor=freeze).double()
    pp = terms_of(method, 2, batch_of(PAIRS))["translators"]["pp"]
    parameters = dict(method.named_parameters())
    found = torch.autograd.grad(pp.sum(), list(parameters.values()), allow_unused=True)
    touched = {
        name for name, gradient in zip(parameters, found, strict=True) if gradient is not None and gradient.any()
    }
    assert not any(name.startswith(("anchor_encoder", "decoders.rgb", "discriminators")) for name in touched)
    for part in ("encoders.depth", "encoders.segmentation", "decoders.depth", "decoders.segmentation"):
        assert any(name.startswith(part) for name in touched)


@pytest.mark.parametrize(("freeze", "lengths"), [(True, [6]), (False, [4, 2])])
def test_a_decoder_decodes_pseudo_pairs_with_all_else(freeze, lengths):
    """From RGB, label maps and, unseen, depth two each; apart where their gradient could reach the RGB encoder."""
    method = make_mmnet(freeze_anchor=freeze).double()
    decoder, found = method.decoders["segmentation"], []
    decoder.register_forward_hook(lambda *given: found.append(len(given[-1])) if decoder.training else None)
    terms_of(method, 2, batch_of(PAIRS))
    assert found == lengths


def test_targets_of_pseudo_pairs_are_constants():
    """With f_D and f_S held, g_S moves by T_DS alone: by finite differences of the prediction, targets kept."""
    method = make_mmnet(noise=0.0, pseudo_labels="soft").double()
    for norm in (m for m in method.modules() if isinstance(m, CrossReplicaBatchNorm)):
        norm.momentum = 0.0  # running statistics stay as the step found them
    batch = batch_of([[1, 1, 0], [1, 1, 0]])
    pp = terms_of(method, 2, batch)["translators"]["pp"].sum() / 2
    last = method.decoders["segmentation"].last.weight
    (gradient,) = torch.autograd.grad(pp, last)
    method.train()
    with torch.no_grad():
        method.decoders["segmentation"].eval()
        method.anchor_encoder.eval()
        target = method.decoders["segmentation"](method.anchor_encoder(batch.images[0])).softmax(1)
        method.decoders["segmentation"].train()

        def loss():
            y = method.decoders["segmentation"](method.encoders["depth"](batch.images[1]))
            return pixel_cross_entropy(y, target).mean()

        at, step = (0, 1, 1, 1), 1e-6
        last[at] += step
        above = loss()
        last[at] -= 2 * step
        torch.testing.assert_close((above - loss()) / (2 * step), gradient[at], rtol=1e-5, atol=1e-8)


def test_soft_and_hard_pseudo_labels_differ():
    soft, hard = (
        terms_of(make_mmnet(noise=0.0, pseudo_labels=kind).double(), 2, batch_of(PAIRS))["translators"]["pp"]
        for kind in ("soft", "hard")
    )
    assert not torch.allclose(soft, hard)


def test_noise_comes_with_the_second_stage():
    quiet, loud = (make_mmnet(noise=noise).double() for noise in (0.0, 0.5))
    same, other = (
        [terms_of(m, stage, batch_of(PAIRS))["translators"]["sem"] for m in (quiet, loud)] for stage in (0, 1)
    )
    assert torch.equal(*same) and not torch.allclose(*other)
    latents = [m._make(_begun(batch_of(PAIRS)), 2) for m in (quiet, loud)]
    added = latents[1].latents["rgb"].features - latents[0].latents["rgb"].features
    assert added.std() == pytest.approx(0.5, rel=0.2) and added.mean() == pytest.approx(0, abs=0.1)


def _begun(batch):
    step = step_of(batch)
    step.begin("x")
    return step


def test_the_frozen_encoder_stays_and_others_move():
    method = make_mmnet(stages=(0.25, 0.5))
    trainer = Trainer(method, Training(total_images=32, batch_size=4), seed=SEED, comm=Comm.alone())
    batch = batch_of(PAIRS)
    for number in range(8):
        before = {name: t.clone() for name, t in method.anchor_encoder.state_dict().items()}
        others = method.encoders["depth"].blocks[0].convs[0].weight.clone()
        trainer.step(iter([batch]))
        moved = any(not torch.equal(before[name], t) for name, t in method.anchor_encoder.state_dict().items())
        assert moved == (number < 2)
        assert not torch.equal(others, method.encoders["depth"].blocks[0].convs[0].weight)


def test_modalities_that_no_sample_of_a_batch_has_are_left_alone():
    method = make_mmnet().double()
    for stage in range(3):
        terms = terms_of(method, stage, batch_of([[1, 1, 0], [1, 1, 0]]))["translators"]
        assert "sem" not in terms and all(value.isfinite().all() for value in terms.values())


# --- which pairs


def test_pairs_that_are_not_seen_are_no_pairs_even_where_data_has_them():
    method = make_mmnet(noise=0.0).double()
    complete, made = batch_of([[1, 1, 1]] * 2), _begun(batch_of([[1, 1, 1]] * 2))
    outputs = method._make(made, 1).outputs
    assert set(outputs) == {("rgb", "depth"), ("depth", "rgb"), ("rgb", "segmentation"), ("segmentation", "rgb")}
    oracle = make_mmnet(seen=(("rgb", "depth"), ("rgb", "segmentation"), ("depth", "segmentation")), noise=0.0).double()
    assert ("depth", "segmentation") in oracle._make(_begun(complete), 1).outputs
    assert "pp" not in terms_of(oracle, 2, complete)["translators"]  # nothing is left unseen


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"anchor": "colour"}, "method.anchor names 'colour'.*It has rgb, depth, segmentation"),
        ({"seen": (("rgb", "depth"),)}, "method.seen has no pair of segmentation"),
        ({"seen": (("rgb", "rgb"), ("depth", "segmentation"))}, "pairs 'rgb' with itself"),
        ({"adversarial": ("segmentation",)}, "label maps have no discriminator"),
        ({"plain": ("nir",)}, "method.plain names 'nir'"),
        ({"stages": (0.8, 0.4)}, "method.stages"),
        ({"networks": "residual", "side": "skip"}, "networks=residual"),
        ({"kernel": 4}, "must be odd"),
        ({"pretrained": True}, "VGG16's width 64"),
        ({"noise": -1.0}, "method.noise is -1"),
        ({"side": "indexes"}, "Did you mean 'indices'"),
    ],
)
def test_settings_that_can_not_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_mmnet(**settings)


def test_the_anchors_encoder_starts_from_vgg16():
    with pytest.raises(ConfigError, match=r"sources: \{vgg: URI\}"):
        MMNet.build(MMNet.Config(), modalities((32, 32)), {})
    state, number, below = {}, 0, 3
    for above, convs in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convs):
            state |= {
                f"features.{number}.weight": torch.full((above, below, 3, 3), 0.5),
                f"features.{number}.bias": torch.ones(above),
            }
            number, below = number + 2, above
        number += 1
    method = MMNet.build(MMNet.Config(), modalities((32, 32)), {"vgg": state})
    assert all(
        (t == (1 if name.endswith("bias") else 0.5)).all() for name, t in method.anchor_encoder.named_parameters()
    )
    assert len(list(method.anchor_encoder.parameters())) == 26  # no batch norm
    assert len(list(method.encoders["depth"].parameters())) == 52
    with pytest.raises(SourceError, match="sources.vgg has none as features.0.weight"):
        MMNet.build(MMNet.Config(), modalities((32, 32)), {"vgg": {}})
    with pytest.raises(ConfigError, match="has no use for"):
        MMNet.build(MMNet.Config(**SMALL), modalities(), {"vgg": state})


# --- translation


def test_targets_lead_from_each_to_each_and_from_all_others_together():
    assert make_mmnet().targets == (
        "rgb->depth",
        "rgb->segmentation",
        "depth->rgb",
        "depth->segmentation",
        "segmentation->rgb",
        "segmentation->depth",
        "depth+segmentation->rgb",
        "rgb+segmentation->depth",
        "rgb+depth->segmentation",
    )


def test_unseen_translations_join_an_encoder_and_a_decoder():
    method = make_mmnet().double().eval()
    depth, labels = batch_of([[1, 1, 1]] * 2).images[1:]
    levels = method.decoders["segmentation"](method.encoders["depth"](depth)).argmax(1, keepdim=True)
    found = method.translate(depth, target="depth->segmentation")
    assert torch.equal(((found + 1) * 127.5).round().long(), levels)
    hot = torch.stack([((labels[:, 0] + 1) * 127.5).round() == k for k in range(CLASSES)], dim=1).double()
    wanted = method.decoders["depth"](method.encoders["segmentation"](hot)).clamp(-1, 1)
    torch.testing.assert_close(method.translate(labels, target="segmentation->depth"), wanted)
    latent = method.encoders["depth"](depth)
    plain = method.decoders["rgb"](Latent(latent.features, ())).tanh()  # no indices for RGB
    torch.testing.assert_close(method.translate(depth, target="depth->rgb"), plain)
    assert torch.equal(
        method.translate(depth, target="segmentation->depth"), method.translate(depth, target="segmentation->depth")
    )


def test_cascades_go_through_images():
    method = make_mmnet()
    depth = batch_of([[1, 1, 1]] * 2).images[1].float()
    between = method.translate(depth, target="depth->rgb")
    wanted = method.translate(between, target="rgb->segmentation")
    assert torch.equal(method.translate(depth, target="depth->rgb->segmentation"), wanted)


@pytest.mark.parametrize(
    ("names", "shares"), [(("rgb", "depth"), (0.8, 0.2)), (("depth", "rgb", "theta"), (0.1, 0.8, 0.1))]
)
def test_fusion_weighs_features_and_takes_the_anchors_indices(names, shares):
    domains = Domains(tuple(Domain(name, n + 1, 16, 16) for n, name in enumerate(("rgb", "depth", "theta", "out"))))
    method = make_mmnet(domains=domains).double().eval()
    torch.manual_seed(1)
    x = {name: torch.randn(2, domains.named(name).channels, 16, 16).double() for name in names}
    latents = {name: method._encode(name, image) for name, image in x.items()}
    features = sum(share * latents[name].features for name, share in zip(names, shares, strict=True))
    wanted = method.decoders["out"](Latent(features, latents["rgb"].side)).clamp(-1, 1)
    found = method.translate(torch.cat(list(x.values()), dim=1), target=f"{'+'.join(names)}->out")
    torch.testing.assert_close(found, wanted)


def test_without_the_anchor_all_count_alike():
    method = make_mmnet().double().eval()
    depth, labels = batch_of([[1, 1, 1]] * 2).images[1:]
    one, other = method._encode("depth", depth), method._encode("segmentation", labels)
    wanted = method.decoders["rgb"](Latent((one.features + other.features) / 2, ())).tanh()
    torch.testing.assert_close(
        method.translate(torch.cat([depth, labels], 1), target="depth+segmentation->rgb"), wanted
    )


@pytest.mark.parametrize(
    ("target", "channels", "message"),
    [
        ("depth->segments", 1, "no domain 'segments'. Did you mean 'segmentation'"),
        ("depth->segmentation", 3, "takes images of 1 channels, not 3"),
        ("rgb+depth->segmentation", 3, "takes images of 4 channels, not 3"),
        ("rgb->depth+segmentation", 3, "write FROM->TO"),
        ("rgb+rgb->depth", 6, "write FROM->TO"),
    ],
)
def test_paths_that_lead_nowhere_are_refused(target, channels, message):
    with pytest.raises(ConfigError, match=message):
        make_mmnet().translate(torch.zeros(1, channels, 16, 16), target=target)


def test_sizes_that_can_not_be_halved_are_refused():
    with pytest.raises(SizeError, match="multiples of 4"):
        make_mmnet().translate(torch.zeros(1, 1, 18, 16), target="depth->rgb")


# --- validation


def test_validation_measures_all_that_has_a_truth_and_alignment():
    method = make_mmnet().double().eval()
    batch = batch_of([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    with torch.no_grad():
        terms = method.validation_terms(step_of(batch))
        lengths = {name: len(value) for name, value in terms.items()}
        rgb, depth = (
            method._encode(name, batch.images[n]).features.flatten(1) for n, name in enumerate(("rgb", "depth"))
        )
    names = ("rgb", "depth", "segmentation")
    counts = {("depth", "rgb"): 2, ("rgb", "segmentation"): 2, ("depth", "segmentation"): 1}
    for (a, b), n in counts.items():
        assert lengths[f"loss/{a}-to-{b}"] == lengths[f"loss/{b}-to-{a}"] == n
    assert {name for name in lengths if name.startswith("alignment")} == {
        f"alignment/{a}-{b}" for a, b in ((names[0], names[1]), (names[0], names[2]), (names[1], names[2]))
    }
    wanted = torch.cosine_similarity(rgb, depth)[[0, 2]]
    torch.testing.assert_close(terms["alignment/rgb-depth"], wanted)
