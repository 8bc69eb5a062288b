"""The registry over MLflow's SQLite store; `test_serving` does the same over a real server."""

import base64
import inspect
import io
import json
import os
import re
import shutil
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import i2idist
from i2idist.conformance import Case
from i2idist.data.transforms import to_levels
from i2idist.errors import ConfigError, SourceError, TrackingError
from i2idist.methods import METHODS
from i2idist.model import load, save
from i2idist.tracking import fetch
from i2idist.tracking.place import client_of, default_tracking, experiment_id, tracking_uri
from i2idist.tracking.registry import promote, register, resolve
from tests.cli.test_main import run as command
from tests.styled import save_tiny
from tests.test_payload import decoded

X = torch.zeros(1, 1, 16, 16)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs, an empty cache, and MLflow's database beside the runs."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("I2IDIST_RUNS", str(folder / "runs"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def client(place):
    return client_of(tracking_uri())


@pytest.fixture(scope="module")
def run_id(client):
    return client.create_run(experiment_id(client, tracking_uri(), "i2idist")).info.run_id


@pytest.fixture(scope="module")
def models(place, run_id):
    """Two models, registered as versions 1 and 2 of `digits`; the second by a run."""
    urls = [str(place / "first"), str(place / "second")]
    save_tiny(urls[0], seed=0, run="r-1", dataset_digest="d" * 64)
    save_tiny(urls[1], seed=1, run="r-2", mlflow_run_id=run_id)
    assert register(urls[0], "digits", tags={"note": "mine"}) == "1"
    assert register(urls[1], "digits") == "2"
    assert promote("digits", version="1") == "1"
    return urls


def aliases(client, name):
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def own_files(place):
    return list((place / "runs" / "mlartifacts" / "models").glob("*/artifacts"))


def test_a_new_version_is_the_candidate_and_the_champion_is_chosen(models, client):
    assert aliases(client, "digits") == {"candidate": "2", "champion": "1"}


def test_the_same_model_again_keeps_its_version(models, client):
    assert register(models[0], "digits", alias="again") == "1"
    assert len(client.search_model_versions("name = 'digits'")) == 2
    client.delete_registered_model_alias("digits", "again")


def test_a_model_in_an_object_store_is_registered(models, client, memory_url):
    save_tiny(memory_url, seed=3)
    assert register(memory_url, "remote", alias=None) == "1"
    assert torch.equal(load("models:/remote/1").translate(X), load(memory_url).translate(X))
    assert aliases(client, "remote") == {}
    client.delete_registered_model("remote")


def test_any_uri_loads_the_same_model(models, client, run_id):
    first, second = (load(url).translate(X, seed=1) for url in models)
    assert not torch.equal(first, second)
    logged = client.get_model_version("digits", "2").source
    assert logged.startswith("models:/m-")
    for uri in ("models:/digits@champion", "models:/digits/1"):
        assert torch.equal(i2idist.load(uri).translate(X, seed=1), first)
    for uri in ("models:/digits@candidate", "models:/digits/2", logged, f"runs:/{run_id}/digits"):
        assert torch.equal(i2idist.load(uri).translate(X, seed=1), second)


def test_an_alias_is_resolved_to_a_version_with_its_run(models, run_id):
    found = resolve("models:/digits@candidate")
    assert (found.uri, found.name, found.version, found.run_id) == ("models:/digits/2", "digits", "2", run_id)
    assert sorted(os.listdir(found.folder_url)) == sorted(os.listdir(models[1]))
    assert resolve("models:/digits@champion").run_id is None
    by_run = resolve(f"runs:/{run_id}/digits")
    assert (by_run.name, by_run.version, by_run.run_id) == (None, None, run_id)
    assert by_run.folder_url == found.folder_url, "the same model is fetched to the same place"


def test_the_run_shows_the_model(models, client, run_id):
    [output] = client.get_run(run_id).outputs.model_outputs
    assert client.get_logged_model(output.model_id).name == "digits"


def test_a_version_says_where_it_came_from_and_which_code_wrote_it(models, client):
    tags = client.get_model_version("digits", "1").tags
    card = json.loads(Path(models[0], "model.json").read_text())
    assert tags["run"] == "r-1"
    assert tags["dataset_digest"] == "d" * 64
    assert tags["note"] == "mine"
    assert tags["weights_sha256"] == card["weights_sha256"]
    assert tags["i2idist"] == i2idist.__version__
    assert re.fullmatch("[0-9a-f]{64}", tags["package_sha256"])


