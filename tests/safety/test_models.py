"""Models, checkpoints and weight files from elsewhere: what a folder says of itself is believed in nothing."""

import hashlib
import json
import os
import pickle
import struct

import pytest
import torch

from i2idist import model, storage
from i2idist.errors import CheckpointError, ConfigError, SourceError
from i2idist.evaluate import classifiers
from i2idist.experiment import Source
from i2idist.launch.sources import load_source
from i2idist.method import Domain, Domains
from i2idist.methods.pix2pix import Pix2Pix
from i2idist.tensors import parse_tensors
from i2idist.train.checkpoint import Checkpoints

DOMAINS = Domains((Domain("a", 3, 16, 16), Domain("b", 3, 16, 16)))
SMALL = Pix2Pix.Config(width=4, discriminator_width=4, discriminator_layers=2, depth=2)


class Intruder:
    """Pickled, it is a call."""

    def __reduce__(self):
        return os.system, ("touch broken-in",)


def header(values, data=b""):
    """A safetensors file of a header that is written by hand."""
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def pickled(way):
    if way == "torch":
        torch.save({"x": Intruder()}, "p")
        with open("p", "rb") as file:
            data = file.read()
        os.remove("p")
        return data
    return pickle.dumps(Intruder())


WEIGHTS = {
    "a pickle": lambda: pickled("plain"),
    "a torch pickle": lambda: pickled("torch"),
    "a header of exabytes": lambda: struct.pack("<Q", 2**62) + b"{}",
    "a header beyond the file": lambda: struct.pack("<Q", 10_000) + b"{}",
    "a header of the largest size": lambda: struct.pack("<Q", 2**64 - 1) + b"{}",
    "tensors that overlap": lambda: header({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)),
    "the same bytes twice": lambda: header({"a": tensor([2], 0, 8), "b": tensor([2], 0, 8)}, bytes(8)),
    "a hole": lambda: header({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)),
    "offsets beyond the end": lambda: header({"a": tensor([4], 0, 16)}, bytes(8)),
    "offsets turned round": lambda: header({"a": tensor([2], 8, 0)}, bytes(8)),
    "a negative offset": lambda: header({"a": tensor([2], -8, 0)}, bytes(8)),
    "a shape that isn't a number": lambda: header(
        b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)
    ),
    "a negative shape": lambda: header({"a": tensor([-1], 0, 4)}, bytes(4)),
    "a shape that overflows": lambda: header({"a": tensor([2**33, 2**33], 0, 4)}, bytes(4)),
    "a shape of more than there is": lambda: header({"a": tensor([2**40], 0, 4)}, bytes(4)),
    "an unknown type": lambda: header({"a": tensor([1], 0, 4, "object")}, bytes(4)),
    "brackets": lambda: header(b"[" * 100_000),
    "nothing": lambda: b"",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not os.path.exists("broken-in"), "what was loaded ran a command"


@pytest.fixture
def saved(tmp_path):
    url = str(tmp_path / "model")
    model.save(url, Pix2Pix.build(SMALL, DOMAINS), method_name="pix2pix", domains=DOMAINS)
    return url


def card_of(url):
    return json.loads(storage.read_bytes(f"{url}/model.json"))


def change(url, **values):
    storage.write_bytes(f"{url}/model.json", json.dumps({**card_of(url), **values}).encode())


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_none_are_refused_even_under_the_right_digest(kind, saved, tmp_path):
    data = WEIGHTS[kind]()
    digest = hashlib.sha256(data).hexdigest()
    storage.write_bytes(f"{saved}/weights-evil.safetensors", data)
    change(saved, weights="weights-evil.safetensors", weights_sha256=digest)
    with pytest.raises(SourceError, match="weights-evil.safetensors holds no safetensors"):
        model.load(saved)
    with pytest.raises(SourceError, match="holds no safetensors"):
        load_source(Source(uri="x", url=f"{saved}/weights-evil.safetensors", sha256=digest))
    folder = tmp_path / "checkpoints" / "images-000000000004"
    rest = b"{}"
    files = {"state.safetensors": data, "state.json": rest}
    commit = {name: {"bytes": len(held), "sha256": hashlib.sha256(held).hexdigest()} for name, held in files.items()}
    for name, held in {**files, "COMMIT.json": json.dumps({"format_version": 1, "files": commit}).encode()}.items():
        storage.write_bytes(str(folder / name), held)
    with pytest.raises(CheckpointError, match="can't be read"):
        Checkpoints(str(tmp_path / "checkpoints")).load("images-000000000004")


