import dataclasses

import pytest

from i2idist.errors import ConfigError
from i2idist.experiment import Resources, differences, from_dict, from_yaml, may_change, read_experiment

RAW = {
    "method": {"name": "cyclegan", "width": 4, "betas": [0.5, 0.9]},
    "data": {"url": "somewhere", "size": [16, 32]},
    "train": {"total_images": 100, "batch_size": 4},
}


def experiment(**sections):
    return from_dict({**RAW, **sections}, "recipe.yaml")


def test_sections_become_typed_settings():
    found = experiment(resources={"num_workers": [2, 4]}, init_from="earlier", sources={"vgg": "vgg.safetensors"})
    assert found.method.config.width == 4
    assert found.method.config.betas == (0.5, 0.9)
    assert found.data.size == (16, 32)
    assert found.resources.workers_range == (2, 4)
    assert found.init_from.uri == "earlier"
    assert found.sources["vgg"].uri == "vgg.safetensors"


def test_a_method_may_be_a_plain_name_or_come_from_outside():
    assert experiment(method="cyclegan").method.config.pool_size == 50
    outside = experiment(method="i2idist.methods.pix2pix:Pix2Pix")
    assert outside.method.name == "i2idist.methods.pix2pix:Pix2Pix"
    assert type(outside.method.config).__module__ == "i2idist.methods.pix2pix"


def test_yaml_round_trip_is_exact():
    first = experiment(
        seed=7, init_from="x", sources={"a": {"uri": "u", "sha256": "1e5"}}, resources={"num_workers": [1, 2]}
    )
    first = dataclasses.replace(
        first, method=dataclasses.replace(first.method, config=dataclasses.replace(first.method.config, lr=0.1 + 0.2))
    )
    again = from_yaml(first.as_yaml(), "there")
    assert again == first
    assert again.digest == first.digest


def test_the_digest_follows_every_value():
    base = experiment()
    assert base.digest == experiment().digest
    changed = [experiment(seed=1), experiment(method={**RAW["method"], "width": 8}), experiment(data={"url": "else"})]
    assert len({base.digest, *(other.digest for other in changed)}) == 4


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"trian": {}}, r"recipe.yaml: 'trian' is no known key. Did you mean 'train'\?"),
        (
            {"train": {"total_image": 1, "batch_size": 1}},
            r"'train.total_image' is no known key. Did you mean 'train.total_images'\?",
        ),
        (
            {"method": {"name": "cyclegan", "lamda_cycle": 1}},
            r"'method.lamda_cycle' .* Did you mean 'method.lambda_cycle'\?",
        ),
        ({"sources": {"a": {"url": 1, "uri": "b", "sha": 2}}}, r"'sources.a.sha' is no known key"),
        (
            {"train": {"total_images": "many", "batch_size": 4}},
            r"recipe.yaml: 'train.total_images': .*valid integer.*not 'many'",
        ),
        ({"train": {"batch_size": 4}}, r"'train.total_images': field required"),
        ({"train": {"total_images": 0, "batch_size": 4}}, "train.total_images is 0: it must be at least 1"),
        ({"train": 3}, "'train' is 3, not a section"),
        ({"data": {"url": "x", "size": [1, 2, 3]}}, r"'data.size': "),
        ({"method": {"width": 4}}, "'method.name' is missing"),
        ({"method": "cyclgan"}, r"Did you mean 'cyclegan'\?"),
        ({"resources": {"num_workers": 0}}, "resources.num_workers is 0"),
        ({"resources": {"num_workers": [4, 2]}}, "resources.num_workers"),
        ({"resources": {"num_workers": 2, "launcher": "local"}}, "resources.launcher=local runs one process, not 2"),
        ({"resources": {"launcher": "slurm"}}, r"'resources.launcher': input should be 'ray' or 'local', not 'slurm'"),
        ({"resources": {"threads_per_worker": 0}}, "resources.threads_per_worker is 0"),
        ({"seed": "x"}, "'seed': .*valid integer"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(sections, message):
    with pytest.raises(ConfigError, match=message):
        experiment(**sections)


def test_a_missing_section_is_named():
    with pytest.raises(ConfigError, match=r"recipe.yaml has no 'data' section"):
        from_dict({"method": "cyclegan", "train": RAW["train"]}, "recipe.yaml")


def test_an_error_in_an_override_names_the_override(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("method: cyclegan\ndata: {url: x}\ntrain: {total_images: 10, batch_size: 1}\n")
    assert read_experiment(str(path), {"train.total_images": 20}).train.total_images == 20
    with pytest.raises(ConfigError, match=r"^The override 'train.totl_images' is no known key"):
        read_experiment(str(path), {"train.totl_images": 20})
    with pytest.raises(ConfigError, match=r"^The override 'seed': "):
        read_experiment(str(path), {"seed": "x"})


def test_differences_name_keys_and_some_may_change():
    changed = experiment(train={"total_images": 200, "batch_size": 8}, resources={"num_workers": 2})
    found = differences(experiment(), changed)
    assert found == {
        "resources.num_workers": (1, 2),
        "train.batch_size": (4, 8),
        "train.total_images": (100, 200),
    }
    assert [key for key in found if not may_change(key)] == ["train.batch_size"]
    assert differences(experiment(), experiment()) == {}


def test_resources_of_one_worker_are_the_default():
    assert Resources().workers_range == (1, 1)
