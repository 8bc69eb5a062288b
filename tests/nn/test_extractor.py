import pytest
import torch

from i2idist.nn.extractor import FaceExtractor, Frozen, SemanticClassifier, SemanticExtractor


@pytest.mark.parametrize(("dim", "channels"), [(5, 5), (0, 8)])
def test_features_are_spatial_and_reduced_unless_naive(dim, channels):
    network = SemanticExtractor(3, width=4, convs=(1, 2), dim=dim)
    assert network.channels == channels
    assert network(torch.randn(2, 3, 16, 24)).shape == (2, channels, 4, 6)


def test_vgg16s_layout_has_its_convolutions():
    """8x8x512 features of a 256x256 image, as section 5.6.6 has it; 14.7M weights in 13 convolutions."""
    with torch.device("meta"):
        network = SemanticExtractor(3, width=64, convs=(2, 2, 3, 3, 3), dim=0)
        assert network(torch.zeros(1, 3, 256, 256)).shape == (1, 512, 8, 8)
    convs = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert (len(convs), sum(m.weight.numel() for m in convs)) == (13, 14_710_464)


def test_a_classifier_reads_the_reduced_features():
    extractor = SemanticExtractor(1, width=2, convs=(1, 1), dim=3)
    classifier = SemanticClassifier(extractor, (32, 24), 5)
    assert classifier.head.in_features == 3 * 4 * 4
    assert classifier(torch.randn(2, 1, 32, 24)).shape == (2, 5)
    assert SemanticClassifier(extractor, (4, 12), 5).head.in_features == 3 * 1 * 3


def test_a_frozen_network_lets_gradients_through_and_stays_as_it_is():
    frozen = Frozen(SemanticExtractor(3, width=2, convs=(1,), dim=2))
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    alone = frozen(x[:1])
    frozen.train()
    together = frozen(x)
    together.sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in frozen.parameters())
    assert torch.allclose(together[:1], alone, atol=1e-6)
    assert all(torch.equal(before[name], tensor) for name, tensor in frozen.state_dict().items())


def test_a_face_is_told_by_its_highest_convolutional_features():
    network = FaceExtractor().eval().requires_grad_(False)
    x = torch.rand(1, 1, 32, 32, requires_grad=True)
    maps = network(x)
    assert maps.shape == (1, 1792, 3, 3)
    maps.sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() > 0
    assert torch.equal(network(x.expand(-1, 3, -1, -1)), maps)
