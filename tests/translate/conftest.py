import json

import numpy as np
import pytest
import torch
from PIL import Image

from i2idist import storage
from i2idist.data.generated import resolve
from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample, pack
from i2idist.methods import SEGAN, Pix2Pix
from i2idist.model import save

SHARDS = 4


@pytest.fixture(autouse=True)
def catalog(tmp_path, monkeypatch):
    """A catalog of its own for each test; its URL."""
    url = f"sqlite:///{tmp_path}/catalog.db"
    monkeypatch.setenv("I2IDIST_CATALOG", url)
    return url


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Handwritten digits with labels, 16x16, in several shards: the URL of a dataset."""
    return resolve("generated:digits?size=16&train=8&val=0&test=70", str(tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Labelled grey noise in four shards of 12, 12, 12 and 4: the URL of a dataset."""
    dest = str(tmp_path_factory.mktemp("shards") / "noise")
    generator = np.random.default_rng(0)
    samples = (
        Sample(f"s{n:03d}", "test", {"a": generator.integers(0, 256, (16, 16), dtype=np.uint8)}, n % 3)
        for n in range(40)
    )
    manifest = pack(samples, dest, name="noise", role="images", shard_bytes=24_000, workers=1)
    assert len(manifest.pool("test", "a").shards) == SHARDS
    return dest


def _saved(folder, method, name, domains):
    for parameter in method.parameters():  # larger than the initial ones, so that the code shows in the output
        parameter.data.mul_(8)
    save(str(folder), method, method_name=name, domains=domains, lineage={"run": "r"})
    return str(folder)


@pytest.fixture(scope="session")
def segan(tmp_path_factory, digits):
    """A tiny model with codes, from 1 channel to 3: its URL."""
    domains = load_manifest(digits).domains_for(None)
    torch.manual_seed(0)
    return _saved(
        tmp_path_factory.mktemp("models") / "tiny", SEGAN(SEGAN.tiny()["unpaired_jsd"], domains), "segan", domains
    )


@pytest.fixture(scope="session")
def plain(tmp_path_factory, digits):
    """A tiny model without codes: its URL."""
    domains = load_manifest(digits).domains_for(None)
    torch.manual_seed(0)
    method = next(m for m in (Pix2Pix(config, domains) for config in Pix2Pix.tiny().values()) if not m.code_dim)
    return _saved(tmp_path_factory.mktemp("models") / "plain", method, "pix2pix", domains)


@pytest.fixture(scope="session")
def tree():
    """Reads every file below a folder: bytes by path."""

    def read(url):
        return {name: storage.read_bytes(storage.join(url, name)) for name in storage.walk(url)}

    return read


@pytest.fixture
def photos(tmp_path):
    """A plain folder of ten pictures: a second folder, a colour one, a small one, a JPEG, and one that is no image."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    generator = np.random.default_rng(1)
    for number in range(7):
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / f"p{number}.png")
    Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / "more" / "colour.png")
    Image.fromarray(generator.integers(0, 256, (12, 20), dtype=np.uint8)).save(folder / "more" / "small.jpg")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing of the kind")
    return str(folder)


@pytest.fixture
def errors_of():
    """Reads a job's error report."""

    def read(url):
        return [json.loads(line) for line in storage.read_bytes(storage.join(url, "errors.jsonl")).splitlines()]

    return read
