"""docker/prepare.sh, run for real."""

import configparser
import json
import os
import subprocess

import pytest

from tests.cluster.support import ROOT
from tests.docker.conftest import run_prepare


def secrets(folder):
    return {path.name: path.read_text() for path in (folder / "secrets").iterdir()}


def ini(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser


def test_run_again_it_changes_nothing_and_adds_what_is_missing(prepared):
    before = secrets(prepared)
    (prepared / "secrets" / "ray_token").unlink()
    run_prepare(prepared)
    after = secrets(prepared)
    assert after.pop("ray_token") != before.pop("ray_token")
    assert after == before


def test_it_shows_no_secret(prepared):
    said = run_prepare(prepared)
    words = {word for text in secrets(prepared).values() for word in text.replace('"', " ").split() if len(word) >= 16}
    assert [word for word in words if word in said] == []


def test_files_that_hold_the_same_secret_agree(prepared):
    found = secrets(prepared)
    assert found["pgpass"] == f"*:5432:*:i2idist:{found['postgres_password']}\n"
    assert ini(found["mlflow_auth.ini"])["mlflow"]["admin_password"] == found["mlflow_password"]
    assert ini(found["mlflow_credentials"])["mlflow"]["mlflow_tracking_password"] == found["mlflow_password"]
    assert found["redis.conf"] == f"requirepass {found['redis_password']}\n"
    keys = ini(found["aws_credentials"])
    for identity in json.loads(found["s3.json"])["identities"]:
        (pair,) = identity["credentials"]
        mine = keys[identity["name"]]
        assert pair == {"accessKey": mine["aws_access_key_id"], "secretKey": mine["aws_secret_access_key"]}


def test_the_store_s_profiles_are_those_of_services(prepared):
    from services import object_store

    identities = json.loads(secrets(prepared)["s3.json"])["identities"]
    assert {each["name"]: each["actions"] for each in identities} == object_store._ACTIONS


def test_secrets_are_drawn_and_long(prepared):
    found = secrets(prepared)
    drawn = [found[name] for name in found if name.endswith(("_password", "_token", "_key"))]
    assert len(set(drawn)) == len(drawn) >= 5
    assert min(map(len, drawn)) >= 40
    assert not any(value.isspace() or value.endswith("\n") for value in drawn), "Ray would send the line's end too"


@pytest.mark.skipif(os.geteuid() != 0, reason="it is root that is refused")
def test_root_is_refused(tmp_path):
    done = subprocess.run(["sh", ROOT / "docker" / "prepare.sh", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "not as root" in done.stderr
    assert not list(tmp_path.iterdir())
