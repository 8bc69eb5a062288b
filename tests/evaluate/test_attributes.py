"""Classifiers of attributes, and protocols that read translations by one."""

import pytest
import torch
from sklearn.metrics import accuracy_score

from i2idist.data.labelled import read_labelled
from i2idist.data.manifest import load_manifest
from i2idist.data.settings import DataSettings
from i2idist.errors import ConfigError
from i2idist.evaluate import choose, evaluate
from i2idist.evaluate.classifiers import domains_of, load, pin, train
from i2idist.metrics.classifier import attribute_agreement, train_classifier
from tests.evaluate.toys import attribute_images, saved


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return attribute_images(tmp_path_factory.mktemp("data") / "attributes")


@pytest.fixture(scope="module")
def reader(data, tmp_path_factory):
    """A classifier of both domains: its URL."""
    url, domains = domains_of(data, ["b", "a"], "stored")
    folder = str(tmp_path_factory.mktemp("classifier"))
    train(url, domains, folder, epochs=12)
    return folder


def value(model, data, *protocols, **how):
    records = evaluate(model, data, [choose(protocol) for protocol in protocols], launcher="local", **how).records
    return records if len(protocols) > 1 else records[0]


def test_it_says_of_each_attribute_how_well_it_reads_it(data, reader):
    card = pin(reader).card
    assert (card.kind, card.labels, card.domains) == ("attributes", ("bright", "striped"), ("b", "a"))
    parts = [read_labelled(DataSettings(url=data), domain, "test") for domain in ("a", "b")]
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    logits = load(pin(reader))(x)
    for column, name in enumerate(card.labels):
        expected = accuracy_score(y[:, column], logits[:, column] > 0)
        assert card.accuracies[name] == pytest.approx(expected)
        assert expected > 0.9
    assert card.accuracy == pytest.approx(sum(card.accuracies.values()) / 2)


def test_an_attribute_that_is_kept_and_one_that_is_lost(data, reader, tmp_path):
    brighter = saved(tmp_path / "brighter", data, brightness=1.0)
    kept = saved(tmp_path / "kept", data)
    same, lost = (value(m, data, "misclassification:bright", classifier=reader) for m in (kept, brighter))
    assert same.name == lost.name
    assert same.name.startswith("misclassification/bright/attributes-test/")
    assert same.estimate.value <= 0.1
    assert lost.estimate.value == pytest.approx(0.5, abs=0.1)  # the dark half has become bright
    right, drop = value(brighter, data, "accuracy:bright", "confidence-drop:bright", classifier=reader)
    assert right.estimate.value == pytest.approx(1 - lost.estimate.value)
    assert drop.estimate.value > 0.3
    other = value(kept, data, "misclassification:striped", classifier=reader)
    assert other.name.split("/")[1] == "striped"
    assert other.estimate.value <= 0.1


def test_what_should_stay_is_read_by_a_classifier_of_both_domains(data, tmp_path):
    model = saved(tmp_path / "model", data)
    target, both = value(model, data, "accuracy:bright", "confidence-drop:bright")
    assert target.conditions["classifier"]["domains"] == ["b"]
    assert both.conditions["classifier"]["domains"] == ["b", "a"]
    assert both.conditions["attribute"] == "bright"


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("accuracy", "has attributes: name one, as in accuracy:bright"),
        ("accuracy:brigt", "Did you mean 'bright'"),
        ("reverse-classification", "classes"),
    ],
)
def test_what_cannot_be_read_is_refused(data, reader, tmp_path, protocol, message):
    with pytest.raises(ConfigError, match=message):
        value(saved(tmp_path / "model", data), data, protocol, classifier=reader)


def test_classifier_and_data_must_know_the_same(data, digits, segan, reader, tmp_path):
    with pytest.raises(ConfigError, match="needs attributes of the inputs"):
        value(segan, digits, "accuracy:bright", classifier=reader)
    with pytest.raises(ConfigError, match="reads attributes: name one"):
        value(segan, digits, "accuracy", classifier=reader)
    from tests.evaluate.toys import labelled_images

    url, domains = domains_of(labelled_images(tmp_path / "three"), ["x"], "stored")
    train(url, domains, str(tmp_path / "c"), epochs=1)
    with pytest.raises(ConfigError, match="tells dark, middle, light apart"):
        value(segan, digits, "accuracy", classifier=str(tmp_path / "c"))
    with pytest.raises(ConfigError, match="needs a classifier of that attribute"):
        value(saved(tmp_path / "m", data), data, "accuracy:bright", classifier=str(tmp_path / "c"))


def test_threads_do_not_change_a_classifier(tmp_path):
    from i2idist.data.generated import resolve

    data = resolve("generated:digits?size=32&train=300&val=0&test=70", str(tmp_path))
    url, domains = domains_of(data, ["b"], "stored")
    found = []
    before = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        try:
            found.append(train(url, domains, str(tmp_path / str(count)), epochs=1).weights_sha256)
            assert torch.get_num_threads() == count
        finally:
            torch.set_num_threads(before)
    assert found[0] == found[1]


def test_attributes_are_counted_one_by_one():
    torch.manual_seed(0)
    x = torch.rand(64, 3, 16, 16) * 2 - 1
    y = torch.rand(64, 2).round()
    classifier = train_classifier(x, y, epochs=1, classes=2)
    assert classifier.head.out_features == 2
    found = attribute_agreement(classifier, x, y)
    assert found.tolist() == pytest.approx(((classifier(x) > 0) == (y > 0.5)).double().mean(0).tolist())
    with pytest.raises(ConfigError, match="don't belong"):
        attribute_agreement(classifier, x, y[:3])


def test_a_named_classifier_needs_no_labels_of_a_folder(data, reader, tmp_path):
    from PIL import Image

    from tests.evaluate.toys import grey

    (tmp_path / "images").mkdir()
    for n in range(3):
        Image.fromarray(grey(200, seed=n)).save(tmp_path / "images" / f"{n}.png")
    model = saved(tmp_path / "model", data)
    with pytest.raises(ConfigError, match="needs attributes of the inputs"):
        value(model, str(tmp_path / "images"), "accuracy:bright", classifier=reader)
    assert load_manifest(data).label_kind == "attributes"
