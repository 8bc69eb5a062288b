"""Semantic extractors: the sweep over D, the registry, and trainings that start from one."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from i2idist import extractors
from i2idist.cli import main
from i2idist.errors import ConfigError, SourceError
from i2idist.evaluate.classifiers import domains_of
from i2idist.extractors import Layout, Row, smallest_adequate
from i2idist.launch.runs import resume, train
from i2idist.tracking.folders import fetch_weights
from i2idist.train.checkpoint import Checkpoints
from i2idist.tuning import read_search
from i2idist.tuning.measured import check_measured

DATA = "generated:textures?size=16&train=96&val=32&test=0&bias=none&label=colour"
LAYOUT = Layout(width=2, convs=(1, 1))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Generated data and fetched weights, away from this machine's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def command(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return stop.value.code


def extract(dest, *more):
    layout = ("--width", 2, "--convs", "1,1", "--epochs", 2, "--domain", "b")
    return command("extractor", DATA, dest, *layout, *more)


# --- the smallest D that is adequate: the table of the thesis


TABLE = [Row(2, 0.642), Row(8, 0.652), Row(32, 0.870), Row(64, 0.913), Row(256, 0.954), Row(0, 0.960)]


@pytest.mark.parametrize(
    ("settings", "dim"),
    [({"adequate": 0.87}, 32), ({"margin": 0.05}, 64), ({"margin": 0.0}, 0), ({}, 256), ({"adequate": 0.0}, 2)],
)
def test_the_smallest_adequate_dimension_is_kept_and_none_counts_as_the_largest(settings, dim):
    assert smallest_adequate(TABLE, **settings).dim == dim
    assert smallest_adequate(TABLE[::-1], **settings).dim == dim


def test_a_bar_that_no_dimension_reaches_is_refused():
    with pytest.raises(ConfigError, match="No D reaches an accuracy of 0.990, the best reaches 0.960"):
        smallest_adequate(TABLE, adequate=0.99)


# --- training


def test_it_learns_what_shall_stay(cache):
    """Red from blue, through one channel; and each D has a network of its own."""
    url, (domain,) = domains_of(DATA, ["b"], "stored")
    found = extractors.sweep(url, domain, (1, 0), layout=Layout(4, (1, 1)), epochs=24)
    assert [trained.row.dim for trained in found] == [1, 0]
    assert [trained.classifier.extractor.channels for trained in found] == [1, 8]
    assert all(trained.row.accuracy > 0.9 for trained in found)


def test_equal_seeds_give_equal_extractors(cache):
    url, (domain,) = domains_of(DATA, ["a"], "stored")

    def weights(seed):
        (trained,) = extractors.sweep(url, domain, (2,), layout=LAYOUT, epochs=1, seed=seed)
        return trained.classifier.head.weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_command_prints_the_table_and_the_settings_that_fit(cache, tmp_path, capsys):
    assert not extract(tmp_path / "e", "--dims", "2,0", "--margin", "1")
    shown = capsys.readouterr().out
    assert "none" in shown and "kept" in shown
    assert "method.extractor_dim=2 method.extractor_width=2 method.extractor_convs=[1,1]" in " ".join(shown.split())
    card = extractors.read_extractor(str(tmp_path / "e"))
    assert (card.dim, card.labels, [row.dim for row in card.table]) == (2, ("blue", "red"), [2, 0])
    state = safetensors.torch.load_file(tmp_path / "e" / card.weights)
    assert state["extractor.reduce.weight"].shape == (2, 4, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dims", "2,x"], "--dims is '2,x'"),
        (["--convs", "0"], "--convs is '0'"),
        (["--convs", "1,1,1,1,1", "--dims", "1"], "5 blocks takes images of at least 32 pixels"),
    ],
)
def test_what_cannot_be_trained_is_refused(arguments, says, cache, tmp_path, capsys):
    assert extract(tmp_path / "e", *arguments)
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "e").exists()


def test_data_without_classes_is_refused(cache):
    url, (domain,) = domains_of("generated:maps?size=16&train=2&val=2&test=0", ["a"], "stored")
    with pytest.raises(ConfigError, match="maps has no classes"):
        extractors.sweep(url, domain, (1,), layout=LAYOUT)


def test_what_is_no_extractor_is_refused(tmp_path):
    with pytest.raises(SourceError, match="Train one with `i2idist extractor`"):
        extractors.read_extractor(str(tmp_path))
    (tmp_path / "extractor.json").write_text("{}")
    with pytest.raises(SourceError, match="damaged"):
        extractors.read_extractor(str(tmp_path))


# --- from the registry into a training


@pytest.fixture
def registered(cache, tmp_path, monkeypatch, capsys):
    """An extractor, `models:/colour@candidate`; returns its card."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert not extract(tmp_path / "e", "--dims", "2", "--register", "colour", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["uri"] == "models:/colour@candidate"
    return extractors.read_extractor(str(tmp_path / "e"))


