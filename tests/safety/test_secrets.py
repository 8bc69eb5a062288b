"""Secrets are in their files of mode 0600 and nowhere else, whatever was run, shown, logged or went wrong."""

import configparser
import json
import os
import subprocess
import sys
import threading
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import s3fs
import yaml

import i2idist
from i2idist import storage
from i2idist.cli import main
from services import platform
from tests.services.test_exposed import ADDRESS

CLI = [sys.executable, "-m", "i2idist.cli"]
TINY = {
    "method": {"name": "pix2pix", "width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3},
    "data": {"url": "set by the test"},
    "train": {"total_images": 8, "batch_size": 4, "checkpoint_every_images": 4},
    "resources": {"launcher": "local", "threads_per_worker": 1},
}


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def holders(folder, secrets):
    """Files that hold one of the secrets, as text, in base64 or as hexadecimal digits of it."""
    words = {form for secret in secrets for form in (secret.encode(), secret.encode().hex().encode())}
    return {path for path in files(folder) if any(word in path.read_bytes() for word in words)}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A tiny training on a tiny dataset."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("recipe")
    (folder / "pairs" / "train").mkdir(parents=True)
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pairs" / "train" / f"{number}.png")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return folder


def test_a_training_and_what_fails_beside_it_leave_no_key_behind(s3_url, recipe, tmp_path, monkeypatch, capfd):
    """Keys in the environment, as a person has them; the runs in the object store, MLflow beside."""
    canary = {"MLFLOW_TRACKING_PASSWORD": "canary-0f2b6c", "MLFLOW_TRACKING_USERNAME": "me"}
    canary |= {
        "I2IDIST_CATALOG": f"sqlite:///{tmp_path}/catalog.db",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/m.db",
    }
    for name, value in {**canary, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    secrets = [os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"], "canary-0f2b6c"]
    said = []

    def call(*arguments, good=True):
        code = 0
        try:
            main(list(arguments))
        except SystemExit as stop:
            code = stop.code or 0
        captured = capfd.readouterr()
        said.append(captured.out + captured.err)
        assert (code == 0) == good, said[-1]

    data, runs = f"{s3_url}/data", ["--root", f"{s3_url}/runs"]
    tiny = str(recipe / "tiny.yaml")
    call("data", "pack", str(recipe / "pairs"), data, "--layout", "side-by-side")
    call("train", tiny, f"data.url={data}", "--run", "first", *runs)
    call("export", "first", f"{s3_url}/model", *runs)
    call("train", tiny, "data.url=s3://data/nothing-here", "--run", "second", *runs, good=False)
    call("train", tiny, "data.url=s3://no-such-bucket/x", "--run", "third", *runs, good=False)
    stored = {name: storage.read_bytes(f"{s3_url}/{name}") for name in storage.walk(s3_url)}
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-0f2b6c")
    s3fs.S3FileSystem.clear_instance_cache()
    call("data", "show", data, good=False)
    assert not [secret for secret in secrets for text in said if secret in text]
    assert holders(tmp_path, secrets) == set()
    assert any(name.endswith("COMMIT.json") for name in stored)
    assert not [name for name, value in stored.items() for secret in secrets if secret.encode() in value]
    s3fs.S3FileSystem.clear_instance_cache()


class Watch(threading.Thread):
    """Looks at every process's command line, and at the environments that others can read, until it is told to end."""

    def __init__(self, secrets):
        super().__init__(daemon=True)
        self.secrets, self.found, self.seen, self.ended = [s.encode() for s in secrets], set(), 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            for pid in psutil.pids():
                self._look(pid)

    def _look(self, pid):
        with suppress(OSError, psutil.Error):
            shown = Path(f"/proc/{pid}/cmdline").read_bytes()
            self.seen += 1
            if psutil.Process(pid).uids().real != os.geteuid():
                shown += Path(f"/proc/{pid}/environ").read_bytes()
            if any(secret in shown for secret in self.secrets):
                self.found.add(shown)


def secrets_of(folder):
    """Every secret of a platform, and the files that are meant to hold one."""
    kept = [folder / "s3" / name for name in ("credentials", "s3.json", "control.key")]
    kept += [folder / "mlflow" / name for name in ("credentials", "auth.ini", "flask-key")]
    kept += [folder / "postgres" / "pgpass", folder / "ray" / "token"]
    keys = configparser.ConfigParser()
    keys.read(folder / "s3" / "credentials")
    found = [keys[name][part] for name in keys.sections() for part in keys[name]]
    found += [
        (folder / "mlflow" / "credentials").read_text().split()[-1],
        (folder / "mlflow" / "flask-key").read_text(),
    ]
    found += [(folder / "postgres" / "pgpass").read_text().split()[0].rsplit(":", 1)[1]]
    return [*found, (folder / "ray" / "token").read_text()], set(kept)


def job_replies(services, token):
    """All that Ray tells of its jobs, to whoever may ask."""
    base = services["ray"].url
    ask = {"Authorization": f"Bearer {token}"}

    def get(path):
        return urllib.request.urlopen(urllib.request.Request(base + path, headers=ask), timeout=20).read().decode()

    jobs = get("/api/jobs/")
    logs = [get(f"/api/jobs/{job['submission_id']}/logs") for job in json.loads(jobs) if job["submission_id"]]
    return [jobs, *logs, get("/nodes?view=summary"), get("/api/cluster_status"), get("/api/v0/runtime_envs")]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(ADDRESS is None, reason="this machine has no address but loopback")
def test_a_platform_with_jobs_that_end_well_and_badly_leaves_no_secret_behind(
    services_folder, recipe, tmp_path, monkeypatch
):
    folder = services_folder / "secrets"
    try:
        monkeypatch.setenv("PYTHONPATH", str(Path(i2idist.__file__).parents[1]))  # for the cluster, and for clients
        services = platform.up(folder, host=ADDRESS)
        secrets, kept = secrets_of(folder)
        assert len(set(secrets)) == 10 and min(map(len, secrets)) >= 16
        watch = Watch(secrets)
        watch.start()
        environment = platform.client_environment(services) | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        said = []

        def call(*arguments, good=True):
            done = subprocess.run([*CLI, *arguments], env=environment, capture_output=True, text=True, cwd=tmp_path)
            said.append(done.stdout + done.stderr)
            assert (done.returncode == 0) == good, said[-1]

        data = f"s3://{platform.BUCKET}/data/pairs"
        call("data", "pack", str(recipe / "pairs"), data, "--layout", "side-by-side")
        tiny = [str(recipe / "tiny.yaml"), f"data.url={data}"]
        call("submit", "train", *tiny, "--run", "first", "--follow")
        call("submit", "train", *tiny, "data.url=s3://i2idist/nothing", "--run", "second", "--follow", good=False)
        call("register", "first", "tiny")
        call("ls", "runs", "--json")
        call("show", "first", "--json")
        call("jobs", "ls", "--json")
        watch.ended.set()
        watch.join()
        shown = [*said, *job_replies(services, secrets[-1]), json.dumps(platform.environment(services))]
        assert not [text for text in shown for secret in secrets if secret in text]
        assert watch.seen > 1000 and watch.found == set()
        found = holders(folder, secrets)
        assert {path for path in found if path not in kept} == set()
        assert found == kept - {folder / "s3" / "control.key"}
        assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
        assert holders(tmp_path, secrets) == set()
    finally:
        platform.down(folder)
