"""BSA, VAE, DGN-AM and PPGN: their terms and steps by hand."""

import math

import pytest
import torch
from torch import nn

from i2idist.data.batches import Images
from i2idist.errors import ConfigError
from i2idist.experiment import method_class, read_experiment
from i2idist.method import Described, Domain, Domains
from i2idist.methods.bsa import BSA, Adapter, ImageCodes, _nearest
from i2idist.methods.dgn_am import DGNAM
from i2idist.methods.ppgn import PPGN
from i2idist.methods.sngan import SNGAN
from i2idist.methods.vae import VAE
from i2idist.methods.wgan_gp import WGANGP
from i2idist.train.comm import Comm
from tests.methods.labelled import CLASSES, images, labelled
from tests.methods.support import Drawn, Known, close, flat, mean, step_of

DOMAINS = Domains((Domain("image", 1, 16, 16),), CLASSES)
SMALL = {"blocks": 2, "width": 4}
WGAN = Described(method="wgan_gp", config={**SMALL, "latent_dim": 2}, domains=DOMAINS)


def built(cls, domains=DOMAINS, **config):
    torch.manual_seed(0)
    return cls(cls.Config(**config), domains)


def bsa(**config):
    return built(BSA, **{"generator": WGAN, "images": 3, "lambda_perceptual": 0.0, **config})


def of(x):
    return Images(positions=torch.arange(len(x)), x=x)


def test_bsa_adapts_scales_and_shifts_of_each_batch_norm_alone():
    """Two blocks with two norms each, of 8 and 4 channels, and the last: (8 + 8) + (8 + 4) + 4, by two."""
    method = bsa()
    assert sum(p.numel() for p in method.adapter.parameters()) == 2 * ((8 + 8) + (8 + 4) + 4)
    z = torch.randn(4, 2)
    method.G.eval()
    assert torch.equal(method.adapter(method.G, z), method.G(z))
    with torch.no_grad():
        method.adapter.get_parameter("norm-bias").fill_(3.0)
        method.G.norm.bias.fill_(3.0)
        assert torch.equal(method.adapter(method.G, z), method.G(z))


def test_bsa_terms_by_hand():
    """Codes begin at 0, epsilon is 0.01 x (1, -1), draws are (3, 4) and (0, 1): squared distances 25, 1."""
    method = bsa().double()
    method.adapter = Known(lambda w, network, z: (w * z[:, 0])[:, None, None, None].expand(-1, 1, 16, 16))
    method.adapter.change = lambda network: torch.tensor(0.0, dtype=torch.float64)
    draws = {
        "epsilon": torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double(),
        "r": torch.tensor([[3.0, 4.0], [0.0, 1.0]]).double(),
    }
    found = method.adapter_terms(Drawn(of(flat(0.2, -0.4)), draws))
    close({n: found[n] for n in ("pixel", "emd")}, pixel=[0.19, 0.39], emd=[1.0 + 25.0, 1.0 + 1.0])


def test_bsa_measures_the_change_of_scales_and_shifts():
    method = bsa()
    assert method.adapter.change(method.G).item() == 0
    with torch.no_grad():
        method.adapter.get_parameter("norm-bias").fill_(2.0)
    assert method.adapter.change(method.G).item() == pytest.approx(4 * 4 / 64)


def test_bsa_sees_each_convolution_of_vgg():
    method = bsa(lambda_perceptual=0.001, vgg_width=1)
    terms = method.adapter_terms(step_of(of(images(2))))
    assert terms["perceptual"].shape == (2,) and bool((terms["perceptual"] > 0).all())
    method.adapter = Known(lambda w, network, z: images(2))
    method.adapter.change = lambda network: torch.zeros(())
    assert method.adapter_terms(step_of(of(images(2))))["perceptual"].tolist() == [0.0, 0.0]


def test_nearest_by_hand():
    a, b = torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [3.0], [-4.0]])
    assert _nearest(a, b).tolist() == [1.0, 4.0]