def test_weights_and_model_json_are_all_of_ours_and_nothing_is_pickled(models, place):
    for folder in own_files(place):
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        ours = {file for file in files if file.startswith("artifacts/")}
        assert {Path(file).suffix for file in ours} == {".json", ".safetensors"}
        assert len(ours) == 2
        assert {Path(file).suffix for file in files} <= {"", ".py", ".txt", ".yaml", ".json", ".safetensors"}
        text = (folder / "MLmodel").read_text()
        assert str(Path(i2idist.__file__).parent) not in text
        assert "/tmp" not in text


def test_mlflow_itself_loads_and_checks_it(models):
    with default_tracking(tracking_uri()):
        served = mlflow.pyfunc.load_model("models:/digits@champion")
        example = served.input_example
    [[text]] = [each["images"] for each in served.predict(example, params={"seed": 1})]
    assert text.startswith("iVBOR")
    assert [param.name for param in served.metadata.signature.params] == ["num_samples", "seed", "target", "style_from"]


STYLED = ("bicyclegan", "drit", "msgan_drit", "munit", "munit_pi", "udit")
"""The methods that take an image's style."""


def picture(darkest):
    """A 16x16 picture in colours: as base64 of a PNG, and (3, 16, 16) in [-1, 1]."""
    levels = np.random.default_rng(darkest).integers(darkest, darkest + 50, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode(), torch.from_numpy(levels).permute(2, 0, 1) / 127.5 - 1


@pytest.mark.parametrize("name", STYLED)
def test_an_exemplars_style_is_taken_through_the_registered_model(place, client, name):
    case = Case(name, *next(iter(METHODS[name].tiny().items())))
    method = case.build()
    for parameter in method.parameters():  # larger than the initial ones, so that styles show
        parameter.data.mul_(5)
    save(str(place / name), method, method_name=name, domains=case.domains)
    version = register(str(place / name), f"styled-{name}", alias=None)
    with default_tracking(tracking_uri()):
        served = mlflow.pyfunc.load_model(f"models:/styled-{name}/{version}")
    client.delete_registered_model(f"styled-{name}")
    inputs, outputs = [picture(darkest) for darkest in (0, 100)], []
    for text, style in (picture(0), picture(200)):
        rows = pd.DataFrame([{"image": image} for image, _ in inputs])
        answer = served.predict(rows, params={"style_from": text})
        got = torch.stack([decoded(one).permute(2, 0, 1).int() for row in answer for one in row["images"]])
        with torch.no_grad():
            expected = method.eval().translate(torch.stack([x for _, x in inputs]), style_from=style)
        assert (got - to_levels(expected).int()).abs().max() <= 1
        outputs.append(got)
    assert (outputs[0] - outputs[1]).abs().max() > 2, "what both may be off by together"


def test_no_other_method_takes_a_style():
    takes = [name for name, cls in METHODS.items() if "style_from" in inspect.signature(cls.translate).parameters]
    assert tuple(sorted(takes)) == STYLED


def test_what_is_not_there_is_told_with_what_is(models):
    for uri, message in (
        ("models:/digits@winner", r"no alias 'winner'.*versions: 2, 1.*candidate = 2, champion = 1"),
        ("models:/digits/7", "no version 7"),
        ("models:/digit@champion", "Did you mean 'digits'"),
        (f"models:/m-{'0' * 32}", "not found"),
        (f"runs:/{'0' * 32}/model", "not found"),
    ):
        with pytest.raises(SourceError, match=message):
            resolve(uri)
    with pytest.raises(SourceError, match="no version 9"):
        promote("digits", version="9")
    for uri in ("models:/digits", "models:/digits/latest", "runs:/short/x"):
        with pytest.raises(ConfigError, match="names no model"):
            resolve(uri)


def test_what_is_no_model_is_not_registered(models, tmp_path, client):
    with pytest.raises(SourceError, match="no model at"):
        register(str(tmp_path), "digits")
    with pytest.raises(ConfigError, match="can't name a registered model"):
        register(models[0], "a/b")
    with pytest.raises(SourceError, match="0000"):
        register(models[0], "other", run_id="0" * 32)
    assert [model.name for model in client.search_registered_models()] == ["digits"]


def test_a_model_of_somebody_else_or_of_another_format_is_refused(models, place, tmp_path, client):
    model_id = client.get_model_version("digits", "2").source.removeprefix("models:/")
    [folder] = [folder for folder in own_files(place) if model_id in str(folder)]
    card = folder / "artifacts" / "model" / "model.json"
    text = card.read_text()
    card.write_text(text.replace('"format_version": 1', '"format_version": 2'))
    try:
        with pytest.raises(SourceError, match="format version 2; this i2idist reads 1"):
            resolve("models:/digits/2", cache=tmp_path)
    finally:
        card.write_text(text)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "weights.pkl").write_bytes(b"")
    other = client.create_logged_model(experiment_id(client, tracking_uri(), "i2idist"), name="theirs")
    client.log_model_artifacts(other.model_id, str(tmp_path / "theirs"))
    with pytest.raises(SourceError, match="no model of i2idist"):
        resolve(f"models:/{other.model_id}", cache=tmp_path)


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!")])
def test_a_model_that_was_harmed_in_the_cache_is_mended(models, tmp_path, harm):
    found = Path(resolve("models:/digits/1", cache=tmp_path).folder_url)
    harm(next(found.glob("weights-*")))
    load(resolve("models:/digits/1", cache=tmp_path).folder_url)
    assert [path.name for path in tmp_path.iterdir()] == [found.name]


