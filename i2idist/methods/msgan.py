"""MSGAN: pix2pix+noise, or DRIT, whose codes must move their outputs: the mode seeking term.

Mao et al. 2019, "Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis", arXiv:1903.05628.

Notation: c the input (a), z_1 and z_2 two codes, G(c, z) the output; x the target (b). `MSGANDRIT` is in DRIT's
notation.

Deviations and readings:
- The adversarial loss sums over the two outputs of an input, and the L1 term takes the first alone (reference).
- On DRIT, D2 judges the images of both codes, and the latent regression takes the first alone (reference).
- The ratio of distances is each input's own, as in the paper; the reference's is that of a batch's means, which is the
  same at its batch size of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from i2idist.data.batches import Batch, Paired
from i2idist.losses.adversarial import multiscale_fake, multiscale_real
from i2idist.losses.mode_seeking import mode_seeking
from i2idist.losses.reconstruction import l1
from i2idist.method import Adam, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import check_at_least, check_choice, check_equal_sizes, check_target, require_code
from i2idist.methods.drit import DRIT, DRITConfig
from i2idist.nn.init import init_xavier
from i2idist.nn.patchgan import MultiScalePatchGAN, check_patches
from i2idist.nn.unet import UNet, unet_depth


@dataclass(frozen=True, kw_only=True)
class MSGANConfig:
    """MSGAN's settings; those of the reference, which has BicycleGAN's networks, unless noted.

    Attributes:
        lambda_mode_seeking: weight of the mode seeking term (section 3.2).
        lambda_l1: weight of the L1 term.
        code_dim: length of the code.
        upsample: how G doubles sizes.
        width: channels of G's first layer.
        depth: halvings of the U-net; None: as many as the training size allows, at most 8.
        discriminator_width: channels of the first layer of D at full size, halved at each smaller one.
        discriminator_layers: stride-2 layers of D at each scale.
        discriminator_scales: scales of D.
        init_gain: of the initial weights, Xavier's.
        lr: learning rate of both players.
        betas: Adam's decay rates.
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0.
        ema: whether a moving average of G is kept for translation.
    """

    lambda_mode_seeking: float = 1.0
    lambda_l1: float = 10.0
    code_dim: int = 8
    upsample: Literal["deconv", "resize"] = "deconv"
    width: int = 64
    depth: int | None = None
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
        check_at_least(0, lambda_mode_seeking=self.lambda_mode_seeking, lambda_l1=self.lambda_l1)
        check_at_least(1, code_dim=self.code_dim, width=self.width, depth=self.depth)
        check_at_least(1, discriminator_layers=self.discriminator_layers)
        check_at_least(1, discriminator_scales=self.discriminator_scales)
        check_at_least(2 ** (self.discriminator_scales - 1), discriminator_width=self.discriminator_width)


class MSGAN(Method):
    """MSGAN on pix2pix+noise: players generator (G) and discriminator (D)."""

    Config = MSGANConfig
    paper = "Mao et al. 2019, Mode Seeking Generative Adversarial Networks (arXiv:1903.05628)"
    config: MSGANConfig

    def __init__(self, config: MSGANConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "MSGAN")
        a, b = domains.a, domains.b
        depth = config.depth or unet_depth(a.height, a.width)
        self.config = config
        self.code_dim = config.code_dim
        self.size_multiple = 2**depth
        check_size(a.height, a.width, self.size_multiple, "MSGAN")
        check_patches(b.height, b.width, layers=config.discriminator_layers, scales=config.discriminator_scales)
        self.G = UNet(
            a.channels,
            b.channels,
            width=config.width,
            depth=depth,
            code_dim=config.code_dim,
            upsample=config.upsample,
        )
        self.D = MultiScalePatchGAN(
            a.channels + b.channels,
            scales=config.discriminator_scales,
            width=config.discriminator_width,
            layers=config.discriminator_layers,
            narrowing=True,
        )
        init_xavier(self.G, config.init_gain)
        init_xavier(self.D, config.init_gain)

    @classmethod
    def tiny(cls) -> Mapping[str, MSGANConfig]:
        """Both ways to double sizes."""
        small: dict[str, Any] = {"width": 4, "discriminator_width": 8, "discriminator_layers": 1, "depth": 2}
        small |= {"code_dim": 3, "init_gain": 1.0}
        return {"deconv": cls.Config(ema=True, **small), "resize": cls.Config(upsample="resize", **small)}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Pairs."""
        return Paired

    def players(self) -> tuple[Player, ...]:
        """Generator and discriminator."""
        config = self.config
        adam, schedule = Adam(lr=config.lr, betas=config.betas), Schedule(hold=config.lr_hold)
        return (
            Player(name="generator", networks=("G",), optimizer=adam, schedule=schedule, ema=config.ema),
            Player(name="discriminator", networks=("D",), optimizer=adam, schedule=schedule),
        )

    def updates(self) -> tuple[Update, ...]:
        """G steps first and hands its fakes over."""
        return (
            Update(player="generator", backward=self.generator_terms),
            Update(player="discriminator", backward=self.discriminator_terms),
        )

    def generator_terms(self, step: Step) -> Terms:
        """L_ori + lambda_ms L_ms (section 3.2), L_ori being pix2pix's with least squares."""
        c, x = step.both
        z_1, z_2 = step.normal("z", 2, self.code_dim).unbind(1)
        twice = torch.cat([c, c])
        both = self.G(twice, torch.cat([z_1, z_2]))  # (2 N, C, H, W)
        fake = torch.cat([twice, both], dim=1)
        step.share(fake=fake)
        x_1, x_2 = both.chunk(2)
        return {
            "gan": 2 * multiscale_real(self.D(fake)),
            "l1": l1(x_1, x),
            "mode_seeking": mode_seeking(x_1, x_2, z_1, z_2),
        }

    def discriminator_terms(self, step: Step) -> Terms:
        """Pix2pix's loss with least squares, the two outputs of an input each against the target."""
        c, x = step.both
        return {
            "real": 2 * multiscale_real(self.D(torch.cat([c, x], dim=1))),
            "fake": 2 * multiscale_fake(self.D(step.shared.fake)),
        }

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """G(c, z); see `Method.translate`."""
        check_target(target, self.targets)
        check_size(x.shape[2], x.shape[3], self.size_multiple, "MSGAN")
        y: Tensor = self.G(x, require_code(code, x, self.code_dim))
        return y

    def translator_networks(self) -> tuple[str, ...]:
        """G alone."""
        return ("G",)


@dataclass(frozen=True, kw_only=True)
class MSGANDRITConfig(DRITConfig):
    """DRIT's settings and the weight of the mode seeking term."""

    lambda_mode_seeking: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        check_at_least(0, lambda_mode_seeking=self.lambda_mode_seeking)


class MSGANDRIT(DRIT):
    """MSGAN on DRIT: two attributes are drawn for each image, and its two translations kept apart."""

    Config = MSGANDRITConfig
    paper = MSGAN.paper
    codes = 2
    config: MSGANDRITConfig

    @classmethod
    def tiny(cls) -> Mapping[str, MSGANDRITConfig]:
        """DRIT's first, since generators don't matter here."""
        first, config = next(iter(super().tiny().items()))
        return {first: cls.Config(**vars(config))}

    def drawn_terms(self, drawn_a: Tensor, drawn_b: Tensor, z: Tensor) -> Terms:
        """DRIT's, and L_ms (section 3.2) in both directions."""
        codes = z.chunk(2)
        apart = mode_seeking(*drawn_a.chunk(2), *codes) + mode_seeking(*drawn_b.chunk(2), *codes)
        return {**super().drawn_terms(drawn_a, drawn_b, z), "mode_seeking": apart}
