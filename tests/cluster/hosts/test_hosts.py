"""A worker a host, equal to one process; and a job of Ray's that outlives a host."""

import http.client
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psycopg
import pytest

from i2idist import storage
from i2idist.data.generated import resolve
from i2idist.data.manifest import load_manifest
from i2idist.methods import Pix2Pix
from i2idist.model import save
from services.supervise import read_record
from tests.cluster.hosts.support import Run, clean, complete, first_and_other, until, workers

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]


def test_a_worker_on_each_of_three_hosts_equals_one_process(train, near, report):
    training = train("three", resources={"num_workers": 3})
    training.at(60)
    assert [host for host, _ in workers(training.cluster)] == ["host1", "host2", "host3"]
    worst = near(training)
    report("parameters of 3 hosts, from one process's", f"{worst:.1e}", "<= 1e-9", "100 steps, float64, batch norm")


def test_a_submitted_job_ends_though_a_host_is_killed(cluster, train, recipe, undisturbed):
    """As a team does it: `i2idist submit`, Ray's job server, a host lost in the middle."""
    name = f"submitted-{time.time_ns()}"
    command = [sys.executable, "-m", "i2idist.cli", "submit", "train", str(recipe("submitted")), "--run", name]
    with (cluster.folder / "submit.txt").open("wb") as said:
        client = subprocess.Popen([*command, "--follow"], stdout=said, stderr=said, env=clean())
    training = Run(cluster, name)
    folder = training.folder
    until(lambda: storage.exists(folder.metrics) and b'"images": 160,' in storage.read_bytes(folder.metrics), 180, name)
    (host, _), _ = first_and_other(training)
    cluster.kill(host)
    assert client.wait(400) == 0, (cluster.folder / "submit.txt").read_text()[-3000:]
    assert training.launches() == [2, 2]
    complete(training)
    assert folder.result()["params_sha256"] == undisturbed["sha256"]
    jobs = subprocess.run(
        [sys.executable, "-m", "i2idist.cli", "jobs", "status", name, "--json"], env=clean(), capture_output=True
    )
    assert json.loads(jobs.stdout)["state"] == "done"


def test_workers_on_other_hosts_translate_generated_images(cluster, ready, tmp_path):
    """The driver is on the head, which has no cores for workers."""
    edges, model = "generated:edges?size=16&train=4&val=0&test=8", "s3://i2idist/models/tiny"
    domains = load_manifest(resolve(edges, str(tmp_path))).domains_for(None)
    save(model, Pix2Pix(next(iter(Pix2Pix.tiny().values())), domains), method_name="pix2pix", domains=domains)
    command = [sys.executable, "-m", "i2idist.cli", "submit", "translate", model, edges, "s3://i2idist/translations"]
    command += ["--split", "test", "--workers", "1", "--follow"]
    done = subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 translations of 8 images" in done.stdout


def test_nobody_is_let_in_without_a_password(cluster, ready):
    address, known = cluster.plan().network.address(1), cluster.client_environment()
    searched = f"{known['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search"
    for url in (f"{known['AWS_ENDPOINT_URL']}/i2idist", searched):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, timeout=10)
        assert refused.value.code in (401, 403), url
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(known["I2IDIST_CATALOG"].replace("+psycopg", "").split("?")[0] + "?passfile=/dev/null")
    connection = http.client.HTTPConnection(cluster.plan().address("head"), 8265, timeout=10)
    connection.request("GET", "/api/jobs/")
    assert connection.getresponse().status == 401
    inner = [port for name, port in read_record(cluster.folder / "s3").ports.items() if name != "s3"]
    assert len(inner) == 3
    for port in inner:  # SeaweedFS' inner servers, which ask for none
        tried = cluster.exec("host1", ["bash", "-c", f"echo > /dev/tcp/{address}/{port}"], capture_output=True)
        assert tried.returncode != 0


def test_nothing_secret_is_in_command_lines_or_plans(cluster):
    import psutil

    keys = [cluster.folder / name for name in ("ray_token", "mlflow/flask-key")]
    secrets = [path.read_text().strip() for path in keys]
    secrets.append((cluster.folder / "postgres" / "pgpass").read_text().strip().rsplit(":", 1)[1])
    secrets.append((cluster.folder / "mlflow" / "credentials").read_text().split("password = ")[1].strip())
    shown = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    shown += [path.read_text() for path in cluster.folder.glob("*.json")]
    assert not [text for text in shown for secret in secrets if secret in text]
