import numpy as np
import pytest

from i2idist.errors import DataError, SampleError
from tests.data.layouts.support import contents, labels, packed, save
from tests.data.samples import picture


def test_side_by_side(tmp_path):
    left, right = picture(1), picture(2)
    save(tmp_path / "src", "train/1.png", np.concatenate([left, right], axis=1))
    save(tmp_path / "src", "val/2.png", np.concatenate([right, left], axis=1))
    (tmp_path / "src" / "readme.txt").write_text("not an image")
    manifest = packed(tmp_path / "src", "side-by-side", tmp_path / "d")
    assert (manifest.role, list(manifest.splits)) == ("paired", ["train", "val"])
    assert np.array_equal(contents(tmp_path / "d", manifest, "train", "a")["1"][0], left)
    assert np.array_equal(contents(tmp_path / "d", manifest, "train", "b")["1"][0], right)


def test_side_by_side_needs_an_even_width(tmp_path):
    save(tmp_path, "src/train/odd.png", picture(0, size=(4, 7)))
    with pytest.raises(SampleError, match=r"train/odd\.png is 7 pixels wide"):
        packed(tmp_path / "src", "side-by-side", tmp_path / "d")


def test_two_folders(tmp_path):
    for name in ("trainA/x 1.png", "trainA/x2.png", "trainB/y.png", "testA/z.png", "testB/w.png", "other/v.png"):
        save(tmp_path / "src", name)
    manifest = packed(tmp_path / "src", "trainA-trainB", tmp_path / "d")
    assert manifest.role == "unpaired"
    assert set(contents(tmp_path / "d", manifest, "train", "a")) == {"x_1", "x2"}
    assert set(contents(tmp_path / "d", manifest, "train", "b")) == {"y"}
    assert set(contents(tmp_path / "d", manifest, "test", "b")) == {"w"}


def test_an_empty_folder_of_two_is_named(tmp_path):
    save(tmp_path / "src", "trainA/x.png")
    with pytest.raises(DataError, match="Domain b is empty in split train"):
        packed(tmp_path / "src", "trainA-trainB", tmp_path / "d")


def test_pools_of_known_composition(tmp_path):
    """UDIT's Handbags-color: one mode in a, two of other sizes in b."""
    for name in ("trainA/flat-black/1.jpg", "trainB/txt-red/1.jpg", "trainB/txt-red/2.jpg", "trainB/flat-red/1.jpg"):
        save(tmp_path / "src", name)
    save(tmp_path / "src", "trainA/of_no_class.jpg")
    manifest = packed(tmp_path / "src", "trainA-trainB-classes", tmp_path / "d")
    assert (manifest.role, manifest.labels) == ("unpaired", ("flat-black", "flat-red", "txt-red"))
    assert labels(tmp_path / "d", manifest, "train", "a") == {"flat-black/1": 0}
    assert labels(tmp_path / "d", manifest, "train", "b") == {"txt-red/1": 2, "txt-red/2": 2, "flat-red/1": 1}


def test_artworks_are_classes_and_their_photos_are_taken_once(tmp_path):
    src = tmp_path / "src"
    for style in ("monet", "ukiyoe"):
        for name in ("trainA/1.jpg", "testA/2.jpg", "trainB/2014-08.jpg", "testB/2015-01.jpg"):
            save(src, f"{style}2photo/{name}", picture(len(style)))
    save(src, "summer2winter_yosemite/trainA/1.jpg")
    manifest = packed(src, "artworks", tmp_path / "d")
    assert (manifest.role, manifest.labels) == ("labelled", ("monet", "photo", "ukiyoe"))
    assert labels(tmp_path / "d", manifest, "train") == {"monet/1": 0, "photo/2014-08": 1, "ukiyoe/1": 2}
    assert labels(tmp_path / "d", manifest, "test") == {"monet/2": 0, "photo/2015-01": 1, "ukiyoe/2": 2}


@pytest.mark.parametrize("layout", ["side-by-side", "trainA-trainB", "trainA-trainB-classes", "artworks"])
def test_a_folder_of_another_layout_is_refused(tmp_path, layout):
    with pytest.raises(DataError, match="no images in this layout, which is"):
        packed(tmp_path, layout, tmp_path / "d")
