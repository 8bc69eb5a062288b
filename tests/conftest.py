import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import fsspec
import pytest

from i2idist.conformance import WorkerPool


@pytest.fixture(scope="session")
def pool():
    with WorkerPool(4) as workers:
        yield workers


def _free_port():
    """A loopback port that is free, and the one 10,000 above it, which SeaweedFS takes for gRPC."""
    while True:
        port = random.randint(20_000, 45_000)
        try:
            for number in (port, port + 10_000):
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


def _wait_for(port, server):
    for _ in range(300):
        if server.poll() is not None:
            raise RuntimeError(f"The S3 server ended with {server.returncode}.")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
        except urllib.error.HTTPError:
            return  # it answers, and wants a key
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("The S3 server didn't answer within 30 s.")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A real S3 server on loopback with keys of its own; the environment points to it. Yields a bucket's URL."""
    folder = tmp_path_factory.mktemp("s3")
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    identity = {"name": "admin", "credentials": [{"accessKey": key, "secretKey": secret}]}
    identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, port = (_free_port() for _ in range(4))
    command = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
    arguments = f"""-logtostderr=true server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir={folder} -master.port={master}
        -master.peers=none -master.volumeSizeLimitMB=64 -volume.port={volume} -volume.max=16 -filer -filer.port={filer}
        -s3 -s3.port={port} -s3.config={folder}/s3.json -s3.port.iceberg=0 -s3.port.lance=0 -master.telemetry=false"""
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([command, *arguments.split()], stdout=log, stderr=log)
    settings = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}
    settings["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    before = dict(os.environ)
    os.environ.update(settings)
    os.environ.pop("AWS_CA_BUNDLE", None)
    try:
        _wait_for(port, server)
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("data")
        yield "s3://data"
    finally:
        server.kill()
        server.wait()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def s3_url(s3_server):
    """A prefix of its own on the S3 server."""
    return f"{s3_server}/{secrets.token_hex(4)}"


@pytest.fixture
def memory_url():
    """A folder of its own in memory."""
    return f"memory://{secrets.token_hex(4)}"
