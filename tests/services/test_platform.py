"""The whole platform, started and stopped by the command that people type."""

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
import pytest

from i2idist.errors import ServiceError
from services import platform


def command(folder, *arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "services", *arguments, "--folder", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def status_of(url):
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


def family_of(folder):
    """Every process that a service of this folder, or its children, started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("I2IDIST_SERVICE", "").startswith(str(folder)):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def folder(services_folder):
    yield services_folder / "platform"
    platform.down(services_folder / "platform")


@pytest.mark.timeout(300)
def test_it_comes_up_once_refuses_strangers_and_leaves_nothing_running(folder):
    addresses = json.loads(command(folder, "up", "--json"))
    before = {name: platform.state(folder, name).pid for name in platform.NAMES}
    assert json.loads(command(folder, "up", "--json")) == addresses
    states = json.loads(command(folder, "status", "--json"))
    assert {state["name"]: state["pid"] for state in states} == before
    assert all(state["running"] for state in states)
    assert status_of(addresses["s3"] + "/i2idist") == 403
    assert status_of(addresses["ray"] + "/api/jobs/") == 401
    assert status_of(addresses["mlflow"] + "/health") == 200
    assert status_of(addresses["optuna"] + "/dashboard") == 200
    environment = json.loads(command(folder, "env", "--json"))
    secrets = [folder.joinpath(*name).read_text() for name in (("ray", "token"), ("s3", "credentials"))]
    secrets = re.findall(r"[0-9a-f]{40,}", " ".join(secrets))
    lines = [" ".join(process.cmdline()) for process in family_of(folder)]
    assert len(secrets) == 4 and len(lines) > 5
    assert not [word for word in secrets for line in [*lines, *environment.values()] if word in line]
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in (folder / "ray" / "token", folder / "s3" / "credentials")
    }
    assert modes == {"token": 0o600, "credentials": 0o600}
    assert json.loads(command(folder, "down", "--json"))["stopped"] == ["optuna", "ray", "mlflow", "postgres", "s3"]
    assert family_of(folder) == []
    assert not any(state["running"] for state in json.loads(command(folder, "status", "--json", code=1)))


def test_a_port_that_another_holds_is_named(folder):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ServiceError, match=f"Port {port}, which the object store.*is taken by another process"):
            platform.up(folder, {"s3": port})


def test_what_does_not_exist_or_run_is_named(folder):
    with pytest.raises(ServiceError, match="no service 'minio'"):
        platform.up(folder, {"minio": 1})
    with pytest.raises(ServiceError, match="no service 'redis': there are s3"):
        platform.state(folder, "redis")
    with pytest.raises(AssertionError, match="python -m services up"):
        command(folder, "env")