def test_an_image_keeps_its_code_and_others_find_no_room():
    codes = ImageCodes(3, 1)
    with torch.no_grad():
        codes.codes.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
    x, comm = images(3), Comm.alone()
    assert codes(x, comm)[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert codes(x[[2, 0, 2]], comm)[:, 0].tolist() == [3.0, 1.0, 3.0]
    with pytest.raises(ConfigError, match=r"data\.flip"):
        codes(x.flip(3), comm)


def test_bsa_cuts_codes_off():
    method = bsa(truncation=0.3)
    method.adapter = Known(lambda w, network, z: (w * z[:, 0])[:, None, None, None].expand(-1, 1, 16, 16))
    code = torch.tensor([[-6.0, 0.0], [0.0, 0.0], [6.0, 0.0]])
    assert method.sample(code)[:, 0, 0, 0].tolist() == pytest.approx([-0.3, 0.0, 0.3], abs=1e-6)


def test_bsa_says_what_it_cant_do():
    with pytest.raises(ConfigError, match="name a registered or exported model"):
        bsa(generator=None)
    with pytest.raises(ConfigError, match=r"set method\.images"):
        bsa(images=None)
    with pytest.raises(ConfigError, match="no batch norm"):
        Adapter(nn.Linear(1, 1))
    acgan = Described(method="acgan", config={**SMALL, "latent_dim": 2}, domains=DOMAINS)
    with pytest.raises(ConfigError, match="without labels"):
        bsa(generator=acgan)


def test_bsa_starts_from_its_generators_scales():
    torch.manual_seed(5)
    source = WGANGP(WGANGP.Config(**WGAN.config), DOMAINS)
    nn.init.normal_(source.G.norm.weight)
    config = BSA.with_sources(BSA.Config(images=3, lambda_perceptual=0.0), {"generator": WGAN})
    method = BSA.build(config, DOMAINS, {"generator": source.state_dict()})
    assert torch.equal(method.adapter.get_parameter("norm-weight"), source.G.norm.weight)


@pytest.mark.parametrize("recipe", ["bsa_ffhq", "bsa_shapes_small"])
def test_bsa_learns_as_the_public_code_does(recipe):
    """A fifth of the rate after 3,000, 6,000 and 9,000 of 10,000 steps."""
    experiment = read_experiment(recipe)
    (player,) = bsa(lr_fifth_every_images=experiment.method.config.lr_fifth_every_images).players()
    assert player.optimizer.lr == experiment.method.config.lr == 0.03
    total = experiment.train.total_images
    factors = [player.schedule.factor(total * step // 10_000, total) for step in (2990, 3000, 6000, 8990, 9000, 10_000)]
    assert factors == pytest.approx([1.0, 0.2, 0.04, 0.04, 0.008, 0.008])


def test_vae_terms_by_hand():
    """mu = mean(x), log sigma^2 = log 4: z = 0.2 + 2 x 0.1 = 0.4; 256 pixels off by 0.2."""
    method = built(VAE, **SMALL, latent_dim=1)
    method.E = Known(lambda w, x: torch.cat([w * mean(x)[:, :, 0, 0], w * 0 * mean(x)[:, :, 0, 0] + math.log(4)], 1))
    method.G = Known(lambda w, z: (w * z)[:, :, None, None].expand(-1, 1, 16, 16))
    found = method.autoencoder_terms(Drawn(of(flat(0.2)), {"z": torch.tensor([[0.1]], dtype=torch.float64)}))
    close(found, likelihood=[256 * 0.2**2 / 2], kl=[0.5 * (0.04 + 4 - math.log(4) - 1)])


@pytest.mark.parametrize(("kind", "blocks", "most"), [(WGANGP, 2, 8), (WGANGP, 4, 8), (SNGAN, 4, 8), (SNGAN, 5, 16)])
def test_vaes_decoder_may_start_from_a_generator(kind, blocks, most):
    """SNGAN's has 16 times its width at 128x128, the others 8 times."""
    torch.manual_seed(5)
    domains = Domains((Domain("image", 1, 4 * 2**blocks, 4 * 2**blocks),))
    settings = {"latent_dim": 2, "blocks": blocks, "width": 1}
    source = kind(kind.Config(**settings), domains)
    method = VAE.build(VAE.Config(**settings, most=most), domains, {"generator": source.state_dict()})
    found = method.G.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in source.G.state_dict().items())


def test_the_vae_of_ffhq_has_the_generator_of_its_source():
    domains = Domains((Domain("image", 3, 128, 128),), count=25)
    with torch.device("meta"):
        theirs, ours = (
            method_class(e.method)(e.method.config, domains).G.state_dict()
            for e in map(read_experiment, ("sngan_imagenet", "vae_ffhq"))
        )
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def seeking(cls, **config):
    """G(h) = h_0 in the left half and h_1 in the right; logits 2 h_0, 0, 4 h_1."""
    method = built(cls, generator=WGAN, **{**SMALL, **config}).double()
    halves = torch.eye(2, dtype=torch.float64).repeat_interleave(8, 1)[:, None, None]
    method.G = Known(lambda w, h, y=None: w * (h @ halves.flatten(1)).unflatten(1, (1, 1, 16)).expand(-1, 1, 16, 16))

    def logits(w, x):
        left, right = x[:, 0, 0, 0], x[:, 0, 0, 15]
        return w * torch.stack([2 * left, 0 * left, 4 * right], 1)

    method.C = Known(logits)
    return method


ONE_HOT = torch.eye(3, dtype=torch.float64)


def test_a_step_of_dgn_am_by_hand():
    """The gradient of 2 h_0 is (2, 0), of mean magnitude 1: h + (0.8, 0) x (1 - 1 / 4) x (2, 0), less 1 %, clipped."""
    method = seeking(DGNAM, iterations=4)
    h = torch.tensor([[0.5, -1.0], [2.5, 1.0]], dtype=torch.float64)
    found = method.next_code(h, ONE_HOT[[0, 0]], h, 1)
    torch.testing.assert_close(found, torch.tensor([[(0.5 + 1.2) * 0.99, -0.99], [3.0, 0.99]]).double())


def test_a_step_of_ppgn_by_hand():
    """Eq. 5: R(h) - h = (0.5, 0.5); d log C_3 / dh = ((0 - p_1) 2, (1 - p_3) 4)."""
    method = seeking(PPGN, epsilon_1=0.1, epsilon_3=0.0, hidden=())
    method.R = Known(lambda w, h: w * h + 0.5)
    h = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    direction = torch.tensor([[0.05 - 2 / 3, 0.05 + 4 * 2 / 3]], dtype=torch.float64)
    found = method.next_code(h, ONE_HOT[[2]], h, 0)
    torch.testing.assert_close(found, 0.1 * direction / direction.abs().mean())


@pytest.mark.parametrize("cls", [DGNAM, PPGN])
def test_the_class_that_is_sought_gets_likelier(cls):
    method = seeking(cls, iterations=10)
    code = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 2] * 3)
    with torch.inference_mode():
        after = method.sample(code, label)
    before, after = (method.C(x).log_softmax(1)[range(6), label] for x in (method.G(code.clamp(-3, 3)), after))
    assert bool((after > before).all())


