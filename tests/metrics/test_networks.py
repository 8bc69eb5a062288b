import dataclasses
import functools
import json

import lpips
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchvision import models

from i2idist import weights
from i2idist.errors import ConfigError, SourceError
from i2idist.metrics import networks
from i2idist.metrics.frechet import frechet_distance
from i2idist.metrics.imagenet import Lpips
from i2idist.metrics.moments import Moments
from i2idist.metrics.networks import NETWORKS, FeatureNetwork, network
from tests.metrics.synthetic import pictures, weights_like

OFFLINE = ("stlpips-alex", "stlpips-vgg")
TRUNKS = {"alex": models.alexnet, "vgg": models.vgg16}


@pytest.fixture(autouse=True)
def _networks_of_this_test_alone():
    """Those filled with stand-ins are forgotten."""
    yield
    network.cache_clear()


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv(weights.PLACE, raising=False)


@pytest.fixture
def stand_in(tmp_path, monkeypatch, no_weights):
    """A file by formula in place of AlexNet's, of the convolutions alone, which are all that LPIPS reads."""
    known = weights.known("alexnet")
    file = tmp_path / known.names[0]
    torch.save(convolutions("alex"), file)
    monkeypatch.setitem(weights.WEIGHTS, "alexnet", dataclasses.replace(known, sha256=weights.digest(str(file))))
    monkeypatch.setenv(weights.PLACE, str(tmp_path))


def empty(trunk):
    with torch.device("meta"):
        return TRUNKS[trunk]().eval().requires_grad_(False)


@functools.cache
def convolutions(trunk):
    state = {f"features.{name}": tensor for name, tensor in empty(trunk).features.state_dict().items()}
    return weights_like({name: torch.empty(tensor.shape) for name, tensor in state.items()})


@functools.cache
def filled_lpips(trunk):
    found = Lpips(trunk)
    found.fill(convolutions(trunk), weights.read(f"lpips-{trunk}-linear"))
    return found.eval().requires_grad_(False)


def noise(count, side=64, seed=0, channels=3):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def one_by_one(distance, images):
    return torch.stack([torch.cat([distance(x[None], y[None]) for y in images]) for x in images])


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_said_of_a_network_is_json_and_names_its_weights(name):
    said = json.loads(json.dumps(networks.described(name)))
    assert said["network"] == name
    assert said["input_range"] == [-1.0, 1.0]
    assert said["resize"]
    assert [weights.known(part).sha256 for part in NETWORKS[name].weights] == list(said["weights"].values())
    assert all(digest[:12] in said["version"] for digest in said["weights"].values())


def test_no_two_networks_share_a_version():
    assert len({card.version for card in NETWORKS.values()}) == len(NETWORKS)


def test_a_version_changes_with_the_revision_of_our_code():
    card = networks.card("face")
    assert dataclasses.replace(card, revision=2).version != card.version


def test_an_unknown_network_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'lpips-alex'"):
        network("lpips-alx")


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in OFFLINE])
def test_a_network_without_its_weights_names_them_and_the_offline_default(name, no_weights):
    with pytest.raises(SourceError) as failure:
        network(name)
    assert f"which the network {name} needs" in str(failure.value)
    assert "i2idist weights fetch" in str(failure.value)
    assert "The offline default is stlpips-alex" in str(failure.value)


