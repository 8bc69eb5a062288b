"""Services on an address that other hosts reach: what strangers get, and that those who have the keys get in.

The requests come from this machine, but to that address, where the servers can't tell.
"""

import base64
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import botocore.exceptions
import botocore.session
import grpc
import psutil
import psycopg
import pytest

from i2idist.errors import ServiceError, TrackingError
from services import hosts, object_store, platform, postgres, tracking_server
from services import stop as stop_service
from services.hosts import is_free
from services.supervise import read_record


def outward():
    """This machine's address on the way to others; None where it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried, suppress(OSError):
        tried.connect(("192.0.2.1", 9))
        return tried.getsockname()[0]


ADDRESS = outward()
pytestmark = pytest.mark.skipif(ADDRESS is None, reason="this machine has no address but loopback")


def status_of(url, method="GET", headers=None, body=None):
    """The status of a request that carries no key; None where the answer isn't HTTP."""
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return None


def call(url, method, message=b""):
    """The status of a gRPC call that carries no key."""
    with grpc.insecure_channel(url) as channel:
        raw = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            raw(message, timeout=10)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def field(number, value):
    """A field of a protobuf message, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(value)]) + value


@pytest.fixture(scope="module")
def store(services_folder):
    yield object_store.start(services_folder / "exposed-s3", host=ADDRESS, volume_size_mb=64)
    stop_service(services_folder / "exposed-s3")


def test_the_store_serves_nobody_without_keys_and_takes_no_new_ones(store):
    assert urlsplit(store.url).hostname == ADDRESS
    for path, method in (
        ("/", "GET"),
        ("/data", "GET"),
        ("/data/x", "PUT"),
        ("/data/x", "DELETE"),
    ):
        assert status_of(store.url + path, method, body=b"1" if method == "PUT" else None) == 403
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    create = b"Action=CreateUser&UserName=intruder&Version=2010-05-08"
    assert status_of(store.url + "/", "POST", form, create) in (403, 405)
    control = f"{ADDRESS}:{urlsplit(store.url).port + 10_000}"
    intruder = field(1, field(1, b"intruder") + field(2, field(1, b"key") + field(2, b"secret")) + field(3, b"Admin"))
    for target in (control, control.replace(ADDRESS, hosts.LOOPBACK)):
        assert call(target, "/messaging_pb.SeaweedS3IamCache/PutIdentity", intruder) == "UNAVAILABLE"
    client = botocore.session.Session().create_client(
        "s3", "us-east-1", endpoint_url=store.url, aws_access_key_id="key", aws_secret_access_key="secret", verify=False
    )
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidAccessKeyId"):
        client.list_buckets()
    object_store.client(store, "default").put_object(Bucket="data", Key="x", Body=b"1")


def listening(service):
    """Where a service and its children listen beyond loopback."""
    process = psutil.Process(service.pid)
    found = []
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            found += each.net_connections("inet")
    places = {each.laddr for each in found if each.status == psutil.CONN_LISTEN}
    return {place.port for place in places if not place.ip.removeprefix("::ffff:").startswith("127.")}


def test_the_store_s_inner_servers_stay_on_loopback(store):
    port = urlsplit(store.url).port
    assert listening(store) == {port, port + 10_000}


def test_postgres_asks_everyone_for_the_password(services_folder, tmp_path):
    server = postgres.start(services_folder / "exposed-pg", host=ADDRESS)
    try:
        assert listening(server) == {urlsplit(server.url).port}
        url = postgres.address(server, "catalog").replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        strangers = [url.split("?")[0] + "?passfile=/dev/null", url.replace("i2idist@", "postgres@")]
        strangers.append(url.replace("/catalog", "/template1").split("?")[0] + "?passfile=/dev/null")
        for stranger in strangers:
            with pytest.raises(psycopg.OperationalError, match="password|no pg_hba.conf entry"):
                psycopg.connect(stranger)
    finally:
        stop_service(server.folder)


@pytest.fixture(scope="module")
def mlflow(services_folder):
    yield tracking_server.start(services_folder / "exposed-mlflow", host=ADDRESS)
    stop_service(services_folder / "exposed-mlflow")


def routes():
    """Every path of the tracking server with its method, as it declares them."""
    ask = """
