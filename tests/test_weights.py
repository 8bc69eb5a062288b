"""Weight files: found, fetched from folders, S3 and HTTP, and refused when they differ."""

import dataclasses
import functools
import hashlib
import http.server
import re
import threading

import pytest
import torch

from i2idist import storage, weights
from i2idist.errors import SourceError, StorageError

STATE = {"features.0.weight": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv(weights.PLACE, raising=False)
    return tmp_path / "caches"


@pytest.fixture
def published(caches, tmp_path, monkeypatch):
    """A folder of a publisher's with a small stand-in for the Inception weights, which the table then means."""
    file = tmp_path / "published" / "pt_inception-2015-12-05-6726825d.pth"
    file.parent.mkdir()
    torch.save(STATE, file)
    stand_in = dataclasses.replace(
        weights.WEIGHTS["inception-fid"],
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        size=file.stat().st_size,
        url=str(file),
    )
    monkeypatch.setitem(weights.WEIGHTS, "inception-fid", stand_in)
    return file


def assert_right(state):
    assert state.keys() == STATE.keys()
    assert torch.equal(state["features.0.weight"], STATE["features.0.weight"])


@pytest.mark.parametrize("name", [name for name, known in weights.WEIGHTS.items() if known.package])
def test_weights_that_packages_carry_are_the_published_ones(name):
    known = weights.known(name)
    path = weights.fetch(name)
    assert (path.name, path.stat().st_size) == (known.names[0], known.size)
    assert all(tensor.dtype == torch.float32 for tensor in weights.read(name).values())


@pytest.mark.parametrize("name", weights.WEIGHTS)
def test_digests_are_whole_and_begin_as_file_names_say(name):
    known = weights.known(name)
    assert re.fullmatch("[0-9a-f]{64}", known.sha256)
    for file in known.names:
        head = re.search(r"-([0-9a-f]{8})\.pth$", file)
        assert head is None or known.sha256.startswith(head[1])


def test_absent_weights_say_where_to_get_them(caches):
    with pytest.raises(SourceError) as failure:
        weights.read("alexnet", "the network lpips-alex")
    said = str(failure.value)
    for part in (
        "'alexnet' (alexnet-owt-7be5be79.pth, 244 MB), which the network lpips-alex needs,",
        str(caches / "torch" / "hub" / "checkpoints"),
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "i2idist weights fetch alexnet",
        "--from",
        "I2IDIST_WEIGHTS",
    ):
        assert part in said


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(SourceError, match="Did you mean 'alexnet'"):
        weights.fetch("alexne")


def test_an_absent_package_says_what_to_install(monkeypatch):
    absent = weights.Package("some-weights==1.0", "no_such_package_of_weights", "weights.pth")
    known = dataclasses.replace(weights.WEIGHTS["stlpips-alex"], package=absent)
    monkeypatch.setitem(weights.WEIGHTS, "stlpips-alex", known)
    assert weights.find("stlpips-alex") is None
    for use in (weights.read, weights.fetch):
        with pytest.raises(SourceError, match=r"pip install some-weights==1\.0"):
            use("stlpips-alex")


def test_a_package_with_other_weights_is_refused(monkeypatch):
    known = dataclasses.replace(weights.WEIGHTS["stlpips-alex"], sha256="0" * 64)
    monkeypatch.setitem(weights.WEIGHTS, "stlpips-alex", known)
    for use in (weights.read, weights.fetch):
        with pytest.raises(SourceError, match=r"pip install --force-reinstall --no-deps stlpips-pytorch==0\.0\.2"):
            use("stlpips-alex")


def test_fetched_weights_are_read_from_the_cache(published, caches):
    path = weights.fetch("inception-fid", str(published.parent))
    assert path == caches / "i2idist" / "weights" / published.name
    published.unlink()
    assert_right(weights.read("inception-fid"))
    assert weights.fetch("inception-fid") == path


@pytest.mark.parametrize("place", ["hub/checkpoints", "checkpoints"])
@pytest.mark.parametrize("home", [None, "elsewhere"])
def test_torchs_caches_are_looked_into(published, caches, tmp_path, monkeypatch, place, home):
    folder = (tmp_path / home if home else caches / "torch") / place
    if home:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / home))
    folder.mkdir(parents=True)
    published.rename(folder / "weights-inception-2015-12-05-6726825d.pth")  # torch-fidelity's name
    assert_right(weights.read("inception-fid"))


def test_a_named_folder_is_looked_into(published, monkeypatch):
    assert weights.find("inception-fid") is None
    monkeypatch.setenv(weights.PLACE, str(published.parent))
    assert weights.find("inception-fid") == str(published)
    assert_right(weights.read("inception-fid"))


def test_a_named_bucket_is_looked_into_and_its_file_kept(published, caches, s3_url, monkeypatch):
    url = storage.join(s3_url, published.name)
    storage.upload(published, url)
    monkeypatch.setenv(weights.PLACE, s3_url)
    assert weights.find("inception-fid") == url
    assert weights.digest(url) == weights.known("inception-fid").sha256
    assert_right(weights.read("inception-fid"))
    assert weights.find("inception-fid") == str(caches / "i2idist" / "weights" / published.name)


def test_a_file_over_http_is_fetched(published):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=published.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            weights.fetch("inception-fid", f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
    assert_right(weights.read("inception-fid"))


def test_a_publisher_that_cannot_be_reached_is_an_error_with_a_way_out(published, caches):
    published.unlink()
    with pytest.raises(StorageError, match="--from with a file, folder or URL"):
        weights.fetch("inception-fid")


def test_another_file_is_refused_and_leaves_nothing(published, caches, tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes(published.read_bytes()[:-1])
    with pytest.raises(SourceError, match="has SHA-256") as failure:
        weights.fetch("inception-fid", str(other))
    assert weights.known("inception-fid").sha256 in str(failure.value)
    assert storage.walk(str(caches)) == []


def test_a_source_without_the_file_is_an_error(published, caches, tmp_path):
    with pytest.raises(SourceError, match=r"no .*pt_inception.* or .*weights-inception"):
        weights.fetch("inception-fid", str(tmp_path))
    with pytest.raises(SourceError, match=r"no .*nothing\.pth"):
        weights.fetch("inception-fid", str(tmp_path / "nothing.pth"))


def test_a_damaged_copy_in_the_cache_is_refused_until_it_is_fetched_again(published, caches):
    path = weights.fetch("inception-fid")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SourceError, match="i2idist weights fetch inception-fid"):
        weights.read("inception-fid")
    assert weights.fetch("inception-fid") == path
    assert_right(weights.read("inception-fid"))


def test_nothing_but_tensors_is_unpickled(published, monkeypatch):
    torch.save({"harm": print}, published)
    known = dataclasses.replace(weights.known("inception-fid"), sha256=weights.digest(str(published)))
    monkeypatch.setitem(weights.WEIGHTS, "inception-fid", known)
    monkeypatch.setenv(weights.PLACE, str(published.parent))
    with pytest.raises(Exception, match="Weights only load failed"):
        weights.read("inception-fid")
