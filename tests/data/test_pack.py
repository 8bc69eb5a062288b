import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2idist import storage
from i2idist.data.manifest import load_manifest
from i2idist.data.pack import Sample, pack
from i2idist.data.source import PoolSource
from i2idist.data.verify import verify
from i2idist.errors import ConfigError, DataError, SampleError
from tests.data.samples import flip_byte, make_paired, paired_samples, picture


@pytest.fixture(params=["file", "memory", "s3"])
def url(request, tmp_path):
    return str(tmp_path / "d") if request.param == "file" else request.getfixturevalue(f"{request.param}_url")


def sample(key="k", images=None, **changes):
    return Sample(**{"key": key, "split": "train", "images": images or {"x": picture(0)}, **changes})


def pack_images(samples, dest, **options):
    return pack(samples, str(dest), name="d", **{"role": "images", "workers": 1, **options})


def files_of(url):
    return {name: storage.read_bytes(storage.join(url, name)) for name in storage.walk(url)}


def test_a_dataset_lies_there_as_any_tool_reads_it(url):
    manifest = make_paired(url)
    shards = manifest.pool("train", "a").shards
    assert len(shards) == 5
    assert storage.walk(url) == sorted(["manifest.json", *(n for s in shards for n in (s.name, s.index_name))])
    with tarfile.open(fileobj=io.BytesIO(storage.read_bytes(storage.join(url, shards[0].name)))) as tar:
        names = tar.getnames()
        pixels = np.asarray(Image.open(tar.extractfile("s001.b.png")))
        assert tar.extractfile("s001.cls").read() == b"1"
    assert names[:3] == ["s000.a.png", "s000.b.png", "s000.cls"]
    assert np.array_equal(pixels, picture(1001))


def test_the_same_samples_give_the_same_bytes_on_any_number_of_threads(tmp_path):
    make_paired(tmp_path / "one")
    pack(paired_samples(20), str(tmp_path / "four"), name="pairs", role="paired", shard_bytes=12_000, workers=4)
    assert files_of(str(tmp_path / "one")) == files_of(str(tmp_path / "four"))


def test_a_dataset_is_never_overwritten(url):
    make_paired(url, count=3)
    before = files_of(url)
    with pytest.raises(DataError, match=f"A dataset is at {url} already"):
        make_paired(url, count=5)
    assert files_of(url) == before


def fails_at(count, number):
    yield from itertools.islice(paired_samples(count), number)
    raise RuntimeError("the power goes")


def stamp(url, name):
    return storage.local_path(storage.join(url, name)).stat().st_mtime_ns


def test_a_cut_off_pack_goes_on(tmp_path):
    url, whole = str(tmp_path / "cut"), str(tmp_path / "whole")
    make_paired(whole)
    options = {"name": "pairs", "role": "paired", "shard_bytes": 12_000, "workers": 1}
    with pytest.raises(RuntimeError, match="the power goes"):
        pack(fails_at(20, 18), url, **options)
    assert "manifest.json" not in storage.walk(url)
    kept = [name for name in storage.walk(url) if name.endswith(".tar")]
    assert len(kept) == 3
    before = [stamp(url, name) for name in kept]
    pack(paired_samples(20), url, **options)
    assert files_of(url) == files_of(whole)
    assert [stamp(url, name) for name in kept] == before


