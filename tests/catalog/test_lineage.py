"""Lineage both ways over a real run, a real model and a real translation."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from sqlalchemy import update

from i2idist import launch, storage
from i2idist.catalog import Catalog
from i2idist.catalog.lineage import trace
from i2idist.catalog.models import Translation
from i2idist.data.generated import generate
from i2idist.data.manifest import load_manifest
from i2idist.errors import CatalogError
from i2idist.launch.export import export
from i2idist.launch.run_folder import RunFolder
from i2idist.translate import Options, translate

METHOD = {"name": "pix2pix", "width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3}
TRAINING = {"total_images": 8, "batch_size": 4, "log_every_images": 4, "checkpoint_every_images": 4}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset, a run on it, its model, a translation by that, and the catalog that all of them wrote to."""
    folder = tmp_path_factory.mktemp("world")
    data, root = str(folder / "edges"), str(folder / "runs")
    raw = {
        "method": METHOD,
        "data": {"url": data, "cache_dir": str(folder / "cache")},
        "train": TRAINING,
        "resources": {"launcher": "local", "threads_per_worker": 1},
        "tracking": {"offline": True},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(raw))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("I2IDIST_CATALOG", f"sqlite:///{folder}/catalog.db")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        made = generate("edges", data, size=16, train=8, val=0, test=3)
        with Catalog() as catalog:
            catalog.record_dataset(data, made.name, made.digest, made.role, {})
        launch.train(str(folder / "tiny.yaml"), run="first", root=root)
        card = export("first", str(folder / "model"), root=root)
        options = Options(seed=1)
        made = translate(str(folder / "model"), data, str(folder / "out"), options, split="test", launcher="local")
        with Catalog() as catalog:
            yield SimpleNamespace(
                folder=folder,
                catalog=catalog,
                data=data,
                run=f"{root}/first",
                root=root,
                model=str(folder / "model"),
                card=card,
                out=made.url,
                manifest=load_manifest(data),
            )


def kinds(links):
    return [link.kind for link in links]


def shard_of(out):
    return next(name for name in storage.walk(out) if name.endswith(".tar"))


def test_from_an_image_to_model_run_config_code_and_data(world):
    shard = shard_of(world.out)
    key = json.loads(Path(world.out, shard).with_suffix(".json").read_text())["keys"][1]
    found = trace(world.catalog, f"{world.out}/{shard}#{key}.png")
    assert trace(world.catalog, f"{world.out}/{shard}/{key}").as_dict()["subject"]["key"] == key
    digest = hashlib.sha256(Path(world.out, shard).read_bytes()).hexdigest()
    assert (found.subject.kind, found.subject.name, found.subject.problem) == ("image", f"{key}.png", None)
    assert (found.subject.facts["shard"]["digest"], found.subject.facts["shard"]["count"]) == (digest, 3)
    assert kinds(found.origins) == ["translation", "dataset", "model", "run", "dataset"]
    translation, translated, model, run, trained = (link.facts for link in found.origins)
    assert [link.problem for link in found.origins] == [None] * 5
    assert (translation["out_url"], translation["state"], translation["options"]["seed"]) == (world.out, "done", 1)
    assert translated["digest"] == trained["digest"] == world.manifest.digest
    assert model["weights_sha256"] == world.card.weights_sha256
    folder = RunFolder(world.root, "first")
    assert run["url"] == world.run
    assert run["config"] == folder.experiment().as_dict()
    assert run["experiment_digest"] == folder.experiment().digest
    assert run["code"] == folder.record()["launches"][0]["facts"]["code"]
    assert run["dataset_digest"] == world.manifest.digest
    assert (run["images"], run["ended"]) == (8, "done")
    json.dumps(found.as_dict())


@pytest.mark.parametrize("name", ["first", "folder", "checkpoint"])
def test_from_a_run_to_its_data_and_translations(world, name):
    checkpoint = storage.join(world.run, "checkpoints", storage.list_dir(f"{world.run}/checkpoints")[0])
    found = trace(world.catalog, {"first": "first", "folder": world.run + "/", "checkpoint": checkpoint}[name])
    assert (found.subject.kind, found.subject.facts["url"]) == ("run", world.run)
    assert [link.facts["digest"] for link in found.origins] == [world.manifest.digest]
    assert [link.facts["out_url"] for link in found.uses] == [world.out]


def test_a_translation_that_names_no_run_is_found_by_its_model(world):
    with world.catalog._writing() as session:
        session.execute(update(Translation).values(run_url=None))
    try:
        assert [link.facts["out_url"] for link in trace(world.catalog, "first").uses] == [world.out]
        assert trace(world.catalog, world.out).origins[-2].facts["url"] == world.run
    finally:
        with world.catalog._writing() as session:
            session.execute(update(Translation).values(run_url=world.run))


def test_from_a_model_a_dataset_and_a_folder_of_outputs(world):
    model = trace(world.catalog, world.model)
    assert (model.subject.kind, kinds(model.origins), kinds(model.uses)) == (
        "model",
        ["run", "dataset"],
        ["translation"],
    )
    shard = f"{world.data}/{world.manifest.pool('test', 'a').shards[0].name}"
    for name in ("edges", world.data, f"{world.data}/", shard, f"{shard}#e00000", world.manifest.digest):
        data = trace(world.catalog, name)
        assert (data.subject.kind, data.subject.name) == ("dataset", "edges")
        assert [(link.kind, link.name) for link in data.uses] == [
            ("run", "first"),
            ("translation", world.out.rsplit("/", 1)[-1]),
        ]
    outputs = trace(world.catalog, str(world.folder / "out"))
    assert kinds(outputs.uses) == ["translation"]


