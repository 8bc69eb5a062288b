import itertools
import time
import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from i2idist import storage
from i2idist.data.batches import Images, Labelled, Paired, SourceLabelled, Unpaired
from i2idist.data.generated import resolve
from i2idist.data.labelled import read_labelled
from i2idist.data.pack import Sample, pack
from i2idist.data.reader import DataSettings, Reader
from i2idist.errors import ConfigError, DataError, SampleError, ShardError, StorageError
from tests.data.samples import flip_byte, index_of, make_paired, make_unpaired, paired_samples, picture, rewrite


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("reader") / "paired")
    make_paired(url)
    return url


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("reader") / "unpaired")
    make_unpaired(url)
    return url


def reader(url, role=Paired, *, batch_size=6, rank=0, world_size=1, seed=0, group_size=1, shuffle=True, **settings):
    data = DataSettings(url=str(url), **settings)
    return Reader(
        data,
        role=role,
        batch_size=batch_size,
        group_size=group_size,
        rank=rank,
        world_size=world_size,
        seed=seed,
        shuffle=shuffle,
    )


def take(opened, count, start=0):
    found = list(itertools.islice(opened.batches(start), count))
    opened.close()
    return found


def same(one, two):
    return type(one) is type(two) and all(torch.equal(vars(one)[name], vars(two)[name]) for name in vars(one))


def joined(batches):
    names = vars(batches[0])
    return type(batches[0])(**{name: torch.cat([vars(batch)[name] for batch in batches]) for name in names})


def unit(pixels):
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)) / 127.5 - 1


AUGMENTED = {"size": (5, 6), "load_size": (7, 9), "flip": True}


@pytest.mark.parametrize("role", [Paired, Unpaired])
@pytest.mark.parametrize("group_size", [1, 2])
def test_any_number_of_workers_reads_the_same_batches(paired, role, group_size):
    whole = take(reader(paired, role, batch_size=8, group_size=group_size, **AUGMENTED), 5)
    assert [batch.positions.tolist() for batch in whole] == [list(range(8 * n, 8 * n + 8)) for n in range(5)]
    for workers in (2, 3, 4):
        parts = [
            take(reader(paired, role, batch_size=8, group_size=group_size, rank=r, world_size=workers, **AUGMENTED), 5)
            for r in range(workers)
        ]
        assert all(same(joined(list(shares)), batch) for *shares, batch in zip(*parts, whole, strict=True))


def test_threads_memory_and_prefetch_change_nothing(unpaired):
    plain = take(reader(unpaired, Unpaired, memory_bytes=0, **AUGMENTED), 8)
    for settings in ({}, {"workers": 2, "prefetch": 3}, {"workers": 1, "prefetch": 1, "memory_bytes": 0}):
        assert all(map(same, take(reader(unpaired, Unpaired, **AUGMENTED, **settings), 8), plain))


def test_any_position_is_resumed_exactly(unpaired):
    through = take(reader(unpaired, Unpaired, **AUGMENTED), 30)
    for start in (1, 7, 29):
        assert same(take(reader(unpaired, Unpaired, **AUGMENTED), 1, start)[0], through[start])


def test_every_epoch_shows_every_pair_once_and_runs_on(paired):
    batches = joined(take(reader(paired), 20))  # 120 draws: 6 epochs of 20, no batch ends with one
    by_pixels = {picture(n, 1).tobytes(): n for n in range(20)}
    drawn = [by_pixels[((a + 1) * 127.5).round().byte().permute(1, 2, 0).numpy().tobytes()] for a in batches.a]
    for epoch in range(6):
        assert sorted(drawn[20 * epoch : 20 * epoch + 20]) == list(range(20))
    assert drawn[:20] != drawn[20:40]
    for number, b in zip(drawn, batches.b, strict=True):
        assert torch.equal(b, unit(picture(1000 + number)))