@pytest.fixture
def recipe(tmp_path):
    method = {"name": "udit", "width": 2, "downs": 2, "blocks": 1, "kernel": 3, "discriminator_width": 2}
    method |= {"discriminator_layers": 1, "discriminator_scales": 1, "extractor_dim": 2, "extractor_width": 2}
    raw = {
        "method": {**method, "extractor_convs": [1, 1]},
        "data": {"url": "generated:textures?size=16&train=12&val=0&test=0"},
        "train": {"total_images": 4, "batch_size": 2, "checkpoint_every_images": 2},
        "resources": {"launcher": "local", "threads_per_worker": 1},
        "tracking": {"offline": True},
        "sources": {"extractor": "models:/colour@candidate"},
    }
    path = tmp_path / "udit.yaml"
    path.write_text(yaml.safe_dump(raw))
    return str(path)


def extractor_in(root, run):
    """What a run's newest checkpoint holds as its extractor."""
    state = Checkpoints(f"{root}/{run}/checkpoints").newest()[1].tensors
    prefix = "method.h.network."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def test_a_training_starts_from_a_registered_version_and_keeps_it(registered, recipe, tmp_path, capsys):
    root = str(tmp_path / "runs")
    train(recipe, run="first", root=root)
    source = yaml.safe_load(Path(root, "first", "experiment.yaml").read_text())["sources"]["extractor"]
    assert source["version"] == "models:/colour/1"
    assert source["sha256"] == registered.weights_sha256
    file = safetensors.torch.load_file(tmp_path / "e" / registered.weights)
    trained = {name.removeprefix("extractor."): t for name, t in file.items() if name.startswith("extractor.")}
    held = extractor_in(root, "first")
    assert held.keys() == trained.keys()
    assert all(torch.equal(held[name], tensor) for name, tensor in trained.items())

    assert not extract(tmp_path / "other", "--dims", "2", "--seed", "1", "--register", "colour", "--json")
    (tmp_path / "mlflow.db").rename(tmp_path / "away.db")
    resume("first", root=root, overrides={"train.total_images": 8})
    assert all(torch.equal(extractor_in(root, "first")[name], tensor) for name, tensor in trained.items())
    (tmp_path / "away.db").rename(tmp_path / "mlflow.db")
    train(recipe, run="second", root=root)
    pinned = yaml.safe_load(Path(root, "second", "experiment.yaml").read_text())["sources"]["extractor"]
    assert pinned["version"] == "models:/colour/2"


def test_a_source_that_is_not_registered_is_named(registered, recipe, tmp_path):
    root = str(tmp_path / "runs")
    for uri, says in (("models:/colour@champion", "no alias 'champion'"), ("models:/color@candidate", "'colour'")):
        with pytest.raises(SourceError, match=says):
            train(recipe, run="x", root=root, overrides={"sources.extractor": uri})
    with pytest.raises(SourceError, match="not 00"):
        train(
            recipe,
            run="x",
            root=root,
            overrides={"sources.extractor": {"uri": "models:/colour@candidate", "sha256": "00"}},
        )
    assert not Path(root, "x").exists()


def test_a_training_without_its_extractor_is_refused(recipe, tmp_path):
    with pytest.raises(ConfigError, match="i2idist extractor"):
        train(recipe, run="x", root=str(tmp_path / "runs"), overrides={"sources": {}})


def test_harmed_weights_are_not_taken(registered, tmp_path):
    cache = tmp_path / "fetched"
    version, data, _ = fetch_weights("models:/colour@candidate", cache)
    assert version == "models:/colour/1"
    (file,) = cache.rglob("*.safetensors")
    file.write_bytes(data[:-1])
    with pytest.raises(SourceError, match="damaged or missing"):
        fetch_weights("models:/colour@candidate", cache)


def test_a_search_over_extractors_finds_each_before_it_trains(registered, recipe, tmp_path):
    choices = ["models:/colour@candidate", "models:/colour@champion"]
    search = {
        "recipe": recipe,
        "set": {"data.url": "generated:textures?size=16&train=12&val=4&test=0"},
        "objectives": [{"metric": "diversity-udit"}],
        "space": {"sources.extractor": {"type": "categorical", "choices": choices}},
        "trials": 2,
    }
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(search))
    root = str(tmp_path / "runs")
    with pytest.raises(SourceError, match="no alias .champion"):
        check_measured(read_search(str(path)), root, print)
    search["space"]["sources.extractor"] |= {"choices": choices[:1], "along": {"method.extractor_dim": [5]}}
    path.write_text(yaml.safe_dump(search))
    with pytest.raises(SourceError, match=r"extractor_dim|shape|\(2"):
        check_measured(read_search(str(path)), root, print)
