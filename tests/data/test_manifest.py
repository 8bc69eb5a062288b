import json
import re
from dataclasses import replace

import pytest

from i2idist import storage
from i2idist.data.manifest import load_manifest, parse, to_json
from i2idist.errors import ConfigError, DataError, ManifestError
from i2idist.method import Domain
from tests.data.samples import make_paired, make_unpaired, write_manifest


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("manifest") / "pairs")
    return url, make_paired(url, count=9)


def changed(manifest, url, change):
    content = json.loads(to_json(manifest))
    change(content)
    write_manifest(url, content)


def test_a_manifest_comes_back_whole(dataset):
    url, manifest = dataset
    assert load_manifest(url) == manifest
    assert manifest.pool("train", "a") is manifest.pool("train", "b")
    assert manifest.pool("train", "a").count == 9
    assert manifest.labels == ("0", "1", "2")
    assert [(d.channels, d.bits, d.size) for d in manifest.domains] == [(1, 8, (6, 8)), (3, 8, (6, 8))]


def test_domains_for_a_size(dataset):
    _, manifest = dataset
    assert manifest.domains_for((32, 64)).b == Domain("b", 3, 32, 64)
    assert manifest.domains_for(None).a == Domain("a", 1, 6, 8)
    assert [d.name for d in manifest.domains_for(None, ["b", "a"]).images] == ["b", "a"]


def test_the_digest_depends_on_every_byte_of_the_data(dataset, tmp_path):
    _, manifest = dataset
    assert make_paired(tmp_path / "same", count=9).digest == manifest.digest
    assert make_paired(tmp_path / "other", count=10).digest != manifest.digest


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version_is_refused(dataset, memory_url, version):
    changed(dataset[1], memory_url, lambda content: content.update(schema_version=version))
    with pytest.raises(ManifestError, match=f"schema version {version!r}; this i2idist reads version 1"):
        load_manifest(memory_url)


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd.tar", "/etc/x.tar", "train/../../x.tar", "s3://bucket/x.tar", "train\\x.tar", "other/a.tar"],
)
def test_a_shard_outside_the_dataset_is_refused(dataset, memory_url, name):
    def change(content):
        content["splits"]["train"][0]["shards"][0]["name"] = name

    changed(dataset[1], memory_url, change)
    with pytest.raises(ManifestError, match="malformed"):
        load_manifest(memory_url)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(surprise=1),
        lambda content: content.pop("role"),
        lambda content: content.update(role="pared"),
        lambda content: content["domains"].pop(),
        lambda content: content["domains"][0].update(bits=12),
        lambda content: content["domains"][0].update(name="b"),
        lambda content: content["splits"]["train"][0].update(shards=[]),
        lambda content: content["splits"]["train"][0]["shards"][0].update(sha256="abc"),
        lambda content: content["splits"]["train"][0]["shards"][0].update(count="many"),
    ],
)
def test_a_malformed_manifest_is_refused(dataset, memory_url, change):
    changed(dataset[1], memory_url, change)
    with pytest.raises(ManifestError, match=rf"{memory_url}/manifest\.json is malformed at"):
        load_manifest(memory_url)


def test_an_edited_manifest_is_noticed(dataset):
    forged = to_json(replace(dataset[1], name="forged"))
    with pytest.raises(ManifestError, match=f"changed after it was written.*{dataset[1].digest}"):
        parse(forged, "x")


def test_what_is_no_json_is_refused():
    with pytest.raises(ManifestError, match="x is not JSON"):
        parse(b"{", "x")


def test_a_missing_dataset_is_named(tmp_path):
    with pytest.raises(DataError, match=f"No dataset at {tmp_path}"):
        load_manifest(str(tmp_path))


def test_unknown_names_are_refused_with_a_hint(dataset):
    _, manifest = dataset
    with pytest.raises(ConfigError, match="no split 'trian'. Did you mean 'train'"):
        manifest.pool("trian", "a")
    with pytest.raises(ConfigError, match="no domain 'c'"):
        manifest.pool("train", "c")


def test_images_of_various_sizes_need_one_to_train_at(tmp_path):
    from i2idist.data.pack import Sample, pack
    from tests.data.samples import picture

    samples = [Sample(f"s{n}", "train", {"x": picture(n, size=(4 + n, 5))}) for n in range(2)]
    manifest = pack(samples, str(tmp_path / "d"), name="d", role="images")
    with pytest.raises(ConfigError, match="differ in size: set data.size"):
        manifest.domains_for(None)
    assert manifest.domains_for((4, 4)).a.height == 4


def test_unpaired_pools_stand_apart(memory_url):
    manifest = make_unpaired(memory_url)
    assert (manifest.pool("train", "a").count, manifest.pool("train", "b").count) == (13, 20)
    names = [re.sub("[0-9a-f]{16}", "HASH", name) for name in storage.walk(memory_url)]
    assert "train/a-00000-HASH.tar" in names
    assert "train/b-00000-HASH.json" in names