def test_a_translation_that_the_catalog_never_heard_of_speaks_for_itself(world, tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/empty.db") as catalog:
        found = trace(catalog, f"{world.out}/{shard_of(world.out)}")
        assert kinds(found.origins) == ["translation", "dataset", "model", "run", "dataset"]
        assert found.origins[3].facts["url"] == world.run
        assert "The catalog lists no shard" in found.subject.problem
        assert trace(catalog, world.out).subject.kind == "translation"
        assert trace(catalog, f"{world.run}/checkpoints").subject.facts["url"] == world.run
        catalog.start_job("train", "first", run_url=world.run)
        for place in (world.data, f"{world.data}/test"):
            data = trace(catalog, place)
            assert (data.subject.facts["digest"], kinds(data.uses)) == (world.manifest.digest, ["run"])


def test_translations_inside_a_run_model_or_dataset_dont_hide_it(world, tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/c.db") as catalog:
        for kind, place in (("run", world.run), ("model", world.model), ("dataset", world.data)):
            catalog.start_translation("b" * 64, world.model, None, world.data, "c" * 64, f"{place}/out/m-bbb", {})
            assert trace(catalog, place).subject.kind == kind
            assert trace(catalog, f"{place}/out").subject.kind == "folder"


@pytest.mark.parametrize("name", ["job.json", "manifest.json"])
@pytest.mark.parametrize("content", ["{}", "[1]", "no JSON"])
def test_files_of_other_programs_are_not_taken_for_ours(world, tmp_path, name, content):
    (tmp_path / "a").mkdir()
    (tmp_path / name).write_text(content)
    with pytest.raises(CatalogError, match="knows nothing named"):
        trace(world.catalog, str(tmp_path / "a"))


def test_a_damaged_index_is_said(world, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(world.out, copy)
    shard = shard_of(str(copy))
    (copy / shard).with_suffix(".json").write_text("{")
    with Catalog(f"sqlite:///{tmp_path}/c.db") as catalog:
        number = catalog.start_translation("b" * 64, world.model, None, world.data, "c" * 64, str(copy), {})
        catalog.record_shard(number, shard, "done", 3, "d" * 64)
        assert "is damaged (JSONDecodeError" in trace(catalog, f"{copy}/{shard}#k").subject.problem


def test_what_is_gone_is_said(world, tmp_path):
    copy = str(tmp_path / "model")
    shutil.copytree(world.model, copy)
    with Catalog(f"sqlite:///{tmp_path}/c.db") as catalog:
        catalog.start_translation("b" * 64, copy, None, "/gone/data", "c" * 64, "/gone/out", {}, run_url="/gone/run")
        catalog.start_job("train", "gone", run_url="/gone/run")
        found = trace(catalog, "/gone/out/test/a.tar")
        assert (found.origins[2].name, found.origins[2].problem) == ("model", None)
        assert "/gone/run/experiment.yaml" in found.origins[3].problem
        Path(copy, "model.json").unlink()
        assert f"no model at {copy} any more" in trace(catalog, "/gone/out").origins[1].problem
        Path(copy, "model.json").write_text("{}")
        assert "damaged (KeyError" in trace(catalog, "/gone/out").origins[1].problem
        assert "Can't read" in trace(catalog, "gone").subject.problem


def test_what_nobody_knows_names_the_nearest(world):
    with pytest.raises(CatalogError, match="holds no image 'absent'"):
        trace(world.catalog, f"{world.out}/{shard_of(world.out)}#absent")
    with pytest.raises(CatalogError, match=r"knows nothing named 'frist'\. Did you mean 'first'\?"):
        trace(world.catalog, "frist")
    world.catalog.start_job("tune", "study-1")
    with pytest.raises(CatalogError, match="The job 'study-1' has no folder"):
        trace(world.catalog, "study-1")


def test_a_registered_model_by_alias_and_version(world):
    from i2idist.tracking.registry import register

    version = register(world.model, "tiny")
    for uri in ("models:/tiny@candidate", f"models:/tiny/{version}"):
        found = trace(world.catalog, uri)
        assert found.subject.problem is None
        assert found.subject.facts["weights_sha256"] == world.card.weights_sha256
        assert (found.subject.facts["uri"], found.subject.facts["version"]) == (f"models:/tiny/{version}", version)
        assert [link.facts["url"] for link in found.origins] == [world.run, world.data]
        assert found.uses == ()
    out = "s3://team/out/tiny-v1"
    world.catalog.start_translation("e" * 64, "models:/tiny@candidate", version, world.data, "a" * 64, out, {})
    world.catalog.start_translation("e" * 64, "models:/tiny2/1", "1", world.data, "a" * 64, "s3://team/out/other", {})
    assert [link.facts["out_url"] for link in trace(world.catalog, f"models:/tiny/{version}").uses] == [out]
    assert {link.facts["out_url"] for link in trace(world.catalog, "first").uses} == {out, world.out}
    with pytest.raises(CatalogError, match="knows nothing of models:/tinny@champion, and: There is no .*'tiny'"):
        trace(world.catalog, "models:/tinny@champion")