def test_pools_advance_independently(unpaired):
    batches = joined(take(reader(unpaired, Unpaired), 130))  # 780 draws: 60 epochs of 13, 39 of 20
    assert set(Counter(image.numpy().tobytes() for image in batches.a).values()) == {60}
    assert set(Counter(image.numpy().tobytes() for image in batches.b).values()) == {39}
    pairs = {(a.numpy().tobytes(), b.numpy().tobytes()) for a, b in zip(batches.a, batches.b, strict=True)}
    assert len(pairs) > 150


def test_pairs_read_as_unpaired_come_apart(paired):
    batches = joined(take(reader(paired, Unpaired), 30))
    partners = {unit(picture(n, 1)).numpy().tobytes(): unit(picture(1000 + n)) for n in range(20)}
    together = [torch.equal(partners[a.numpy().tobytes()], b) for a, b in zip(batches.a, batches.b, strict=True)]
    assert sum(together) < 0.3 * len(together)


def test_images_of_a_pair_are_cropped_and_flipped_alike(tmp_path):
    samples = [Sample(f"s{n}", "train", {"a": picture(n), "b": picture(n)}) for n in range(6)]
    pack(samples, str(tmp_path / "d"), name="d", role="paired", workers=1)
    batches = joined(take(reader(tmp_path / "d", **AUGMENTED), 10))
    assert batches.a.shape == (60, 3, 5, 6)
    assert torch.equal(batches.a, batches.b)
    assert len({image.numpy().tobytes() for image in batches.a}) > 40
    apart = joined(take(reader(tmp_path / "d", Unpaired, batch_size=1, shuffle=False, **AUGMENTED), 60))
    assert not torch.equal(apart.a, apart.b)


@pytest.mark.parametrize(
    ("channels", "bits", "size"), [(1, 16, (3, 11)), (5, 8, (8, 2)), (3, 16, (4, 4)), (4, 8, (2, 9))]
)
def test_channels_bits_and_shapes_are_kept(tmp_path, channels, bits, size):
    pictures = [picture(n, channels, bits, size) for n in range(3)]
    samples = [Sample(f"s{n}", "train", {"x": pixels}) for n, pixels in enumerate(pictures)]
    pack(samples, str(tmp_path / "d"), name="d", role="images", workers=1)
    opened = reader(tmp_path / "d", Images, shuffle=False, batch_size=3)
    domain = opened.domains.a
    assert (domain.channels, domain.height, domain.width) == (channels, *size)
    (batch,) = take(opened, 1)
    expected = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / ((2**bits - 1) / 2) - 1
    assert torch.equal(batch.x, torch.from_numpy(expected))
    assert batch.x.dtype == torch.float32


def test_validation_sees_every_sample_once_in_order_without_augmentation(paired):
    for settings in ({}, {"memory_bytes": 0, "workers": 2}):
        opened = reader(paired, **settings, flip=True)
        batches = list(opened.epoch())
        assert [len(batch) for batch in batches] == [6, 6, 6, 2]
        whole = joined(batches)
        assert whole.positions.tolist() == list(range(20))
        assert all(torch.equal(image, unit(picture(1000 + n))) for n, image in enumerate(whole.b))
        assert opened.keys(batches[3]) == ["s018", "s019"]
        opened.close()


def test_validation_scales_what_training_crops(paired):
    opened = reader(paired, **AUGMENTED)
    (plain,) = (joined(list(one.epoch())) for one in [reader(paired, size=(5, 6))])
    assert same(joined(list(opened.epoch())), plain)
    assert next(opened.batches()).a.shape[2:] == (5, 6)
    opened.close()


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_validation_is_shared_among_workers(paired, workers):
    parts = [list(reader(paired, rank=rank, world_size=workers).epoch()) for rank in range(workers)]
    positions = sorted(int(p) for part in parts for batch in part for p in batch.positions)
    assert positions == list(range(20))
    assert all(len(batch) for part in parts for batch in part)


def test_validation_of_two_pools_goes_round_the_smaller(unpaired):
    opened = reader(unpaired, Unpaired)
    assert opened.length == 20
    whole = joined(list(opened.epoch()))
    opened.close()
    assert torch.equal(whole.a[:7], whole.a[13:])
    assert len({image.numpy().tobytes() for image in whole.b}) == 20


