"""Targets that are label maps or depths, of paired and of multimodal data."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score

from i2idist.data.pack import Sample
from i2idist.data.transforms import resize_to_nearest
from i2idist.errors import ConfigError
from i2idist.evaluate import choose, evaluate
from i2idist.translate import Options
from tests.evaluate.toys import packed, saved

CLASSES, SIDE = 4, 16


def scene(seed):
    """An image whose level is 60 times the class, sometimes wrong by one; its label map; and its depth, in 16 bits."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, CLASSES, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)
    shown = np.where(draws.random(labels.shape) < 0.2, (labels + 1) % CLASSES, labels)
    labels = np.where(draws.random(labels.shape) < 0.1, 255, labels)  # unlabelled
    depth = (shown * 12000 + draws.integers(1, 9000, labels.shape)).astype(np.uint16)
    return (shown * 60).astype(np.uint8)[..., None].repeat(3, 2), labels.astype(np.uint8), depth


def scenes(count):
    return [scene(seed) for seed in range(count)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    samples = [Sample(f"s{n}", "test", {"rgb": rgb, "labels": labels}) for n, (rgb, labels, _) in enumerate(scenes(6))]
    return packed(tmp_path_factory.mktemp("data") / "pairs", samples, "paired", domains=("rgb", "labels"))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """RGB with label maps of some, with depths of others."""
    samples = []
    for n, (rgb, labels, depth) in enumerate(scenes(140)):
        other = {"depth": depth} if n < 70 else {"labels": labels}
        samples.append(Sample(f"s{n:03}", "test", {"rgb": rgb, **other}))
    samples.append(Sample("alone", "test", {"labels": scene(7)[1]}))
    return packed(tmp_path_factory.mktemp("data") / "rooms", samples, "multimodal", domains=("rgb", "labels", "depth"))


def segmented(data, tmp_path):
    return saved(tmp_path / "segmenter", data, "Levels", channels=CLASSES)


def evaluated(model, data, *protocols, **how):
    found = evaluate(model, data, [choose(name) for name in protocols], launcher="local", **how).records
    return {record.choice.protocol.name: record.estimate for record in found}


def test_label_maps_of_pairs_are_scikit_learns(pairs, tmp_path):
    found = evaluated(segmented(pairs, tmp_path), pairs, "miou", "global-accuracy")
    truth = np.stack([labels for _, labels, _ in scenes(6)]).ravel()
    seen = np.stack([rgb[..., 0] // 60 for rgb, _, _ in scenes(6)]).ravel()
    kept = truth < CLASSES
    assert found["miou"].value == pytest.approx(jaccard_score(truth[kept], seen[kept], average="macro"))
    assert found["global-accuracy"].value == pytest.approx(accuracy_score(truth[kept], seen[kept]))
    assert 0.5 < found["miou"].value < 1
    assert found["miou"].low < found["miou"].value < found["miou"].high


def test_of_multimodal_data_the_samples_with_both_count(rooms, tmp_path):
    both = evaluated(segmented(rooms, tmp_path), rooms, "miou", "edge-iou")
    assert both["miou"].counts["inputs"] == 70
    assert both["edge-iou"].counts["inputs"] == 140  # it needs no target
    pairs = scenes(140)[70:]
    truth = np.stack([labels for _, labels, _ in pairs]).ravel()
    seen = np.stack([rgb[..., 0] // 60 for rgb, _, _ in pairs]).ravel()
    kept = truth < CLASSES
    assert both["miou"].value == pytest.approx(jaccard_score(truth[kept], seen[kept], average="macro"))


def test_depths_in_shares_of_the_greatest(tmp_path):
    samples = [Sample(f"s{n}", "test", {"rgb": rgb, "depth": depth}) for n, (rgb, _, depth) in enumerate(scenes(5))]
    data = packed(tmp_path / "depths", samples, "paired", domains=("rgb", "depth"))
    found = evaluated(saved(tmp_path / "model", data, channels=1), data, "depth", "depth-rmse", "depth-rmse-log")
    truth = np.stack([depth for _, _, depth in scenes(5)]).astype(float) / 65535
    seen = np.maximum(np.stack([rgb[..., 0] for rgb, _, _ in scenes(5)]) / 255, 1e-3)
    ratio = np.maximum(seen / truth, truth / seen)
    assert found["depth"].value == pytest.approx((ratio < 1.25).mean(), abs=1.1 / ratio.size)  # one is 1.25
    assert found["depth-rmse"].value == pytest.approx(np.sqrt(((seen - truth) ** 2).mean()), rel=1e-5)
    assert found["depth-rmse-log"].value == pytest.approx(np.sqrt((np.log(seen / truth) ** 2).mean()), rel=1e-5)
    assert found["depth"].details["rmse-linear"] == pytest.approx(found["depth-rmse"].value)


def test_label_maps_are_never_mixed_by_resizing(pairs, tmp_path):
    small = evaluated(segmented(pairs, tmp_path), pairs, "miou", options=Options(size=(8, 8)))["miou"]
    assert all(int(name.split("-")[1]) < CLASSES for name in small.details)
    pixels = np.arange(16).reshape(1, 4, 4)
    torch.testing.assert_close(
        torch.from_numpy(resize_to_nearest(pixels, (2, 2)).copy()), torch.tensor([[[5, 7], [13, 15]]])
    )
    assert np.array_equal(resize_to_nearest(pixels, (8, 8)), pixels.repeat(2, 1).repeat(2, 2))
    assert np.array_equal(resize_to_nearest(pixels, (4, 4)), pixels)


def test_what_is_no_map_is_refused(pairs, segan, digits, tmp_path):
    with pytest.raises(ConfigError, match="no paired dataset"):
        evaluated(segan, digits, "miou")
    with pytest.raises(ConfigError, match="a channel for each of 2 classes"):
        evaluated(saved(tmp_path / "model", pairs, channels=1), pairs, "miou")
