"""Whole evaluations in one process: the values are those of the metric functions on the translator's own outputs."""

import json
import pickle
import shutil

import pytest
import torch

from i2idist.data.labelled import read_labelled
from i2idist.data.manifest import load_manifest
from i2idist.data.settings import DataSettings
from i2idist.errors import ConfigError, DataError, SourceError
from i2idist.evaluate import choose, evaluate, table
from i2idist.evaluate.classifiers import load as load_classifier
from i2idist.evaluate.classifiers import of_domains, pin
from i2idist.evaluate.job import make_evaluation
from i2idist.evaluate.places import chosen_places
from i2idist.evaluate.protocol import Sampling
from i2idist.evaluate.worker import Evaluator
from i2idist.metrics import networks
from i2idist.metrics.frechet import frechet_distance
from i2idist.metrics.moments import Moments
from i2idist.model import load
from i2idist.translate import Options


def values(model, data, *protocols, inputs=None, samples=None, seed=None, **options):
    choices = [choose(protocol, inputs=inputs, samples=samples, seed=seed) for protocol in protocols]
    return evaluate(model, data, choices, launcher="local", **options).records


def images(url, domain, split):
    found = read_labelled(DataSettings(url=url), domain, split)
    return found.x, found.y


def outputs_of(model, x, places, samples, seed=0):
    translator = load(model)
    return translator.translate(x[places], translator.draw_codes(torch.tensor(places), samples, seed))


def test_diversity_is_the_mean_distance_of_all_pairs(segan, digits):
    (record,) = values(segan, digits, "diversity-segan", inputs=3, samples=4)
    x, _ = images(digits, "a", "test")
    places = chosen_places(len(x), Sampling(inputs=3))
    outputs, distance = outputs_of(segan, x, places, 4), networks.network().distance
    pairs = [(i, j) for i in range(4) for j in range(i)]
    slow = torch.stack([distance(outputs[:, i], outputs[:, j]) for i, j in pairs]).double().mean(0)
    torch.testing.assert_close(record.estimate.each, slow, rtol=1e-4, atol=1e-7)
    assert record.estimate.value == record.estimate.each.mean().item()
    assert record.estimate.low < record.estimate.value < record.estimate.high
    assert record.estimate.counts == {"inputs": 3, "outputs": 12, "reals": 0}


def test_the_frechet_distance_is_to_all_real_images_of_the_target(segan, digits):
    (record,) = values(segan, digits, "frechet", inputs=40)
    x, _ = images(digits, "a", "test")
    places = chosen_places(len(x), Sampling(inputs=40))
    features = networks.network().features
    fakes = features(outputs_of(segan, x, places, 1)[:, 0])
    reals = torch.cat([features(images(digits, "b", split)[0]) for split in load_manifest(digits).splits])
    expected = frechet_distance(Moments.of(fakes), Moments.of(reals))
    assert record.estimate.value == pytest.approx(expected, rel=1e-4)
    assert record.estimate.counts == {"inputs": 40, "outputs": 40, "reals": len(reals)}
    assert "covariance is singular" in " ".join(record.estimate.notes)


def test_accuracy_is_read_by_a_pinned_classifier_of_the_target(segan, digits):
    (record,) = values(segan, digits, "accuracy")
    domains = load_manifest(digits).domains_for(None)
    pinned = of_domains(digits, [domains.b])
    x, y = images(digits, "a", "test")
    predicted = load_classifier(pinned)(outputs_of(segan, x, list(range(len(x))), 1)[:, 0]).argmax(1)
    assert record.estimate.value == (predicted == y).double().mean().item()
    found = record.conditions["classifier"]
    assert found["version"] == pinned.card.weights_sha256
    assert found["accuracy"] == pinned.card.accuracy
    (named,) = values(segan, digits, "accuracy", classifier=pinned.url)
    assert (named.name, named.estimate.value) == (record.name, record.estimate.value)


