"""SNGAN: a GAN whose discriminator is kept Lipschitz by dividing each weight by its largest singular value.

Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", arXiv:1802.05957: residual networks,
hinge loss.

Notation: x a real image, z ~ N(0, I), x_hat = G(z).

Deviations and readings:
- One rule for all sizes, that of the paper's 128x128 networks (Table 5, here without classes): `blocks` doublings from
  4 pixels, 5 for 128x128. Its 32x32 networks (Table 4) have as many channels everywhere.
- The first convolution of G's blocks has no bias, which batch norm would remove.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from i2idist.data.batches import Batch, Images
from i2idist.losses.adversarial import hinge_fake, hinge_real, wasserstein_real
from i2idist.method import Adam, Domains, Player, Schedule, Step, Terms, Update
from i2idist.methods.checks import check_at_least
from i2idist.methods.gan import GAN, images_of
from i2idist.nn.resnet_gan import Discriminator, Generator
from i2idist.nn.spectral import spectrally_normed


@dataclass(frozen=True, kw_only=True)
class SNGANConfig:
    """SNGAN's settings; sections of the paper in brackets.

    Attributes:
        critic_steps: updates of D for each of G [4, Table 1: C, and 4.2].
        latent_dim: length of z [B.3].
        blocks: residual blocks in G, and those of D that halve; 5 for 128x128 [Table 5].
        width: channels of G's last and D's first block [Table 5].
        lr: learning rate of both players [4.2].
        betas: Adam's decay rates [4.2].
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0 [4.2].
        ema: whether a moving average of G is kept for sampling.
    """

    critic_steps: int = 5
    latent_dim: int = 128
    blocks: int = 5
    width: int = 64
    lr: float = 2e-4
    betas: tuple[float, float] = (0.0, 0.9)
    lr_hold: float = 1.0
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_at_least(1, critic_steps=self.critic_steps, latent_dim=self.latent_dim)
        check_at_least(1, blocks=self.blocks, width=self.width)


class SNGAN(GAN):
    """SNGAN: players discriminator (D) and generator (G)."""

    Config = SNGANConfig
    paper = "Miyato et al. 2018, Spectral Normalization for GANs (arXiv:1802.05957)"
    config: SNGANConfig

    def __init__(self, config: SNGANConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit them.
        """
        super().__init__()
        self.config = config
        self.code_dim, self.size_multiple = config.latent_dim, 2**config.blocks
        size, channels = self.check_size(domains, "SNGAN"), domains.a.channels
        common: dict[str, Any] = {"width": config.width, "blocks": config.blocks, "most": 16}
        self.G = Generator(config.latent_dim, channels, size, **common)
        self.D = spectrally_normed(Discriminator(channels, **common))

    @classmethod
    def tiny(cls) -> Mapping[str, SNGANConfig]:
        """One, with an average of G."""
        return {"plain": cls.Config(latent_dim=4, blocks=2, width=4, critic_steps=2, ema=True)}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images."""
        return Images

    def players(self) -> tuple[Player, ...]:
        """Discriminator and generator."""
        config = self.config
        adam, schedule = Adam(lr=config.lr, betas=config.betas), Schedule(hold=config.lr_hold)
        return (
            Player(name="discriminator", networks=("D",), optimizer=adam, schedule=schedule),
            Player(name="generator", networks=("G",), optimizer=adam, schedule=schedule, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """D steps several times, then G."""
        return (
            Update(player="discriminator", backward=self.discriminator_terms, repeat=self.config.critic_steps),
            Update(player="generator", backward=self.generator_terms),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """Eq. 16."""
        with torch.no_grad():
            x_hat = self.G(step.normal("z", self.code_dim))
        real, fake = self.D(images_of(step.batch)).real, self.D(x_hat).real
        return {"real": hinge_real(real), "fake": hinge_fake(fake)}

    def generator_terms(self, step: Step) -> Terms:
        """Eq. 17."""
        return {"gan": wasserstein_real(self.D(self.G(step.normal("z", self.code_dim))).real)}
