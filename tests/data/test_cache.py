import errno
import hashlib
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from i2idist import storage
from i2idist.data.cache import ShardCache
from i2idist.errors import ShardError, StorageError

FILES = {f"f{n}": bytes([n]) * 1000 for n in range(5)}


@pytest.fixture
def store(memory_url):
    for name, data in FILES.items():
        storage.write_bytes(storage.join(memory_url, name), data)
    return memory_url


def read(cache, store, name):
    data = FILES[name]
    with cache.open(storage.join(store, name), hashlib.sha256(data).hexdigest(), len(data)) as file:
        return file.read()


def cached(folder):
    return {path for path in folder.iterdir() if path.suffix == ".file"}


def test_a_file_is_fetched_once(store, tmp_path):
    cache = ShardCache(tmp_path, 10_000)
    assert read(cache, store, "f1") == FILES["f1"]
    storage.delete(store, recursive=True)
    assert read(cache, store, "f1") == FILES["f1"]
    assert read(ShardCache(tmp_path, 10_000), store, "f1") == FILES["f1"]
    with pytest.raises(ShardError, match=f"Shard {store}/f2 is missing"):
        read(cache, store, "f2")


def test_the_least_recently_used_are_dropped(store, tmp_path):
    cache = ShardCache(tmp_path, 3_000)
    for age, name in enumerate(["f0", "f1", "f2"]):
        read(cache, store, name)
        os.utime(next(p for p in cached(tmp_path) if p.read_bytes() == FILES[name]), (age, age))
    read(cache, store, "f0")
    read(cache, store, "f3")
    assert {path.read_bytes() for path in cached(tmp_path)} == {FILES[name] for name in ("f0", "f2", "f3")}


def test_a_file_larger_than_the_limit_is_served_all_the_same(store, tmp_path):
    cache = ShardCache(tmp_path, 10)
    assert read(cache, store, "f1") == FILES["f1"]
    assert read(cache, store, "f2") == FILES["f2"]
    assert len(cached(tmp_path)) == 1


def test_a_dropped_file_stays_readable_while_it_is_open(store, tmp_path):
    cache = ShardCache(tmp_path, 1_500)
    data = FILES["f1"]
    with cache.open(storage.join(store, "f1"), hashlib.sha256(data).hexdigest(), len(data)) as file:
        read(cache, store, "f2")
        assert len(cached(tmp_path)) == 1
        assert file.read() == data


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"short", "1000 bytes expected, 5 found"), (b"y" * 1000, "SHA-256 expected .*, found")]
)
def test_a_damaged_file_is_refused_and_not_kept(store, tmp_path, content, complaint):
    storage.write_bytes(storage.join(store, "f1"), content)
    with pytest.raises(ShardError, match=f"{store}/f1 is damaged: {complaint}"):
        read(ShardCache(tmp_path, 10_000), store, "f1")
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock"}


def test_a_folder_that_cant_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/cache.*Set data.cache_dir"):
        ShardCache(tmp_path / "file" / "cache", 1)


def test_a_folder_that_somebody_clears_is_made_again(store, tmp_path):
    cache = ShardCache(tmp_path / "cache", 10_000)
    read(cache, store, "f1")
    shutil.rmtree(tmp_path / "cache")
    assert read(cache, store, "f1") == FILES["f1"]
    assert len(cached(tmp_path / "cache")) == 1


def test_an_unreachable_store_is_no_damage(tmp_path):
    with pytest.raises(StorageError, match="what://x/y"):
        ShardCache(tmp_path, 10_000).open("what://x/y", "0" * 64, 1)


def test_abandoned_downloads_are_cleared(store, tmp_path):
    cache = ShardCache(tmp_path, 10_000)
    for name, age in (("old.part", 0), (".old.tmp", 0), ("fresh.part", None)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, None if age is None else (age, age))
    read(cache, store, "f1")
    assert {path.name for path in tmp_path.iterdir() if path.suffix in (".part", ".tmp")} == {"fresh.part"}


def _hammer(folder, store, seed):
    """Read in another order than the others, through a cache too small for all."""
    cache = ShardCache(folder, 2_500)
    names = sorted(FILES, key=lambda name: hashlib.sha256(f"{name}{seed}".encode()).digest())
    return all(read(cache, store, name) == FILES[name] for _ in range(20) for name in names)


def test_threads_share_a_small_cache(store, tmp_path):
    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(lambda seed: _hammer(tmp_path, store, seed), range(6)))
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".file", ".lock")]


def test_processes_share_a_small_cache(tmp_path):
    """In fresh processes: forked ones would inherit the signal handlers and locks that Ray left in this one."""
    store = (tmp_path / "store").as_uri()
    for name, data in FILES.items():
        storage.write_bytes(storage.join(store, name), data)
    cache = tmp_path / "cache"
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as processes:
        assert all(processes.map(_hammer, [cache] * 3, [store] * 3, range(3)))
    assert sum(path.stat().st_size for path in cached(cache)) <= 2_500


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that has no room for so many downloads."""

    def fill(times):
        download = storage.download
        left = [times]

        def full(url, path):
            if left[0]:
                left[0] -= 1
                raise StorageError(f"Can't download {url}") from OSError(errno.ENOSPC, "No space left on device")
            download(url, path)

        monkeypatch.setattr(storage, "download", full)

    return fill


def test_on_a_full_disk_what_was_kept_makes_room(store, tmp_path, full_disk):
    cache = ShardCache(tmp_path, 10_000)
    for age, name in enumerate(["f0", "f1"]):
        read(cache, store, name)
        os.utime(next(p for p in cached(tmp_path) if p.read_bytes() == FILES[name]), (age, age))
    full_disk(1)
    assert read(cache, store, "f2") == FILES["f2"]
    assert {path.read_bytes() for path in cached(tmp_path)} == {FILES["f1"], FILES["f2"]}


def test_on_a_disk_that_stays_full_files_are_held_in_memory(store, tmp_path, full_disk, caplog):
    cache = ShardCache(tmp_path, 10_000)
    full_disk(100)
    assert read(cache, store, "f1") == FILES["f1"]
    assert not cached(tmp_path)
    assert f"is full: {store}/f1 is held in memory" in caplog.text
    storage.write_bytes(storage.join(store, "f2"), b"something else")
    with pytest.raises(ShardError, match="f2 is damaged: 1000 bytes with SHA-256 .* expected, 14 with"):
        read(cache, store, "f2")
