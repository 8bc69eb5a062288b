"""compose.yaml, by the compose-spec package and its own logic. It was never brought up: no Docker was at hand."""

import re
import stat

import pytest
import yaml
from compose_spec import PyCompose

from tests.cluster.support import GIVEN, ROOT, compose, interpolated

SERVERS = ("s3", "postgres", "mlflow", "ray-head", "ray-worker", "optuna")
FILES = ("compose.yaml", "compose.gpu.yaml")


def services():
    return compose()["services"]


@pytest.mark.parametrize("name", FILES)
def test_it_is_valid(name):
    PyCompose.from_yaml(yaml.safe_dump(compose(name))).validate()


@pytest.mark.parametrize("name", FILES)
def test_a_misspelt_key_is_refused(name):
    wrong = compose(name)
    wrong["services"]["ray-worker"]["enviroment"] = {}
    with pytest.raises(ValueError, match="enviroment"):
        PyCompose.from_yaml(yaml.safe_dump(wrong))


def test_every_service_is_there_and_runs_without_privileges():
    assert set(services()) == {*SERVERS, "bucket"}
    for service in services().values():
        assert service["user"] == "1000:1000"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVERS)
def test_servers_are_watched_and_come_back(name):
    service = services()[name]
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["restart"] == "unless-stopped"


def test_nothing_starts_before_what_it_needs_is_healthy():
    found = {
        (name, other): how["condition"]
        for name, service in services().items()
        for other, how in service.get("depends_on", {}).items()
    }
    finished = {("mlflow", "bucket"): "service_completed_successfully"}
    assert found == dict.fromkeys(found, "service_healthy") | finished


def test_ports_are_published_on_loopback_unless_asked_and_the_study_dashboard_s_never_elsewhere():
    exposed = compose_with(I2IDIST_ADDRESS="0.0.0.0")
    for name, service in services().items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert [n for n, s in exposed.items() if any(p.startswith("127.") for p in s.get("ports", []))] == ["optuna"]


def compose_with(**given):
    text = (ROOT / "docker" / "compose.yaml").read_text()
    return yaml.safe_load(interpolated(text, GIVEN | given))["services"]


def test_secrets_are_files_and_no_variable_holds_one():
    whole = compose()
    used = {
        each if isinstance(each, str) else each["source"] for s in services().values() for each in s.get("secrets", [])
    }
    assert used == set(whole["secrets"])
    assert all(secret == {"file": f"/srv/i2idist/secrets/{name}"} for name, secret in whole["secrets"].items())
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            held = re.search("PASSWORD|SECRET|TOKEN|KEY|CREDENTIALS", variable)
            assert not held or variable == "RAY_AUTH_MODE" or value.startswith("/run/secrets/"), (name, variable)
        said = str(service.get("command"))
        assert {found for found in re.findall(r"/run/secrets/([\w.]+)", f"{said} {service.get('environment')}")} <= {
            each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])
        }


def test_every_volume_is_in_the_prepared_folder_or_the_clone(prepared):
    for service in services().values():
        for volume in service.get("volumes", []):
            if isinstance(volume, str):
                assert (ROOT / "docker" / volume.split(":")[0]).is_file()
            else:
                assert volume["bind"] == {"create_host_path": False}
                assert (prepared / volume["source"].removeprefix("/srv/i2idist/")).is_dir()


def test_prepare_makes_every_secret_with_mode_0600(prepared):
    made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (prepared / "secrets").iterdir()}
    assert made.keys() >= compose()["secrets"].keys()
    assert set(made.values()) == {0o600}
    given = dict(line.split("=") for line in (prepared / "env").read_text().splitlines())
    assert given.keys() == GIVEN.keys()