def test_distances_on_vgg_equal_those_of_the_published_implementation():
    # Computed once with stlpips_pytorch 0.0.2's own network on these images.
    n = torch.arange(2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
    found = network("stlpips-vgg").distance(torch.sin(n * 0.37) * 0.9, torch.cos(n * 0.11) * 0.8)
    assert found.tolist() == pytest.approx([0.7166076, 0.7139776], abs=1e-5)


@pytest.mark.parametrize("name", OFFLINE)
def test_every_two_of_several_images_are_at_the_distance_of_the_two(name):
    images, found = noise(4, side=40), network(name)
    together = found.distances(images)
    assert torch.allclose(together, one_by_one(found.distance, images), atol=1e-6)
    assert torch.equal(together, together.T)
    assert together.diagonal().tolist() == [0, 0, 0, 0]


def test_almost_equal_images_keep_their_small_distances():
    images = noise(1) + noise(3, seed=1) * 1e-3
    found = network("stlpips-alex")
    expected = one_by_one(found.distance, images)
    assert 0 < expected.max() < 1e-4
    assert torch.allclose(found.distances(images), expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", OFFLINE)
def test_features_are_as_wide_as_said_and_those_of_each_image_alone(name):
    found, images = network(name), noise(3)
    features = found.features(images)
    assert features.shape == (3, found.card.width)
    assert torch.allclose(features[1:2], found.features(images[1:2]), atol=1e-5)
    assert not features.requires_grad


def test_grey_images_are_seen_as_three_equal_channels():
    grey, found = noise(2, channels=1), network("stlpips-alex")
    assert torch.equal(found.features(grey), found.features(grey.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("shape", [(2, 2, 64, 64), (2, 4, 64, 64), (3, 64, 64)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        network("stlpips-alex").features(torch.zeros(shape))


def test_pairs_of_other_shapes_are_refused():
    with pytest.raises(ConfigError, match="pairs of one shape"):
        network("stlpips-alex").distance(noise(2), noise(3))


def test_what_a_network_does_not_give_is_refused_with_those_that_do():
    with pytest.raises(ConfigError, match="gives no probabilities. These do: inception-fid, vgg16"):
        network("stlpips-alex").probabilities(noise(1))


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning")
def test_lpips_is_the_packages_on_the_same_weights(trunk):
    whole = empty(trunk)
    whole.load_state_dict(convolutions(trunk), strict=False, assign=True)
    theirs = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    for part in theirs.net.children():
        for number, _ in list(part.named_children()):
            part.add_module(number, whole.features[int(number)])
    images = noise(3, side=40)
    with torch.no_grad():
        expected = one_by_one(lambda x, y: theirs(x, y).flatten(), images)
    assert expected.max() > 0.01
    assert torch.allclose(one_by_one(filled_lpips(trunk).distance, images), expected, atol=1e-6)
    assert torch.allclose(filled_lpips(trunk).distances(images), expected, atol=1e-6)


def test_networks_are_filled_from_files(stand_in):
    images = noise(2)
    found = network("lpips-alex")
    expected = filled_lpips("alex").distance(images[:1], images[1:])
    assert torch.equal(found.distance(images[:1], images[1:]), expected)
    assert found.features(images).shape == (2, 256)
    assert network("lpips-alex") is found


def test_building_networks_draws_nothing_from_the_global_generator(stand_in):
    before = torch.random.get_rng_state()
    network("lpips-alex")
    network("stlpips-vgg")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_vgg16_gives_features_and_probabilities_of_torchvisions():
    theirs, generator = empty("vgg"), torch.Generator().manual_seed(0)
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    state = {name: torch.empty(shape).uniform_(-0.02, 0.02, generator=generator) for name, shape in shapes.items()}
    theirs.load_state_dict(state, assign=True)
    hidden = []
    theirs.classifier[4].register_forward_hook(lambda module, inputs, output: hidden.append(output.clone()))
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, None, :, None, None]
    images = pictures(224, 224)
    expected = theirs(((images + 1) / 2 - mean) / deviation).softmax(1)
    card = networks.card("vgg16")
    found = FeatureNetwork("vgg16", card, card.build(state))
    assert torch.allclose(found.features(images), hidden[0], rtol=1e-4, atol=1e-5)
    assert torch.allclose(found.probabilities(images), expected, atol=1e-6)
    assert found.features(images[:, :, ::4, ::5]).shape == (2, card.width)


@pytest.mark.parametrize(("trunk", "least"), [("alex", 31), ("vgg", 16)])
def test_lpips_takes_images_at_their_own_size_down_to_a_least(trunk, least):
    found = FeatureNetwork(f"lpips-{trunk}", networks.card(f"lpips-{trunk}"), filled_lpips(trunk))
    assert found.distance(noise(1, least), noise(1, least, seed=1)).item() > 0
    with pytest.raises(ConfigError, match=f"at least {least}x{least}"):
        found.distance(noise(1, least - 1), noise(1, least - 1))


def test_a_frechet_distance_is_that_of_torchmetrics_on_the_same_features():
    found = network("stlpips-alex")
    kinds = [((noise(60, 32, seed) + shift).clamp(-1, 1) + 1) * 127.5 for seed, shift in ((1, 0.0), (2, 0.2))]
    theirs = FrechetInceptionDistance(feature=_OnBytes(found), normalize=False).set_dtype(torch.float64)
    for images, is_real in zip(kinds, (True, False), strict=True):
        theirs.update(images.round().to(torch.uint8), real=is_real)
    ours = [Moments.of(found.features(images.round() / 127.5 - 1)) for images in kinds]
    assert frechet_distance(*ours) == pytest.approx(theirs.compute().item(), rel=1e-4)


class _OnBytes(torch.nn.Module):
    """A network as torchmetrics calls one: on uint8 images."""

    num_features = 256

    def __init__(self, found):
        super().__init__()
        self.found = found

    def forward(self, images):
        return self.found.features(images.float() / 127.5 - 1)
