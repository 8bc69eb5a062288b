from dataclasses import replace

import numpy as np
import pytest

from i2idist.data.layouts import Source, read_layout
from i2idist.data.layouts.narrow import with_limit
from i2idist.data.pack import Sample
from i2idist.errors import ConfigError, SampleError
from tests.data.layouts.support import contents, labels, packed, save
from tests.data.samples import picture


@pytest.fixture
def classes(tmp_path):
    for name in ("blue/1.png", "green/1.png", "red/1.png", "red/2.png"):
        save(tmp_path / "src", f"train/{name}", picture(len(name), size=(10, 7)))
    return tmp_path / "src"


def test_some_classes_in_an_order_of_ones_own(classes, tmp_path):
    manifest = packed(classes, "class-folders", tmp_path / "d", labels=["red", "blue"])
    assert manifest.labels == ("red", "blue")
    assert labels(tmp_path / "d", manifest, "train") == {"red/1": 0, "red/2": 0, "blue/1": 1}


def test_some_attributes(tmp_path):
    save(tmp_path / "src", "img_align_celeba/000001.jpg")
    (tmp_path / "src" / "list_attr_celeba.txt").write_text("1\nSmiling Male Young\n000001.jpg 1 -1 1\n")
    manifest = packed(tmp_path / "src", "celeba", tmp_path / "d", labels=["Young", "Male"])
    assert manifest.labels == ("Young", "Male")
    assert labels(tmp_path / "d", manifest, "train") == {"000001": (1.0, 0.0)}


@pytest.mark.parametrize(
    ("chosen", "message"), [(["rde"], "no label 'rde' here. Did you mean 'red'"), (["red", "red"], "repeat one")]
)
def test_labels_that_cannot_be_chosen(classes, chosen, message):
    with pytest.raises(ConfigError, match=message):
        read_layout(str(classes), "class-folders", labels=chosen)


def test_a_layout_without_labels_has_none_to_choose(classes):
    with pytest.raises(ConfigError, match="no labels to choose from"):
        read_layout(str(classes), "folder", labels=["red"])


def test_the_middle_of_images(classes, tmp_path):
    manifest = packed(classes, "class-folders", tmp_path / "d", crop=6)
    assert manifest.domain("image").size == (6, 6)
    found = contents(tmp_path / "d", manifest, "train", "image")["blue/1"][0]
    assert np.array_equal(found, picture(len("blue/1.png"), size=(10, 7))[2:8, 0:6])


def test_the_middle_of_both_halves(tmp_path):
    left, right = picture(1, size=(6, 6)), picture(2, size=(6, 6))
    save(tmp_path / "src", "train/1.png", np.concatenate([left, right], axis=1))
    manifest = packed(tmp_path / "src", "side-by-side", tmp_path / "d", crop=2)
    assert np.array_equal(contents(tmp_path / "d", manifest, "train", "b")["1"][0], right[2:4, 2:4])


def test_images_that_are_too_small_for_a_crop_are_named(classes, tmp_path):
    with pytest.raises(SampleError, match=r"1\.png is 10x7 pixels, too small for a crop of 8"):
        packed(classes, "class-folders", tmp_path / "d", crop=8)
    with pytest.raises(ConfigError, match="at least 1"):
        read_layout(str(classes), "class-folders", crop=0)


def drawn(kinds, count=40):
    """Samples of (split, domain, label), `count` of each kind."""
    return [Sample(f"{kind}/{n}", *kind[:1], {kind[1]: b""}, kind[2]) for kind in kinds for n in range(count)]


def keys(source, limit):
    """(split, domain, label, key) of what a limit keeps."""
    kept = list(with_limit(source, limit).samples)
    return {(sample.split, *sample.images, sample.label, sample.key) for sample in kept}


KINDS = [("train", "image", 0), ("train", "image", 1), ("val", "image", 0)]


def test_few_training_images_of_each_class():
    source = Source("labelled", ("image",), ("a", "b"), 120, drawn(KINDS))
    kept = keys(source, 7)
    assert [sum(one[:3] == kind for one in kept) for kind in KINDS] == [7, 7, 40]
    assert with_limit(source, 7).count == 54
    assert keys(source, 41) == {(*kind, sample.key) for kind in KINDS for sample in drawn([kind])}


def test_what_is_few_is_the_same_in_any_order_and_part_of_what_is_more():
    source = Source("labelled", ("image",), ("a", "b"), 120, drawn(KINDS))
    assert keys(replace(source, samples=source.samples[::-1]), 7) == keys(source, 7) < keys(source, 20)
    first = {("train", "image", 0, sample.key) for sample in source.samples[:7]}
    assert not first <= keys(source, 7), "chosen, not the first"


def test_few_images_of_data_without_classes():
    """Of attributes there are none; each unpaired domain has as many, and a source that isn't counted stays so."""
    several = drawn([("train", "image", (1.0, 0.0)), ("train", "image", (0.0, 1.0))])
    assert len(keys(Source("labelled", ("image",), ("a", "b"), 80, several), 7)) == 7
    unpaired = Source("unpaired", ("a", "b"), (), None, drawn([("train", "a", None), ("train", "b", None)]))
    assert sorted(domain for _, domain, _, _ in keys(unpaired, 7)) == ["a"] * 7 + ["b"] * 7
    assert with_limit(unpaired, 7).count is None


def test_a_limit_of_nothing_is_refused(classes):
    with pytest.raises(ConfigError, match="at least 1"):
        read_layout(str(classes), "class-folders", limit=0)