import json, mlflow.server.auth.routes as auth
from mlflow.server import app
from mlflow.server.fastapi_app import create_fastapi_app
found = {(method, str(rule)) for rule in app.url_map.iter_rules() for method in rule.methods}
found |= {(method, r.path) for r in create_fastapi_app(app).routes for method in getattr(r, "methods", None) or ()}
names = [value for name, value in vars(auth).items() if name.isupper() and isinstance(value, str)]
found |= {(method, name) for name in names if name.startswith("/") for method in ("GET", "POST", "PATCH", "DELETE")}
print("\\n" + json.dumps(sorted(found)))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ask], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_mlflow_answers_nothing_to_strangers(mlflow):
    """Not one of its some 400 paths, but whether it is alive, its own page's files, and which features it has."""
    asked = [
        (method, re.sub(r"[<{][^>}]*[>}]", "1", path)) for method, path in routes() if method not in ("HEAD", "OPTIONS")
    ]
    json_body = {"Content-Type": "application/json"}
    answered = {
        path: status
        for method, path in asked
        if (status := status_of(mlflow.url + path, method, json_body, None if method == "GET" else b"{}")) != 401
    }
    assert len(asked) > 400
    assert {path for path, status in answered.items() if status not in (404, 405)} == {
        "/health",
        "/api/3.0/mlflow/server-info",
        "/ajax-api/3.0/mlflow/server-info",
    }
    search = "/ajax-api/2.0/mlflow/experiments/search?max_results=1"
    assert status_of(f"{mlflow.url}/static-files/..{search}") in (401, 404)
    assert status_of(f"{mlflow.url}/health/..{search}") in (401, 404)
    for user in ("admin:admin", "admin:password1234", "i2idist:", "i2idist:i2idist"):
        guess = base64.b64encode(user.encode()).decode()
        assert status_of(mlflow.url + search, headers={"Authorization": f"Basic {guess}"}) == 401


def test_mlflow_answers_to_its_own_address_alone(mlflow):
    assert status_of(mlflow.url + "/", headers={"Host": "evil.example.org"}) == 403
    assert status_of(mlflow.url + "/", headers={"Host": f"evil.example.org:{urlsplit(mlflow.url).port}"}) == 403


def test_mlflow_takes_what_its_own_pages_send_and_no_other_site_s(mlflow):
    """Browsers name the page's origin with each request that isn't a GET; the list of runs is such a one."""
    words = (mlflow.folder / "credentials").read_text().split()
    key = base64.b64encode(f"{words[3]}:{words[-1]}".encode()).decode()
    headers = {"Authorization": f"Basic {key}", "Content-Type": "application/json"}
    search, body = f"{mlflow.url}/ajax-api/2.0/mlflow/runs/search", b'{"experiment_ids": ["0"]}'
    assert status_of(search, "POST", headers | {"Origin": mlflow.url}, body) == 200
    assert status_of(search, "POST", headers | {"Origin": "http://evil.example.org"}, body) == 403


def test_the_password_is_in_files_of_their_owner_alone_and_lets_i2idist_in(mlflow, monkeypatch):
    from i2idist.tracking.place import client_of, mlflow_errors

    for name in mlflow.unset:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")  # nor in ~/.mlflow/credentials
    with pytest.raises(TrackingError, match="not authenticated"), mlflow_errors("look", mlflow.url):
        client_of(mlflow.url).get_experiment("0")
    held = dict(mlflow.environment)
    password = Path(held["I2IDIST_MLFLOW_CREDENTIALS"]).read_text().split()[-1]
    assert len(password) == 40
    key = (mlflow.folder / "flask-key").read_text()
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("I2IDIST_MLFLOW_CREDENTIALS", held["I2IDIST_MLFLOW_CREDENTIALS"])
    assert client_of(mlflow.url).get_experiment("0").name == "Default"
    family = [psutil.Process(mlflow.pid), *psutil.Process(mlflow.pid).children(recursive=True)]
    shown = [repr(mlflow), *held.values(), *(" ".join(process.cmdline()) for process in family)]
    shown += [(mlflow.folder / name).read_text() for name in ("log.txt", "service.json")]
    assert not [text for text in shown if password in text or key in text]
    files = [path for path in mlflow.folder.iterdir() if path.is_file()]
    holders = {path.name: path.stat().st_mode & 0o777 for path in files if password.encode() in path.read_bytes()}
    assert holders == {"credentials": 0o600, "auth.ini": 0o600}


