import os
import secrets
import tempfile
from pathlib import Path

import pytest

from i2idist.conformance import WorkerPool
from services import object_store, stop

LONGEST = (
    "test_conformance.py",
    "launch/test_submit.py",
    "launch/test_ray.py",
    "launch/test_evaluate_actors.py",
    "tuning/test_driver.py",
    "launch/test_translate_actors.py",
)
"""Files that take a minute or more, the longest first."""


def pytest_collection_modifyitems(items):
    """Begin with the longest files, so that with two workers neither is left alone with one at the end."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _a_catalog_of_their_own(tmp_path_factory):
    """Tests don't write to the catalog of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("I2IDIST_CATALOG", raising=False)
        yield


@pytest.fixture(scope="session")
def pool():
    with WorkerPool(4) as workers:
        yield workers


@pytest.fixture(scope="session")
def services_folder():
    """A folder for servers. Postgres, started by root, runs as another user, who can't enter pytest's own folders."""
    with tempfile.TemporaryDirectory(prefix="i2idist-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture(scope="session")
def s3_server(services_folder):
    """A real S3 server on loopback with keys of its own; the environment points to it. Yields a bucket's URL."""
    service = object_store.start(services_folder / "s3", buckets=("data",), volume_size_mb=64)
    key, secret = object_store.keys(service.folder)
    before = dict(os.environ)
    for name in service.unset:
        os.environ.pop(name, None)
    os.environ.update({**service.environment, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret})
    try:
        yield "s3://data"
    finally:
        stop(service.folder)  # whatever runs there now: a test may have killed it and started it anew
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
