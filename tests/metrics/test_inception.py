import itertools

import pytest
import torch
from torch.nn import functional
from torchvision import models
from torchvision.models import inception as torchvisions

from i2idist.metrics.inception import FidInception, prepare
from tests.metrics.synthetic import pictures, weights_like


def torchvisions_network():
    """torchvision's Inception-v3 with the parts that the published file has, and their names."""
    return models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False)


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        found = FidInception()
    found.load_state_dict(weights_like(torchvisions_network().state_dict()), assign=True)
    return found.eval().requires_grad_(False)


def shapes(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_parts_are_named_and_shaped_as_in_the_published_file(network):
    assert shapes(network) == shapes(torchvisions_network())
    assert sum(p.numel() for p in network.parameters()) == 21_785_568 + 2049 * 1008


def test_a_file_without_batch_counts_loads_too(network):
    """The published one is of before PyTorch had them."""
    old = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    FidInception().load_state_dict(old)


def test_values_are_those_of_torch_fidelity(network):
    # Computed once with torch-fidelity 0.4.0 on these weights and images, its resizing included.
    ready = prepare(pictures(40, 64))
    first = [[80.332619, 49.554218, 68.211952, 18.810684], [77.065887, 47.536373, 65.412643, 18.032925]]
    assert network.features(ready)[:, :4].tolist() == [pytest.approx(row, rel=1e-5) for row in first]
    assert network.probabilities(ready)[:, 421].tolist() == pytest.approx([0.710361, 0.701966], rel=1e-4)


def test_features_are_torchvisions_but_for_the_pools(network, monkeypatch):
    """Which in the last block of all is a maximum, in the others an average that leaves padding out."""
    theirs = torchvisions_network().eval()
    theirs.load_state_dict(network.state_dict())
    theirs.fc = torch.nn.Identity()
    is_last, average = False, functional.avg_pool2d

    def pool(x, **how):
        if is_last:
            return functional.max_pool2d(x, **how)
        return average(x, **how, count_include_pad=False)

    def enter_last(*_):
        nonlocal is_last
        is_last = True

    monkeypatch.setattr(torchvisions.F, "avg_pool2d", pool)
    theirs.Mixed_7c.register_forward_pre_hook(enter_last)
    x = prepare(pictures(75, 60))
    with torch.no_grad():
        expected = theirs(x)
    monkeypatch.undo()
    assert torch.allclose(network.features(x), expected, rtol=1e-5)


def test_probabilities_are_a_distribution(network):
    found = network.probabilities(prepare(pictures(32, 32)))
    assert found.shape == (2, 1008)
    assert torch.allclose(found.sum(1), torch.ones(2))


@pytest.mark.parametrize(("height", "width"), [(3, 5), (300, 299)])
def test_resizing_is_tensorflows(height, width):
    """Against a loop over target pixels: pixel i of 299 is taken at i * source / 299, between its two neighbours."""
    image = pictures(height, width, 1)[0]
    levels = ((image + 1) * 127.5).round()
    ready = prepare(image[None])[0]
    for row, column in itertools.product((0, 1, 150, 297, 298), repeat=2):
        y, x = row * height / 299, column * width / 299
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        above = levels[:, top, left] * (1 - (x - left)) + levels[:, top, right] * (x - left)
        below = levels[:, bottom, left] * (1 - (x - left)) + levels[:, bottom, right] * (x - left)
        expected = (above * (1 - (y - top)) + below * (y - top) - 128) / 128
        assert torch.allclose(ready[:, row, column], expected, atol=2e-4)


def test_an_image_of_the_right_size_is_only_rounded():
    image = pictures(299, 299, 1)
    assert torch.allclose(prepare(image + 0.3 / 127.5), ((image + 1) * 127.5 - 128) / 128, atol=1e-5)
