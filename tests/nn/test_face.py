import pytest
import torch

from i2idist.nn.face import FaceNetwork, prepare
from tests.metrics.synthetic import pictures, weights_like


@pytest.fixture(scope="module")
def network():
    found = FaceNetwork().eval().requires_grad_(False)
    found.load_state_dict(weights_like(found.state_dict()))
    return found


def test_there_are_as_many_parameters_as_in_the_published_file(network):
    assert sum(p.numel() for p in network.parameters()) == 27_910_327
    assert {name.split(".")[0] for name in network.state_dict()} == {
        *("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a", "conv2d_4b", "repeat_1", "mixed_6a"),
        *("repeat_2", "mixed_7a", "repeat_3", "block8", "last_linear", "last_bn", "logits"),
    }
    assert network.state_dict()["repeat_2.9.branch1.1.conv.weight"].shape == (128, 128, 1, 7)


def test_embeddings_are_those_of_facenet_pytorch(network):
    # Computed once with facenet-pytorch 2.6.0 on these weights, in the order of its state dict, and images.
    ready = prepare(pictures(160, 160))
    first = [[-0.00960692, 0.01519225, -0.01829759, -0.08040233], [-0.00579383, 0.01748672, -0.01920297, -0.08492656]]
    assert network.features(ready)[:, :4].tolist() == [pytest.approx(row, abs=1e-6) for row in first]


def test_embeddings_have_length_one_and_distances_are_between_them(network):
    x = prepare(pictures(60, 80, 3))
    found = network.features(x)
    assert found.shape == (3, 512)
    assert torch.allclose(found.norm(dim=1), torch.ones(3))
    expected = torch.cdist(found, found)
    assert torch.allclose(network.distances(x), expected, atol=1e-3)
    assert torch.allclose(network.distance(x[:2], x[1:]), expected[[0, 1], [1, 2]], atol=1e-3)
    assert network.distance(x, x).tolist() == [0, 0, 0]


def test_images_are_brought_to_160_pixels():
    assert prepare(torch.ones(1, 3, 320, 64)).shape == (1, 3, 160, 160)
    assert torch.allclose(prepare(torch.ones(1, 3, 320, 64)), torch.tensor(127.5 / 128))