def test_labels_and_directions(paired):
    batch = joined(list(reader(paired, Labelled, domains=("b",)).epoch()))
    assert batch.y.tolist() == [n % 3 for n in range(20)]
    assert batch.y.dtype == torch.int64
    assert batch.x.shape == (20, 3, 6, 8)
    turned = reader(paired, domains=("b", "a"))
    assert [domain.name for domain in turned.domains.images] == ["b", "a"]
    assert next(turned.batches()).a.shape[1] == 3
    turned.close()


def test_attributes_are_vectors(tmp_path):
    samples = [Sample(f"s{n}", "train", {"x": picture(n)}, label=(float(n), 1.0)) for n in range(3)]
    pack(samples, str(tmp_path / "d"), name="d", role="labelled", workers=1)
    batch = next(reader(tmp_path / "d", Labelled, shuffle=False, batch_size=3).batches())
    assert torch.equal(batch.y, torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]))


@pytest.mark.parametrize("place", ["memory_url", "s3_url"])
def test_remote_shards_are_read_through_the_cache(place, request, paired, tmp_path):
    url = request.getfixturevalue(place)
    make_paired(url)
    expected = take(reader(paired), 4)
    assert all(map(same, take(reader(url, cache_dir=str(tmp_path)), 4), expected))
    for name in storage.walk(url):
        if name.endswith(".tar"):
            storage.delete(storage.join(url, name))
    assert all(map(same, take(reader(url, cache_dir=str(tmp_path), workers=2), 4), expected))


def test_a_file_harmed_in_the_cache_is_fetched_anew(memory_url, paired, tmp_path):
    make_paired(memory_url)
    take(reader(memory_url, cache_dir=str(tmp_path)), 4)
    for path in tmp_path.glob("*.file"):
        path.write_bytes(b"?" * path.stat().st_size)
    assert all(map(same, take(reader(memory_url, cache_dir=str(tmp_path)), 4), take(reader(paired), 4)))


def test_a_late_resume_is_quick(paired, memory_url, tmp_path):
    make_paired(memory_url)
    for url in (paired, memory_url):
        start = time.perf_counter()
        opened = reader(url, batch_size=16, cache_dir=str(tmp_path))
        next(opened.batches(10**9))
        assert time.perf_counter() - start < 2.0
        opened.close()


# What can be wrong with data


def damage(url, manifest, row, domain="b"):
    """Harm an image of the first shard."""
    shard = manifest.pool("train", domain).shards[0]
    column = index_of(url, shard)["columns"][domain]
    flip_byte(storage.join(url, shard.name), column["offsets"][row] + 40)
    return shard, column["crc32"][row]


def test_a_damaged_sample_is_named_with_both_hashes(tmp_path):
    url = str(tmp_path / "d")
    shard, crc = damage(url, make_paired(url), 2)
    with pytest.raises(
        ShardError, match=f"Shard {url}/{shard.name}, sample s002 \\(b\\) is damaged: CRC-32 expected {crc:08x}, found "
    ):
        take(reader(url), 4)


@pytest.mark.parametrize("harm", ["truncate", "delete", "delete index", "harm index"])
def test_a_damaged_shard_is_named(tmp_path, harm):
    url = str(tmp_path / "d")
    shard = make_paired(url).pool("train", "a").shards[0]
    tar, index = tmp_path / "d" / shard.name, tmp_path / "d" / shard.index_name
    if harm == "truncate":
        tar.write_bytes(tar.read_bytes()[:-1000])
    elif harm == "harm index":
        flip_byte(index, 30)
    else:
        (tar if harm == "delete" else index).unlink()
    complaint = {
        "truncate": f"{tar} is damaged: {shard.bytes} bytes expected, {shard.bytes - 1000} found",
        "delete": f"Shard {tar} is missing",
        "delete index": f"Index {index} is missing",
        "harm index": f"Index {index} is damaged: SHA-256 expected {shard.index_sha256}, found ",
    }[harm]
    with pytest.raises(ShardError, match=complaint):
        take(reader(url), 4)


