import io
import json
import tarfile

import pytest

from i2idist.data.shards import TarWriter, hash_file, members, parse_index, safe_key
from i2idist.errors import ShardError
from tests.data.samples import index_of, make_paired

FILES = {"a/one.png": b"x" * 700, "two.cls": b"", "k" * 180 + ".png": b"long name"}


@pytest.fixture
def tar(tmp_path):
    path = tmp_path / "shard.tar"
    writer = TarWriter(path)
    offsets = {name: writer.add(name, data) for name, data in FILES.items()}
    return path, offsets, writer.close(), writer.size


def test_any_tool_reads_a_shard(tar):
    path, offsets, sha256, size = tar
    assert hash_file(path) == sha256
    assert path.stat().st_size == size
    with tarfile.open(path) as opened:
        assert {info.name: opened.extractfile(info).read() for info in opened} == FILES
        info = opened.getmembers()[0]
    assert (info.mtime, info.uid, info.gid, info.uname, info.mode) == (0, 0, 0, "", 0o644)
    content = path.read_bytes()
    assert all(content[offset : offset + len(FILES[name])] == FILES[name] for name, offset in offsets.items())


def test_members_are_listed_where_they_lie(tar):
    path, offsets, _, _ = tar
    assert list(members(path, "x")) == [(name, offsets[name], len(FILES[name])) for name in FILES]


@pytest.mark.parametrize("cut", [100, 512 + 300])
def test_a_truncated_tar_is_named(tar, cut):
    path = tar[0]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ShardError, match=r"Shard s3://x/y\.tar (ends inside|is not a readable tar)"):
        list(members(path, "s3://x/y.tar"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../escape.png", tarfile.REGTYPE),
        ("/etc/passwd", tarfile.REGTYPE),
        ("a/../../b", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
    ],
)
def test_members_that_leave_their_folder_are_refused(tmp_path, name, kind):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info, io.BytesIO())
    with pytest.raises(ShardError, match="not a plain file inside its folder"):
        list(members(path, "x"))


@pytest.mark.parametrize("key", ["a", "a/b-c_d/0", "0001", "_x"])
def test_safe_keys(key):
    assert safe_key(key)


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a.b", "-a", "a\n", "a b", "é", "a" * 201, "a\\b"]
)
def test_unsafe_keys(key):
    assert not safe_key(key)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("shards") / "pairs")
    manifest = make_paired(url)
    return index_of(url, manifest.pool("train", "a").shards[0])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda index: index.update(version=9), "version 9"),
        (lambda index: index["keys"].__setitem__(0, "../../etc/x"), "could leave its folder"),
        (lambda index: index["columns"]["a"]["sizes"].pop(), "different lengths"),
        (lambda index: index["labels"].pop(), "different lengths"),
        (lambda index: index.pop("keys"), "malformed at 'keys'"),
        (lambda index: index["columns"]["a"].update(offsets=["x"]), "malformed at 'columns.a.offsets.0'"),
    ],
)
def test_a_bad_index_is_refused(index, change, complaint):
    content = json.loads(json.dumps(index))
    parse_index(json.dumps(content).encode(), "x")
    change(content)
    with pytest.raises(ShardError, match=f"Index s3://x .*{complaint}"):
        parse_index(json.dumps(content).encode(), "s3://x")
