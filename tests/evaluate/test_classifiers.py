"""Classifiers trained by a job of ours: saved, pinned, found again."""

import json

import pytest
import torch

from i2idist.cli import main
from i2idist.data.manifest import load_manifest
from i2idist.errors import ConfigError, SourceError
from i2idist.evaluate.classifiers import domains_of, load, of_domains, pin, train


def test_the_command_trains_one_that_protocols_take(segan, digits, tmp_path, capsys):
    from i2idist.evaluate import choose, evaluate

    with pytest.raises(SystemExit) as stop:
        main(["classifier", digits, str(tmp_path), "--domain", "b", "--epochs", "1", "--json"])
    assert not stop.value.code
    told = json.loads(capsys.readouterr().out)
    choice = choose("accuracy", inputs=5)
    (record,) = evaluate(segan, digits, [choice], classifier=str(tmp_path), launcher="local").records
    assert record.conditions["classifier"]["version"] == told["version"] == pin(str(tmp_path)).card.weights_sha256
    (other,) = evaluate(segan, digits, [choice], launcher="local").records
    assert other.name != record.name
    assert 0 <= told["accuracy"] <= 1


def test_a_registered_one_is_pinned_by_its_version(segan, digits, tmp_path, monkeypatch, capsys):
    from i2idist.evaluate import choose, evaluate

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    arguments = ["classifier", digits, str(tmp_path / "c"), "--domain", "b", "--epochs", "1"]
    for _ in range(2):  # the same again keeps its version
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--register", "digits-reader", "--json"])
        assert not stop.value.code
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["uri"] == "models:/digits-reader/1"
    choice = choose("accuracy", inputs=5)
    (named,) = evaluate(segan, digits, [choice], classifier="models:/digits-reader/1", launcher="local").records
    (placed,) = evaluate(segan, digits, [choice], classifier=str(tmp_path / "c"), launcher="local").records
    assert (named.name, named.estimate.value) == (placed.name, placed.estimate.value)
    assert named.conditions["classifier"]["url"] == "models:/digits-reader/1"
    with pytest.raises(SourceError, match="digits-reader"):
        pin("models:/digits-reader/7")


def test_equal_seeds_give_equal_classifiers_and_the_cache_trains_once(digits, tmp_path):
    url, domains = domains_of(digits, ["b"], "stored")
    first, again = (train(url, domains, str(tmp_path / name), epochs=1) for name in ("a", "b"))
    other = train(url, domains, str(tmp_path / "c"), epochs=1, seed=1)
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    said = []
    cached = [of_domains(url, domains, said.append, cache=str(tmp_path / "cache")) for _ in range(2)]
    assert cached[0] == cached[1]
    assert len(said) == 1


def test_a_loaded_one_reads_as_the_trained_one(digits, tmp_path):
    url, domains = domains_of(digits, ["b"], "stored")
    train(url, domains, str(tmp_path), epochs=1)
    classifier = load(pin(str(tmp_path)))
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    assert classifier(torch.zeros(2, 3, 16, 16)).shape == (2, len(load_manifest(digits).labels))


def test_what_is_no_classifier_is_refused(digits, tmp_path):
    with pytest.raises(SourceError, match="i2idist classifier"):
        pin(str(tmp_path))
    (tmp_path / "classifier.json").write_text("{}")
    with pytest.raises(SourceError, match="damaged"):
        pin(str(tmp_path))
    with pytest.raises(ConfigError, match="no domain 'x'"):
        domains_of(digits, ["x"], "stored")
