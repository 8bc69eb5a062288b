"""A platform is lost and comes back: data, databases, keys and addresses."""

import shutil
import tarfile
from pathlib import Path

import psycopg
import pytest

from i2idist.errors import ServiceError
from services import backup, object_store, platform, postgres, supervise


@pytest.fixture
def home(services_folder):
    """A platform whose store and database hold something; Ray, MLflow and the dashboard don't run for it."""
    folder = services_folder / "kept"
    for name in platform.NAMES:
        (folder / name).mkdir(parents=True)
    s3 = object_store.start(folder / "s3", buckets=("i2idist",), volume_size_mb=64)
    object_store.client(s3, "default").put_object(Bucket="i2idist", Key="runs/x", Body=b"1" * 100_000)
    pg = postgres.start(folder / "postgres", databases=("mlflow",))
    with psycopg.connect(pg.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
    (folder / "ray" / "token").write_text("t" * 64)
    (folder / "ray" / "session_1").mkdir()
    (folder / "ray" / "session_1" / "log").write_text("large")
    yield folder
    for path in (folder, services_folder / "back"):
        for name in ("s3", "postgres"):
            supervise.stop(path / name)
        shutil.rmtree(path, ignore_errors=True)


def test_what_was_lost_comes_back(home, services_folder, tmp_path):
    archive = tmp_path / "platform.tar"
    with pytest.raises(ServiceError, match="s3, postgres of .* runs.*services down"):
        backup.backup(home, archive)
    urls = {name: platform.state(home, name).url for name in ("s3", "postgres")}
    platform.down(home)
    assert backup.backup(home, archive) == archive.stat().st_size
    assert archive.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ServiceError, match="exists"):
        backup.backup(home, archive)
    with pytest.raises(ServiceError, match="isn't empty"):
        backup.restore(archive, home)
    shutil.rmtree(home)

    back = services_folder / "back"
    backup.restore(archive, back)
    assert not (back / "ray" / "session_1").exists()
    assert (back / "ray" / "token").read_text() == "t" * 64
    secret = [back / "s3" / "credentials", back / "s3" / "s3.json", back / "postgres" / "pgpass"]
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    s3 = object_store.start(back / "s3", volume_size_mb=64)
    pg = postgres.start(back / "postgres", databases=("mlflow",))
    assert {name: platform.state(back, name).url for name in ("s3", "postgres")} == urls
    held = object_store.client(s3, "default").get_object(Bucket="i2idist", Key="runs/x")["Body"].read()
    assert held == b"1" * 100_000
    with psycopg.connect(pg.url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (42,)


@pytest.fixture
def small(tmp_path):
    """A platform's folder that was never started, and its backup."""
    home = tmp_path / "home"
    for name in platform.NAMES:
        (home / name).mkdir(parents=True)
    (home / "postgres" / "data").mkdir()
    (home / "postgres" / "data" / "PG_VERSION").write_text("18")
    (home / "s3" / "credentials").write_text("x" * 5000)
    backup.backup(home, tmp_path / "small.tar")
    return tmp_path / "small.tar"


@pytest.mark.parametrize("harm", ["a byte", "the end", "all but a header", "no archive"])
def test_a_harmed_backup_restores_nothing(harm, small, tmp_path):
    data = bytearray(small.read_bytes())
    if harm == "a byte":
        data[data.index(b"xxxx") + 100] ^= 1
    elif harm == "the end":
        del data[-12_000:]
    elif harm == "all but a header":
        del data[512:]
    else:
        data[:] = b"hello"
    small.write_bytes(data)
    with pytest.raises(ServiceError, match="damaged|cut off|can't be read"):
        backup.restore(small, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "small.tar"]


@pytest.mark.parametrize("kind", ["climbs", "links", "device"])
def test_a_hostile_backup_restores_nothing(kind, small, tmp_path):
    with tarfile.open(small, "a") as tar:
        info = tarfile.TarInfo("../outside" if kind == "climbs" else "s3/evil")
        info.type = {"climbs": tarfile.REGTYPE, "links": tarfile.SYMTYPE, "device": tarfile.CHRTYPE}[kind]
        info.linkname = "/etc"
        tar.addfile(info)
    with pytest.raises(ServiceError, match="can't be read as a backup"):
        backup.restore(small, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "small.tar"]


def test_what_is_no_platform_is_named(tmp_path):
    with pytest.raises(ServiceError, match=f"There is no platform in {tmp_path}"):
        backup.backup(tmp_path, tmp_path / "x.tar")
    with pytest.raises(ServiceError, match="can't be read as a backup"):
        backup.restore(Path("/nonexistent.tar"), tmp_path / "new")
