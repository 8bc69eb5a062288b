import zlib

import pytest

from i2idist import storage
from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample, pack
from i2idist.data.verify import verify
from tests.data.samples import flip_byte, index_of, make_paired, picture, rewrite


@pytest.fixture
def dataset(tmp_path):
    url = str(tmp_path / "pairs")
    return url, make_paired(url, count=9)


def first_shard(url, manifest):
    shard = manifest.pool("train", "a").shards[0]
    return shard, storage.local_path(storage.join(url, shard.name))


@pytest.mark.parametrize("place", ["memory_url", "s3_url"])
def test_a_whole_dataset_has_no_problems(place, request):
    url = request.getfixturevalue(place)
    manifest = make_paired(url)
    done = []
    report = verify(url, decode_images=True, progress=done.append)
    assert (report.samples, report.shards, report.problems) == (20, 5, ())
    assert report.bytes == sum(shard.bytes for shard in manifest.pool("train", "a").shards)
    assert done == [1, 2, 3, 4, 5]


def test_every_kind_of_dataset_verifies(tmp_path):
    samples = [Sample("k0", "train", {"rgb": picture(0), "depth": picture(0, 1, 16), "nir": picture(0, 6)})]
    samples += [Sample("k1", "val", {"rgb": picture(1)})]
    samples += [Sample("k2", "val", {"depth": picture(0, 1, 16), "nir": picture(0, 6)})]
    pack(samples, str(tmp_path / "d"), name="d", role="multimodal")
    assert verify(str(tmp_path / "d"), decode_images=True).problems == ()


@pytest.mark.parametrize("offset", [10, 512 + 20, -300])
def test_one_wrong_byte_anywhere_is_found(dataset, offset):
    url, manifest = dataset
    shard, path = first_shard(url, manifest)
    flip_byte(path, offset)
    (problem,) = verify(url).problems
    assert f"Shard {path} is damaged: SHA-256 expected {shard.sha256}, found " in problem


def test_a_truncated_shard_is_found(dataset):
    url, manifest = dataset
    shard, path = first_shard(url, manifest)
    path.write_bytes(path.read_bytes()[:-700])
    assert f"{shard.bytes} bytes expected, {shard.bytes - 700} found" in verify(url).problems[0]


@pytest.mark.parametrize("name", ["name", "index_name"])
def test_a_missing_file_is_found(dataset, name):
    url, manifest = dataset
    shard, _ = first_shard(url, manifest)
    lost = storage.join(url, shard.name if name == "name" else shard.index_name)
    storage.delete(lost)
    assert f"{lost} is missing" in verify(url).problems[0]


def test_a_damaged_index_is_found(dataset):
    url, manifest = dataset
    shard, _ = first_shard(url, manifest)
    flip_byte(storage.join(url, shard.index_name), 50)
    assert (
        f"Index {url}/{shard.index_name} is damaged: SHA-256 expected {shard.index_sha256}" in verify(url).problems[0]
    )


def test_all_problems_are_listed(dataset):
    url, manifest = dataset
    for shard in manifest.pool("train", "a").shards:
        flip_byte(storage.join(url, shard.name), 600)
    assert len(verify(url).problems) == len(manifest.pool("train", "a").shards) == 3


def test_a_resealed_archive_that_climbs_out_is_found(dataset):
    """Hashes that fit don't make a hostile archive safe."""
    url, manifest = dataset

    def climb(tar, index):
        header = bytearray(tar[:512])
        header[:100] = b"../../evil.png".ljust(100, b"\0")
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        tar[:512] = header

    rewrite(url, manifest, climb)
    load_manifest(url)
    assert "'../../evil.png', which is not a plain file inside its folder" in verify(url).problems[0]


def test_a_resealed_index_that_disagrees_with_its_tar_is_found(dataset):
    url, manifest = dataset
    rewrite(url, manifest, lambda tar, index: index["keys"].__setitem__(0, "renamed"))
    assert "has member s000.a.png where its index has renamed.a.png at byte" in verify(url).problems[0]


def test_a_resealed_index_that_points_beside_an_image_is_found(dataset):
    url, manifest = dataset
    rewrite(url, manifest, lambda tar, index: index["columns"]["a"]["offsets"].__setitem__(0, 1))
    assert "has member s000.a.png where its index has s000.a.png at byte 1" in verify(url).problems[0]


def test_a_resealed_index_that_points_outside_is_found(dataset):
    url, manifest = dataset
    rewrite(url, manifest, lambda tar, index: index["columns"]["a"]["offsets"].__setitem__(0, 10**9))
    assert "points outside its shard" in verify(url).problems[0]


def test_decoding_finds_what_hashes_cant(dataset):
    url, manifest = dataset
    shard, _ = first_shard(url, manifest)
    assert index_of(url, shard)["keys"][1] == "s001"

    def garbage(tar, index):
        column = index["columns"]["b"]
        start, size = column["offsets"][1], column["sizes"][1]
        tar[start + 30 : start + size] = b"?" * (size - 30)
        column["crc32"][1] = zlib.crc32(bytes(tar[start : start + size]))

    rewrite(url, manifest, garbage)
    assert verify(url).problems == ()
    (problem,) = verify(url, decode_images=True).problems
    assert f"{shard.name}, sample s001 (b) can't be decoded" in problem
