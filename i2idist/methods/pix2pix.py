"""Pix2pix: paired translation by a conditional GAN with an L1 term; its only noise is dropout.

Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks", arXiv:1611.07004.

Notation: x the input (a), y its target (b), z the noise: G's dropout masks.

Deviations and readings:
- The paper tests with dropout and with the statistics of the test batch, of size 1. `translate` keys the masks by a
  code of length 1, and normalises by each sample's own statistics, so that an output depends on its input and code
  alone; `statistics_at_test: running` takes the averages of training instead.
- Where b is a label map, G gives its classes' logits: cross-entropy takes L1's place, and D sees softmax of fakes and
  one-hot classes of real ones. A label map as input is one-hot. So is pix2pix a rival of mix-and-match networks, "with
  the corresponding modality-specific losses" (Wang 2020, thesis, section 4.6.2); colours and depths keep L1.
- Below 256x256 the U-net has fewer levels; dropout stays in the three decoder levels after the innermost.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from i2idist.data.batches import Batch, Paired
from i2idist.losses.adversarial import log_fake, log_real, non_saturating
from i2idist.losses.reconstruction import l1
from i2idist.losses.segmentation import pixel_cross_entropy
from i2idist.method import Adam, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import (
    check_at_least,
    check_choice,
    check_equal_sizes,
    check_probability,
    check_target,
    require_code,
)
from i2idist.methods.label_maps import as_networks_see, channels_of, likeliest
from i2idist.nn.init import init_normal
from i2idist.nn.norm import CrossReplicaBatchNorm, evaluating
from i2idist.nn.patchgan import PatchGAN, check_patches
from i2idist.nn.unet import UNet, unet_depth
from i2idist.randomness import Noise, content_keys


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig:
    """Pix2pix's settings; values from sections 3.3 and 6 unless noted.

    Attributes:
        lambda_l1: weight of the L1 term.
        lambda_sem: weight of the cross-entropy, where b is a label map (lambda_S of mix-and-match networks).
        width: channels of G's first layer.
        depth: halvings of the U-net; None: as many as the training size allows, at most 8.
        dropout: probability in G.
        discriminator_width: channels of D's first layer.
        discriminator_layers: stride-2 layers of D.
        statistics_at_test: batch norm's statistics in translation: each `sample`'s own, or the `running` averages.
        lr: learning rate of both players.
        betas: Adam's decay rates.
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0 (reference:
            100 + 100 epochs).
        ema: whether a moving average of G is kept for translation.
    """

    lambda_l1: float = 100.0
    lambda_sem: float = 100.0
    width: int = 64
    depth: int | None = None
    dropout: float = 0.5
    discriminator_width: int = 64
    discriminator_layers: int = 3
    statistics_at_test: Literal["sample", "running"] = "sample"
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    lr_hold: float = 0.5
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("statistics_at_test", self.statistics_at_test, ("sample", "running"))
        check_probability("dropout", self.dropout)
        check_at_least(0, lambda_l1=self.lambda_l1, lambda_sem=self.lambda_sem)
        check_at_least(1, width=self.width, depth=self.depth)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)


class Pix2Pix(Method):
    """Pix2pix: players discriminator (D) and generator (G)."""

    Config = Pix2PixConfig
    paper = "Isola et al. 2017, Image-to-Image Translation with Conditional Adversarial Networks (arXiv:1611.07004)"
    label_maps = True
    config: Pix2PixConfig

    def __init__(self, config: Pix2PixConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "Pix2pix")
        a, b = domains.a, domains.b
        depth = config.depth or unet_depth(a.height, a.width)
        self.config, self.domains = config, domains
        self.code_dim = 1 if config.dropout else 0
        self.size_multiple = 2**depth
        check_size(a.height, a.width, self.size_multiple, "Pix2pix")
        check_patches(b.height, b.width, layers=config.discriminator_layers)
        norm = functools.partial(CrossReplicaBatchNorm, at_test=config.statistics_at_test)
        self.G = UNet(
            channels_of(a),
            channels_of(b),
            width=config.width,
            depth=depth,
            norm=norm,
            norm_bias=False,
            dropout=config.dropout,
            bounded=not b.classes,
        )
        self.D = PatchGAN(
            channels_of(a) + channels_of(b),
            width=config.discriminator_width,
            layers=config.discriminator_layers,
            norm=norm,
            norm_bias=False,
        )
        init_normal(self.G)
        init_normal(self.D)

    @classmethod
    def tiny(cls) -> Mapping[str, Pix2PixConfig]:
        """Both kinds of statistics at test, with and without dropout."""
        small: dict[str, Any] = {"width": 4, "discriminator_width": 4, "discriminator_layers": 2, "depth": 3}
        return {
            "dropout": cls.Config(ema=True, **small),
            "running": cls.Config(dropout=0.0, statistics_at_test="running", **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Pairs."""
        return Paired

    def players(self) -> tuple[Player, ...]:
        """Discriminator and generator."""
        config = self.config
        adam, schedule = Adam(lr=config.lr, betas=config.betas), Schedule(hold=config.lr_hold)
        return (
            Player(name="discriminator", networks=("D",), optimizer=adam, schedule=schedule),
            Player(name="generator", networks=("G",), optimizer=adam, schedule=schedule, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """D steps first, on fakes whose graph G then uses."""
        return (
            Update(player="discriminator", backward=self.discriminator_terms),
            Update(player="generator", backward=self.generator_terms),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """Eq. 1 halved (section 3.3: D learns at half the rate)."""
        x, y = self._both(step)
        y_hat = self.G(x, None, step.noise("z"))
        fake = torch.cat([x, y_hat.softmax(1) if self.domains.b.classes else y_hat], dim=1)
        step.keep(y_hat=y_hat, fake=fake)
        return {
            "fake": 0.5 * log_fake(self.D(fake.detach())),
            "real": 0.5 * log_real(self.D(torch.cat([x, y], dim=1))),
        }

    def generator_terms(self, step: Step) -> Terms:
        """Eq. 4: the adversarial loss, in its non-saturating form (section 3.3), and the L1 distance (Eq. 3)."""
        _, y = self._both(step)
        gan, y_hat = non_saturating(self.D(step.shared.fake)), step.shared.y_hat
        if self.domains.b.classes:
            return {"gan": gan, "sem": pixel_cross_entropy(y_hat, y)}
        return {"gan": gan, "l1": l1(y_hat, y)}

    def _both(self, step: Step) -> tuple[Tensor, Tensor]:
        x, y = step.both
        return as_networks_see(x, self.domains.a), as_networks_see(y, self.domains.b)

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """G(x) with dropout masks drawn by the code; see `Method.translate`."""
        check_target(target, self.targets)
        check_size(x.shape[2], x.shape[3], self.size_multiple, "Pix2pix")
        noise = Noise(content_keys(require_code(code, x, 1))) if self.config.dropout else None
        with evaluating(self.G):
            y_hat: Tensor = self.G(as_networks_see(x, self.domains.a), None, noise)
        return likeliest(y_hat) if self.domains.b.classes else y_hat

    def translator_networks(self) -> tuple[str, ...]:
        """G alone."""
        return ("G",)
