"""The servers as compose.yaml starts them: the same command lines, with the programs of the lock instead of images.

Addresses, ports and folders are this machine's; everything else is as it stands there.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import botocore.exceptions
import botocore.session
import grpc
import pytest

from services.supervise import free_port
from tests.cluster.support import compose

PROGRAMS = Path(sys.executable).parent


def replaced(words, values):
    for old, new in values.items():
        assert any(old in word for word in words), f"{old} isn't there any more"
        words = [word.replace(old, new) for word in words]
    return words


@contextmanager
def running(command, folder, ready, timeout_s, **environment):
    """A server in a session of its own until the end of the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))}
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**kept, "PATH": path, **environment},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + timeout_s
        while not ready():
            assert server.poll() is None and time.monotonic() < deadline, (folder / "log.txt").read_text()[-2000:]
            time.sleep(0.2)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answer(url):
    """The status of a GET, None where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.fixture(scope="module")
def store(prepared, tmp_path_factory):
    """The object store's URL, with its bucket made."""
    folder = tmp_path_factory.mktemp("s3")
    services, ports = compose()["services"], {name: str(free_port()) for name in ("8333", "9333", "8080", "8888")}
    here = {f"port={old}": f"port={new}" for old, new in ports.items()}
    here |= {"/data": str(folder), "/run/secrets": str(prepared / "secrets"), "0.0.0.0": "127.0.0.1"}
    command = replaced([*services["s3"]["entrypoint"], *services["s3"]["command"]], here)
    url = f"http://127.0.0.1:{ports['8333']}"
    checks = [f"{url}/healthz", f"http://127.0.0.1:{ports['9333']}/dir/assign"]
    settings = {
        name: value.replace("/run/secrets", str(prepared / "secrets"))
        for name, value in services["s3"]["environment"].items()
    }
    with running(command, folder, lambda: all(answer(check) == 200 for check in checks), 60, **settings):
        bucket = services["bucket"]
        script = replaced(
            [*bucket["entrypoint"], *bucket["command"]], {":9333": f":{ports['9333']}", ":8888": f":{ports['8888']}"}
        )
        for _ in range(2):  # the second time it is there
            environment = {**os.environ, "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
            subprocess.run(script, check=True, timeout=60, env=environment)
        yield url


def client(prepared, url, profile):
    session = botocore.session.Session(profile=profile)
    session.set_config_variable("credentials_file", str(prepared / "secrets" / "aws_credentials"))
    return session.create_client("s3", endpoint_url=url, region_name="us-east-1", verify=False)


@pytest.fixture
def keyless(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def test_the_store_takes_the_prepared_keys_and_nobody_else_s(prepared, store, keyless):
    writer, reader = (client(prepared, store, profile) for profile in ("default", "reader"))
    writer.put_object(Bucket="i2idist", Key="a", Body=b"1")
    assert reader.get_object(Bucket="i2idist", Key="a")["Body"].read() == b"1"
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        reader.put_object(Bucket="i2idist", Key="b", Body=b"1")
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        writer.create_bucket(Bucket="another")
    assert answer(f"{store}/i2idist/a") == 403


def test_nobody_gives_the_store_a_new_key_by_grpc(store):
    place = urlsplit(store)
    with grpc.insecure_channel(f"{place.hostname}:{place.port + 10_000}") as channel:
        call = channel.unary_unary("/messaging_pb.SeaweedS3IamCache/PutIdentity", bytes, bytes)
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            call(b"", timeout=10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tracking_server_lets_nobody_in_without_the_prepared_password(prepared, tmp_path):
    """On SQLite and a folder: Postgres and S3 are other tests' business."""
    port = free_port()
    service = compose()["services"]["mlflow"]
    settings = tmp_path / "mlflow_auth.ini"
    given = (prepared / "secrets" / "mlflow_auth.ini").read_text()
    (address,) = (line for line in given.splitlines() if line.startswith("database_uri"))
    settings.write_text(given.replace(address, f"database_uri = sqlite:///{tmp_path}/auth.db"))
    (tmp_path / "home" / ".mlflow").mkdir(parents=True)
    (tmp_path / "home" / ".mlflow" / "credentials").write_text(
        (prepared / "secrets" / "mlflow_credentials").read_text()
    )
    here = {
        "/run/secrets/mlflow_flask_key": str(prepared / "secrets" / "mlflow_flask_key"),
        "postgresql+psycopg://i2idist@postgres:5432/mlflow?passfile=/run/secrets/pgpass": f"sqlite:///{tmp_path}/m.db",
        "s3://i2idist/mlflow": str(tmp_path / "artifacts"),
        "--host 0.0.0.0 --port 5000": f"--host 127.0.0.1 --port {port}",
    }
    url = f"http://127.0.0.1:{port}"
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": service["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": service["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].replace("5000", str(port)),
    }
    with running(
        replaced(service["command"], here), tmp_path, lambda: answer(f"{url}/health") == 200, 400, **environment
    ):
        assert answer(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0") == 401
        ask = "from mlflow import MlflowClient; print(MlflowClient().get_experiment('0').name)"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        here = {**kept, "HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": url}
        done = subprocess.run([sys.executable, "-c", ask], env=here, capture_output=True, text=True)
        assert done.stdout == "Default\n", done.stderr
        elsewhere = urllib.request.Request(f"{url}/", headers={"Host": "evil.example.org"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(elsewhere, timeout=5)
