"""BicycleGAN: paired one-to-many translation whose codes and outputs determine each other.

A conditional VAE-GAN (B -> z -> B_hat) and a conditional latent regressor (z -> B_hat -> z_hat) share G and E.
Zhu et al. 2017, "Toward Multimodal Image-to-Image Translation", arXiv:1711.11586.

Notation: A the input (a), B its target (b), z the code, E the encoder of B, G(A, z) the output, as in the paper; D
judges outputs with encoded codes, D2 those with drawn ones.

Deviations and readings:
- Of each two samples the first is encoded and translated; the second's B alone is used, as D2's real image (reference).
- D and D2 don't see A, as in the reference; `condition_d` shows it to them, as in the paper's equations.
- The latent term compares z with E's mean, and doesn't train E (reference). E is frozen inside that term, so that one
  backward pass serves all terms; the reference goes back through G twice for the same gradient.
- `dropout` is pix2pix's, of which the paper says nothing: the reference's training scripts turn it on. Translation has
  none, so that an output depends on its input and code alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from i2idist.data.batches import Batch, Paired
from i2idist.losses.adversarial import multiscale_fake, multiscale_real
from i2idist.losses.latent import kl_to_standard_normal
from i2idist.losses.reconstruction import l1
from i2idist.method import Adam, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import (
    check_at_least,
    check_choice,
    check_encoded,
    check_equal_sizes,
    check_probability,
    check_style,
    check_target,
    require_code,
)
from i2idist.nn.frozen import frozen
from i2idist.nn.init import init_xavier
from i2idist.nn.norm import InstanceNorm
from i2idist.nn.patchgan import MultiScalePatchGAN, check_patches
from i2idist.nn.resnet_encoder import ResnetEncoder
from i2idist.nn.unet import UNet, unet_depth
from i2idist.randomness import Noise


@dataclass(frozen=True, kw_only=True)
class BicycleGANConfig:
    """BicycleGAN's settings; values from section 4 of the paper, "reference" where it leaves them open.

    Attributes:
        lambda_l1: weight of the L1 distance of an output with its target's code.
        lambda_kl: weight of the codes' divergence from N(0, I), summed over the code.
        lambda_latent: weight of the L1 distance of a code and the code of its output.
        code_dim: length of the code.
        condition_d: whether D and D2 see the input beside the output.
        same_d: whether D judges outputs with drawn codes too, instead of D2.
        dropout: probability in G, in training alone; 0.5 in the reference's scripts.
        upsample: how G doubles sizes.
        width: channels of G's first layer.
        depth: halvings of the U-net; None: as many as the training size allows, at most 8.
        encoder_width: channels of E's first layer.
        encoder_levels: halvings of E; None: 5 from 256 pixels on, 4 below.
        discriminator_width: channels of the first layer of D at full size, halved at each smaller one (reference).
        discriminator_layers: stride-2 layers of D at each scale.
        discriminator_scales: scales of D.
        init_gain: of the initial weights, Xavier's (reference).
        lr: learning rate of both players.
        betas: Adam's decay rates.
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0 (reference).
        ema: whether moving averages of G and E are kept for translation.
    """

    lambda_l1: float = 10.0
    lambda_kl: float = 0.01
    lambda_latent: float = 0.5
    code_dim: int = 8
    condition_d: bool = False
    same_d: bool = False
    dropout: float = 0.0
    upsample: Literal["deconv", "resize"] = "deconv"
    width: int = 64
    depth: int | None = None
    encoder_width: int = 64
    encoder_levels: int | None = None
    discriminator_width: int = 64
    discriminator_layers: int = 3
    discriminator_scales: int = 2
    init_gain: float = 0.02
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    lr_hold: float = 0.5
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("upsample", self.upsample, ("deconv", "resize"))
        check_probability("dropout", self.dropout)
        check_at_least(0, lambda_l1=self.lambda_l1, lambda_kl=self.lambda_kl, lambda_latent=self.lambda_latent)
        check_at_least(1, code_dim=self.code_dim, width=self.width, depth=self.depth)
        check_at_least(1, encoder_width=self.encoder_width, encoder_levels=self.encoder_levels)
        check_at_least(1, discriminator_layers=self.discriminator_layers)
        check_at_least(1, discriminator_scales=self.discriminator_scales)
        check_at_least(2 ** (self.discriminator_scales - 1), discriminator_width=self.discriminator_width)


class BicycleGAN(Method):
    """BicycleGAN: players generator (G, E) and discriminator (D, D2)."""

    Config = BicycleGANConfig
    paper = "Zhu et al. 2017, Toward Multimodal Image-to-Image Translation (arXiv:1711.11586)"
    group_size = 2
    config: BicycleGANConfig

    def __init__(self, config: BicycleGANConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "BicycleGAN")
        a, b = domains.a, domains.b
        depth = config.depth or unet_depth(a.height, a.width)
        self.config = config
        self.code_dim = config.code_dim
        self.size_multiple = 2**depth
        check_size(a.height, a.width, self.size_multiple, "BicycleGAN")
        check_patches(b.height, b.width, layers=config.discriminator_layers, scales=config.discriminator_scales)
        self.G = UNet(
            a.channels,
            b.channels,
            width=config.width,
            depth=depth,
            code_dim=config.code_dim,
            upsample=config.upsample,
            dropout=config.dropout,
        )
        self._levels = config.encoder_levels or (5 if min(b.height, b.width) >= 256 else 4)
        check_encoded((b.height, b.width), self._levels, "encoder_levels")
        self._channels = b.channels
        self.E = ResnetEncoder(
            b.channels,
            width=config.encoder_width,
            levels=self._levels,
            code_dim=config.code_dim,
            norm=InstanceNorm,
        )
        self.D = self._make_discriminator(domains)
        if not config.same_d:
            self.D2 = self._make_discriminator(domains)
        for _, network in self.networks():
            init_xavier(network, config.init_gain)

    def _make_discriminator(self, domains: Domains) -> MultiScalePatchGAN:
        config = self.config
        return MultiScalePatchGAN(
            domains.b.channels + (domains.a.channels if config.condition_d else 0),
            scales=config.discriminator_scales,
            width=config.discriminator_width,
            layers=config.discriminator_layers,
            narrowing=True,
        )

    @classmethod
    def tiny(cls) -> Mapping[str, BicycleGANConfig]:
        """Two discriminators that see outputs alone; one that sees inputs too, and the resize U-net."""
        small: dict[str, Any] = {"width": 4, "encoder_width": 4, "discriminator_width": 8, "discriminator_layers": 1}
        small |= {"code_dim": 3, "depth": 2, "encoder_levels": 3, "init_gain": 1.0}
        return {
            "two_discriminators": cls.Config(ema=True, **small),
            "one_conditional": cls.Config(
                same_d=True, condition_d=True, upsample="resize", dropout=0.5, **{**small, "depth": 3}
            ),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Pairs."""
        return Paired

    def players(self) -> tuple[Player, ...]:
        """G with E, D with D2."""
        config = self.config
        adam, schedule = Adam(lr=config.lr, betas=config.betas), Schedule(hold=config.lr_hold)
        judges = ("D",) if config.same_d else ("D", "D2")
        return (
            Player(name="generator", networks=("G", "E"), optimizer=adam, schedule=schedule, ema=config.ema),
            Player(name="discriminator", networks=judges, optimizer=adam, schedule=schedule),
        )

    def updates(self) -> tuple[Update, ...]:
        """G and E step first and hand their fakes over."""
        return (
            Update(player="generator", backward=self.generator_terms),
            Update(player="discriminator", backward=self.discriminator_terms),
        )

    def generator_terms(self, step: Step) -> Terms:
        """Section 3.4: the terms of cVAE-GAN (section 3.2), and those of cLR-GAN (section 3.3), without "_latent"."""
        a, b, _, _ = _halves(step)
        noise, z = step.normal("z", 2, self.code_dim)[::2].unbind(1)
        mean, log_variance = self.E(b)
        z_encoded = mean + noise * torch.exp(0.5 * log_variance)
        b_encoded, b_drawn = self.G(torch.cat([a, a]), torch.cat([z_encoded, z]), self._dropout(step)).chunk(2)
        step.share(b_encoded=b_encoded, b_drawn=b_drawn)
        with frozen(self.E):
            z_again, _ = self.E(b_drawn)
        return {
            "gan": multiscale_real(self.D(self._seen(a, b_encoded))),
            "l1": l1(b_encoded, b),
            "kl": kl_to_standard_normal(mean, log_variance),
            "gan_drawn": multiscale_real(self._D2(self._seen(a, b_drawn))),
            "latent": l1(z_again, z),
        }

    def discriminator_terms(self, step: Step) -> Terms:
        """Sections 3.2 and 3.3 with least squares: D against encoded codes, D2 against drawn ones."""
        a, b, a_other, b_other = _halves(step)
        b_encoded, b_drawn = step.shared.b_encoded, step.shared.b_drawn
        return {
            "real": multiscale_real(self.D(self._seen(a, b))),
            "fake": multiscale_fake(self.D(self._seen(a, b_encoded))),
            "real_drawn": multiscale_real(self._D2(self._seen(a_other, b_other))),
            "fake_drawn": multiscale_fake(self._D2(self._seen(a, b_drawn))),
        }

    def _dropout(self, step: Step) -> Noise | None:
        """Masks for the encoded samples' outputs, then for the drawn ones', which take the keys of the others."""
        if not self.config.dropout:
            return None
        samples = torch.arange(len(step.batch.positions), device=step.batch.positions.device)
        return step.noise("dropout").of(torch.cat([samples[::2], samples[1::2]]))

    def _D2(self, seen: Tensor) -> tuple[Tensor, ...]:
        logits: tuple[Tensor, ...] = (self.D if self.config.same_d else self.D2)(seen)
        return logits

    def _seen(self, a: Tensor, b: Tensor) -> Tensor:
        """What a discriminator sees of an input and an output."""
        return torch.cat([a, b], dim=1) if self.config.condition_d else b

    def translate(
        self, x: Tensor, code: Tensor | None = None, *, target: str = "b", style_from: Tensor | None = None
    ) -> Tensor:
        """G(A, z), with z the mean that E gives of `style_from`, (C', H', W'), where there is one."""
        check_target(target, self.targets)
        check_size(x.shape[2], x.shape[3], self.size_multiple, "BicycleGAN")
        if style_from is None:
            z = require_code(code, x, self.code_dim)
        else:
            check_style(style_from, self._channels, 2**self._levels)
            z = self.E(style_from[None].to(x))[0].expand(len(x), -1)
        b_hat: Tensor = self.G(x, z)
        return b_hat

    def translator_networks(self) -> tuple[str, ...]:
        """G, and E for styles."""
        return ("G", "E")


def _halves(step: Step) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs and targets of the samples that are encoded, then of the others: (N / 2, C, H, W) each."""
    batch = step.batch
    assert isinstance(batch, Paired)
    return batch.a[::2], batch.b[::2], batch.a[1::2], batch.b[1::2]