def test_a_file_of_nothing_but_a_header_holds_nothing():
    assert parse_tensors(header({}), "here") == {}


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/passwd", "a/../../secret.safetensors", "..", "weights.pt", "x\n.safetensors", ""],
)
def test_weights_lie_beside_the_card_and_nowhere_else(name, saved, tmp_path):
    data = storage.read_bytes(f"{saved}/{card_of(saved)['weights']}")
    (tmp_path / "secret.safetensors").write_bytes(data)
    change(saved, weights=name)
    with pytest.raises(SourceError, match="model.json is damaged"):
        model.load(saved)


@pytest.mark.parametrize(
    "method", ["os:system", "subprocess:Popen", "builtins:eval", "i2idist.model:load", "no.such:It"]
)
def test_a_card_names_no_code_but_methods(method, saved):
    change(saved, method=method, config={"args": "touch broken-in"})
    with pytest.raises(ConfigError, match="is no subclass|has no|failed"):
        model.load(saved)


def test_a_wrong_digest_is_named_with_both(saved):
    right = card_of(saved)["weights_sha256"]
    change(saved, weights_sha256="0" * 64)
    with pytest.raises(SourceError, match=f"expected SHA-256 {'0' * 64}, found {right}"):
        model.load(saved)


IMAGE = {"name": "a", "channels": 3, "height": 16, "width": 16}


@pytest.mark.parametrize(
    "values",
    [
        {"domains": {"images": [IMAGE], "labels": []}},
        {"domains": {"images": [], "labels": []}},
        {"domains": {"images": [{**IMAGE, "channels": 2**40}, IMAGE], "labels": []}},
        {"domains": {"images": [{**IMAGE, "channels": -1}, IMAGE], "labels": []}},
        {"domains": {"images": [{**IMAGE, "channels": "3; rm"}, IMAGE], "labels": []}},
        {"config": {"width": 2**40}},
        {"config": {"width": 10**30}},
        {"config": {"width": -4}},
        {"config": {"no_such": 1}},
        {"config": []},
        {"code_dim": 99},
        {"format_version": 2**70},
        {"format_version": [1]},
    ],
)
def test_a_card_that_makes_no_model_is_refused(values, saved):
    change(saved, **values)
    with pytest.raises((SourceError, ConfigError)):
        model.load(saved)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"[]", b"null", b"\xff\xfe", b'{"format_version": 1' + b"1" * 9000])
def test_a_card_that_is_none_is_damaged(data, saved):
    storage.write_bytes(f"{saved}/model.json", data)
    with pytest.raises(SourceError, match="model.json is damaged"):
        model.load(saved)


def test_a_classifier_s_weights_lie_beside_its_card_too(tmp_path):
    card = {
        **{"format_version": classifiers.FORMAT_VERSION, "dataset": "d", "dataset_digest": "0" * 64, "domains": ["a"]},
        **{"size": [8, 8], "channels": 3, "kind": "class", "labels": ["x", "y"], "epochs": 1, "seed": 0},
        **{"accuracy": 1.0, "accuracies": {}, "weights": "../evil.safetensors", "weights_sha256": "0" * 64},
    }
    storage.write_bytes(f"{tmp_path}/{classifiers.FILE_NAME}", json.dumps(card).encode())
    with pytest.raises(SourceError, match="is damaged"):
        classifiers.pin(str(tmp_path))
    data = WEIGHTS["a torch pickle"]()
    named = {**card, "weights": "evil.safetensors", "weights_sha256": hashlib.sha256(data).hexdigest()}
    storage.write_bytes(f"{tmp_path}/{classifiers.FILE_NAME}", json.dumps(named).encode())
    storage.write_bytes(f"{tmp_path}/evil.safetensors", data)
    with pytest.raises(SourceError, match="holds no safetensors"):
        classifiers.load(classifiers.pin(str(tmp_path)))
