"""The object store: whom it serves, what survives, and a day's work in it."""

import os
import subprocess
import sys

import numpy as np
import psutil
import pytest
import s3fs
import urllib3
import yaml
from typer.testing import CliRunner

from i2idist import storage
from i2idist.cli import app
from i2idist.data.manifest import load_manifest
from i2idist.errors import ServiceError, StorageError
from services import object_store

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def folder(s3_server, services_folder):
    return services_folder / "s3"


@pytest.fixture(autouse=True)
def fresh_clients():
    """s3fs keeps clients, with the keys that they were made with."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def endpoint(s3_server):
    return os.environ["AWS_ENDPOINT_URL"]


def test_keys_are_found_through_the_file_alone(folder, s3_url, monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name)
    storage.write_bytes(f"{s3_url}/x", b"1")
    assert storage.read_bytes(f"{s3_url}/x") == b"1"


def test_keys_are_nowhere_but_in_files_of_their_owner(folder):
    secrets = [part for name in ("default", "admin", "reader") for part in object_store.keys(folder, name)]
    assert len(set(secrets)) == 6
    holders = {
        path.name
        for path in folder.iterdir()
        if path.is_file() and any(secret in path.read_text(errors="replace") for secret in secrets)
    }
    assert holders == {"credentials", "s3.json"}
    assert {(folder / name).stat().st_mode & 0o777 for name in holders} == {0o600}
    service = object_store.start(folder, volume_size_mb=64)
    shown = [repr(service), *psutil.Process(service.pid).cmdline(), *psutil.Process(service.pid).environ().values()]
    # The tests' own environment holds the default keys, and the server inherits it only where it was started later.
    assert not any(secret in text for secret in secrets[2:] for text in shown)


def test_what_was_written_survives_a_kill(tmp_path):
    service = object_store.start(tmp_path / "store", buckets=("first", "second"), volume_size_mb=64)
    try:
        key, secret = object_store.keys(service.folder)
        client = object_store.client(service, "default")
        client.put_object(Bucket="second", Key="a/b", Body=b"x" * 100_000)
        service.kill()
        again = object_store.start(tmp_path / "store", buckets=("first", "third"), volume_size_mb=64)
        assert (again.url, object_store.keys(again.folder)) == (service.url, (key, secret))
        client = object_store.client(again, "default")
        assert client.get_object(Bucket="second", Key="a/b")["Body"].read() == b"x" * 100_000
        names = {bucket["Name"] for bucket in object_store.client(again).list_buckets()["Buckets"]}
        assert names == {"first", "second", "third"}
    finally:
        object_store.start(tmp_path / "store", volume_size_mb=64).kill()


ACTIONS = {
    "read": lambda url: storage.read_bytes(f"{url}/x"),
    "look at": lambda url: storage.exists(f"{url}/x"),
    "write": lambda url: storage.write_bytes(f"{url}/y", b"1"),
    "create": lambda url: storage.create_bytes(f"{url}/z", b"1"),
    "list": lambda url: storage.list_dir(url),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_wrong_key_is_refused(action, s3_url, endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "0123456789abcdef")
    with pytest.raises(StorageError, match=rf"Can't {action} {s3_url}.*{endpoint} refuses these keys. Set AWS_ACCESS"):
        ACTIONS[action](s3_url)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_wrong_secret_is_refused_and_never_shown(action, s3_url, endpoint, monkeypatch):
    right = os.environ["AWS_SECRET_ACCESS_KEY"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0123456789abcdef")
    with pytest.raises(StorageError, match=rf"Can't {action} {s3_url}.*{endpoint} refuses these keys.") as caught:
        ACTIONS[action](s3_url)
    assert "0123456789abcdef" not in str(caught.value)
    assert right not in str(caught.value)


@pytest.mark.parametrize("action", ACTIONS)
def test_without_keys_nothing_goes(action, s3_url, endpoint, monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(
        StorageError, match=rf"No keys for {endpoint} were found, and it serves nobody without. Set AWS"
    ):
        ACTIONS[action](s3_url)


def test_the_server_itself_refuses_strangers(endpoint, s3_url):
    storage.write_bytes(f"{s3_url}/x", b"1")
    path = s3_url.removeprefix("s3://")
    for method, url in (("GET", f"/{path}/x"), ("GET", "/data?list-type=2"), ("PUT", f"/{path}/y"), ("GET", "/")):
        answer = urllib3.request(method, endpoint + url, body=b"2" if method == "PUT" else None, retries=False)
        assert answer.status == 403


def test_a_reader_may_not_write(folder, s3_url, monkeypatch):
    storage.write_bytes(f"{s3_url}/x", b"1")
    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in zip(KEYS, object_store.keys(folder, "reader"), strict=True):
        monkeypatch.setenv(name, value)
    assert storage.read_bytes(f"{s3_url}/x") == b"1"
    with pytest.raises(StorageError, match=r"These keys may not do that, or there is no bucket 'data' at"):
        storage.write_bytes(f"{s3_url}/x", b"2")
    assert storage.read_bytes(f"{s3_url}/x") == b"1"


def test_a_missing_bucket_is_named_and_not_made(endpoint):
    with pytest.raises(StorageError, match=rf"There is no bucket 'dtaa' at {endpoint}. Check its name, or make it."):
        storage.read_bytes("s3://dtaa/x")
    with pytest.raises(StorageError, match="or there is no bucket 'dtaa' at"):
        storage.write_bytes("s3://dtaa/x", b"1")
    with pytest.raises(StorageError, match="There is no bucket 'dtaa' at"):
        storage.exists("s3://dtaa/x")


def test_a_nearly_full_disk_is_said_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "_MIN_FREE_BYTES", 2**60)
    with pytest.raises(ServiceError, match="MiB free and the object store accepts nothing below"):
        object_store.start(tmp_path / "s3")
    assert not (tmp_path / "s3" / "service.json").exists()


def test_nothing_at_the_endpoint_is_said(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError, match="Check that http://127.0.0.1:9 is up and is the right store"):
        storage.read_bytes("s3://data/x")


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_pack_to_it_train_from_it_checkpoint_to_it_translate_to_it(s3_url, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("I2IDIST_CATALOG", f"sqlite:///{tmp_path}/catalog.db")
    for split, count in (("train", 8), ("val", 4)):
        (tmp_path / "pairs" / split).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pairs" / split / f"{number}.png")
    data, runs, out = f"{s3_url}/data", f"{s3_url}/runs", f"{s3_url}/out"
    run("data", "pack", tmp_path / "pairs", data, "--layout", "side-by-side")
    recipe = {
        "method": {"name": "pix2pix", "width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3},
        "data": {"url": data, "cache_dir": str(tmp_path / "cache")},
        "train": {"total_images": 8, "batch_size": 4, "checkpoint_every_images": 4},
        "resources": {"launcher": "local", "threads_per_worker": 1},
        "tracking": {"offline": True},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    run("train", tmp_path / "tiny.yaml", "--run", "first", "--root", runs)
    assert storage.exists(f"{runs}/first/checkpoints/images-000000000008/COMMIT.json")
    run("export", "first", f"{s3_url}/model", "--root", runs)
    run("translate", f"{s3_url}/model", data, out, "--num-samples", "1", "--seed", "0", "--launcher", "local")
    (job,) = storage.list_dir(out)
    assert storage.exists(f"{out}/{job}/_SUCCESS")
    assert load_manifest(f"{out}/{job}").digest
    run("data", "verify", f"{out}/{job}")


def test_a_command_with_a_wrong_key_ends_with_what_to_do_and_no_traceback(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "0123456789abcdef")
    done = subprocess.run([sys.executable, "-m", "i2idist.cli", "data", "show", s3_url], capture_output=True, text=True)
    assert done.returncode == 4
    assert "refuses these keys" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
