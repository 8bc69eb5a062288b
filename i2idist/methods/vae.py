"""VAE: an encoder gives each image a distribution of codes, from which a decoder makes it again.

Kingma and Welling 2014, "Auto-Encoding Variational Bayes", arXiv:1312.6114; a rival of MineGAN (Wang's thesis, section
3.4: "fully supervised by pairs of latent vectors and training images", after Noguchi and Harada 2019, 1904.01774).

The decoder is the generator of our GANs, and may start from a pretrained one: `sources: {generator: URI}`.

Notation: q(z | x) = N(mu(x), diag sigma(x)^2), from the encoder E, which gives mu and log sigma^2;
p(x | z) = N(G(z), I), the decoder G.

Deviations and readings:
- The pairs are x and z ~ q(z | x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from i2idist.data.batches import Batch, Images
from i2idist.losses.latent import kl_to_standard_normal
from i2idist.losses.reduction import widen
from i2idist.method import Adam, Domains, Player, Step, Terms, Update
from i2idist.methods.checks import check_at_least, check_sources
from i2idist.methods.gan import GAN, fill, images_of
from i2idist.nn.resnet_gan import Generator, ResidualEncoder


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """The settings; the decoder's must be those of its source.

    Attributes:
        lambda_kl: weight of the divergence [Eq. 10].
        latent_dim: length of z.
        blocks: residual blocks in G and in E; 4 for 64x64.
        width: channels of G's last and E's first block.
        most: so many times `width` channels in G at most: 8 as in WGAN-GP, 16 as in SNGAN. E has 8.
        lr: learning rate.
        betas: Adam's decay rates.
        ema: whether a moving average of E and G is kept for sampling.
    """

    lambda_kl: float = 1.0
    latent_dim: int = 128
    blocks: int = 4
    width: int = 64
    most: int = 8
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_at_least(0, lambda_kl=self.lambda_kl)
        check_at_least(1, latent_dim=self.latent_dim, blocks=self.blocks, width=self.width, most=self.most)


class VAE(GAN):
    """VAE: one player, autoencoder (E, G); there is no discriminator."""

    is_source = False
    Config = VAEConfig
    paper = "Kingma and Welling 2014, Auto-Encoding Variational Bayes (arXiv:1312.6114)"
    config: VAEConfig

    def __init__(self, config: VAEConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit them.
        """
        super().__init__()
        self.config = config
        self.code_dim, self.size_multiple = config.latent_dim, 2**config.blocks
        size, channels = self.check_size(domains, "This VAE"), domains.a.channels
        shape: dict[str, Any] = {"width": config.width, "blocks": config.blocks}
        self.G = Generator(config.latent_dim, channels, size, most=config.most, **shape)
        self.E = ResidualEncoder(channels, size, 2 * config.latent_dim, **shape)

    @classmethod
    def build(cls, config: Any, domains: Domains, sources: Mapping[str, Mapping[str, Tensor]] | None = None) -> Self:
        """The method, with G filled from the source `generator` where there is one.

        Raises:
            ConfigError: a source of another name.
            SourceError: its generator isn't this one.
        """
        check_sources(sources, {"generator": "a generator"} if "generator" in (sources or ()) else {})
        method = cls(config, domains)
        for state in (sources or {}).values():
            fill(method.G, "G", state, "sources.generator")
        return method

    @classmethod
    def tiny(cls) -> Mapping[str, VAEConfig]:
        """One, with averages."""
        return {"plain": cls.Config(latent_dim=4, blocks=2, width=4, ema=True)}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images."""
        return Images

    def players(self) -> tuple[Player, ...]:
        """One."""
        adam = Adam(lr=self.config.lr, betas=self.config.betas)
        return (Player(name="autoencoder", networks=("E", "G"), optimizer=adam, ema=self.config.ema),)

    def updates(self) -> tuple[Update, ...]:
        """One."""
        return (Update(player="autoencoder", backward=self.autoencoder_terms),)

    def autoencoder_terms(self, step: Step) -> Terms:
        """The negative of Eq. 7, with one z for each image: -log p(x | z) without its constant, and the divergence."""
        x = images_of(step.batch)
        mu, log_variance = self.E(x).chunk(2, dim=1)
        z = mu + (log_variance / 2).exp() * step.normal("z", self.code_dim)
        distance = (widen(self.G(z)) - widen(x)).square().flatten(1).sum(1)
        return {"likelihood": distance / 2, "kl": kl_to_standard_normal(mu, log_variance)}

    def translator_networks(self) -> tuple[str, ...]:
        """The decoder."""
        return ("G",)
