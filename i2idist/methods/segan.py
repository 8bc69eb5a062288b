"""SEGAN: one-to-many translation by maximising the mutual information between latent code and output.

Pix2pix+noise with a statistics network T that estimates I(z; G(a, z)); G is rewarded for making it large. One-sided,
with or without pairs. With lambda_mi = 0 it *is* pix2pix+noise: T is neither made nor trained.

Zuo et al. 2020, "Multimodal Image-to-Image Translation via Mutual Information Estimation and Maximization",
arXiv:2008.03529.

Notation: a the input, b a real target, z the code, b_hat = G(a, z); k = `samples_per_input` codes an input; m =
`negatives_per_positive`.

Deviations and readings:
- G's adversarial loss is non-saturating by default; Eq. 2 is the minimax form, which `generator_loss: minimax` gives.
- Negatives are (z'', G(a, z)) with z'' drawn independently: the product of the marginals of Eq. 7.
- D sees b alone, as in Fig. 1; `condition_d` lets it see (a, b). Its scales are equal networks whose losses are added.
- G and D use instance norm, as BicycleGAN does; the paper doesn't say.
- Resize-convolution is nearest-neighbour enlargement before a 3x3 convolution.
- In the ResNet ablation (Fig. 6) the code steers instance norms, as in the generator it cites (Huang et al. 2018).
- In T the branches are added before their last ELU. Tables 3 and 4 can be read as adding after it, but such a T is a
  sum f(b) + g(z), which can't tell dependent pairs from independent ones.
- T's own update isn't weighted by lambda_mi: Eq. 6 maximises over T whatever the weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from i2idist.data.batches import Batch, Paired, Unpaired
from i2idist.errors import ConfigError
from i2idist.losses.adversarial import log_fake, log_real, minimax, non_saturating, over_scales
from i2idist.losses.mutual_information import donsker_varadhan, jensen_shannon
from i2idist.losses.reconstruction import l1
from i2idist.method import Adam, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import check_at_least, check_choice, check_equal_sizes, check_target, require_code
from i2idist.nn.init import init_normal
from i2idist.nn.patchgan import MultiScalePatchGAN, check_patches
from i2idist.nn.resnet import ResnetGenerator
from i2idist.nn.statistics import StatisticsNetwork
from i2idist.nn.unet import UNet, unet_depth


@dataclass(frozen=True, kw_only=True)
class SEGANConfig:
    """SEGAN's settings; values from "Training details" of the appendix unless noted.

    Attributes:
        paired: whether `b` belongs to `a`; only then is there an L1 term.
        lambda_mi: weight of the mutual information (lambda_1).
        lambda_l1: weight of the L1 term (lambda_2), used with pairs only.
        estimator: of the mutual information: Jensen-Shannon (Eq. 7) or Donsker-Varadhan (Eq. 5).
        samples_per_input: codes drawn for each input of a batch.
        negatives_per_positive: independent codes scored for each true one; more stabilise training.
        code_dim: length of the code.
        generator: U-net, or the ResNet of the ablation.
        upsample: `deconv` at 256x256, `resize` at 128x128 in the paper.
        generator_loss: form of G's adversarial loss.
        condition_d: whether D sees the input beside the output; needs pairs.
        width: channels of G's first layer.
        depth: halvings of the U-net; None: as many as the training size allows, at most 8.
        blocks: residual blocks of the ResNet.
        discriminator_width: channels of D's first layer.
        discriminator_layers: stride-2 layers of D at each scale.
        discriminator_scales: scales of D.
        statistics_width: channels of T's first convolution (Tables 3 and 4).
        statistics_hidden: width of T's last hidden layer (Tables 3 and 4).
        lr: learning rate of all three players.
        betas: Adam's decay rates.
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0.
        ema: whether a moving average of G is kept for translation.
    """

    paired: bool = True
    lambda_mi: float = 1.0
    lambda_l1: float = 3.0
    estimator: Literal["jsd", "dv"] = "jsd"
    samples_per_input: int = 8
    negatives_per_positive: int = 1
    code_dim: int = 8
    generator: Literal["unet", "resnet"] = "unet"
    upsample: Literal["deconv", "resize"] = "deconv"
    generator_loss: Literal["non_saturating", "minimax"] = "non_saturating"
    condition_d: bool = False
    width: int = 64
    depth: int | None = None
    blocks: int = 8
    discriminator_width: int = 64
    discriminator_layers: int = 3
    discriminator_scales: int = 3
    statistics_width: int = 32
    statistics_hidden: int = 1024
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    lr_hold: float = 1.0
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("estimator", self.estimator, ("jsd", "dv"))
        check_choice("generator", self.generator, ("unet", "resnet"))
        check_choice("upsample", self.upsample, ("deconv", "resize"))
        check_choice("generator_loss", self.generator_loss, ("non_saturating", "minimax"))
        check_at_least(0, lambda_mi=self.lambda_mi, lambda_l1=self.lambda_l1)
        check_at_least(1, samples_per_input=self.samples_per_input, negatives_per_positive=self.negatives_per_positive)
        check_at_least(1, code_dim=self.code_dim, width=self.width, depth=self.depth, blocks=self.blocks)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)
        check_at_least(1, discriminator_scales=self.discriminator_scales, statistics_width=self.statistics_width)
        check_at_least(2, statistics_hidden=self.statistics_hidden)
        if self.condition_d and not self.paired:
            raise ConfigError(
                "method.condition_d shows D real pairs, which unpaired data doesn't have: set method.paired."
            )


class SEGAN(Method):
    """SEGAN: players generator (G), discriminator (D) and statistics (T)."""

    Config = SEGANConfig
    paper = (
        "Zuo et al. 2020, Multimodal Translation via Mutual Information Estimation and Maximization (arXiv:2008.03529)"
    )
    config: SEGANConfig

    def __init__(self, config: SEGANConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "SEGAN")
        a, b = domains.a, domains.b
        self.config = config
        self.code_dim = config.code_dim
        check_patches(b.height, b.width, layers=config.discriminator_layers, scales=config.discriminator_scales)
        self.G = self._make_generator(domains)
        self.D = MultiScalePatchGAN(
            a.channels + b.channels if config.condition_d else b.channels,
            scales=config.discriminator_scales,
            width=config.discriminator_width,
            layers=config.discriminator_layers,
        )
        init_normal(self.G)
        init_normal(self.D)
        if config.lambda_mi:
            self.T = StatisticsNetwork(
                b.channels,
                (b.height, b.width),
                config.code_dim,
                width=config.statistics_width,
                hidden=config.statistics_hidden,
            )

    def _make_generator(self, domains: Domains) -> UNet | ResnetGenerator:
        config, a, b = self.config, domains.a, domains.b
        if config.generator == "resnet":
            self.size_multiple = 4
            self._check_size(a.height, a.width)
            return ResnetGenerator(
                a.channels,
                b.channels,
                width=config.width,
                blocks=config.blocks,
                code_dim=config.code_dim,
                upsample=config.upsample,
            )
        depth = config.depth or unet_depth(a.height, a.width)
        self.size_multiple = 2**depth
        self._check_size(a.height, a.width)
        return UNet(
            a.channels,
            b.channels,
            width=config.width,
            depth=depth,
            code_dim=config.code_dim,
            upsample=config.upsample,
        )

    @classmethod
    def tiny(cls) -> Mapping[str, SEGANConfig]:
        """Both estimators, with and without pairs; the resize U-net and the ResNet."""
        small: dict[str, Any] = {"width": 4, "discriminator_width": 4, "discriminator_layers": 1, "statistics_width": 4}
        small |= {"discriminator_scales": 2, "samples_per_input": 2, "statistics_hidden": 16, "code_dim": 3}
        small["ema"] = True
        return {
            "unpaired_jsd": cls.Config(paired=False, depth=2, **small),
            "paired_dv": cls.Config(
                estimator="dv", condition_d=True, upsample="resize", negatives_per_positive=3, depth=1, **small
            ),
            "resnet": cls.Config(paired=False, generator="resnet", blocks=1, generator_loss="minimax", **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Pairs, or two pools."""
        return Paired if config.paired else Unpaired

    def players(self) -> tuple[Player, ...]:
        """Generator, discriminator, and the statistics network where mutual information has a weight."""
        config = self.config
        adam, schedule = Adam(lr=config.lr, betas=config.betas), Schedule(hold=config.lr_hold)
        players = [
            Player(name="generator", networks=("G",), optimizer=adam, schedule=schedule, ema=config.ema),
            Player(name="discriminator", networks=("D",), optimizer=adam, schedule=schedule),
        ]
        if config.lambda_mi:
            players.append(Player(name="statistics", networks=("T",), optimizer=adam, schedule=schedule))
        return tuple(players)

    def updates(self) -> tuple[Update, ...]:
        """G steps first and hands its fakes over to D and T."""
        updates = [
            Update(player="generator", backward=self.generator_terms),
            Update(player="discriminator", backward=self.discriminator_terms),
        ]
        if self.config.lambda_mi:
            updates.append(Update(player="statistics", backward=self.statistics_terms))
        return tuple(updates)

    def generator_terms(self, step: Step) -> Terms:
        """Eq. 8: the adversarial loss, minus the mutual information, and with pairs the L1 distance."""
        a, b = step.both
        k = self.config.samples_per_input
        z = step.normal("z", self.code_dim, per_sample=k)  # (N * k, Z)
        a_each = a.repeat_interleave(k, 0)
        b_hat = self.G(a_each, z)
        step.share(b_hat=b_hat, z=z)
        loss = minimax if self.config.generator_loss == "minimax" else non_saturating
        terms = {"gan": over_scales(loss, self.D(self._seen(a_each, b_hat)))}  # Eq. 2
        if self.config.lambda_mi:
            terms["mi"] = -self._information(b_hat, z, step)  # Eq. 6
        if self.config.paired and self.config.lambda_l1:
            terms["l1"] = l1(b_hat, b.repeat_interleave(k, 0))  # Eq. 3
        return terms

    def discriminator_terms(self, step: Step) -> Terms:
        """Eq. 2: the log loss on real targets and on the generator's fakes."""
        a, b = step.both
        fake = self._seen(a.repeat_interleave(self.config.samples_per_input, 0), step.shared.b_hat)
        return {
            "real": over_scales(log_real, self.D(self._seen(a, b))),
            "fake": over_scales(log_fake, self.D(fake)),
        }

    def statistics_terms(self, step: Step) -> Terms:
        """Eq. 6: minus the estimate that T maximises."""
        return {"bound": -self._information(step.shared.b_hat, step.shared.z, step)}

    def _information(self, b_hat: Tensor, z: Tensor, step: Step) -> Tensor:
        """The estimate of I(z; b_hat), by sample: (N * k, C, H, W), (N * k, Z) -> (N * k,)."""
        k, m = self.config.samples_per_input, self.config.negatives_per_positive
        others = step.normal("z_independent", m, self.code_dim, per_sample=k)  # (N * k, m, Z)
        scores = self.T(b_hat, torch.cat([z[:, None], others], dim=1))  # (N * k, 1 + m)
        joint, marginal = scores[:, 0], scores[:, 1:]
        if self.config.estimator == "dv":
            return donsker_varadhan(joint, marginal, step.comm.log_mean_exp)  # Eq. 5
        return jensen_shannon(joint, marginal)  # Eq. 7

    def _seen(self, a: Tensor, b: Tensor) -> Tensor:
        """What D sees of an input and an output."""
        return torch.cat([a, b], dim=1) if self.config.condition_d else b

    def _check_size(self, height: int, width: int) -> None:
        smallest = max(self.size_multiple, 8)
        multiple = self.size_multiple if min(height, width) >= smallest else smallest
        check_size(height, width, multiple, f"SEGAN's {self.config.generator} generator")

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """b_hat = G(a, z); see `Method.translate`."""
        check_target(target, self.targets)
        self._check_size(*x.shape[2:])
        b_hat: Tensor = self.G(x, require_code(code, x, self.code_dim))
        return b_hat

    def translator_networks(self) -> tuple[str, ...]:
        """G alone."""
        return ("G",)


@dataclass(frozen=True, kw_only=True)
class Pix2PixNoiseConfig(SEGANConfig):
    """SEGAN's settings without the statistics network."""

    lambda_mi: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that can't work, a weight of mutual information among them.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        if self.lambda_mi:
            raise ConfigError(
                f"method.lambda_mi is {self.lambda_mi}: pix2pix_noise is SEGAN with 0. Use the method segan."
            )


class Pix2PixNoise(SEGAN):
    """Pix2pix+noise: SEGAN with lambda_mi = 0, its baseline in Fig. 2."""

    Config = Pix2PixNoiseConfig
    config: Pix2PixNoiseConfig