def test_a_remote_shard_with_a_wrong_hash_is_named(memory_url, tmp_path):
    shard = make_paired(memory_url).pool("train", "a").shards[0]
    place = storage.join(memory_url, shard.name)
    data = bytearray(storage.read_bytes(place))
    data[700] ^= 1
    storage.write_bytes(place, bytes(data))
    with pytest.raises(ShardError, match=f"{place} is damaged: SHA-256 expected {shard.sha256}, found"):
        take(reader(memory_url, cache_dir=str(tmp_path)), 4)


def replace_image(content, row, domain):
    """Put other bytes in an image's place, with a checksum that fits."""

    def change(tar, index):
        column = index["columns"][domain]
        start = column["offsets"][row]
        tar[start : start + len(content)] = content
        column["sizes"][row] = len(content)
        column["crc32"][row] = zlib.crc32(content)

    return change


def bomb():
    header = b"IHDR" + (10**5).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d" + header + zlib.crc32(header).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"no image at all", "is not an image"), (bomb(), "claims to be 100000x100000 pixels")]
)
def test_an_image_that_cant_be_decoded_is_named(tmp_path, content, complaint):
    url = str(tmp_path / "d")
    rewrite(url, make_paired(url), replace_image(content, 1, "a"))
    with pytest.raises(
        SampleError, match=f"{url}/train/samples-00000-[0-9a-f]{{16}}.tar, sample s001 \\(a\\) {complaint}"
    ):
        take(reader(url), 4)


def test_skipped_samples_are_replaced_alike_on_any_worker(tmp_path, caplog):
    url = str(tmp_path / "d")
    damage(url, make_paired(url), 2)
    skip = {"on_bad_sample": "skip", "max_bad_fraction": 0.1}
    one = reader(url, **skip)
    whole = take(one, 10)
    assert one.bad >= 3  # of 60 draws, one in 20 is bad
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("sample s002 (b) is damaged" in message for message in warnings) == 1
    bad = unit(picture(2, 1))
    assert not any(torch.equal(image, bad) for image in joined(whole).a)
    good = [unit(picture(n, 1)) for n in range(20)]
    assert all(any(torch.equal(image, g) for g in good) for image in joined(whole).a)
    for settings in ({"memory_bytes": 0}, {"workers": 2}):
        parts = [take(reader(url, rank=rank, world_size=3, **skip, **settings), 10) for rank in range(3)]
        assert all(same(joined(list(shares)), batch) for *shares, batch in zip(*parts, whole, strict=True))


def test_validation_leaves_skipped_samples_out(tmp_path):
    url = str(tmp_path / "d")
    damage(url, make_paired(url), 2)
    opened = reader(url, on_bad_sample="skip", max_bad_fraction=0.1)
    positions = joined(list(opened.epoch())).positions.tolist()
    assert positions == [n for n in range(20) if n != 2]
    assert opened.bad == 1
    opened.close()


def test_validation_of_pools_leaves_both_sides_out(tmp_path):
    url = str(tmp_path / "d")
    damage(url, make_unpaired(url), 1)
    opened = reader(url, Unpaired, on_bad_sample="skip", max_bad_fraction=0.1)
    whole = joined(list(opened.epoch()))
    assert whole.positions.tolist() == [n for n in range(20) if n != 1]
    assert len(whole.a) == len(whole.b) == 19
    opened.close()


def test_too_many_bad_samples_stop_the_run(tmp_path):
    url = str(tmp_path / "d")
    shard = make_paired(url).pool("train", "a").shards[1]
    storage.delete(storage.join(url, shard.name))
    missing = rf"2 of the \d+ samples .* drew from pool ab.*max_bad_fraction \(0.001\).* of shard {url}/{shard.name}: "
    with pytest.raises(DataError, match=missing):
        take(reader(url, on_bad_sample="skip", max_bad_fraction=0.001), 10)


