import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.segmentation import confusion, global_accuracy, iou, mean_iou


def maps(seed: int, classes: int = 4, n: int = 3) -> Tensor:
    return torch.randint(classes, (n, 9, 8), generator=torch.Generator().manual_seed(seed))


def test_counts_and_measures_are_scikit_learn_s() -> None:
    predicted, truth = maps(0), maps(1)
    predicted = predicted.where(predicted > 1, truth)
    counts = confusion(predicted, truth, classes=4)
    total = counts.sum(0)
    flat = truth.flatten(), predicted.flatten()
    assert total.tolist() == confusion_matrix(*flat).tolist()
    assert counts[1].tolist() == confusion_matrix(truth[1].flatten(), predicted[1].flatten()).tolist()
    assert iou(total).tolist() == pytest.approx(jaccard_score(*flat, average=None).tolist())
    assert mean_iou(total).item() == pytest.approx(jaccard_score(*flat, average="macro"))
    assert global_accuracy(total).item() == pytest.approx(accuracy_score(*flat))


def test_counts_of_parts_add_up() -> None:
    predicted, truth = maps(0), maps(1)
    parts = [confusion(predicted[i : i + 1], truth[i : i + 1], classes=4)[0] for i in range(3)]
    assert torch.equal(sum(parts, torch.zeros(4, 4, dtype=torch.int64)), confusion(predicted, truth, classes=4).sum(0))


def test_ignored_pixels_do_not_count_whatever_is_predicted_there() -> None:
    truth = torch.tensor([[[0, 1], [255, 255]]])
    predicted = torch.tensor([[[0, 0], [1, 9]]])
    assert confusion(predicted, truth, classes=2, ignore=255).tolist() == [[[1, 0], [1, 0]]]


def test_absent_classes_are_left_out_of_the_mean_and_wrongly_predicted_ones_are_not() -> None:
    truth = torch.zeros(1, 2, 2, dtype=torch.int64)
    predicted = torch.tensor([[[0, 0], [0, 1]]])
    counts = confusion(predicted, truth, classes=3)[0]
    assert iou(counts)[:2].tolist() == [0.75, 0.0]
    assert iou(counts)[2].isnan()
    assert mean_iou(counts).item() == 0.375
    assert global_accuracy(counts).item() == 0.75


def test_many_counts_at_once_as_a_bootstrap_needs_them() -> None:
    counts = confusion(maps(0), maps(1), classes=4)
    assert mean_iou(counts).tolist() == pytest.approx([mean_iou(one).item() for one in counts])
    assert mean_iou(counts / 3).tolist() == pytest.approx(mean_iou(counts).tolist())


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="Label maps"):
        confusion(maps(0)[:2], maps(1), classes=4)
    with pytest.raises(ConfigError, match=r"True label maps hold 3, which is none of the classes 0\.\.2"):
        confusion(maps(0).clamp_max(2), maps(1), classes=3)
    with pytest.raises(ConfigError, match="Predicted label maps hold -1"):
        confusion(maps(0) - 1, maps(1), classes=4)
    with pytest.raises(ConfigError, match="argmax"):
        confusion(maps(0).float(), maps(1), classes=4)
    with pytest.raises(ConfigError, match="No pixel was counted"):
        mean_iou(confusion(maps(0), torch.full((3, 9, 8), 255), classes=4, ignore=255).sum(0))
