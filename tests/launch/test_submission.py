"""What travels to a cluster, and what never does."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

import i2idist
from i2idist.errors import ConfigError, SubmissionError
from i2idist.experiment import from_yaml, read_experiment
from i2idist.launch import identity, submission
from i2idist.launch.facts import code_revision
from i2idist.launch.head import given_address, is_loopback
from i2idist.launch.submission import Submission, about_job, absolute_database, environment

PACKAGE = Path(i2idist.__file__).parent
DRIVER = PACKAGE.parent / "jobs" / "drivers" / "submitted.py"


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "i2idist"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text('__version__ = "7"\n')
    (folder / "inner" / "a.py").write_text("a = 1\n")
    return folder


def test_a_wheel_has_the_digest_of_its_clone_and_other_code_has_another(package):
    digest = identity.package_digest(package)
    assert len(digest) == 64
    for name in ("__pycache__/a.cpython-311.pyc", "recipes/a.yaml", "drivers/submitted.py", "inner/a.pyc", "REVISION"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("x")
    assert identity.package_digest(package) == digest
    moved = package / "inner" / "b.py"
    (package / "inner" / "a.py").rename(moved)
    renamed = identity.package_digest(package)
    moved.write_text("a = 2\n")
    assert len({digest, renamed, identity.package_digest(package)}) == 3


@pytest.fixture
def driver(monkeypatch):
    """The driver's module, with the modules that travel beside it."""
    monkeypatch.setitem(sys.modules, "identity", identity)
    spec = importlib.util.spec_from_file_location("submitted", DRIVER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_driver_compares_what_python_finds(driver, package, monkeypatch):
    code = {"version": "7", "revision": None, "digest": identity.package_digest(package)}
    found = importlib.util.spec_from_file_location("i2idist", package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert driver.difference(code, shipped=False) is None
    other = {"version": "8", "revision": "abc", "digest": "0" * 64}
    refused = driver.difference(other, shipped=False)
    assert f"it has i2idist 7, revision unknown, digest {code['digest']} in {package}" in refused
    assert f"the client has i2idist 8, revision abc, digest {'0' * 64}" in refused
    assert "--ship-code" in refused
    assert f"Python found {package}" in driver.difference(other, shipped=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "The cluster has no i2idist" in driver.difference(other, shipped=False)
    assert SubmissionError.exit_code == driver.REFUSED


def make(**changes):
    values = {"id": "a", "verb": "train", "name": "x", "command": ["train"], "root": "/runs", "environment": {}}
    return Submission(**{**values, **changes})


def test_the_payload_is_the_driver_the_command_and_the_experiment(tmp_path):
    experiment = read_experiment("segan_digits")
    sent = make(experiment=experiment, command=["train", "experiment.yaml"], environment={"I2IDIST_RUNS": "/runs"})
    ray_environment = sent.pack(tmp_path, ship_code=False)
    payload = Path(ray_environment["working_dir"])
    files = {"submitted.py", "identity.py", "submission.json", "experiment.yaml"}
    assert {path.name for path in payload.iterdir()} == files
    assert (payload / "submitted.py").read_text() == DRIVER.read_text()
    assert from_yaml((payload / "experiment.yaml").read_text(), "it") == experiment
    told = json.loads((payload / "submission.json").read_text())
    assert told["command"] == ["train", "experiment.yaml"]
    assert told["code"]["digest"] == identity.package_digest(PACKAGE)
    assert ray_environment["env_vars"] == {"I2IDIST_RUNS": "/runs", "I2IDIST_SUBMISSION_ID": "a"}
    assert "py_modules" not in ray_environment
    about = about_job({**sent.metadata(), "job_name": "a"})
    assert (about["verb"], about["name"], about["code_digest"]) == ("train", "x", told["code"]["digest"])
    assert "run_url" not in about


def test_shipped_code_is_the_package_with_its_revision(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "code_revision", lambda: "abc")
    (module,) = make().pack(tmp_path, ship_code=True)["py_modules"]
    assert identity.package_digest(Path(module)) == identity.package_digest(PACKAGE)
    assert not list(Path(module).rglob("__pycache__"))
    assert code_revision(Path(module).parent) == "abc"
    shutil.rmtree(module)
    assert code_revision(Path(module).parent) is None


SECRET = "postgresql://me:hunter2@db/x"


@pytest.mark.parametrize("command", [["translate", "--", SECRET], ["resume", "--", "x", f"data.url={SECRET}"]])
def test_no_password_travels_as_an_argument(command):
    with pytest.raises(ConfigError, match="an argument holds a password") as raised:
        make(command=command)
    assert "hunter2" not in str(raised.value)


def test_no_password_travels_in_an_experiment():
    experiment = read_experiment("segan_digits", {"data.url": "s3://key:hunter2@bucket/x"})
    with pytest.raises(ConfigError, match=r"data\.url holds a password") as raised:
        make(experiment=experiment)
    assert "hunter2" not in str(raised.value)


def test_the_environment_that_travels(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "I2IDIST_CATALOG", "I2IDIST_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hunter2")
    assert environment("/runs", lambda uri, _: absolute_database(uri)) == {"I2IDIST_RUNS": "/runs"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("I2IDIST_CATALOG", "postgresql://me@db/x")
    assert environment("/runs", lambda uri, _: absolute_database(uri)) == {
        "I2IDIST_RUNS": "/runs",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "I2IDIST_CATALOG": "postgresql://me@db/x",
    }
    monkeypatch.setenv("I2IDIST_CATALOG", SECRET)
    assert "I2IDIST_CATALOG" not in environment("/runs", lambda uri, _: absolute_database(uri))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@mlflow")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI holds a password") as raised:
        environment("/runs", lambda uri, _: absolute_database(uri))
    assert "hunter2" not in str(raised.value)


def test_paths_of_databases_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for uri in ("sqlite:////data/x.db", "http://host:5000", "sqlite:///:memory:", "postgresql://me@db/x"):
        assert absolute_database(uri) == uri
    assert absolute_database("sqlite:///a/x.db") == f"sqlite:///{tmp_path}/a/x.db"


def test_which_cluster(monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="Give --address http://HEAD:8265"):
        given_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ConfigError, match="Which cluster"):
        given_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "http://a:8265/")
    assert given_address(None) == "http://a:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://b:8265")
    assert given_address(None) == "http://b:8265"
    assert given_address("c:8265") == "http://c:8265"
    with pytest.raises(ConfigError, match="no address of a Ray dashboard"):
        given_address("ray://c:10001")
    with pytest.raises(ConfigError, match="The address holds a password"):
        given_address("http://me:hunter2@c:8265")
    near = ["http://127.0.0.1:8265", "http://localhost:1", "http://[::1]:8265", "http://127.0.0.2:1"]
    far = ["http://10.0.0.1:8265", "http://a:1"]
    assert [address for address in near + far if is_loopback(address)] == near
