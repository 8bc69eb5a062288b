"""`i2idist doctor`: what is whole is ok; each thing that is broken is named, with what to do."""

import http.server
import json
import re
import threading

import pytest
import s3fs
import sqlalchemy

from i2idist.catalog import Catalog
from i2idist.cli import doctor, main
from services import object_store

NAMED = (*doctor._SECRETS, *doctor._DATABASES, *doctor._SERVERS, "AWS_CA_BUNDLE", "RAY_ADDRESS", "RAY_AUTH_MODE")


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine that names no services."""
    for name in NAMED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("I2IDIST_RUNS", str(tmp_path / "runs"))
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def look(*parts):
    """Checks by name, of some parts alone."""
    return {check.name: check for part in parts for check in part()}


def test_a_machine_without_services_is_ok_and_so_is_the_exit_code(capsys):
    main_code = 0
    try:
        main(["doctor", "--json"])
    except SystemExit as stop:
        main_code = stop.code or 0
    found = json.loads(capsys.readouterr().out)
    states = {check["name"]: check["state"] for check in found["checks"]}
    wanted = {
        "python",
        "torch",
        "ray",
        "lock",
        "gpu",
        "runs disk",
        "object store",
        "runs",
        "mlflow",
        "catalog",
        "studies",
    }
    assert wanted | {"studies", "ray head", "weights", "clock", "left-over processes"} <= states.keys()
    assert main_code == (0 if found["ok"] else 1)
    assert {states[name] for name in ("python", "runs", "mlflow", "catalog", "studies", "ray head", "clock")} == {"ok"}


def test_secrets_that_others_can_read_or_that_are_missing_are_named(tmp_path, monkeypatch):
    for name in ("open", "closed"):
        (tmp_path / name).write_text("secret")
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "open"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "closed"))
    monkeypatch.setenv("I2IDIST_MLFLOW_CREDENTIALS", str(tmp_path / "absent"))
    monkeypatch.setenv("I2IDIST_CATALOG", f"postgresql://u@h/d?passfile={tmp_path}/open")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ssl/cert.pem")
    found = look(doctor._secrets)
    assert {name: check.state for name, check in found.items()} == {
        "AWS_SHARED_CREDENTIALS_FILE": "failed",
        "I2IDIST_MLFLOW_CREDENTIALS": "failed",
        "RAY_AUTH_TOKEN_PATH": "ok",
        "passfile of I2IDIST_CATALOG": "failed",
        "AWS_CA_BUNDLE": "failed",
    }
    assert found["AWS_SHARED_CREDENTIALS_FILE"].mend == f"chmod 600 {tmp_path}/open"
    assert "can't be read" in found["I2IDIST_MLFLOW_CREDENTIALS"].detail
    assert found["AWS_CA_BUNDLE"].mend == "unset AWS_CA_BUNDLE"


@pytest.mark.parametrize(
    ("name", "value", "check", "part", "message"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "object store", doctor._storage, "can't be reached.*Start it"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9", "mlflow", doctor._records, "Can't reach MLflow.*Start it"),
        ("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9", "ray head", doctor._cluster, "127.0.0.1:9"),
        ("I2IDIST_CATALOG", "postgresql://u@127.0.0.1:9/d", "catalog", doctor._records, "Check that the server runs"),
        ("I2IDIST_CATALOG", "mysql://h/d", "catalog", doctor._records, "can't be kept in 'mysql'"),
        ("I2IDIST_RUNS", "/proc/nowhere", "runs", doctor._storage, "/proc/nowhere"),
    ],
)
def test_a_service_that_is_away_is_named_with_what_to_do(name, value, check, part, message, monkeypatch):
    monkeypatch.setenv(name, value)
    found = look(part)[check]
    assert found.state == "failed"
    assert re.search(message, found.detail), found.detail


def test_keys_that_the_store_does_not_know_are_named(s3_server, services_folder, monkeypatch):
    for name, value in object_store.start(services_folder / "s3", volume_size_mb=64).environment.items():
        monkeypatch.setenv(name, value)
    assert "buckets: data" in look(doctor._storage)["object store"].detail
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0" * 40)
    found = look(doctor._storage)["object store"]
    assert found.state == "failed"
    assert "refuses these keys" in found.detail and "0" * 40 not in found.detail


def test_a_catalog_of_another_version_is_looked_at_and_left_alone(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/catalog.db"
    monkeypatch.setenv("I2IDIST_CATALOG", url)
    assert "no tables yet" in look(doctor._records)["catalog"].detail
    assert not (tmp_path / "catalog.db").exists()
    with Catalog(url):
        pass
    assert "tables of version" in look(doctor._records)["catalog"].detail
    engine = sqlalchemy.create_engine(url)
    for revision, state in (("0001", "ok"), ("9999", "failed")):
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
        found = look(doctor._records)["catalog"]
        assert (found.state, revision in found.detail) == (state, True)
    engine.dispose()


class Late(http.server.BaseHTTPRequestHandler):
    """A server whose clock stands."""

    def do_HEAD(self):
        self.send_response_only(200)
        self.send_header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_clocks_that_differ_are_named(monkeypatch):
    server = http.server.HTTPServer(("127.0.0.1", 0), Late)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        found = look(doctor._clock)["clock"]
    finally:
        server.shutdown()
    assert found.state == "failed" and "s off that of http://127.0.0.1" in found.detail and "NTP" in found.mend


def test_a_full_disk_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_MIN_DISK_GIB", 1e9)
    found = {check.name: check for check in doctor._disks()}
    assert {check.state for check in found.values()} == {"warning"}
    assert "Make room there" in found["runs disk"].mend


def test_versions_that_differ_from_the_lock_are_named(monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "0.0.1" if name == "ray" else real(name))
    found = doctor._lock()
    assert found.state == "warning" and "ray 0.0.1 (lock: " in found.detail
