"""Oxford's flowers in tiny files of the published layout."""

import numpy as np
import pytest
from scipy.io import savemat

from i2idist.data.layouts import read_layout
from i2idist.data.layouts.flowers import TEN
from i2idist.data.modalities import opponents
from i2idist.errors import DataError
from tests.data.layouts.support import contents, labels, packed, save
from tests.data.samples import picture

PASSION, PETUNIA, ROSE, DAISY = 77, 51, 74, 49
"""Classes in the published numbering."""


@pytest.fixture
def flowers(tmp_path):
    src = tmp_path / "src"
    classes = [PASSION, PETUNIA, DAISY, ROSE, PASSION, ROSE, PETUNIA, DAISY, ROSE, PASSION, PETUNIA, ROSE]
    for number in range(1, 13):
        save(src, f"jpg/image_{number:05d}.jpg", picture(number))
    savemat(src / "imagelabels.mat", {"labels": np.array([classes], dtype=np.uint8)})
    sets = {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6, 7, 8, 9, 10, 11, 12]]}
    savemat(src / "setid.mat", {name: np.array(numbers, dtype=np.uint16) for name, numbers in sets.items()})
    return src


def test_all_flowers(flowers, tmp_path):
    manifest = packed(flowers, "flowers", tmp_path / "d")
    assert len(manifest.labels) == 102 and manifest.role == "labelled"
    assert {split: pools[0].count for split, pools in manifest.splits.items()} == {"train": 2, "val": 2, "test": 8}
    found = labels(tmp_path / "d", manifest, "train")
    names = {key: manifest.labels[label] for key, label in found.items()}
    assert names == {"image_00001": "passion flower", "image_00002": "petunia"}


def test_the_ten_train_on_the_largest_part(flowers, tmp_path):
    manifest = packed(flowers, "flowers-10", tmp_path / "d")
    assert manifest.labels == TEN
    assert {split: pools[0].count for split, pools in manifest.splits.items()} == {"train": 7, "val": 1, "test": 2}
    assert labels(tmp_path / "d", manifest, "val") == {"image_00004": TEN.index("rose")}


def test_opponent_colours_of_the_ten(flowers, tmp_path):
    manifest = packed(flowers, "flowers-opponents", tmp_path / "d")
    assert (manifest.role, manifest.labels, manifest.label_kind) == ("multimodal", TEN, "class")
    assert [(d.name, d.channels, d.complete) for d in manifest.domains] == [
        ("theta1", 1, True), ("theta2", 1, False), ("theta3", 3, False),
    ]  # fmt: skip
    train = {d: contents(tmp_path / "d", manifest, "train", d) for d in ("theta2", "theta3")}
    have = {d: {key for key, (pixels, _) in found.items() if pixels is not None} for d, found in train.items()}
    assert have["theta2"] and have["theta3"] and not have["theta2"] & have["theta3"]
    test = {d: contents(tmp_path / "d", manifest, "test", d)["image_00001"][0] for d in ("theta1", "theta2", "theta3")}
    expected = opponents(test["theta3"])
    assert np.array_equal(test["theta1"][..., 0], expected["theta1"])
    assert np.array_equal(test["theta2"][..., 0], expected["theta2"])


def test_opponents_by_hand():
    pixels = np.array([[[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 50]]], dtype=np.uint8)
    shown = opponents(pixels)
    assert shown["theta1"].tolist() == [[128, 255, 0, 128, 123]]
    assert shown["theta2"].tolist() == [[128, 128, 255, 0, 113]]
    assert shown["theta3"] is pixels


def test_files_that_do_not_fit_are_named(flowers):
    save(flowers, "jpg/image_00099.jpg")
    with pytest.raises(DataError, match=r"setid\.mat .*doesn't list image_00099\.jpg"):
        read_layout(str(flowers), "flowers")
    (flowers / "setid.mat").write_bytes(b"no")
    with pytest.raises(DataError, match=r"setid\.mat .*can't be read as MATLAB 5"):
        read_layout(str(flowers), "flowers")
    (flowers / "setid.mat").unlink()
    with pytest.raises(DataError, match=r"has no setid\.mat"):
        read_layout(str(flowers), "flowers")
