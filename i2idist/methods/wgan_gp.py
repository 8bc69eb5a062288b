"""WGAN-GP with residual networks: a critic, held near 1-Lipschitz by a gradient penalty, and a generator of images.

Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv:1704.00028: the 64x64 residual architecture, which
Wang et al. 2018, "Transferring GANs: generating images from limited data", arXiv:1805.01677 (Wang's thesis, chapter 2,
whose equations are cited) transfer; see `transfergan`.

Notation: x a real image, z ~ N(0, I), x_hat = G(z), y a label where there are some, see `acgan`.

Deviations and readings:
- Samples and validation use batch norm's running averages; the public code normalises samples by their own batch.
- Images of other sizes than 64x64 have another number of `blocks`, down to 4 pixels by the usual choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from i2idist.data.batches import Batch, Images
from i2idist.losses.adversarial import wasserstein_fake, wasserstein_real
from i2idist.losses.penalty import between, gradient_penalty
from i2idist.method import Adam, Domains, Player, Step, Terms, Update
from i2idist.methods.checks import check_at_least
from i2idist.methods.gan import GAN, images_of
from i2idist.methods.labels import Labels
from i2idist.nn.resnet_gan import Condition, Critic, Generator


@dataclass(frozen=True, kw_only=True)
class WGANGPConfig:
    """WGAN-GP's settings; sections of the thesis in brackets, Gulrajani et al.'s where it says nothing.

    Attributes:
        lambda_gp: weight of the gradient penalty [Eq. 2.3].
        critic_steps: updates of D for each of G.
        latent_dim: length of z.
        blocks: residual blocks in G and in D; 4 for 64x64 [2.3.3], 3 for 32x32, 2 for 16x16.
        width: channels of G's last and D's first block; half of it halves the network [A.1.2].
        lr: learning rate of both players [2.3.3].
        betas: Adam's decay rates.
        ema: whether a moving average of G is kept for sampling.
    """

    lambda_gp: float = 10.0
    critic_steps: int = 5
    latent_dim: int = 128
    blocks: int = 4
    width: int = 64
    lr: float = 1e-4
    betas: tuple[float, float] = (0.0, 0.9)
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_at_least(0, lambda_gp=self.lambda_gp)
        check_at_least(1, critic_steps=self.critic_steps, latent_dim=self.latent_dim)
        check_at_least(1, blocks=self.blocks, width=self.width)


class WGANGP(GAN):
    """WGAN-GP: players discriminator (D) and generator (G)."""

    Config = WGANGPConfig
    paper = "Gulrajani et al. 2017, Improved Training of Wasserstein GANs (arXiv:1704.00028)"
    config: WGANGPConfig
    labels: Labels | None = None

    def __init__(self, config: WGANGPConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit them.
        """
        super().__init__()
        self.config = config
        self.code_dim, self.size_multiple = config.latent_dim, 2**config.blocks
        self.make_networks(domains)

    def make_networks(self, domains: Domains, condition: Condition = "none") -> None:
        """Make G and D, for labels by `condition`, those of the attribute `labels`."""
        config, size = self.config, self.check_size(domains, "This GAN")
        common: dict[str, Any] = {"width": config.width, "blocks": config.blocks, "most": 8}
        common["classes"] = len(self.labels) if self.labels else 0
        self.G = Generator(config.latent_dim, domains.a.channels, size, condition=condition, **common)
        self.D = Critic(domains.a.channels, size, **common)

    @classmethod
    def tiny(cls) -> Mapping[str, WGANGPConfig]:
        """One, with an average of G."""
        return {"plain": cls.Config(latent_dim=4, blocks=2, width=4, critic_steps=2, ema=True)}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images."""
        return Images

    def players(self) -> tuple[Player, ...]:
        """Discriminator and generator."""
        config = self.config
        adam = Adam(lr=config.lr, betas=config.betas)
        return (
            Player(name="discriminator", networks=("D",), optimizer=adam),
            Player(name="generator", networks=("G",), optimizer=adam, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """D steps several times, then G (Algorithm 1)."""
        return (
            Update(player="discriminator", backward=self.discriminator_terms, repeat=self.config.critic_steps),
            Update(player="generator", backward=self.generator_terms),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """Eq. 2.3, and Eq. 2.8 for labels; without gradients, as in validation, there is no penalty."""
        x, y = images_of(step.batch), self._labels_of(step)
        with torch.no_grad():
            x_hat = self.G(step.normal("z", self.code_dim), y)
        real, fake = self.D(x), self.D(x_hat)
        terms = {"real": wasserstein_real(real.real), "fake": wasserstein_fake(fake.real)}
        if self.labels and y is not None:
            terms["class_D"] = self.labels.loss(real.classes, y)
        if torch.is_grad_enabled():
            points = between(x, x_hat, step.uniform("epsilon", 1, 1, 1))
            terms["gp"] = gradient_penalty(self.D(points).real, points)
        return terms

    def generator_terms(self, step: Step) -> Terms:
        """Eq. 2.4, and Eq. 2.7 for labels."""
        y = self._labels_of(step)
        fake = self.D(self.G(step.normal("z", self.code_dim), y))
        terms = {"gan": wasserstein_real(fake.real)}
        if self.labels and y is not None:
            terms["class_G"] = self.labels.loss(fake.classes, y)
        return terms

    def _labels_of(self, step: Step) -> Tensor | None:
        """The real images' labels, which are the fakes', too: draws from their marginal. (N, L) in {0, 1}."""
        return self.labels.read(step.labelled) if self.labels else None