def test_the_bound_holds_for_any_number_of_workers(tmp_path):
    """One sample in four is bad. Of several workers each meets its own part of them, fewer than one of the pool."""
    url = str(tmp_path / "d")
    for shard in make_paired(url).pool("train", "a").shards:
        flip_byte(storage.join(url, shard.name), index_of(url, shard)["columns"]["b"]["offsets"][1])
    for world_size in (1, 3):
        skipped = 0
        for rank in range(world_size):
            opened = reader(url, rank=rank, world_size=world_size, on_bad_sample="skip", max_bad_fraction=0.1)
            with pytest.raises(DataError, match="10[1-9] of the .* samples that this worker drew from pool ab can't"):
                take(opened, 600)
            skipped += opened.bad
        assert skipped <= 0.1 * 1000 * world_size + 16


def test_every_skip_is_logged_with_its_shard(tmp_path, caplog):
    url = str(tmp_path / "d")
    manifest = make_paired(url)
    damage(url, manifest, 2)
    shard = manifest.pool("train", "a").shards[0]
    caplog.set_level("INFO")
    opened = reader(url, on_bad_sample="skip", max_bad_fraction=0.1)
    take(opened, 10)
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "Skipped" in record.getMessage()]
    assert len(told) == opened.bad >= 3
    assert [level for level, _ in told] == ["WARNING", *["INFO"] * (len(told) - 1)]
    assert all(f"sample number 2 of shard {url}/{shard.name}" in text for _, text in told)


def test_storage_that_fails_is_not_a_bad_sample(tmp_path):
    """An outage must stop the run, not thin the data."""
    url = str(tmp_path / "d")
    for shard in make_paired(url).pool("train", "a").shards:
        (tmp_path / "d" / shard.index_name).unlink()
        (tmp_path / "d" / shard.index_name).mkdir()
    with pytest.raises(StorageError, match="Can't read .*json: IsADirectoryError"):
        take(reader(url, on_bad_sample="skip", max_bad_fraction=1.0), 4)


