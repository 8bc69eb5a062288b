import numpy as np
import pytest
from PIL import Image

from i2idist import storage
from i2idist.data.inspect import TILE, find_datasets, grid, save_grid, stats
from i2idist.data.pack import Sample, pack
from i2idist.errors import ConfigError
from tests.data.samples import make_paired, make_unpaired, picture


def test_stats_are_those_of_the_pixels(tmp_path):
    url = str(tmp_path / "d")
    make_paired(url, count=9)
    found = stats(url)["splits"]["train"]
    pixels = np.stack([picture(1000 + n) for n in range(9)]).reshape(-1, 3) / 255
    assert found["b"]["decoded"]["mean"] == pytest.approx(pixels.mean(0), abs=1e-4)
    assert found["b"]["decoded"]["std"] == pytest.approx(pixels.std(0), abs=1e-4)
    assert found["b"]["decoded"]["smallest"] == [6, 8]
    assert found["a"]["samples"] == 9
    assert found["a"]["labels"] == {"0": 3, "1": 3, "2": 3}


def test_stats_look_at_few_images_of_many(tmp_path):
    make_paired(tmp_path / "d", count=20)
    assert stats(str(tmp_path / "d"), limit=5)["splits"]["train"]["a"]["decoded"]["images"] == 5


def test_stats_never_look_at_more_than_the_limit(tmp_path):
    make_paired(tmp_path / "d", count=9)
    assert stats(str(tmp_path / "d"), limit=5)["splits"]["train"]["a"]["decoded"]["images"] == 5


def test_stats_of_a_modality_look_at_the_samples_that_have_it(tmp_path):
    samples = [Sample(f"s{n}", "train", {"rgb": picture(n)}) for n in range(6)]
    samples.insert(3, Sample("depth", "train", {"rgb": picture(7), "depth": np.full((2, 3), 255, np.uint8)}))
    pack(samples, str(tmp_path / "d"), name="d", role="multimodal", domains=("rgb", "depth"), shard_bytes=900)
    found = stats(str(tmp_path / "d"), limit=2)["splits"]["train"]
    assert (found["depth"]["decoded"]["images"], found["depth"]["decoded"]["mean"]) == (1, [1.0])
    assert found["rgb"]["decoded"]["images"] == 2


def test_datasets_of_a_folder_are_found(memory_url):
    make_paired(storage.join(memory_url, "pairs"), count=2)
    make_unpaired(storage.join(memory_url, "pools"), a=2, b=2)
    storage.write_bytes(storage.join(memory_url, "notes.txt"), b"x")
    found = [(url.rsplit("/", 1)[-1], manifest.role) for url, manifest in find_datasets(memory_url)]
    assert found == [("pairs", "paired"), ("pools", "unpaired")]
    assert [url for url, _ in find_datasets(storage.join(memory_url, "pairs"))] == [storage.join(memory_url, "pairs")]
    assert find_datasets(storage.join(memory_url, "nothing")) == []


def test_a_contact_sheet_shows_each_domain_under_the_other(tmp_path):
    samples = [
        Sample(f"s{n}", "train", {"rgb": np.full((4, 4, 3), [n * 80, 0, 255], np.uint8), "depth": ramp}, None)
        for n, ramp in enumerate([np.arange(16, dtype=np.uint16).reshape(4, 4) * 1000] * 3)
    ]
    samples.append(Sample("s3", "train", {"rgb": np.zeros((9, 3, 3), np.uint8)}))
    pack(samples, str(tmp_path / "d"), name="d", role="multimodal")
    save_grid(str(tmp_path / "d"), tmp_path / "out" / "grid.png", split="train", columns=2, rows=2)
    sheet = np.asarray(Image.open(tmp_path / "out" / "grid.png"))
    assert sheet.shape == (2 * (2 * TILE + 8), 2 * (TILE + 2), 3)
    assert sheet[5, 5].tolist() == [0, 0, 255]
    assert sheet[5, TILE + 7].tolist() == [80, 0, 255]
    assert sheet[TILE + 5, 5].tolist() == [0, 0, 0]
    assert sheet[2 * TILE - 5, TILE - 5].tolist() == [255, 255, 255]
    assert sheet[2 * TILE + 8 + TILE + 5, TILE + 7].tolist() == [255, 255, 255]  # a sample without depth


def test_a_sheet_of_an_unknown_split_is_refused(tmp_path):
    make_paired(tmp_path / "d", count=2)
    with pytest.raises(ConfigError, match="no split 'test'"):
        grid(str(tmp_path / "d"), split="test")


def test_a_label_map_is_shown_in_colours(tmp_path):
    levels = np.repeat(np.arange(4, dtype=np.uint8), 4).reshape(4, 4)
    images = {"rgb": np.zeros((4, 4, 3), np.uint8), "things": levels}
    pack([Sample("s", "train", images)], str(tmp_path / "d"), name="d", role="multimodal", labels=["a", "b", "c", "d"])
    plain, shown = (
        np.asarray(grid(str(tmp_path / "d"), split="train", columns=1, rows=1, label_maps=maps))
        for maps in ((), ("things",))
    )
    rows = range(TILE + 5, 2 * TILE, TILE // 4)
    assert [plain[row, 5].tolist() for row in rows] == [[level] * 3 for level in range(4)]
    assert len({tuple(shown[row, 5]) for row in rows}) == 4
    assert shown[TILE + 5, 5].tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="'things'"):
        grid(str(tmp_path / "d"), split="train", label_maps=["thing"])