def test_without_a_way_to_ask_for_passwords_mlflow_is_not_exposed(tmp_path, monkeypatch):
    find = tracking_server.importlib.util.find_spec
    monkeypatch.setattr(
        tracking_server.importlib.util, "find_spec", lambda name: None if name == "flask_wtf" else find(name)
    )
    with pytest.raises(ServiceError, match=r"can't ask for passwords here, so it stays on loopback: pip install"):
        tracking_server.start(tmp_path / "mlflow", host=ADDRESS)
    assert not (tmp_path / "mlflow" / "service.json").exists()


@pytest.mark.parametrize(
    ("host", "said"),
    [("0.0.0.0", "isn't one address"), ("192.0.2.77", "can't listen on 192.0.2.77"), ("here", "no IPv4 address")],
)
def test_an_address_that_is_none_is_refused_before_anything_starts(tmp_path, host, said):
    with pytest.raises(ServiceError, match=said):
        platform.up(tmp_path / "platform", host=host)
    assert not (tmp_path / "platform").exists()


# Ports of Ray on which an HTTP request is answered without the token: numbers for Prometheus, whether it is alive, and
# the dashboard's empty page.
HARMLESS = {"/metrics", "/", "/api/gcs_healthz", "/api/local_raylet_healthz", "/api/healthz"}
CALLS = (
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetSystemConfig",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.LogService/ListLogs",
    "/ray.rpc.RayletDriver/ClusterInfo",
)


def wait_for(ports, timeout_s):
    """Until somebody listens on each of the ports, here or on loopback: Ray opens them one after the other."""
    deadline, closed = time.monotonic() + timeout_s, set(ports)
    while closed:
        assert time.monotonic() < deadline, f"nobody listens on {closed}"
        closed = {port for port in closed if is_free(port, ADDRESS) and is_free(port)}
        time.sleep(0.3)


@pytest.mark.slow
def test_ray_does_nothing_for_strangers_on_any_of_its_ports(services_folder):
    from services import ray_head

    head = ray_head.start(services_folder / "exposed-ray", host=ADDRESS, cpus=1)
    try:
        named = read_record(head.folder).ports
        wait_for(named.values(), 90)
        ports = listening(head)
        assert urlsplit(head.url).port in ports
        paths = ("/api/jobs/", "/api/version", "/nodes", "/logs", "/api/v0/actors", "/worker/traceback?pid=1")
        for port in ports:
            url = f"http://{ADDRESS}:{port}"
            # Prometheus' numbers are served under every path, so an answer must be them.
            if status_of(url + "/nonsense") != 200:
                assert {status_of(url + path) for path in paths} <= {None, 401, 403, 404}
            assert {call(f"{ADDRESS}:{port}", method) for method in CALLS} <= {
                "UNAVAILABLE",
                "UNIMPLEMENTED",
                "UNAUTHENTICATED",
            }
        refused = {
            port for port in ports if "UNAUTHENTICATED" in {call(f"{ADDRESS}:{port}", method) for method in CALLS}
        }
        asked = ("port", "node-manager-port", "object-manager-port", "ray-client-server-port")
        assert {named[name] for name in asked} <= refused
        token = (head.folder / "token").read_text()
        allowed = {"Authorization": f"Bearer {token}"}
        assert status_of(head.url + "/api/jobs/", headers=allowed) == 200
        assert status_of(head.url + "/api/jobs/", headers={"Authorization": f"Bearer {token[:-1]}x"}) in (401, 403)
        job = json.dumps({"entrypoint": f"touch {head.folder}/broken-in"}).encode()
        assert status_of(head.url + "/api/jobs/", "POST", {"Content-Type": "application/json"}, job) == 401
        assert not os.path.exists(head.folder / "broken-in")
    finally:
        stop_service(head.folder)
