"""The opponent colours of `generated:opponents`: what they are, which images share what, what flowers look like."""

from collections import Counter

import numpy as np
import pytest

from i2idist.data.generated import GENERATED, generate, opponents, parse
from i2idist.data.labelled import read_labelled
from i2idist.data.settings import DataSettings

SIZE = (32, 32)


def samples(query: str) -> list:
    return list(GENERATED["opponents"].samples(parse(f"generated:opponents?size=32&{query}")[1]))


def test_a_reader_gives_the_differences(tmp_path):
    generate(
        "opponents", str(tmp_path / "d"), size=16, train=0, val=0, test=6, choices={"seen": "all", "of": "flowers"}
    )
    shown = {
        name: read_labelled(DataSettings(url=str(tmp_path / "d")), name, "test").x
        for name in ("theta1", "theta2", "theta3")
    }
    red, green, blue = (shown["theta3"] / 2 + 0.5).unbind(1)  # in [0, 1]
    for name, difference in (("theta1", red - green), ("theta2", green - blue)):
        assert (shown[name][:, 0] - difference).abs().max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("subject", ["photographs", "flowers"])
def test_pairs_share_no_image_and_classes_are_in_both_kinds_of_pairs(subject):
    found = samples(f"of={subject}&train=80&val=3&test=20")
    train = [s for s in found if s.split == "train"]
    kinds = Counter((tuple(s.images), s.label) for s in train)
    classes = len(opponents.PHOTOGRAPHS if subject == "photographs" else opponents.FLOWERS)
    assert {pair for pair, _ in kinds} == {("theta1", "theta2"), ("theta1", "theta3")}
    assert len(kinds) == 2 * classes and max(kinds.values()) - min(kinds.values()) <= 1
    assert all(tuple(s.images) == ("theta1", "theta2", "theta3") for s in found if s.split != "train")
    assert len({s.images["theta1"].tobytes() for s in found}) == len(found)


def test_no_pixel_of_a_photograph_is_in_two_splits():
    """Tiles don't overlap, crops fit them, and every tile is one split's."""
    for name in opponents.PHOTOGRAPHS:
        picture = opponents._photograph(name)
        tiles = [opponents._tile(name, row, column) for row, column in np.ndindex(*opponents.TILES)]
        assert sum(tile.width * tile.height for tile in tiles) == picture.width * picture.height
        assert min(min(tile.size) for tile in tiles) > opponents._SIDES[1]
    splits = Counter(opponents.split_of(row, column) for row, column in np.ndindex(*opponents.TILES))
    assert splits == {"train": 16, "val": 4, "test": 4}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_crops_come_from_the_tiles_of_their_split(split, monkeypatch):
    asked = set()
    tile = opponents._tile
    monkeypatch.setattr(opponents, "_tile", lambda name, *place: asked.add(place) or tile(name, *place))
    crops = [opponents.crop(("place", n), SIZE, n % 3, split) for n in range(30)]
    assert asked and {opponents.split_of(*place) for place in asked} == {split}
    assert all(image.shape == (*SIZE, 3) for image in crops)
    assert np.mean([image.std((0, 1)).mean() > 15 for image in crops]) > 0.8, "most crops show something"


def coloured(split: str, count: int) -> np.ndarray:
    return np.stack([opponents.flower((split, n), SIZE, n % 10) for n in range(count)])


def test_forest_tells_flowers_apart_but_not_in_wrong_colours():
    from sklearn.ensemble import RandomForestClassifier

    def features(images: np.ndarray) -> np.ndarray:
        return images.reshape(-1, 8, 4, 8, 4, 3).mean((2, 4)).reshape(len(images), -1)

    forest = RandomForestClassifier(60, random_state=0).fit(features(coloured("train", 400)), np.arange(400) % 10)
    unseen, answers = coloured("test", 100), np.arange(100) % 10
    assert forest.score(features(unseen), answers) > 0.85
    grey = unseen.mean(-1, keepdims=True).repeat(3, -1)
    for wrong in (grey, unseen[..., ::-1]):  # blue for red
        assert forest.score(features(wrong), answers) < 0.5


def test_flowers_of_one_key_differ_by_kind_and_of_one_kind_by_key():
    kinds = np.stack([opponents.flower(("one",), SIZE, label) for label in range(10)]).astype(int)
    assert min(np.abs(kinds[i] - kinds[j]).mean() for i in range(10) for j in range(i)) > 5
    keys = np.stack([opponents.flower(("one", n), SIZE, 2) for n in range(6)]).astype(int)
    assert min(np.abs(keys[i] - keys[j]).mean() for i in range(6) for j in range(i)) > 10
