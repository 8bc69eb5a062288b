import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.classification import (
    classifier_error,
    confidence_drop,
    errors_by_class,
    misclassification_rate,
    reverse_classification,
    transfer_accuracy,
)


def probabilities(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(-1)


def labels(n: int, classes: int = 4) -> Tensor:
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(1))


def test_accuracy_is_scikit_learn_s() -> None:
    p, y = probabilities(200, 4), labels(200)
    expected = accuracy_score(y, p.argmax(1))
    assert 0 < expected < 1
    assert transfer_accuracy(p, y).mean().item() == pytest.approx(expected)
    assert misclassification_rate(p, y).mean().item() == pytest.approx(1 - expected)


def test_outputs_of_one_input_are_averaged() -> None:
    p = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.7, 0.3]]])
    assert transfer_accuracy(p, torch.tensor([0, 1])).tolist() == [0.5, 0.0]
    assert misclassification_rate(p, torch.tensor([0, 1])).tolist() == [0.5, 1.0]


def test_the_error_of_each_class_is_its_row_of_the_confusion_matrix() -> None:
    p, y = probabilities(300, 5), labels(300, 4)
    rows = confusion_matrix(y, p.argmax(1), labels=range(5), normalize="true")
    errors = classifier_error(errors_by_class(p, y).sum(0))
    assert errors[:4].tolist() == pytest.approx((1 - rows.diagonal()[:4]).tolist())
    assert errors[4].isnan()


def test_drop_in_confidence_by_hand() -> None:
    before = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    after = torch.tensor([[[0.6, 0.4], [0.2, 0.8]], [[0.0, 1.0], [0.2, 0.8]]])
    drops = confidence_drop(before, after, torch.tensor([0, 0]))
    assert drops.tolist() == pytest.approx([0.8 - 0.4, 0.3 - 0.1])
    assert confidence_drop(before, after[:, 0], torch.tensor([0, 1])).tolist() == pytest.approx([0.2, -0.3])


def nearest_mean(images: Tensor, targets: Tensor) -> object:
    means = torch.stack([images[targets == c].flatten(1).mean(0) for c in targets.unique()])
    return lambda x: -torch.cdist(x.flatten(1), means)


def blobs(n: int, shift: float, seed: int) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % 2
    noise = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return noise + shift * y[:, None, None, None], y


def test_reverse_classification_tells_good_translations_from_collapsed_ones() -> None:
    real, truth = blobs(400, 1.0, 0)
    good = reverse_classification(nearest_mean, *blobs(400, 1.0, 1), real, truth)
    # The boundary is 2 deviations of the mean over 16 pixels away from both classes: 2.3 % are beyond it.
    assert good.mean().item() == pytest.approx(0.977, abs=0.03)
    assert set(good.tolist()) == {0.0, 1.0}
    fakes, targets = blobs(400, 1.0, 1)
    collapsed = fakes[:1].expand_as(fakes) + 1e-3 * fakes.flip(0)
    assert reverse_classification(nearest_mean, collapsed, targets, real, truth).mean().item() < 0.8


def test_what_can_not_be_is_refused() -> None:
    y = labels(3)
    with pytest.raises(ConfigError, match="don't belong to 3 inputs"):
        transfer_accuracy(probabilities(2, 4), y)
    with pytest.raises(ConfigError, match=r"classes 0\.\.1"):
        transfer_accuracy(probabilities(3, 2), torch.tensor([0, 1, 2]))
    with pytest.raises(ConfigError, match="not finite"):
        transfer_accuracy(torch.full((3, 4), torch.nan), y)
    with pytest.raises(ConfigError, match="apply softmax"):
        confidence_drop(torch.randn(3, 4), probabilities(3, 4), y)
    with pytest.raises(ConfigError, match="of the inputs"):
        confidence_drop(probabilities(3, 2, 4), probabilities(3, 2, 4), y)
    with pytest.raises(ConfigError, match="2 classes at least"):
        reverse_classification(nearest_mean, torch.zeros(3, 1, 4, 4), torch.zeros(3).long(), torch.zeros(1), y)
