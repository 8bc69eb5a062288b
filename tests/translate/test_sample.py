"""A generator's samples as jobs: a labelled dataset, a function of weights, seed and number alone."""

import shutil
from pathlib import Path

import pytest
import torch

from i2idist import load
from i2idist.catalog import Catalog
from i2idist.catalog.lineage import trace
from i2idist.data.batches import Labelled
from i2idist.data.manifest import load_manifest
from i2idist.data.reader import DataSettings, Reader
from i2idist.data.transforms import to_levels
from i2idist.data.verify import verify
from i2idist.errors import ConfigError
from i2idist.method import Domain, Domains
from i2idist.methods import ACGAN, WGANGP
from i2idist.model import save
from i2idist.translate import Options, inputs, sample, translate

DOMAINS = Domains((Domain("image", 3, 16, 16),), ("red", "green", "blue"))


def saved(folder, cls, name):
    torch.manual_seed(0)
    method = cls(next(iter(cls.tiny().values())), DOMAINS)
    for parameter in method.parameters():  # larger than the initial ones, so that codes and labels show
        parameter.data.add_(torch.randn(parameter.shape) / 4)
    save(str(folder), method, method_name=name, domains=DOMAINS, lineage={"run": "r"})
    return str(folder)


@pytest.fixture(scope="module")
def acgan(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "colours", ACGAN, "acgan")


@pytest.fixture(autouse=True)
def small_items(monkeypatch):
    monkeypatch.setattr(inputs, "SAMPLES_ITEM", 8)


def job(model, num, out, launcher="local", **options):
    return sample(model, num, str(out), Options(batch_size=5, **options), launcher=launcher)


def read(url):
    reader = Reader(
        DataSettings(url=url), role=Labelled, batch_size=64, group_size=1, rank=0, world_size=1, seed=0, shuffle=False
    )
    try:
        batch = next(reader.epoch())
        return reader.keys(batch), batch
    finally:
        reader.close()


def test_samples_are_a_labelled_dataset_of_what_the_model_makes(acgan, tmp_path):
    result = job(acgan, 20, tmp_path, seed=3)
    assert (result.inputs, result.outputs, result.shards, result.errors) == (20, 20, 3, 0)
    manifest = load_manifest(result.url)
    assert (manifest.labels, manifest.label_kind, manifest.digest) == (DOMAINS.labels, "class", result.digest)
    assert verify(result.url, decode_images=True).problems == ()
    keys, batch = read(result.url)
    assert keys == [f"{place:08d}" for place in range(20)]
    assert batch.y.tolist() == [place % 3 for place in range(20)]
    made = load(acgan).sample(20, seed=3)
    assert (to_levels(batch.x).int() - to_levels(made).int()).abs().max() <= 1, "batches of other sizes round otherwise"
    assert made.flatten(1).std(0).mean() > 0.05
    assert not torch.equal(made, load(acgan).sample(20, seed=4))


def test_a_target_is_the_label_of_all(acgan, tmp_path):
    _, batch = read(job(acgan, 5, tmp_path, target="blue").url)
    assert batch.y.tolist() == [2] * 5
    with pytest.raises(ConfigError, match="target is 'blau', but this model makes images of red, green, blue"):
        job(acgan, 5, tmp_path, target="blau")


def test_more_samples_begin_with_fewer(acgan, tmp_path):
    few, many = (read(job(acgan, num, tmp_path).url)[1] for num in (8, 20))
    assert torch.equal(few.x, many.x[:8])


def test_what_was_lost_is_made_again_to_the_same_bytes(acgan, tmp_path, tree):
    first = job(acgan, 20, tmp_path / "out")
    whole = tree(first.url)
    shutil.copytree(first.url, tmp_path / "again" / Path(first.url).name)
    for name in ("train/samples-00001.json", "train/samples-00002.tar", "_SUCCESS"):
        (tmp_path / "again" / Path(first.url).name / name).unlink()
    second = job(acgan, 20, tmp_path / "again")
    assert (second.kept, second.digest) == (1, first.digest)
    assert tree(second.url) == whole
    assert job(acgan, 20, tmp_path / "again").kept == 3


@pytest.mark.slow
def test_actors_make_the_same_bytes(acgan, tmp_path, tree):
    alone, actors = job(acgan, 20, tmp_path / "alone"), job(acgan, 20, tmp_path / "actors", launcher="ray")
    assert tree(alone.url) == tree(actors.url)


def test_without_labels_there_are_none(tmp_path):
    model = saved(tmp_path / "plain", WGANGP, "wgan_gp")
    manifest = load_manifest(job(model, 3, tmp_path).url)
    assert (manifest.label_kind, manifest.labels, manifest.counts["train"]) == ("none", (), {"image": 3})
    with pytest.raises(ConfigError, match="has no labels to choose from"):
        job(model, 3, tmp_path, target="red")


def test_an_image_leads_back_to_its_model_and_to_no_dataset(acgan, tmp_path, catalog):
    result = job(acgan, 9, tmp_path)
    with Catalog(catalog) as found:
        (row,) = found.translations()
        assert (row.state, row.dataset_url) == ("done", "samples:9") and not found.datasets()
        traced = trace(found, f"{result.url}/train/samples-00001.tar#00000008.image.png")
    kinds = [link.kind for link in (traced.subject, *traced.origins)]
    assert kinds[0] == "image" and "model" in kinds and "dataset" not in kinds


def test_generators_and_translators_are_told_apart(acgan, segan, digits, tmp_path):
    with pytest.raises(ConfigError, match="acgan makes images of codes alone"):
        translate(acgan, digits, str(tmp_path), launcher="local", domain="b")
    with pytest.raises(ConfigError, match="segan translates images"):
        job(segan, 3, tmp_path)
    with pytest.raises(ConfigError, match="num is 0"):
        job(acgan, 0, tmp_path)
