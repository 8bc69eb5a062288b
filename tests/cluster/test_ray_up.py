"""`ray up` files, by Ray's own schema and preparation. They have never been brought up on a cloud."""

import copy

import jsonschema
import pytest

from tests.cluster.support import ROOT, VERSION, objects

FILES = sorted((ROOT / "cluster" / "ray_up").glob("*.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def config(request):
    return objects(request.param)[0]


def test_ray_accepts_the_file_as_it_stands_and_as_it_completes_it(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(copy.deepcopy(config))
    whole = prepare_config(config)
    validate_config(whole)
    commands = "\n".join([*whole["head_setup_commands"], *whole["worker_setup_commands"]])
    assert "ray-wheels" not in commands, "Ray's defaults would install another Ray"
    types = whole["available_node_types"]
    assert sum(kind["max_workers"] for kind in types.values()) == whole["max_workers"]


def test_a_misspelt_key_is_refused(config):
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config({**config, "idle_timeout": 5})


def test_secrets_come_as_files_that_nobody_else_reads(config):
    assert config["file_mounts"]["~/i2idist"] == "~/.i2idist/cluster"
    assert config["setup_commands"][0].startswith("chmod -R go= ~/i2idist && install -D -m 0600 ")


def test_every_ray_starts_with_the_settings_of_nodes(config):
    for role in ("head", "worker"):
        assert ". ~/i2idist/node.env && set +a && " in config[f"{role}_start_ray_commands"][-1]


def test_the_dashboard_is_reached_through_ssh_alone(config):
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_clouds_run_our_images(name):
    docker = objects(f"cluster/ray_up/{name}.yaml")[0]["docker"]
    assert docker["image"].endswith(f"/i2idist:{VERSION}-cpu")
    assert docker["worker_image"].endswith(f"/i2idist:{VERSION}-gpu")
