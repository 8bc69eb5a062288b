"""Translation to a label of labelled data: compared with the real images of that label, from inputs without it."""

import pytest
import torch

from i2idist.data.labelled import read_labelled
from i2idist.data.manifest import load_manifest
from i2idist.data.settings import DataSettings
from i2idist.errors import ConfigError
from i2idist.evaluate import choose, evaluate
from i2idist.metrics import networks
from i2idist.metrics.frechet import frechet_distance
from i2idist.metrics.moments import Moments
from i2idist.translate import Options
from tests.evaluate.toys import labelled_images, saved


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return labelled_images(tmp_path_factory.mktemp("data") / "shades")


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model") / "same", data)


def value(model, data, protocol, target, **how):
    choice = choose(protocol)
    return evaluate(model, data, [choice], Options(target=target), launcher="local", **how).records[0]


def test_reals_are_those_of_the_label_and_inputs_those_of_others(data, model):
    record = value(model, data, "frechet", "light")
    features = networks.network().features
    found = {split: read_labelled(DataSettings(url=data), "x", split) for split in load_manifest(data).splits}
    test = found["test"]
    fakes = features(test.x[test.y != 2].mean(1, keepdim=True).expand(-1, 3, -1, -1))
    reals = torch.cat([features(part.x[part.y == 2]) for part in found.values()])
    expected = frechet_distance(Moments.of(fakes), Moments.of(reals))
    assert record.estimate.value == pytest.approx(expected, rel=1e-4)
    assert record.estimate.counts == {"inputs": 8, "outputs": 8, "reals": 14}
    assert record.conditions["dataset"]["chosen_by_label"] == 8
    assert record.conditions["reals"]["chosen_by_label"] == 14


def test_each_label_has_a_name_of_its_own(data, model):
    names = {value(model, data, "frechet", target).name for target in ("dark", "middle", "light")}
    assert len(names) == 3


def test_outputs_should_be_of_the_label(data, model, tmp_path):
    brighter = saved(tmp_path / "brighter", data, brightness=1.5)
    right, wrong = (value(one, data, "accuracy", "light").estimate.value for one in (brighter, model))
    assert right > wrong
    with pytest.raises(ConfigError, match="should keep"):
        value(model, data, "misclassification", "light")


def test_a_label_that_the_data_does_not_know_is_named(model, tmp_path):
    other = labelled_images(tmp_path / "shades")
    assert value(model, other, "edge-iou", "dark").estimate.counts["inputs"] == 8
    from i2idist.data.pack import Sample
    from tests.evaluate.toys import grey, packed

    strange = packed(tmp_path / "strange", [Sample("s", "test", {"x": grey(9)}, 0)], "labelled", labels=("lght",))
    with pytest.raises(ConfigError, match="no label 'light'"):
        value(model, strange, "edge-iou", "light")


def test_a_path_takes_inputs_with_the_label_that_it_leads_from(data, model):
    record = value(model, data, "frechet", "dark->light")
    features = networks.network().features
    found = {split: read_labelled(DataSettings(url=data), "x", split) for split in load_manifest(data).splits}
    test = found["test"]
    fakes = features(test.x[test.y == 0].mean(1, keepdim=True).expand(-1, 3, -1, -1))
    reals = torch.cat([features(part.x[part.y == 2]) for part in found.values()])
    assert record.estimate.value == pytest.approx(frechet_distance(Moments.of(fakes), Moments.of(reals)), rel=1e-4)
    assert record.estimate.counts == {"inputs": 4, "outputs": 4, "reals": 14}
    with pytest.raises(ConfigError, match="no label 'dork'. Did you mean 'dark'"):
        value(model, data, "frechet", "dork->light")
