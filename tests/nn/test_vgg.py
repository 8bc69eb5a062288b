import pytest
import torch
from torchvision.models import vgg

from i2idist.errors import SourceError
from i2idist.nn.vgg import VGGFeatures


@pytest.fixture(scope="module")
def published():
    """Torchvision's convolutions of VGG16, with random weights."""
    torch.manual_seed(0)
    return vgg.make_layers(vgg.cfgs["D"])


def test_features_are_vgg16s_without_its_fourth_pooling(published):
    net = VGGFeatures()
    net.fill(published.state_dict(prefix="features."), "vgg")
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    prepared = (x + 1) / 2
    prepared = (prepared - torch.tensor([[[[0.485]], [[0.456]], [[0.406]]]])) / torch.tensor(
        [[[[0.229]], [[0.224]], [[0.225]]]]
    )
    expected = published[24:30](published[:23](prepared))
    assert expected.shape == (1, 512, 4, 4)
    torch.testing.assert_close(net(x), expected)


def test_grey_images_count_as_coloured(published):
    net = VGGFeatures(2)
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(net(x), net(x.repeat(1, 3, 1, 1)))
    assert net(x).shape == (2, 16, 2, 2)


def test_nothing_trains_it():
    net = VGGFeatures(1)
    assert not any(p.requires_grad for p in net.parameters())
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(("state", "complaint"), [("missing", "has none as features.0.weight"), ("thin", "shape")])
def test_another_network_is_refused_by_name(published, state, complaint):
    given = {} if state == "missing" else VGGFeatures(2).state_dict()
    with pytest.raises(SourceError, match=f"sources.vgg.*{complaint}"):
        VGGFeatures().fill(given, "sources.vgg")
