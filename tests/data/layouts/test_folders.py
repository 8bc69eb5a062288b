import numpy as np
import pytest

from i2idist import storage
from i2idist.data.layouts import read_layout
from i2idist.errors import ConfigError, DataError
from tests.data.layouts.support import contents, packed, save
from tests.data.samples import picture


@pytest.mark.parametrize("splits", [("",), ("train/", "test/")])
def test_class_folders(tmp_path, splits):
    for split in splits:
        for name in ("dog/1.png", "cat/1.png", "cat/deep/2.png"):
            save(tmp_path / "src", split + name)
    manifest = packed(tmp_path / "src", "class-folders", tmp_path / "d")
    found = contents(tmp_path / "d", manifest, "train", "image")
    assert manifest.labels == ("cat", "dog")
    assert {key: label for key, (_, label) in found.items()} == {"cat/1": 0, "cat/deep/2": 0, "dog/1": 1}
    assert len(manifest.splits) == len(splits)


def test_training_images_are_stored_in_mixed_order(tmp_path):
    """Readers shuffle in blocks; a folder sorted by class must not come class by class."""
    for name in "ab":
        for number in range(20):
            save(tmp_path / "src", f"train/{name}/{number}.png", picture(0, 1))
    labels = [sample.label for sample in read_layout(str(tmp_path / "src"), "class-folders").samples]
    assert 5 < sum(labels[:20]) < 15
    again = [sample.label for sample in read_layout(str(tmp_path / "src"), "class-folders").samples]
    assert labels == again


def test_rgb_d(tmp_path):
    depth = picture(5, 1, 16)
    save(tmp_path / "src", "train/rgb/room/1.jpg")
    save(tmp_path / "src", "train/depth/room/1.png", depth)
    save(tmp_path / "src", "train/rgb/room/2.jpg")
    manifest = packed(tmp_path / "src", "rgb-d", tmp_path / "d")
    assert manifest.role == "multimodal"
    assert [(d.name, d.channels, d.bits, d.complete) for d in manifest.domains] == [
        ("rgb", 3, 8, True),
        ("depth", 1, 16, False),
    ]
    found = contents(tmp_path / "d", manifest, "train", "depth")
    assert np.array_equal(found["room/1"][0], depth)
    assert found["room/2"][0] is None


def test_a_plain_folder_from_any_storage(tmp_path, memory_url):
    save(tmp_path, "x.png", picture(3))
    storage.upload(tmp_path / "x.png", storage.join(memory_url, "sub", "x.png"))
    manifest = packed(memory_url, "folder", tmp_path / "d")
    assert np.array_equal(contents(tmp_path / "d", manifest, "train", "image")["sub/x"][0], picture(3))


def test_names_that_become_one_key_are_refused(tmp_path):
    save(tmp_path / "src", "a b.png")
    save(tmp_path / "src", "a_b.png")
    with pytest.raises(DataError, match="key 'a_b' occurs twice"):
        packed(tmp_path / "src", "folder", tmp_path / "d")


@pytest.mark.parametrize("layout", ["side-by-side", "trainA-trainB", "class-folders", "rgb-d", "folder"])
def test_a_folder_of_another_layout_is_refused(tmp_path, layout):
    with pytest.raises(DataError, match="no images in this layout, which is"):
        read_layout(str(tmp_path), layout)


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no layout 'trainAB'. Did you mean 'trainA-trainB'"):
        read_layout(str(tmp_path), "trainAB")


@pytest.mark.parametrize("layout", ["side-by-side", "class-folders", "rgb-d"])
def test_splits_further_down_are_refused_lest_tests_are_trained_on(tmp_path, layout):
    for name in ("facades/train/x/1.png", "facades/test/x/1.png"):
        save(tmp_path / "src", name)
    with pytest.raises(
        DataError, match="has a folder test inside facades; splits are the first folders. Give .*/facades"
    ):
        read_layout(str(tmp_path / "src"), layout)
