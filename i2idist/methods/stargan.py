"""StarGAN: one generator for all domains, steered by the target's label; a critic that also tells domains apart.

Choi et al. 2018, "StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation",
arXiv:1711.09020.

Notation: x a real image with labels c', here `y`; c the target labels, here `target`; x_hat = G(x, c); D_src and D_cls
the discriminator's outputs `real` and `labels`. Labels are classes (as RaFD's) or attributes (as CelebA's).

Deviations and readings:
- Target labels are the batch's own in random order (reference): of the global batch.
- A step is `critic_steps` updates of D, each on a new batch, and one of G, on the last of them (section 5.3).
- Instance norm has scale and shift (reference). Translation normalises by each image's own statistics, as training does
  and as the reference's tests do; `statistics_at_test: running` takes the averages of training instead.
- An attribute target names all attributes that the output is to have; it isn't the input's with some changed, since
  the input's aren't known.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from i2idist.data.batches import Batch, Labelled
from i2idist.losses.adversarial import wasserstein_fake, wasserstein_real
from i2idist.losses.penalty import between, gradient_penalty
from i2idist.losses.reconstruction import l1
from i2idist.method import Adam, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import check_at_least, check_choice
from i2idist.methods.labels import Labels, shuffled
from i2idist.nn.labelled import LabelDiscriminator, LabelGenerator
from i2idist.nn.norm import AffineInstanceNorm, evaluating


@dataclass(frozen=True, kw_only=True)
class StarGANConfig:
    """StarGAN's settings; sections of the paper in brackets.

    Attributes:
        lambda_cls: weight of domain classification, in both players [3.1].
        lambda_rec: weight of cycle consistency [3.1].
        lambda_gp: weight of the gradient penalty [4].
        critic_steps: updates of D for each of G [5.3].
        attributes: which attributes of the data to translate between; empty: the data has classes.
        statistics_at_test: instance norm's statistics in translation: each `sample`'s own, or the `running` averages.
        width: channels of G's first layer [7.2].
        blocks: residual blocks [7.2].
        discriminator_width: channels of D's first layer [7.2].
        discriminator_layers: stride-2 layers of D [7.2].
        lr: learning rate of both players [5.3].
        betas: Adam's decay rates [5.3].
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0 [5.3].
        ema: whether a moving average of G is kept for translation.
    """

    lambda_cls: float = 1.0
    lambda_rec: float = 10.0
    lambda_gp: float = 10.0
    critic_steps: int = 5
    attributes: tuple[str, ...] = ()
    statistics_at_test: Literal["sample", "running"] = "sample"
    width: int = 64
    blocks: int = 6
    discriminator_width: int = 64
    discriminator_layers: int = 6
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    lr_hold: float = 0.5
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("statistics_at_test", self.statistics_at_test, ("sample", "running"))
        check_at_least(0, lambda_cls=self.lambda_cls, lambda_rec=self.lambda_rec, lambda_gp=self.lambda_gp)
        check_at_least(0, blocks=self.blocks)
        check_at_least(1, critic_steps=self.critic_steps, width=self.width)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)


class StarGAN(Method):
    """StarGAN: players discriminator (D) and generator (G)."""

    Config = StarGANConfig
    paper = "Choi et al. 2018, StarGAN: Unified GANs for Multi-Domain Image-to-Image Translation (arXiv:1711.09020)"
    size_multiple = 4
    config: StarGANConfig

    def __init__(self, config: StarGANConfig, domains: Domains) -> None:
        """Make the networks for images and labels of `domains`.

        Raises:
            ConfigError: the labels don't suit the config.
            SizeError: the size doesn't suit the networks.
        """
        super().__init__()
        self.config = config
        self.labels = Labels.of(domains, config.attributes)
        self.targets = self.labels.names
        self.make_networks([domains.a.channels], len(self.labels), (domains.a.height, domains.a.width))

    def make_networks(
        self, channels: list[int], labels: int, size: tuple[int, int], logits: Collection[int] = ()
    ) -> None:
        """Make G and D for images of `size` (H, W) of these channels by modality; of some of them G gives `logits`.

        Raises:
            SizeError: the size doesn't suit them.
        """
        config = self.config
        self._check_size(*size)
        norm = functools.partial(AffineInstanceNorm, at_test=config.statistics_at_test)
        self.G = LabelGenerator(channels, labels, width=config.width, blocks=config.blocks, norm=norm, logits=logits)
        self.D = LabelDiscriminator(
            channels, labels, size, width=config.discriminator_width, layers=config.discriminator_layers
        )

    @classmethod
    def tiny(cls) -> Mapping[str, StarGANConfig]:
        """Both kinds of statistics at test."""
        small: dict[str, Any] = {"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 2}
        return {
            "sample": cls.Config(ema=True, critic_steps=2, **small),
            "running": cls.Config(statistics_at_test="running", critic_steps=1, **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images with labels."""
        return Labelled

    def players(self) -> tuple[Player, ...]:
        """Discriminator and generator."""
        config = self.config
        adam, schedule = Adam(lr=config.lr, betas=config.betas), Schedule(hold=config.lr_hold)
        return (
            Player(name="discriminator", networks=("D",), optimizer=adam, schedule=schedule),
            Player(name="generator", networks=("G",), optimizer=adam, schedule=schedule, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """D steps several times; G then steps on D's last batch, whose fakes it has made already."""
        return (
            Update(player="discriminator", backward=self.discriminator_terms, repeat=self.config.critic_steps),
            Update(player="generator", backward=self.generator_terms),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """Eq. 5 with the critic's loss of Eq. 8; without gradients, as in validation, there is no penalty."""
        batch = step.labelled
        y = self.labels.read(batch)
        target = shuffled(y, step)
        x_hat = self.G(batch.x, target)
        step.keep(x_hat=x_hat, target=target)
        real, fake = self.D(batch.x), self.D(x_hat.detach())
        terms = {
            "real": wasserstein_real(real.real),  # Eq. 8
            "fake": wasserstein_fake(fake.real),  # Eq. 8
            "cls": self.labels.loss(real.labels, y),  # Eq. 2
        }
        if torch.is_grad_enabled():
            points = between(batch.x, x_hat, step.uniform("epsilon", 1, 1, 1))
            terms["gp"] = gradient_penalty(self.D(points).real, points)  # Eq. 8
        return terms

    def generator_terms(self, step: Step) -> Terms:
        """Eq. 6 with the generator's side of Eq. 8."""
        batch = step.labelled
        x_hat, target = step.shared.x_hat, step.shared.target
        fake = self.D(x_hat)
        return {
            "gan": wasserstein_real(fake.real),  # Eq. 8
            "cls": self.labels.loss(fake.labels, target),  # Eq. 3
            "rec": l1(self.G(x_hat, self.labels.read(batch)), batch.x),  # Eq. 4
        }

    def _check_size(self, height: int, width: int) -> None:
        check_size(height, width, self.size_multiple if min(height, width) >= 8 else 8, "StarGAN")

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """x_hat = G(x, c), c the labels that `target` names; see `Method.translate`."""
        labels = self.labels.target(target, x)
        self._check_size(*x.shape[2:])
        with evaluating(self.G):
            x_hat: Tensor = self.G(x, labels)
        return x_hat

    def translator_networks(self) -> tuple[str, ...]:
        """G alone."""
        return ("G",)