@pytest.mark.parametrize(
    ("role", "settings", "complaint"),
    [
        (Paired, {}, "is unpaired data, and the method trains on paired batches"),
        (Labelled, {"domains": ("a",)}, "has no labels"),
        (Images, {}, r"Set data.domains to 1 of \['a', 'b'\]"),
        (Unpaired, {"domains": ("a", "c")}, "no domain 'c'"),
        (Unpaired, {"split": "vall"}, "no split 'vall'"),
        (Unpaired, {"size": 8, "load_size": 6}, "load_size is .*smaller"),
    ],
)
def test_settings_that_dont_fit_the_dataset_are_refused(unpaired, role, settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        reader(unpaired, role, **settings)


def modal_samples():
    """Thirty samples: all have rgb; depth, labels or both follow in turns, so that some shards have no labels."""
    for n in range(30):
        have = {"rgb": picture(n)}
        if n % 3 != 1:
            have["depth"] = picture(100 + n, 1, 16)
        if n % 3 and n >= 12:
            have["labels"] = picture(200 + n, 1)
        yield Sample(f"s{n:02}", "train", have)


@pytest.fixture(scope="module")
def modal(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("modal") / "d")
    domains = ("rgb", "depth", "labels")
    assert (
        len(
            pack(modal_samples(), url, name="d", role="multimodal", domains=domains, shard_bytes=4096)
            .pools("train")[0]
            .shards
        )
        > 3
    )
    return url


def of(pixels):
    return np.atleast_3d(pixels).transpose(2, 0, 1)


@pytest.mark.parametrize("shuffle", [True, False])
def test_pairs_of_modalities_are_the_samples_that_have_both(modal, shuffle):
    pairs = {s.images["rgb"].tobytes(): s.images["labels"] for s in modal_samples() if "labels" in s.images}
    for size in (1, 2):
        parts = [
            reader(modal, domains=("rgb", "labels"), rank=rank, world_size=size, batch_size=4, shuffle=shuffle)
            for rank in range(size)
        ]
        assert {part.length for part in parts} == {len(pairs)} == {12}
        batch = [next(part.batches()) for part in parts]
        rgb, labels = (torch.cat([vars(one)[name] for one in batch]) for name in "ab")
        for shown, truth in zip(rgb, labels, strict=True):
            found = (shown * 127.5 + 127.5).round().byte().permute(1, 2, 0).numpy().tobytes()
            assert np.array_equal((truth * 127.5 + 127.5).round().byte().numpy(), of(pairs[found]))
        for part in parts:
            part.close()


def test_an_epoch_of_pairs_has_each_once_under_its_key(modal):
    opened = reader(modal, domains=("depth", "labels"), batch_size=4)
    keys = [key for batch in opened.epoch() for key in opened.keys(batch)]
    opened.close()
    assert keys == [s.key for s in modal_samples() if {"depth", "labels"} <= s.images.keys()]
    assert len(keys) == 6


def test_pools_of_modalities_need_not_share_samples(modal):
    opened = reader(modal, Unpaired, domains=("depth", "labels"), batch_size=4, shuffle=False)
    batch = next(opened.batches())
    opened.close()
    for domain, images, scale in (("depth", batch.a, 65535), ("labels", batch.b, 255)):
        first = [s.images[domain] for s in modal_samples() if domain in s.images][:4]
        assert np.array_equal(((images + 1) / 2 * scale).round().numpy(), np.stack([of(image) for image in first]))


def test_modalities_that_never_meet_are_no_pairs(tmp_path):
    samples = [
        Sample(f"s{n}", "train", {"rgb": picture(n), ("depth", "labels")[n % 2]: picture(n, 1)}) for n in range(4)
    ]
    pack(samples, str(tmp_path / "d"), name="d", role="multimodal", domains=("rgb", "depth", "labels"))
    with pytest.raises(DataError, match="No sample of split train of .* has depth and labels"):
        reader(tmp_path / "d", domains=("depth", "labels"))
    assert len(next(reader(tmp_path / "d", Images, domains=("rgb",)).batches())) == 6


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"canonical_streams": 0}, "data.canonical_streams is 0"),
        ({"size": 0}, "data.size is 0"),
        ({"load_size": (4, -1)}, "data.load_size"),
        ({"on_bad_sample": "ignore"}, "'raise' or 'skip'"),
        ({"max_bad_fraction": 2.0}, "between 0 and 1"),
        ({"workers": -1}, "data.workers is -1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        replace(DataSettings(url="x"), **changes)


def test_more_workers_than_groups_are_refused(paired):
    with pytest.raises(ConfigError, match="5 workers for a batch of 3 groups"):
        reader(paired, group_size=2, world_size=5)


def test_labels_are_those_of_the_samples_drawn(tmp_path):
    pack(paired_samples(20), str(tmp_path / "d"), name="d", role="paired", workers=1)
    batch = joined(take(reader(tmp_path / "d", Labelled, domains=("a",)), 5))
    label_of = {unit(picture(n, 1)).numpy().tobytes(): n % 3 for n in range(20)}
    assert [label_of[x.numpy().tobytes()] for x in batch.x] == batch.y.tolist()


def test_source_labelled_batches_have_the_classes_of_the_first_domain(tmp_path):
    """Turned round, those of the other one; labels come in the samples' order."""
    url = resolve("generated:digits?size=16&train=8&val=0&test=0", str(tmp_path))
    common = {"batch_size": 8, "group_size": 1, "rank": 0, "world_size": 1, "seed": 0}
    for domains in (("a", "b"), ("b", "a")):
        reader = Reader(DataSettings(url=url, domains=domains), role=SourceLabelled, **common)
        batch = next(reader.epoch())
        reader.close()
        want = read_labelled(DataSettings(url=url), domains[0], "train")
        assert torch.equal(batch.a, want.x)
        assert torch.equal(batch.y, want.y)


def test_source_labelled_batches_need_labels(tmp_path):
    url = resolve("generated:maps?size=16&train=8&val=0&test=0", str(tmp_path))
    with pytest.raises(ConfigError, match="has no labels"):
        Reader(DataSettings(url=url), role=SourceLabelled, batch_size=8, group_size=1, rank=0, world_size=1, seed=0)