def test_ppgns_noise_is_a_function_of_the_first_code_and_of_the_step():
    method = seeking(PPGN, epsilon_1=0.0, epsilon_2=0.0, hidden=())
    h, other = torch.zeros(1, 2).double(), torch.ones(1, 2).double()
    steps = [method.next_code(h, ONE_HOT[[0]], start, n) for start, n in ((h, 0), (h, 0), (h, 1), (other, 0))]
    assert torch.equal(steps[0], steps[1])
    assert not torch.equal(steps[0], steps[2]) and not torch.equal(steps[0], steps[3])


def test_the_classifier_learns_from_the_targets_labels():
    method = built(DGNAM, generator=WGAN, **SMALL)
    terms = method.classifier_terms(step_of(labelled(images(2), [0, 2])))
    want = -method.C(images(2)).log_softmax(1)[[0, 1], [0, 2]]
    torch.testing.assert_close(terms["class"], want)


def test_ppgns_autoencoder_by_hand():
    """R(h + 0.1 n) with R the identity is off by 0.1 n."""
    method = seeking(PPGN, hidden=(), noise=0.1)
    method.R = Known(lambda w, h: w * h)
    draws = {"h": torch.tensor([[0.3, -1.0]]).double(), "noise": torch.tensor([[1.0, 2.0]]).double()}
    close(method.autoencoder_terms(Drawn(labelled(flat(0.0), [0]), draws)), denoising=[(0.01 + 0.04) / 2])
