"""Datasets from elsewhere: manifests, archives and images that lie, under digests that fit them.

Traversal, indexes that point outside, decompression bombs and NumPy headers: see tests/data.
"""

import io
import json
import random
import resource
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from i2idist import storage
from i2idist.data.batches import Paired
from i2idist.data.images import decode, open_picture, to_stored
from i2idist.data.manifest import load_manifest, to_json
from i2idist.data.reader import DataSettings, Reader
from i2idist.data.shards import members
from i2idist.data.verify import verify
from i2idist.errors import DataError, ManifestError, SampleError, ShardError
from tests.data.samples import make_paired, rewrite, write_manifest


@pytest.fixture
def dataset(tmp_path):
    url = str(tmp_path / "pairs")
    return url, make_paired(url, count=8)


def shard_of(content):
    return content["splits"]["train"][0]["shards"][0]


ABSURD = {
    "samples": lambda content: shard_of(content).update(count=10**30),
    "samples for its bytes": lambda content: shard_of(content).update(count=2**30),
    "bytes": lambda content: shard_of(content).update(bytes=2**80),
    "no bytes": lambda content: shard_of(content).update(bytes=0),
    "negative": lambda content: shard_of(content).update(count=-1),
    "a fraction": lambda content: shard_of(content).update(count=1.5),
    "pixels": lambda content: content["domains"][0].update(size=[2**20, 2**20]),
    "channels": lambda content: content["domains"][0].update(channels=2**40),
    "a split outside": lambda content: content["splits"].update({"../train": content["splits"]["train"]}),
    "a domain outside": lambda content: content["domains"][0].update(name="../a"),
    "a name with a line's end": lambda content: shard_of(content).update(name="train/a\n.tar"),
    "an index of its own name": lambda content: shard_of(content).update(index_name="/etc/passwd"),
}


@pytest.mark.parametrize("what", ABSURD)
def test_a_manifest_that_claims_what_cannot_be_is_refused(what, dataset):
    url, manifest = dataset
    content = json.loads(to_json(manifest))
    ABSURD[what](content)
    write_manifest(url, content)
    with pytest.raises(ManifestError, match="manifest.json is malformed at"):
        load_manifest(url)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff\xfe", b'{"schema_version": 1' + b"1" * 9000 + b"}"])
def test_a_manifest_that_is_none_is_refused(data, dataset):
    storage.write_bytes(f"{dataset[0]}/manifest.json", data)
    with pytest.raises(ManifestError, match="is not JSON"):
        load_manifest(dataset[0])


def test_what_a_manifest_claims_costs_no_memory(dataset):
    """A count that could be, but isn't: found when the shard is opened, not paid for before."""
    url, manifest = dataset
    content = json.loads(to_json(manifest))
    shard_of(content).update(count=2**28, bytes=2**40)
    write_manifest(url, content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="belongs to another shard|lists 4 samples"):
        reader = Reader(
            DataSettings(url=url, workers=0), role=Paired, batch_size=4, group_size=1, rank=0, world_size=1, seed=0
        )
        next(reader.batches())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def member(kind, name="a.png", size=0, link="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_an_archive_holds_plain_files_alone(kind, dataset):
    url, manifest = dataset

    def smuggle(tar, index):
        tar[:512] = member(kind).tobuf(tarfile.GNU_FORMAT)

    rewrite(url, manifest, smuggle)
    assert "not a plain file inside its folder" in verify(url).problems[0]


@pytest.mark.parametrize("size", [2**33, 2**62])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_gigabytes_costs_none(size, kind, tmp_path):
    path = tmp_path / "huge.tar"
    path.write_bytes(member(kind, size=size).tobuf(tarfile.GNU_FORMAT) + b"a" * 1024)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ShardError, match="Shard huge"):
        list(members(path, "huge"))
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def harmed(rng, data):
    """The bytes with a few of them changed, cut off, moved or doubled."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                data[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
            case 2:
                data[place:place] = rng.randbytes(rng.randint(1, 20))
            case 3:
                del data[max(1, place) :]
    return bytes(data)


def pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (17, 19, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [("PNG", {}), ("JPEG", {}), ("GIF", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {})]
    kinds += [
        ("BMP", {}),
        ("PPM", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": turned}),
        ("PNG", {"exif": turned}),
    ]
    for kind, options in kinds:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        yield file.getvalue()
    file = io.BytesIO()
    np.save(file, pixels)
    yield file.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_harmed_images_are_bad_samples_whatever_is_wrong_with_them():
    rng, whole, refused = random.Random(0), list(pictures()), 0
    for _ in range(1500):
        data = harmed(rng, rng.choice(whole))
        for read in (to_stored, open_picture, lambda data, where: decode(data, 3, 8, where)):
            try:
                read(data, "here")
            except SampleError:
                refused += 1
    assert 1000 < refused < 4500


def archives():
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as tar:
            for name in ("a.png", "n" * 150 + ".png", "b.png"):
                info = tarfile.TarInfo(name)
                info.size, info.pax_headers = 700, {"comment": "ä" * 50}
                tar.addfile(info, io.BytesIO(b"x" * 700))
        yield file.getvalue()


def resealed(data):
    """Headers with their checksums made right again."""
    data = bytearray(data)
    for place in range(0, len(data) - 511, 512):
        if data[place + 257 : place + 262] == b"ustar":
            total = sum(data[place : place + 512]) - sum(data[place + 148 : place + 156]) + 8 * 32
            data[place + 148 : place + 156] = b"%06o\0 " % total
    return bytes(data)


def test_harmed_archives_are_refused_or_hold_plain_files(tmp_path):
    rng, whole, path, refused = random.Random(0), list(archives()), tmp_path / "t.tar", 0
    for _ in range(500):
        path.write_bytes(resealed(harmed(rng, rng.choice(whole))))
        try:
            found = list(members(path, "here"))
        except ShardError:
            refused += 1
        else:
            assert all(start >= 0 and start + size <= path.stat().st_size for _, start, size in found)
            assert not any(name.startswith("/") or ".." in name.split("/") for name, _, _ in found)
    assert 50 < refused < 500
