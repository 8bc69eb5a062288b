"""A model that classifies the domain without labels, read by protocols."""

import pytest
import torch

from i2idist.data.labelled import read_labelled
from i2idist.data.manifest import load_manifest
from i2idist.data.settings import DataSettings
from i2idist.errors import ConfigError
from i2idist.evaluate import choose, evaluate
from i2idist.evaluate.classifiers import load as load_classifier
from i2idist.evaluate.classifiers import of_domains
from i2idist.methods.unit_adaptation import UNITAdaptation
from i2idist.model import load, save
from i2idist.translate import Options


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, digits):
    """A tiny model: its URL."""
    domains = load_manifest(digits).domains_for(None)
    torch.manual_seed(0)
    method = UNITAdaptation(UNITAdaptation.tiny()["plain"], domains)
    for parameter in method.parameters():
        parameter.data.mul_(8)
    url = str(tmp_path_factory.mktemp("models") / "adapted")
    save(url, method, method_name="unit_adaptation", domains=domains, lineage={})
    return url


def values(model, digits, target, *protocols):
    options = Options(target=target)
    records = evaluate(model, digits, [choose(name) for name in protocols], options, launcher="local").records
    return [record.estimate.value for record in records]


@torch.no_grad()
def agreement(classify, images):
    return (classify(images.x).argmax(1) == images.y).double().mean().item()


def test_inputs_are_read_by_the_model_and_by_a_classifier_of_the_target(adapted, digits):
    """With --target a, the images of b: by D_2, and by the classifier of grey digits as greys."""
    images = {domain: read_labelled(DataSettings(url=digits), domain, "test") for domain in ("a", "b")}
    method = load(adapted).method
    by_model, by_grey = values(adapted, digits, "a", "adapted-accuracy", "source-only-accuracy")
    assert by_model == pytest.approx(agreement(method.classify, images["b"]))
    grey = load_classifier(of_domains(digits, [load_manifest(digits).domains_for(None).a]))
    assert by_grey == pytest.approx(agreement(lambda x: grey(x.mean(1, keepdim=True)), images["b"]))
    (by_source,) = values(adapted, digits, "b", "adapted-accuracy")
    assert by_source == pytest.approx(agreement(lambda x: method.classify(x, domain="a"), images["a"]))
    assert by_model != by_source


def test_a_model_that_classifies_nothing_is_refused(segan, digits):
    with pytest.raises(ConfigError, match="classifies nothing itself"):
        values(segan, digits, "b", "adapted-accuracy")
