"""UNIT: unpaired two-sided translation by two VAE-GANs that share their latent space.

An image and its translation have one latent code: the encoders' last layers and the generators' first are one network.

Liu et al. 2017, "Unsupervised Image-to-Image Translation Networks", arXiv:1703.00848.

Notation: x_1, x_2 the images of domains a and b; E_1 = E_H . E_L1 and G_1 = G_L1 . G_H (section 2), the H parts shared;
mu = E(x) the mean of q(z | x) = N(mu, I), eta ~ N(0, I), z = mu + eta; x_12 the translation of x_1, x_11 its
reconstruction (the paper's x_1^{1->2}, x_1^{1->1}); h = G_H(z).

Deviations and readings:
- Every norm and divergence is a mean over elements, KL = mean(mu^2) / 2; so the lambdas don't depend on the size.
- The generators' adversarial loss is non-saturating; Eqs. 5 and 6 are the minimax form.
- Instance norm follows every convolution but the first and the last of encoders and generators; LeakyReLU has slope
  0.01; the discriminators' layers are 3x3 convolutions of stride 2, before a 1x1 convolution. The text doesn't say.
- Initial weights are N(0, 0.02^2); those of the public code's encoders and generators follow He's rule, as there.
- One draw of eta serves the reconstruction and the translation of an image.
- `networks: public` are those of the public code: MUNIT's content encoder and decoder and its multi-scale
  discriminators, nothing shared. That code's loss, 0.01 mean(mu^2) on both codes of a cycle, is lambda_kl = 0 and
  lambda_cycle_kl = 0.02, since Eqs. 7 and 8 already count the divergence of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch, Unpaired
from i2idist.errors import ConfigError
from i2idist.losses.adversarial import (
    least_squares_fake,
    least_squares_real,
    log_fake,
    log_real,
    non_saturating,
    over_scales,
)
from i2idist.losses.reconstruction import l1
from i2idist.losses.reduction import sample_mean, widen
from i2idist.method import Adam, Domain, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import check_at_least, check_choice, check_equal_sizes, check_target, require_code
from i2idist.nn.adain import ContentEncoder
from i2idist.nn.init import init_kaiming, init_normal
from i2idist.nn.patchgan import MultiScale, MultiScaleStridedPatchGAN, check_strided_patches
from i2idist.nn.vae import back_end, discriminator, front_end, leaky_blocks, plain_decoder
from i2idist.randomness import Noise, content_keys


@dataclass(frozen=True, kw_only=True)
class UNITConfig:
    """UNIT's settings; values from section 4 unless noted.

    Attributes:
        lambda_gan: weight of the adversarial terms (lambda_0).
        lambda_kl: weight of the divergence of codes (lambda_1).
        lambda_recon: weight of reconstruction (lambda_2); 0 leaves its passes out.
        lambda_cycle_kl: weight of the divergence of the codes of a cycle (lambda_3).
        lambda_cycle: weight of cycle reconstruction (lambda_4); its passes are left out where both weights are 0.
        shared_layers: residual blocks shared by the encoders, and by the generators; 0: nothing is shared.
        sample_at_test: whether translation adds eta, drawn by a code, as training does.
        networks: the paper's, or the public code's.
        gan: log loss (Eqs. 5, 6), or the public code's least squares.
        width: channels of the first layer of the encoders.
        blocks: residual blocks of each encoder and generator.
        discriminator_width: channels of the discriminators' first layer.
        discriminator_layers: stride-2 layers of the discriminators; the public code's have 4 at each scale.
        discriminator_scales: scales of the public code's discriminators.
        lr: learning rate of both players.
        betas: Adam's decay rates.
        weight_decay: of both players; the public code's is 1e-4.
        lr_halve_every_images: the learning rate is halved after so many images; the public code's 100,000.
        ema: whether moving averages of encoders and generators are kept for translation.
    """

    lambda_gan: float = 10.0
    lambda_kl: float = 0.1
    lambda_recon: float = 100.0
    lambda_cycle_kl: float = 0.1
    lambda_cycle: float = 100.0
    shared_layers: int = 1
    sample_at_test: bool = False
    networks: Literal["paper", "public"] = "paper"
    gan: Literal["log", "least_squares"] = "log"
    width: int = 64
    blocks: int = 4
    discriminator_width: int = 64
    discriminator_layers: int = 5
    discriminator_scales: int = 3
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 0.0
    lr_halve_every_images: int | None = None
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("networks", self.networks, ("paper", "public"))
        check_choice("gan", self.gan, ("log", "least_squares"))
        check_at_least(0, lambda_gan=self.lambda_gan, lambda_kl=self.lambda_kl, lambda_recon=self.lambda_recon)
        check_at_least(0, lambda_cycle_kl=self.lambda_cycle_kl, lambda_cycle=self.lambda_cycle)
        check_at_least(0, shared_layers=self.shared_layers, weight_decay=self.weight_decay)
        check_at_least(1, width=self.width, blocks=self.blocks, lr_halve_every_images=self.lr_halve_every_images)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)
        check_at_least(1, discriminator_scales=self.discriminator_scales)
        if self.shared_layers > self.blocks:
            raise ConfigError(
                f"method.shared_layers is {self.shared_layers}, but encoders and generators have {self.blocks} "
                "residual blocks to share: raise method.blocks or share fewer."
            )
        if self.networks == "public" and self.shared_layers:
            raise ConfigError("The public code's networks share nothing: set method.shared_layers to 0.")


class UNIT(Method):
    """UNIT: players generators (encoders and generators) and discriminators (D_1, D_2)."""

    Config = UNITConfig
    paper = "Liu et al. 2017, Unsupervised Image-to-Image Translation Networks (arXiv:1703.00848)"
    targets = ("b", "a")
    size_multiple = 4
    config: UNITConfig
    D_1: nn.Module
    D_2: nn.Module

    def __init__(self, config: UNITConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "UNIT")
        a, b = domains.a, domains.b
        self._check_size(a.height, a.width)
        self.config = config
        self.code_dim = 1 if config.sample_at_test else 0
        self.E_L1, self.E_L2 = self._make_encoder(a), self._make_encoder(b)
        self.E_H = leaky_blocks(4 * config.width, config.shared_layers)
        self.G_H = leaky_blocks(4 * config.width, config.shared_layers)
        self.G_L1, self.G_L2 = self._make_generator(a), self._make_generator(b)
        self._make_discriminators(a, b)
        init_normal(self)
        if config.networks == "public":
            for name in self.generator_networks():
                init_kaiming(getattr(self, name))

    def _make_encoder(self, domain: Domain) -> nn.Module:
        config = self.config
        if config.networks == "public":
            return ContentEncoder(domain.channels, width=config.width, downs=2, blocks=config.blocks)
        own = leaky_blocks(4 * config.width, config.blocks - config.shared_layers)
        return nn.Sequential(front_end(domain.channels, config.width), own)

    def _make_generator(self, domain: Domain) -> nn.Module:
        config = self.config
        if config.networks == "public":
            return plain_decoder(domain.channels, width=config.width, ups=2, blocks=config.blocks)
        own = leaky_blocks(4 * config.width, config.blocks - config.shared_layers)
        return nn.Sequential(own, back_end(domain.channels, config.width))

    def _make_discriminators(self, a: Domain, b: Domain) -> None:
        config = self.config
        width, layers, scales = config.discriminator_width, config.discriminator_layers, config.discriminator_scales

        def make(channels: int) -> MultiScale:
            if config.networks == "paper":
                return MultiScale([discriminator(channels, width, layers)])
            return MultiScaleStridedPatchGAN(channels, scales=scales, width=width, layers=layers)

        if config.networks == "public":
            check_strided_patches(a.height, a.width, layers=layers, scales=scales)
        self.D_1, self.D_2 = make(a.channels), make(b.channels)

    @classmethod
    def tiny(cls) -> Mapping[str, UNITConfig]:
        """Both constraints; the public code's; each constraint alone."""
        small: dict[str, Any] = {"width": 4, "discriminator_width": 4, "discriminator_layers": 2, "blocks": 2}
        small["ema"] = True
        public: dict[str, Any] = {"networks": "public", "gan": "least_squares", "shared_layers": 0}
        return {
            "shared": cls.Config(**small),
            "public": cls.Config(**public, discriminator_scales=2, weight_decay=1e-4, **small),
            "sharing_alone": cls.Config(
                lambda_cycle=0.0, lambda_cycle_kl=0.0, shared_layers=2, sample_at_test=True, **small
            ),
            "cycle_alone": cls.Config(lambda_kl=0.0, lambda_recon=0.0, shared_layers=0, **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Two pools."""
        return Unpaired

    def players(self) -> tuple[Player, ...]:
        """Encoders and generators against both discriminators."""
        config = self.config
        adam = Adam(lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
        schedule = Schedule(step_every_images=config.lr_halve_every_images)
        networks = self.generator_networks()
        return (
            Player(name="discriminators", networks=("D_1", "D_2"), optimizer=adam, schedule=schedule),
            Player(name="generators", networks=networks, optimizer=adam, schedule=schedule, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """Discriminators first (section 3, "Learning"); the images made for them serve the generators' update."""
        return (
            Update(player="discriminators", backward=self.discriminator_terms),
            Update(player="generators", backward=self.generator_terms),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """Eqs. 5 and 6, on translations alone."""
        x_1, x_2 = step.both
        self._make_streams(step)
        real, fake = (log_real, log_fake) if self.config.gan == "log" else (least_squares_real, least_squares_fake)
        x_12, x_21 = step.shared.x_12.detach(), step.shared.x_21.detach()
        return {
            "gan": over_scales(real, self.D_1(x_1))
            + over_scales(fake, self.D_1(x_21))
            + over_scales(real, self.D_2(x_2))
            + over_scales(fake, self.D_2(x_12))
        }

    def generator_terms(self, step: Step) -> Terms:
        """Eq. 2, the generators' side."""
        x_1, x_2 = step.both
        made = step.shared
        loss = non_saturating if self.config.gan == "log" else least_squares_real
        terms = {
            "gan": over_scales(loss, self.D_1(made.x_21)) + over_scales(loss, self.D_2(made.x_12)),  # Eqs. 5, 6
            "kl": kl(made.mu_1) + kl(made.mu_2),  # Eqs. 3, 4
        }
        if self.config.lambda_recon:
            terms["recon"] = l1(made.x_11, x_1) + l1(made.x_22, x_2)  # Eqs. 3, 4
        if self.config.lambda_cycle or self.config.lambda_cycle_kl:
            mu_12, mu_21 = self.E_H(self.E_L2(made.x_12)), self.E_H(self.E_L1(made.x_21))
            x_121 = self.G_L1(self.G_H(mu_12 + _eta("eta_12", mu_12, step)))
            x_212 = self.G_L2(self.G_H(mu_21 + _eta("eta_21", mu_21, step)))
            terms["cycle_kl"] = kl(made.mu_1) + kl(mu_12) + kl(made.mu_2) + kl(mu_21)  # Eqs. 7, 8
            terms["cycle"] = l1(x_121, x_1) + l1(x_212, x_2)  # Eqs. 7, 8
        return terms

    def _make_streams(self, step: Step) -> None:
        """The reconstruction and translation streams of Fig. 1, each layer once; kept with their graph."""
        x_1, x_2 = step.both
        mu_1, mu_2 = self.E_H(torch.cat([self.E_L1(x_1), self.E_L2(x_2)])).chunk(2)
        eta = torch.cat([_eta("eta_1", mu_1, step), _eta("eta_2", mu_2, step)])
        h = self.G_H(torch.cat([mu_1, mu_2]) + eta)
        h_1, h_2 = h.chunk(2)
        step.keep(mu_1=mu_1, mu_2=mu_2)
        if self.config.lambda_recon:
            (x_11, x_21), (x_12, x_22) = self.G_L1(h).chunk(2), self.G_L2(h).chunk(2)
            step.keep(x_11=x_11, x_21=x_21, x_12=x_12, x_22=x_22)
        else:
            step.keep(x_21=self.G_L1(h_2), x_12=self.G_L2(h_1))

    def _check_size(self, height: int, width: int) -> None:
        check_size(height, width, 4 if min(height, width) >= 8 else 8, "UNIT")

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """G_2(z ~ q_1(z | x_1)), or G_1(z ~ q_2(z | x_2)) for target `a`; see `Method.translate`."""
        check_target(target, self.targets)
        self._check_size(*x.shape[2:])
        encoder, generator = (self.E_L1, self.G_L2) if target == "b" else (self.E_L2, self.G_L1)
        z = self.E_H(encoder(x))
        if self.config.sample_at_test:
            code = require_code(code, x, self.code_dim)
            z = z + Noise(content_keys(code)).normal(tuple(z.shape[1:]), z.dtype)
        out: Tensor = generator(self.G_H(z))
        return out

    def generator_networks(self) -> tuple[str, ...]:
        """Encoders and generators, with what they share."""
        return ("E_L1", "E_L2", *(("E_H", "G_H") if self.config.shared_layers else ()), "G_L1", "G_L2")

    def translator_networks(self) -> tuple[str, ...]:
        """Encoders and generators."""
        return self.generator_networks()


def kl(mu: Tensor) -> Tensor:
    """KL(N(mu, I) || N(0, I)) = mu^2 / 2, the mean over elements: (N, ...) -> (N,)."""
    return 0.5 * sample_mean(widen(mu).square())


def _eta(purpose: str, mu: Tensor, step: Step) -> Tensor:
    return step.normal(purpose, *mu.shape[1:])
