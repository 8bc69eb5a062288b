"""The same behaviour on a local folder, in memory and on a real S3 server."""

import os
import threading
import time

import pytest
import s3fs

from i2idist import storage
from i2idist.errors import StorageError


@pytest.fixture(params=["path", "file", "memory", "s3"])
def url(request, tmp_path):
    if request.param == "path":
        return str(tmp_path / "store")
    if request.param == "file":
        return f"file://{tmp_path}/store"
    return request.getfixturevalue(f"{request.param}_url")


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("/", "a"), "/a"),
        (("rel/", "a", "b"), "rel/a/b"),
        (("s3://bucket/x/", "/y", "z"), "s3://bucket/x/y/z"),
        (("memory://", "x"), "memory://x"),
    ],
)
def test_join(parts, joined):
    assert storage.join(*parts) == joined


def test_what_is_written_is_read(url):
    place = storage.join(url, "folder", "file")
    assert not storage.exists(place)
    storage.write_bytes(place, b"0123456789")
    storage.write_bytes(place, b"abcdefghij")
    assert storage.read_bytes(place) == b"abcdefghij"
    assert storage.read_bytes(place, 2, 5) == b"cde"
    assert storage.read_bytes(place, 7) == b"hij"
    assert storage.size(place) == 10
    assert storage.exists(place)


def test_listing_is_sorted_and_sees_nothing_else(url):
    assert storage.list_dir(url) == []
    assert storage.walk(url) == []
    for name in ("b/2", "a", "b/1", "c/d/e"):
        storage.write_bytes(storage.join(url, name), b"x")
    assert storage.list_dir(url) == ["a", "b", "c"]
    assert storage.walk(url) == ["a", "b/1", "b/2", "c/d/e"]


def test_deleting(url):
    for name in ("keep", "folder/1", "folder/deep/2"):
        storage.write_bytes(storage.join(url, name), b"x")
    storage.delete(storage.join(url, "folder"), recursive=True)
    storage.delete(storage.join(url, "absent"))
    assert storage.walk(url) == ["keep"]
    storage.delete(storage.join(url, "keep"))
    assert not storage.exists(storage.join(url, "keep"))


def test_of_many_creators_one_succeeds(url):
    place = storage.join(url, "lease")
    won, start = [], threading.Barrier(4)

    def create(number):
        start.wait()
        if storage.create_bytes(place, b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read_bytes(place) == b"%d" % won[0]
    assert not storage.create_bytes(place, b"late")
    assert storage.read_bytes(place) == b"%d" % won[0]
    assert storage.list_dir(url) == ["lease"]


def test_files_travel(url, tmp_path):
    (tmp_path / "up").write_bytes(b"content")
    place = storage.join(url, "x", "file")
    storage.upload(tmp_path / "up", place)
    storage.download(place, tmp_path / "new" / "down")
    assert (tmp_path / "new" / "down").read_bytes() == b"content"
    assert storage.list_dir(storage.join(url, "x")) == ["file"]


@pytest.mark.parametrize("action", ["read_bytes", "size", "download"])
def test_a_missing_file_is_named(action, url, tmp_path):
    place = storage.join(url, "no-such-file")
    with pytest.raises(StorageError, match="no-such-file"):
        {
            "read_bytes": lambda: storage.read_bytes(place),
            "size": lambda: storage.size(place),
            "download": lambda: storage.download(place, tmp_path / "down"),
        }[action]()
    assert not (tmp_path / "down").exists()


def test_a_refused_write_is_a_storage_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageError, match="file/below"):
        storage.write_bytes(str(tmp_path / "file" / "below"), b"y")
    with pytest.raises(StorageError, match="file/below"):
        storage.create_bytes(str(tmp_path / "file" / "below"), b"y")
    assert storage.list_dir(str(tmp_path)) == ["file"]


def test_a_wrong_secret_is_refused_and_not_shown(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(StorageError, match=s3_url) as caught:
            storage.write_bytes(storage.join(s3_url, "x"), b"y")
        assert "not-the-secret" not in str(caught.value)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_missing_bucket_is_no_empty_folder(s3_url):
    for look in (storage.exists, storage.list_dir, storage.walk, storage.read_bytes):
        with pytest.raises(StorageError, match=r"There is no bucket 'misspelt' at http.* Check its name"):
            look("s3://misspelt/folder/file")


def test_a_password_in_a_url_is_refused_and_not_shown():
    for look in (storage.exists, storage.list_dir, storage.read_bytes):
        with pytest.raises(StorageError, match="A https URL holds a password") as caught:
            look("https://me:hush@127.0.0.1:1/data")
        assert "hush" not in str(caught.value)


def test_unfinished_files_are_not_listed_and_swept_when_their_writer_is_gone(tmp_path):
    folder = tmp_path / "d"
    storage.write_bytes(str(folder / "whole.tmp"), b"x")
    left, fresh = (folder / f".whole.{letter * 32}.tmp" for letter in "ab")
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (time.time() - 60,) * 2)
    assert storage.walk(str(tmp_path)) == ["d/whole.tmp"]
    assert storage.list_dir(str(folder)) == ["whole.tmp"]
    storage.sweep(str(tmp_path), time.time() - 30)
    assert sorted(os.listdir(folder)) == [fresh.name, "whole.tmp"]


def test_an_unknown_protocol_is_named():
    with pytest.raises(StorageError, match="Protocol not known: what"):
        storage.read_bytes("what://is/this")


def test_local_paths(tmp_path):
    assert storage.is_local("some/path")
    assert storage.is_local("file:///some/path")
    assert not storage.is_local("s3://some/path")
    assert str(storage.local_path("file:///some/path")) == "/some/path"
    with pytest.raises(StorageError, match="s3://some/path is not a local path"):
        storage.local_path("s3://some/path")