@pytest.mark.parametrize(
    "harm", ["byte", "index", "half an index", "other pixels", "fewer samples", "other shard size"]
)
def test_what_is_left_of_another_or_a_harmed_pack_is_made_anew(tmp_path, harm):
    url, whole = tmp_path / "cut", tmp_path / "whole"
    make_paired(whole)
    make_paired(url)
    (url / "manifest.json").unlink()
    first = str(next((url / "train").glob("samples-00000-*.tar"))).removesuffix(".tar")
    if harm == "byte":
        flip_byte(f"{first}.tar", 600)
    elif harm == "index":
        Path(f"{first}.json").unlink()
    elif harm == "half an index":
        Path(f"{first}.json").write_bytes(Path(f"{first}.json").read_bytes()[:100])
    else:
        changed = {
            "other pixels": [
                Sample("s000", "train", {"a": picture(7, 1), "b": picture(8)}, 0),
                *list(paired_samples(20))[1:],
            ],
            "fewer samples": list(paired_samples(7)),
            "other shard size": list(paired_samples(20)),
        }[harm]
        size = 20_000 if harm == "other shard size" else 12_000
        for dest in (url, tmp_path / "changed"):
            pack(changed, str(dest), name="pairs", role="paired", shard_bytes=size, workers=1)
        assert files_of(str(url)) == files_of(str(tmp_path / "changed"))
        return
    make_paired(url)
    assert files_of(str(url)) == files_of(str(whole))


def test_of_two_packs_at_once_one_stands_whole(url):
    """The second runs within the first, whose first shards are in storage by then."""
    others = [sample(f"o{n}", {"x": picture(100 + n)}) for n in range(20)]

    def interrupted():
        yield from (sample(f"k{n}") for n in range(20))
        pack_images(others, url, shard_bytes=2_000)
        yield from (sample(f"l{n}") for n in range(20))

    with pytest.raises(DataError, match=f"Another process packed {url} at the same time"):
        pack_images(interrupted(), url, shard_bytes=2_000)
    assert verify(url).problems == ()
    manifest = load_manifest(url)
    shards = manifest.pool("train", "x").shards
    assert storage.walk(url) == sorted(["manifest.json", *(n for s in shards for n in (s.name, s.index_name))])


def test_two_packs_of_the_same_samples_at_once_both_succeed(url):
    def interrupted():
        yield sample("k0")
        pack_images([sample("k0"), sample("k1")], url)
        yield sample("k1")

    assert pack_images(interrupted(), url) == load_manifest(url)
    assert verify(url).problems == ()


def test_what_several_cut_off_packs_left_is_kept_or_removed(tmp_path):
    url, whole = str(tmp_path / "cut"), str(tmp_path / "whole")
    pack_images([sample(f"k{n}") for n in range(20)], whole, shard_bytes=2_000)

    def cut(samples):
        yield from samples
        raise RuntimeError("the power goes")

    for name, seed in (("a", 5), ("k", 0), ("z", 9)):
        with pytest.raises(RuntimeError):
            pack_images(cut([sample(f"{name}{n}", {"x": picture(seed)}) for n in range(16)]), url, shard_bytes=2_000)
    before = {name: stamp(url, name) for name in storage.walk(url)}
    pack_images([sample(f"k{n}") for n in range(20)], url, shard_bytes=2_000)
    assert files_of(url) == files_of(whole)
    assert sum(stamp(url, name) == before.get(name) for name in storage.walk(url)) >= 6
    assert len(before) > len(storage.walk(url))


