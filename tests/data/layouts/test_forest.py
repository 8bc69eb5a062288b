"""Freiburg Forest in tiny files of the published layout."""

import numpy as np
import pytest

from i2idist.data.layouts import read_layout
from i2idist.data.layouts.forest import CLASSES
from i2idist.data.modalities import VOID
from i2idist.errors import DataError
from tests.data.layouts.support import contents, packed, save
from tests.data.samples import picture

COLOURS = [(170, 170, 170), (0, 255, 0), (102, 102, 51), (0, 60, 0), (0, 120, 255), (0, 0, 0), (1, 2, 3), (255,) * 3]


@pytest.fixture
def forest(tmp_path):
    src = tmp_path / "src"
    for split, name in (("train", "b1-09517"), ("train", "b10-495"), ("test", "b100-1")):
        save(src, f"{split}/rgb/{name}_Clipped.jpg", picture(1, size=(8, 16)))
        save(src, f"{split}/depth_gray/{name}.png", np.arange(32, dtype=np.uint16).reshape(4, 8) * 1000)
        save(src, f"{split}/nir_gray/{name}.tif", np.full((8, 16), 77, dtype=np.uint8))
        save(src, f"{split}/GT_color/{name}_mask.png", np.array([COLOURS] * 4, dtype=np.uint8))
        save(src, f"{split}/evi_gray/{name}.tif", np.zeros((8, 16), dtype=np.uint8))
    return src


def test_modalities_share_the_photographs_size(forest, tmp_path):
    manifest = packed(forest, "freiburg-forest", tmp_path / "d")
    assert [(d.name, d.channels, d.bits, d.size) for d in manifest.domains] == [
        ("rgb", 3, 8, (8, 16)), ("depth", 1, 16, (8, 16)), ("segmentation", 1, 8, (8, 16)), ("nir", 1, 8, (8, 16)),
    ]  # fmt: skip
    assert manifest.labels == CLASSES == ("sky", "trail", "grass", "vegetation", "obstacle")
    assert {split: pools[0].count for split, pools in manifest.splits.items()} == {"train": 2, "test": 1}
    labels = contents(tmp_path / "d", manifest, "train", "segmentation")["b1-09517"][0]
    assert labels[0, ::2, 0].tolist() == [1, 2, 3, 3, 0, 4, VOID, VOID]
    depth = contents(tmp_path / "d", manifest, "test", "depth")["b100-1"][0]
    assert np.array_equal(depth[..., 0], (np.arange(32).reshape(4, 8) * 1000).repeat(2, 0).repeat(2, 1))


def test_pairs_with_labels_and_triplets_without(forest):
    found = list(read_layout(str(forest), "freiburg-forest", pairs=["segmentation", "depth+nir"]).samples)
    kinds = {tuple(sample.images) for sample in found if sample.split == "train"}
    assert kinds <= {("rgb", "segmentation"), ("rgb", "depth", "nir")}
    assert next(sample for sample in found if sample.split == "test").images.keys() == {
        "rgb",
        "depth",
        "segmentation",
        "nir",
    }


def test_a_view_without_its_photograph_is_named(forest):
    (forest / "train/rgb/b10-495_Clipped.jpg").unlink()
    with pytest.raises(DataError, match="train/rgb has no b10-495"):
        read_layout(str(forest), "freiburg-forest")


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no images in this layout"):
        read_layout(str(tmp_path), "freiburg-forest")