def test_a_model_in_the_cache_is_not_fetched_again(models, place, tmp_path, client):
    found = resolve("models:/digits/1", cache=tmp_path)
    logged = client.get_logged_model(client.get_model_version("digits", "1").source.removeprefix("models:/"))
    artifacts = Path(logged.artifact_location.removeprefix("file://"))
    artifacts.rename(tmp_path / "away")
    try:
        for uri in ("models:/digits@champion", f"models:/{logged.model_id}"):
            assert resolve(uri, cache=tmp_path).folder_url == found.folder_url
        with pytest.raises(SourceError, match="fetch models:/digits/1"):
            resolve("models:/digits/1", cache=tmp_path / "empty")
    finally:
        (tmp_path / "away").rename(artifacts)


def test_the_cache_keeps_to_its_limit(models, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "CACHE_BYTES", 1)
    first = Path(resolve("models:/digits/1", cache=tmp_path).folder_url)
    second = Path(resolve("models:/digits/2", cache=tmp_path).folder_url)
    assert first.exists(), "it was used within the hour"
    os.utime(first, (0, 0))
    shutil.rmtree(second)
    resolve("models:/digits/2", cache=tmp_path)
    assert list(tmp_path.iterdir()) == [second]


def test_a_model_whose_run_was_tracked_elsewhere_is_registered_without_it(models, place, client):
    save_tiny(str(place / "third"), seed=4, mlflow_run_id="0" * 32)
    assert register(str(place / "third"), "third") == "1"
    assert not client.get_model_version("third", "1").run_id
    client.delete_registered_model("third")


@pytest.mark.parametrize("alias", ["latest", "v1", "7", "a b", "x/y", "Latest"])
def test_aliases_that_cannot_be_are_refused_before_anything_is_stored(models, client, alias):
    for action in (lambda: register(models[0], "new", alias=alias), lambda: promote("digits", alias)):
        with pytest.raises(ConfigError, match=f"'{alias}' can't be an alias"):
            action()
    assert [model.name for model in client.search_registered_models()] == ["digits"]


def test_a_server_that_is_away_is_told_at_once(models):
    begun = time.monotonic()
    with pytest.raises(TrackingError, match="127.0.0.1:1"):
        register(models[0], "digits", uri="http://127.0.0.1:1")
    with pytest.raises(TrackingError, match="127.0.0.1:1"):
        resolve("models:/digits/1", uri="http://127.0.0.1:1")
    assert time.monotonic() - begun < 5


def test_mlflows_own_settings_are_left_alone(models, monkeypatch):
    assert "MLFLOW_TRACKING_URI" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    with default_tracking("sqlite:////elsewhere/mlflow.db"):
        assert mlflow.get_tracking_uri() == "sqlite:////elsewhere/mlflow.db"
    assert os.environ["MLFLOW_TRACKING_URI"] == mlflow.get_tracking_uri() == "sqlite:////nowhere/mlflow.db"


def test_the_commands(models, capsys, client):
    out, _, code = command(capsys, "register", models[0], "named", "--alias", "mine", "--json")
    assert code == 0
    assert json.loads(out) == {"name": "named", "version": "1", "tracking_uri": tracking_uri()}
    out, _, code = command(capsys, "promote", "named", "--version", "1", "--to", "best", "--json")
    assert code == 0
    assert json.loads(out)["alias"] == "best"
    assert aliases(client, "named") == {"mine": "1", "best": "1"}
    _, err, code = command(capsys, "promote", "named")
    assert code == SourceError.exit_code
    assert "no alias 'candidate'" in err
    client.delete_registered_model("named")