def test_pictures_may_be_arrays_pil_files_or_functions(tmp_path):
    pixels = picture(3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    kinds = [pixels, Image.fromarray(pixels), file.getvalue(), lambda: pixels, lambda: file.getvalue()]
    manifest = pack_images([sample(f"k{n}", {"x": kind}) for n, kind in enumerate(kinds)], tmp_path / "d")
    source = PoolSource(str(tmp_path / "d"), manifest, "train", "x", None)
    read = [np.asarray(Image.open(io.BytesIO(source.read(n, ["x"])[0][0]))) for n in range(len(kinds))]
    source.close()
    assert all(np.array_equal(found, pixels) for found in read)


def test_grey_and_colour_make_a_colour_domain(tmp_path):
    samples = [sample("grey", {"x": picture(0, 1)}), sample("colour", {"x": picture(0, 3)})]
    domain = pack_images(samples, tmp_path / "d").domains[0]
    assert (domain.channels, domain.bits, domain.size) == (3, 8, (6, 8))


@pytest.mark.parametrize("other", [picture(0, 1, 16), picture(0, 5)])
def test_kinds_that_dont_mix_are_refused(tmp_path, other):
    with pytest.raises(DataError, match="Domain x mixes"):
        pack_images([sample("one"), sample("two", {"x": other})], tmp_path / "d")
    assert not (tmp_path / "d" / "manifest.json").exists()


def test_multimodal_samples_hold_any_subset(tmp_path):
    samples = [sample("both", {"rgb": picture(0), "depth": picture(0, 1, 16)}), sample("one", {"rgb": picture(1)})]
    manifest = pack_images(samples, tmp_path / "d", role="multimodal")
    assert [(d.name, d.bits, d.complete) for d in manifest.domains] == [("rgb", 8, True), ("depth", 16, False)]


def test_attributes_have_names(tmp_path):
    samples = [sample(f"k{n}", label=(1.0, float(n))) for n in range(2)]
    manifest = pack_images(samples, tmp_path / "d", role="labelled", labels=("smile", "hat"))
    assert (manifest.label_kind, manifest.labels) == ("attributes", ("smile", "hat"))


PAIR = {"a": picture(0, 1), "b": picture(0)}


@pytest.mark.parametrize(
    ("role", "samples", "complaint"),
    [
        ("images", [], "no images to pack"),
        ("images", [sample("../x")], "the key '../x' can't be used"),
        ("images", [sample(), sample()], "the key 'k' occurs twice"),
        ("images", [sample(split="../x")], "the split '../x' can't be used"),
        ("images", [sample(images=PAIR)], "which images data"),
        ("paired", [sample()], "it wants 2 a sample"),
        ("paired", [sample(images=PAIR), sample("l", {"a": picture(0), "c": picture(0)})], r"images of \['a', 'c'\]"),
        ("unpaired", [sample(images={"a": picture(0)})], "unpaired data needs 2 domains"),
        ("unpaired", [sample(images={d: picture(0)}) for d in "abc"], "unpaired data of the domains"),
        ("labelled", [sample()], "has label None"),
        ("images", [sample(label=1), sample("l")], "the dataset's labels are class"),
        ("images", [sample(label=-1)], "has label -1"),
        ("images", [sample(label=(1.0,)), sample("l", label=(1.0, 0.0))], "Fix either"),
    ],
)
def test_samples_that_make_no_dataset_of_a_role_are_refused(tmp_path, role, samples, complaint):
    with pytest.raises(DataError, match=complaint):
        pack_images(samples, tmp_path / "d", role=role)
    assert not (tmp_path / "d" / "manifest.json").exists()


def test_an_empty_domain_of_a_split_is_named(tmp_path):
    samples = [sample("k", {domain: picture(0)}) for domain in "ab"] + [sample("k", {"a": picture(1)}, split="test")]
    with pytest.raises(DataError, match="Domain b is empty in split test"):
        pack_images(samples, tmp_path / "d", role="unpaired")


def test_labels_beyond_their_names_are_refused(tmp_path):
    with pytest.raises(DataError, match="has label 2; the names are"):
        pack_images([sample(label=2)], tmp_path / "d", labels=("zero", "one"))


def test_unknown_roles_and_bad_names_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no role 'pared'. Did you mean 'paired'"):
        pack_images([], tmp_path / "d", role="pared")
    with pytest.raises(ConfigError, match="The name 'a/b' can't be used"):
        pack([], str(tmp_path / "d"), name="a/b", role="images")


def test_an_undecodable_image_stops_the_pack_and_is_named(tmp_path):
    samples = [sample("good"), sample("bad", {"x": b"\x89PNG\r\n\x1a\n nonsense"}, origin="photos/bad.png")]
    with pytest.raises(SampleError, match=r"photos/bad\.png \(x\) can't be decoded"):
        pack_images(samples, tmp_path / "d")
    assert not (tmp_path / "d" / "manifest.json").exists()


def test_progress_counts_samples(tmp_path):
    counts = []
    pack_images([sample(f"k{n}") for n in range(5)], tmp_path / "d", workers=3, progress=counts.append)
    assert counts == [1, 2, 3, 4, 5]
    assert load_manifest(str(tmp_path / "d")).pool("train", "x").count == 5
