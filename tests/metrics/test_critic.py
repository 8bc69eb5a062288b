import pytest
import torch
from torch import Tensor

from i2idist.errors import ConfigError
from i2idist.metrics.critic import Critic, CriticTraining, independent_wasserstein, score, train_critic, wasserstein

SHORT = CriticTraining(steps=300, batch=32, width=16)


def noise(n: int, seed: int, shift: float = 0.0, side: int = 8) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 0.3 + shift


def measured(real: Tensor, fake: Tensor, training: CriticTraining = SHORT) -> float:
    return wasserstein(*independent_wasserstein(real, fake, seed=0, training=training))


def test_a_moved_distribution_is_as_far_as_it_moved() -> None:
    # W = 0.2 * sqrt(192). A slope of 1 + s gains s W and costs 10 s^2, so the critic ends at W (1 + W / 20).
    w = 0.2 * 192**0.5
    found = measured(noise(2000, 0), noise(2000, 1, shift=-0.2))
    assert found == pytest.approx(w * (1 + w / 20), rel=0.1)
    assert measured(noise(2000, 0), noise(2000, 1, shift=-0.1)) < 0.7 * found


def test_equal_distributions_are_near_zero_also_when_a_few_images_could_be_learnt_by_heart() -> None:
    real, fake = noise(40, 0), noise(40, 1)
    critic = train_critic(real, fake, seed=0, training=SHORT)
    seen = wasserstein(score(critic, real), score(critic, fake))
    assert seen > 0.5
    assert abs(measured(real, fake)) < seen / 3


def test_halves_are_as_large_as_they_can_be_and_equal_seeds_give_equal_scores() -> None:
    few = CriticTraining(steps=3, batch=4, width=4)
    real, fake = noise(9, 0), noise(6, 1)
    torch.manual_seed(1)
    first = independent_wasserstein(real, fake, seed=0, training=few)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), expected)
    second = independent_wasserstein(real, fake, seed=0, training=few)
    other = independent_wasserstein(real, fake, seed=1, training=few)
    assert [len(scores) for scores in first] == [5, 3]
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("size", [(64, 64), (9, 33), (4, 4), (5, 7)])
def test_images_of_any_size_are_scored(size: tuple[int, int]) -> None:
    critic = Critic((1, *size), width=8)
    assert critic(torch.zeros(2, 1, *size)).shape == (2,)


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 images of one shape"):
        measured(noise(4, 0), noise(1, 1))
    with pytest.raises(ConfigError, match="2 images of one shape"):
        measured(noise(4, 0), noise(4, 1, side=16))
    with pytest.raises(ConfigError, match="Generated images: 768 of 768"):
        measured(noise(4, 0), noise(4, 1) * torch.nan)
