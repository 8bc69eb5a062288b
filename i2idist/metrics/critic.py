"""The independent Wasserstein critic: a critic of its own, trained only to measure (TransferGAN, Eq. 2.6).

Danihelka et al. 2017, arXiv:1705.05263; the critic is trained with a gradient penalty (Gulrajani et al. 2017,
arXiv:1704.00028) to tell real from generated images, and evaluated on images of both kinds that it never saw:
IW(X1, X2) = E_{x in X1} D(x) - E_{x in X2} D(x). It grows with the distance of the sets; the thesis's tables print
minus it. Since the penalty allows slopes a little above 1, it overestimates the Wasserstein distance W by up to the
fraction W / (2 * penalty); images are taken as vectors in [-1, 1], so W has the unit of their Euclidean distance.

All images of both sets are needed at once: a protocol bounds their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from i2idist.errors import ConfigError
from i2idist.metrics import checks
from i2idist.randomness import key_of, permutation, sample_keys, uniform

_LAST_SIDE = 4
_IMAGES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class CriticTraining:
    """How a critic is trained; part of the record, since the value depends on it."""

    steps: int = 1000
    batch: int = 64
    learning_rate: float = 1e-3
    penalty: float = 10.0
    width: int = 32


class Critic(nn.Module):
    """4x4 convolutions of stride 2 until the shorter side is at most 4, then one linear unit; no normalisation."""

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        """Build for images of `shape` (C, H, W), with random weights from torch's global generator."""
        super().__init__()
        channels, height, wide = shape
        layers: list[nn.Module] = []
        while min(height, wide) > _LAST_SIDE:
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels, width, height, wide = width, min(2 * width, 512), height // 2, wide // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * wide, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N,)."""
        scores: Tensor = self.layers(x)[:, 0]
        return scores


def independent_wasserstein(
    real: Tensor, fake: Tensor, *, seed: int, training: CriticTraining | None = None
) -> tuple[Tensor, Tensor]:
    """Train a critic on one half of each set and score the other halves.

    Args:
        real: (N, C, H, W) float in [-1, 1], real images that no generator saw.
        fake: (M, C, H, W) float in [-1, 1], generated ones.
        seed: of halves, initial weights and batches.
        training: the default by default.

    Returns:
        The critic's scores of the held-out real images, (N - N // 2,) float64, and of the generated ones,
        (M - M // 2,); IW is the difference of their means, `wasserstein` of both.

    Raises:
        ConfigError: fewer than two images in a set, different shapes, or numbers that aren't finite.
    """
    _check(real, fake)
    halves = [_halves(images, key_of(seed, "critic", name)) for name, images in (("real", real), ("fake", fake))]
    critic = train_critic(halves[0][0], halves[1][0], seed=seed, training=training)
    return score(critic, halves[0][1]), score(critic, halves[1][1])


def wasserstein(real_scores: Tensor, fake_scores: Tensor) -> float:
    """Eq. 2.6: the difference of the means of a critic's scores, (N,) of real and (M,) of generated images."""
    return (real_scores.mean() - fake_scores.mean()).item()


def train_critic(real: Tensor, fake: Tensor, *, seed: int, training: CriticTraining | None = None) -> Critic:
    """A critic that maximises E D(real) - E D(fake) with a gradient penalty.

    Args:
        real: (N, C, H, W) float in [-1, 1].
        fake: (M, C, H, W) float in [-1, 1].
        seed: of initial weights and batches; equal seeds give equal critics on one machine and thread count.
        training: the default by default.

    Returns:
        The critic, on the images' device, in evaluation mode.

    Raises:
        ConfigError: fewer than two images in a set, different shapes, or numbers that aren't finite.
    """
    _check(real, fake)
    training = training or CriticTraining()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(seed, "critic"))
        critic = Critic((real.shape[1], real.shape[2], real.shape[3]), training.width).to(real.device)
    optimizer = torch.optim.Adam(critic.parameters(), training.learning_rate, betas=(0.0, 0.9))
    for step in range(training.steps):
        x, y = (_batch(images, key_of(seed, "critic", step, i), training) for i, images in enumerate((real, fake)))
        mixed = _mixed(x, y, key_of(seed, "critic", step, "mix"))
        gap = critic(x).mean() - critic(y).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(training.penalty * _penalty(critic, mixed) - gap)
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * (1 - step / training.steps)
        optimizer.step()
    return critic.eval().requires_grad_(False)


@torch.no_grad()
def score(critic: Critic, images: Tensor) -> Tensor:
    """The critic's score of each image: (N, C, H, W) -> (N,) float64 on the CPU."""
    return checks.in_chunks(len(images), _IMAGES_AT_ONCE, lambda part: critic(images[part]).double().cpu())


def _penalty(critic: Critic, x: Tensor) -> Tensor:
    """The mean of (|grad D(x)| - 1)^2: (N, C, H, W) -> a scalar."""
    x = x.requires_grad_()
    (slopes,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    penalty: Tensor = (slopes.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


def _mixed(x: Tensor, y: Tensor, key: int) -> Tensor:
    """A point on the line between each pair of images."""
    share = uniform(sample_keys(key, torch.arange(len(x), device=x.device)), (1, 1, 1))
    return x + share * (y - x)


def _batch(images: Tensor, key: int, training: CriticTraining) -> Tensor:
    """Images drawn with replacement."""
    draws = uniform(sample_keys(key, torch.arange(training.batch)), (), torch.float64)
    return images[(draws * len(images)).long().to(images.device)]


def _halves(images: Tensor, key: int) -> tuple[Tensor, Tensor]:
    order = permutation(key, len(images)).to(images.device)
    return images[order[: len(images) // 2]], images[order[len(images) // 2 :]]


def _check(real: Tensor, fake: Tensor) -> None:
    if real.dim() != 4 or real.shape[1:] != fake.shape[1:] or min(len(real), len(fake)) < 2:
        raise ConfigError(
            f"An independent critic needs 2 images of one shape at least in each set, (N, C, H, W), not "
            f"{tuple(real.shape)} and {tuple(fake.shape)}."
        )
    for name, images in (("Real", real), ("Generated", fake)):
        checks.finite(images, f"{name} images")
