import pytest
import torch
from torch import Tensor

from i2idist.data.generated._draws import rng_of
from i2idist.data.generated.digits import street
from i2idist.errors import ConfigError
from i2idist.metrics.classifier import Classifier, distorted, label_agreement, predict, train_classifier


def street_digits(key: str, count: int) -> tuple[Tensor, Tensor]:
    drawn = [street(rng_of(key, place), (32, 32)) for place in range(count)]
    images = torch.stack([torch.from_numpy(image) for image, _ in drawn]).permute(0, 3, 1, 2)
    return images.float() / 127.5 - 1, torch.tensor([digit for _, digit in drawn])


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return train_classifier(*street_digits("train", 1500), epochs=8)


def test_reads_street_digits_that_it_never_saw(trained: Classifier) -> None:
    assert label_agreement(trained, *street_digits("held out", 400)) >= 0.9


def test_agreement_counts_every_output_of_an_input(trained: Classifier) -> None:
    images, _ = street_digits("held out", 6)
    seen = predict(trained, images)
    outputs = images.reshape(3, 2, 3, 32, 32)
    labels = seen[::2].clone()
    expected = torch.stack([seen[0::2] == labels, seen[1::2] == labels]).double().mean().item()
    assert label_agreement(trained, outputs, labels) == expected
    labels[0] = (labels[0] + 1) % 10
    assert label_agreement(trained, outputs, labels) <= expected - 1 / 6


def test_the_seed_alone_decides() -> None:
    images, labels = street_digits("train", 40)
    torch.manual_seed(1)
    one = train_classifier(images, labels, epochs=1, seed=5)
    torch.manual_seed(2)
    two = train_classifier(images, labels, epochs=1, seed=5)
    other = train_classifier(images, labels, epochs=1, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_training_leaves_the_global_generator_alone() -> None:
    images, labels = street_digits("train", 40)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train_classifier(images, labels, epochs=1)
    assert torch.equal(torch.rand(4), expected)


def test_progress_ends_at_one() -> None:
    images, labels = street_digits("train", 150)
    told: list[float] = []
    train_classifier(images, labels, epochs=2, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_distortion_depends_on_each_image_s_own_key() -> None:
    images, _ = street_digits("train", 4)
    keys = torch.tensor([1, 2, 3, 4])
    whole = distorted(images, keys)
    assert torch.allclose(whole[2:], distorted(images[2:], keys[2:]), atol=1e-6)
    assert not torch.allclose(whole[:1], distorted(images[:1], keys[1:2]), atol=1e-2)
    assert whole.min() >= -1
    assert whole.max() <= 1


def test_labels_that_do_not_belong_are_refused(trained: Classifier) -> None:
    with pytest.raises(ConfigError, match="3 for 2"):
        label_agreement(trained, torch.zeros(2, 3, 32, 32), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ConfigError, match="label for each"):
        train_classifier(torch.zeros(2, 3, 32, 32), torch.zeros(3, dtype=torch.int64))