def test_workers_elsewhere_have_data_and_classifier(segan, tmp_path, monkeypatch):
    """Neither the generated dataset nor the classifier that was trained on first use lies where they run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    choices = [choose("accuracy", inputs=5), choose("frechet", inputs=5)]
    data = "generated:digits?size=16&train=30&val=0&test=30"
    evaluation = make_evaluation(segan, data, choices, Options())
    here, sent = Evaluator(evaluation), pickle.dumps(evaluation.for_workers())
    found = [here(chunk, lambda count: None) for chunk in evaluation.chunks()]
    here.close()
    shutil.rmtree(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    elsewhere = Evaluator(pickle.loads(sent))
    for chunk, expected in zip(evaluation.chunks(), found, strict=True):
        again = elsewhere(chunk, lambda count: None)
        assert again.inputs == expected.inputs
        for task, rows in expected.rows.items():
            torch.testing.assert_close(again.rows[task], rows, rtol=0, atol=0)
    elsewhere.close()


def test_names_are_equal_for_what_may_be_compared_alone(segan, rival, digits, edges, plain):
    def name(model, protocol="diversity-segan", data=digits, inputs=2, samples=2, **options):
        return values(model, data, protocol, inputs=inputs, samples=samples, **options)[0].name

    first = name(segan)
    assert name(rival) == first
    assert first.startswith("diversity-segan/stlpips-alex/digits-test/")
    others = [
        name(segan, inputs=3),
        name(segan, samples=3),
        name(segan, seed=1),
        name(segan, split="val"),
        name(segan, "diversity-segan:stlpips-vgg"),
        name(segan, "diversity-sdit"),
        name(plain, data=edges),
    ]
    assert len({first, *others}) == 8


def test_a_model_without_codes_has_no_diversity(plain, edges):
    (record,) = values(plain, edges, "diversity-segan", inputs=2, samples=3)
    assert record.estimate.value == pytest.approx(0, abs=1e-10)


def test_protocols_together_give_what_each_gives_alone(segan, digits):
    both = values(segan, digits, "diversity-sdit", "diversity-udit", inputs=2, samples=8)
    alone = [values(segan, digits, name, inputs=2, samples=8)[0] for name in ("diversity-sdit", "diversity-udit")]
    assert [record.estimate.value for record in both] == [record.estimate.value for record in alone]


def test_a_record_says_all_that_decides_it(segan, digits):
    (record,) = values(segan, digits, "frechet", inputs=5)
    found = json.loads(json.dumps(record.as_json()))
    conditions = found["conditions"]
    assert conditions["network"]["version"].startswith("r")
    assert "64" in conditions["network"]["resize"]
    assert conditions["dataset"]["digest"] == load_manifest(digits).digest
    assert (conditions["inputs"], conditions["samples"], conditions["seed"]) == (5, 1, 0)
    assert conditions["reals"]["domain"] == "b"
    assert found["model"]["weights_sha256"] == load(segan).card.weights_sha256
    assert record.name in table([record])


def test_other_inputs_than_the_protocols_are_drawn_by_the_seed_and_nested():
    some, more = (chosen_places(100, Sampling(inputs=count, seed=3)) for count in (10, 30))
    assert set(some) < set(more)
    assert some == sorted(some)
    assert some != chosen_places(100, Sampling(inputs=10, seed=4))
    assert chosen_places(5, Sampling(inputs=10)) == list(range(5))


def test_a_folder_of_images_needs_a_reference(segan, digits, tmp_path):
    from PIL import Image

    x, _ = images(digits, "a", "test")
    for number, image in enumerate(x[:3]):
        Image.fromarray(((image[0] + 1) * 127.5).round().byte().numpy()).save(tmp_path / f"{number}.png")
    with pytest.raises(ConfigError, match="--reference"):
        values(segan, str(tmp_path), "frechet")
    with pytest.raises(ConfigError, match="--classifier"):
        values(segan, str(tmp_path), "accuracy")
    (record,) = values(segan, str(tmp_path), "frechet", reference=digits)
    assert record.estimate.counts["inputs"] == 3


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("diversty-segan", "Did you mean 'diversity-segan'"),
        ("frechet:stlpips-alx", "Did you mean 'stlpips-alex'"),
        ("accuracy:stlpips-alex", "looks through no network"),
    ],
)
def test_what_is_no_protocol_is_refused(protocol, message):
    with pytest.raises(ConfigError, match=message):
        choose(protocol)


def test_what_a_protocol_needs_and_is_not_there_is_named(segan, digits, tmp_path):
    with pytest.raises(SourceError, match="no classifier"):
        values(segan, digits, "accuracy", classifier=str(tmp_path))
    with pytest.raises(SourceError, match="inception"):
        values(segan, digits, "fid")


def test_a_damaged_classifier_is_refused(digits, tmp_path):
    pinned = of_domains(digits, [load_manifest(digits).domains_for(None).b])
    shutil.copytree(pinned.url, tmp_path / "c")
    (tmp_path / "c" / pinned.card.weights).write_bytes(b"x")
    with pytest.raises(SourceError, match="damaged"):
        pin(str(tmp_path / "c"))


def test_an_output_that_is_not_finite_names_its_input(segan, digits, tmp_path):
    from i2idist.model import save

    translator = load(segan)
    with torch.inference_mode(False):
        method = translator.method
        next(p for p in method.parameters() if p.dim() == 4).data.fill_(float("nan"))
        save(str(tmp_path), method, method_name="segan", domains=translator.card.domains)
    with pytest.raises(DataError, match=r"isn't finite"):
        values(str(tmp_path), digits, "frechet", inputs=3)


def test_names_differ_where_outputs_or_reals_are_seen_at_other_sizes(digits, tmp_path):
    """Equal inputs, but outputs of another size or in other channels: no comparison."""
    import dataclasses

    from i2idist.method import Domain
    from i2idist.model import save
    from tests.evaluate.toys import Config, Shift

    domains = load_manifest(digits).domains_for(None)
    names = []
    for number, target in enumerate((domains.b, Domain("b", 3, 32, 32), Domain("b", 3, 16, 16))):
        own = dataclasses.replace(domains, images=(domains.a, target))
        model = str(tmp_path / str(number))
        save(model, Shift(Config(), own), method_name="tests.evaluate.toys:Shift", domains=own)
        names.append(values(model, digits, "kmmd", inputs=4)[0].name)
    assert names[0] == names[2] != names[1]


def test_the_target_is_found_in_data_whose_domains_have_other_names(segan, digits, tmp_path):
    from i2idist.data.pack import Sample, pack
    from tests.evaluate.toys import grey

    samples = [
        Sample(f"{d}{n}", "test", {d: grey(99, 16, c, n)}) for d, c in (("pen", 1), ("wall", 3)) for n in range(4)
    ]
    pack(samples, str(tmp_path / "d"), name="d", role="unpaired", workers=1)
    (record,) = values(segan, str(tmp_path / "d"), "kmmd", domain="pen")
    assert record.conditions["reals"]["domain"] == "wall"
