"""Reading samples that lack modalities."""

import itertools

import numpy as np
import pytest
import torch

from i2idist.data.batches import Multimodal
from i2idist.data.pack import Sample, pack
from i2idist.data.reader import DataSettings, Reader
from i2idist.data.transforms import to_unit
from i2idist.errors import ConfigError, ManifestError, SizeError
from i2idist.method import Domain, Domains

COUNT, SIDE = 12, 8


def scene(seed):
    """Colours, a depth of 16 bits, and a label map whose levels are 0, 1, 2 and 9, which is none of 3 classes."""
    draws = np.random.default_rng(seed)
    rgb = draws.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    depth = draws.integers(1, 65536, (SIDE, SIDE), dtype=np.uint16)
    return rgb, depth, draws.choice(np.array([0, 1, 2, 9], np.uint8), (SIDE, SIDE))


def packed(folder):
    """In turns: all three, colours and depth, colours and labels."""
    samples = []
    for n in range(COUNT):
        rgb, depth, labels = scene(n)
        images = {"rgb": rgb} | ({"depth": depth} if n % 3 < 2 else {}) | ({"labels": labels} if n % 3 != 1 else {})
        samples.append(Sample(f"s{n:02}", "train", images))
    pack(samples, str(folder), name="rooms", role="multimodal", domains=("rgb", "depth", "labels"), workers=1)
    return str(folder)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("data") / "rooms")


def reader(url, *, batch_size=6, rank=0, world_size=1, **settings):
    data = DataSettings(url=url, label_maps={"labels": 3}, **settings)
    common = {"batch_size": batch_size, "group_size": 1, "rank": rank, "world_size": world_size, "seed": 0}
    return Reader(data, role=Multimodal, **common)


def epoch(url, **settings):
    opened = reader(url, **settings)
    found = list(opened.epoch())
    opened.close()
    return found


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_what_is_there_is_read_and_the_rest_is_zero(rooms, memory_bytes):
    first, second = epoch(rooms, memory_bytes=memory_bytes)
    assert first.present.tolist() == [[True, n % 3 < 2, n % 3 != 1] for n in range(6)]
    assert second.positions.tolist() == [6, 7, 8, 9, 10, 11]
    for n in range(6):
        for image, stored, here in zip(first.images, scene(n), first.present[n], strict=True):
            wanted = to_unit(np.atleast_3d(stored).transpose(2, 0, 1)) if here else torch.zeros_like(image[n])
            assert torch.equal(image[n], wanted)


def test_the_method_is_told_which_are_label_maps(rooms):
    opened = reader(rooms, domains=("labels", "rgb"))
    assert opened.domains == Domains((Domain("labels", 1, SIDE, SIDE, classes=3), Domain("rgb", 3, SIDE, SIDE)))
    batch = next(opened.batches())
    opened.close()
    assert [image.shape[1] for image in batch.images] == [1, 3]
    assert batch.present.shape == (6, 2) and batch.present[:, 1].all()


def test_label_maps_are_resized_to_the_nearest_pixel(rooms):
    (batch,) = epoch(rooms, batch_size=COUNT, size=6)
    assert [tuple(image.shape[2:]) for image in batch.images] == [(6, 6)] * 3
    levels = (batch.images[2][batch.present[:, 2]] + 1) * 127.5
    assert set(levels.round().unique().tolist()) <= {0.0, 1.0, 2.0, 9.0}


def test_depths_with_holes_are_resized_to_the_nearest_pixel(tmp_path):
    """Around a hole bicubic resizing would make depths up; the evaluator's truth knows none of them."""
    depth = np.full((SIDE, SIDE), 40_000, np.uint16)
    depth[2:5, 3:6] = 0
    sample = Sample("s", "train", {"rgb": scene(0)[0], "depth": depth, "labels": scene(0)[2]})
    pack([sample], str(tmp_path), name="holes", role="multimodal", domains=("rgb", "depth", "labels"), workers=1)
    levels = {}
    for nearest in ((), ("depth",)):
        opened = reader(str(tmp_path), batch_size=1, size=6, nearest=nearest)
        assert opened.domains.named("depth").nearest == bool(nearest)
        found = next(opened.epoch()).images[1]
        opened.close()
        levels[nearest] = set(((found + 1) / 2 * 65535).round().int().unique().tolist())
    assert levels["depth",] == {0, 40_000} < levels[()]


def test_images_of_a_sample_are_cropped_and_mirrored_alike(tmp_path):
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    samples = [Sample(f"s{n}", "train", {"rgb": levels, "labels": levels}) for n in range(4)]
    pack(samples, str(tmp_path / "d"), name="d", role="multimodal", domains=("rgb", "labels"), workers=1)
    opened = reader(str(tmp_path / "d"), size=5, load_size=8, flip=True)
    drawn = list(itertools.islice(opened.batches(), 6))
    opened.close()
    assert all(torch.equal(*batch.images) for batch in drawn)
    assert len({tuple(image.flatten().tolist()) for batch in drawn for image in batch.images[0]}) > 10


def test_workers_read_parts_of_the_same_batches(rooms):
    opened = [reader(rooms, rank=rank, world_size=4) for rank in range(4)]
    parts = [next(one.batches(3)) for one in opened]
    whole = next(reader(rooms).batches(3))
    for one in opened:
        one.close()
    assert torch.equal(torch.cat([part.present for part in parts]), whole.present)
    for number, image in enumerate(whole.images):
        assert torch.equal(torch.cat([part.images[number] for part in parts]), image)


def test_batches_are_sliced_moved_and_changed_as_one(rooms):
    (batch, _) = epoch(rooms)
    part = batch[2:4].to(torch.device("cpu"), torch.float64, torch.channels_last)
    assert len(part) == 2 and part.present.dtype == torch.bool and part.positions.tolist() == [2, 3]
    assert [(image.dtype, len(image)) for image in part.images] == [(torch.float64, 2)] * 3
    assert part.images[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(part.images[1], batch.images[1][2:4].double())
    assert [t.shape[0] for t in part.tensors()] == [2] * 5


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"domains": ("rgb",)}, "two different domains or more"),
        ({"domains": ("rgb", "rgb")}, "two different domains or more"),
        ({"domains": ("rgb", "nir")}, "no domain 'nir'"),
        ({"nearest": ("nir",)}, "no domain 'nir'"),
        ({"label_maps": {"depth": 3}}, "1 channels of 16 bits: a label map has one of 8"),
        ({"label_maps": {"rgb": 3}}, "3 channels of 8 bits: a label map has one of 8"),
        ({"label_maps": {"labels": 1}}, "data.label_maps.labels is 1"),
    ],
)
def test_what_does_not_fit_is_refused(rooms, settings, complaint):
    with pytest.raises((ConfigError, ManifestError, SizeError), match=complaint):
        Reader(
            DataSettings(url=rooms, **settings),
            role=Multimodal,
            batch_size=2,
            group_size=1,
            rank=0,
            world_size=1,
            seed=0,
        )


def test_pairs_are_samples_of_two_modalities(tmp_path):
    samples = [Sample("s0", "train", {"a": scene(0)[0], "b": scene(0)[1]})]
    pack(samples, str(tmp_path / "d"), name="d", role="paired", workers=1)
    opened = Reader(
        DataSettings(url=str(tmp_path / "d")), role=Multimodal, batch_size=2, group_size=1, rank=0, world_size=1, seed=0
    )
    assert next(opened.batches()).present.all()
    opened.close()
