"""TI-GAN: unpaired one-sided translation by a GAN alone, kept from ignoring its input by mutual information.

A translator sees the input and a code for all that the input doesn't say. That it might draw from the code alone is
held off by minimising the information between code and output, or by maximising that between input and output.

"Unsupervised one-to-many image translation", under review at ICLR 2019, anonymous; the estimator is MINE (Belghazi et
al. 2018, arXiv:1801.04062).

Notation: x the input, y a real target, xi the code, y_hat = T(x, xi) = G(concat(E(x), F(xi))); S the statistics
networks of Eq. 3, `S_noise` of (xi, y_hat), `S_source` of (x, y_hat).

Deviations and readings:
- The paper gives neither widths, nor the factor of the information (`lambda_mi`), nor the length of xi.
- E halves the image down to 8 pixels, and the U-net one level below its skips (16x16, 8x8, optionally 4x4, of 32x32).
- E, F and G have batch norm, as DCGAN has; the discriminators and statistics networks, spectrally normed, have none.
- With WGAN-GP (appendix A) the critic isn't spectrally normed, since the penalty holds its slope.
- Independent pairs of Eq. 3 are (xi'', T(x, xi)) with xi'' drawn independently, and (x'', T(x, xi)) with x'' the input
  of another sample of the global batch.
- The statistics networks' own update isn't weighted by lambda_mi: Eq. 3 maximises over S whatever the weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from i2idist.data.batches import Batch, Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.losses.adversarial import log_fake, log_real, non_saturating, wasserstein_fake, wasserstein_real
from i2idist.losses.mutual_information import donsker_varadhan
from i2idist.losses.penalty import between, gradient_penalty
from i2idist.method import Adam, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import check_at_least, check_choice, check_equal_sizes, check_target, require_code
from i2idist.nn.dcgan import Critic, NoiseTranslator
from i2idist.nn.init import init_normal
from i2idist.nn.norm import evaluating
from i2idist.nn.spectral import spectrally_normed
from i2idist.nn.statistics import PairStatisticsNetwork, StatisticsNetwork, halvings_to

_SMALLEST = 8
"""Pixels a side at which E stops halving."""
_SKIPS = 2
"""Levels that the U-net's decoder sees where none are set."""


@dataclass(frozen=True, kw_only=True)
class TIGANConfig:
    """TI-GAN's settings; values from section 4.4 unless noted.

    Attributes:
        information: what T adds to the GAN loss: nothing, minimise I(xi; y_hat), or maximise I(x; y_hat) [4.2].
        lambda_mi: weight of the information; "depends on the task".
        report_information: estimate both, whatever T does about them: an I(x; y_hat) near 0 shows a T that ignores x.
        code_dim: length of xi.
        translator: DCGAN-like [4.3], or a U-net [A].
        skips: levels of E that the U-net's decoder sees, 2 or 3 [A]; None: 2. The DCGAN-like one sees none.
        gan: non-saturating with spectral norm, or WGAN-GP [A].
        lambda_gp: weight of WGAN-GP's penalty (Gulrajani et al. 2017).
        critic_steps: updates of WGAN-GP's critic, each on a batch of its own, before one of T (likewise).
        negatives_per_positive: independent codes scored for each true one.
        width: channels of E's first level.
        depth: halvings of the DCGAN-like E; None: down to 8 pixels. The U-net's are its skips and one.
        discriminator_width: channels of the discriminator's first layer.
        statistics_width: channels of the statistics networks' first convolution.
        statistics_hidden: width of their last hidden layer.
        lr: learning rate of all players.
        discriminator_lr: the discriminator's own; None: `lr`.
        statistics_lr: the statistics networks' own; None: `lr`.
        betas: Adam's decay rates, its usual ones.
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0.
        ema: whether a moving average of T is kept for translation.
    """

    information: Literal["none", "min_noise", "max_source"] = "min_noise"
    lambda_mi: float = 1.0
    report_information: bool = False
    code_dim: int = 64
    translator: Literal["dcgan", "unet"] = "dcgan"
    skips: int | None = None
    gan: Literal["non_saturating", "wgan_gp"] = "non_saturating"
    lambda_gp: float = 10.0
    critic_steps: int = 5
    negatives_per_positive: int = 1
    width: int = 64
    depth: int | None = None
    discriminator_width: int = 64
    statistics_width: int = 64
    statistics_hidden: int = 512
    lr: float = 1e-4
    discriminator_lr: float | None = None
    statistics_lr: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    lr_hold: float = 1.0
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("information", self.information, ("none", "min_noise", "max_source"))
        check_choice("translator", self.translator, ("dcgan", "unet"))
        check_choice("gan", self.gan, ("non_saturating", "wgan_gp"))
        check_at_least(0, lambda_mi=self.lambda_mi, lambda_gp=self.lambda_gp)
        check_at_least(1, code_dim=self.code_dim, skips=self.skips, critic_steps=self.critic_steps)
        check_at_least(1, negatives_per_positive=self.negatives_per_positive, width=self.width, depth=self.depth)
        check_at_least(1, discriminator_width=self.discriminator_width, statistics_width=self.statistics_width)
        check_at_least(2, statistics_hidden=self.statistics_hidden)
        unread = {"unet": "depth", "dcgan": "skips"}[self.translator]
        if vars(self)[unread] is not None:
            raise ConfigError(
                f"method.{unread} is {vars(self)[unread]}, but method.translator={self.translator} doesn't read it: "
                f"leave it out, or choose the other translator."
            )

    @property
    def estimates(self) -> tuple[str, ...]:
        """What the statistics networks estimate: the information of y_hat about `noise`, about `source`, or both."""
        if self.report_information:
            return ("noise", "source")
        return {"none": (), "min_noise": ("noise",), "max_source": ("source",)}[self.information]


class TIGAN(Method):
    """TI-GAN: players translator (T), discriminator (D) and statistics (S_noise, S_source)."""

    Config = TIGANConfig
    paper = "Anonymous 2018, Unsupervised one-to-many image translation; MINE: Belghazi et al. (arXiv:1801.04062)"
    config: TIGANConfig

    def __init__(self, config: TIGANConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "TI-GAN")
        a, b = domains.a, domains.b
        self.config = config
        self.code_dim = config.code_dim
        self._size = size = (a.height, a.width)
        unet = config.translator == "unet"
        skips = (config.skips or _SKIPS) if unet else 0
        depth = skips + 1 if unet else config.depth or halvings_to(_SMALLEST, size)
        self.size_multiple = 2**depth
        check_size(*size, self.size_multiple, "TI-GAN's translator")
        self.T = NoiseTranslator(
            a.channels,
            b.channels,
            size=size,
            width=config.width,
            depth=depth,
            code_dim=config.code_dim,
            skips=skips,
        )
        init_normal(self.T)
        self.D = Critic(b.channels, size, width=config.discriminator_width)
        init_normal(self.D)
        if config.gan == "non_saturating":
            spectrally_normed(self.D)
        settings = {"width": config.statistics_width, "hidden": config.statistics_hidden}
        if "noise" in config.estimates:
            self.S_noise = spectrally_normed(StatisticsNetwork(b.channels, size, config.code_dim, **settings))
        if "source" in config.estimates:
            self.S_source = spectrally_normed(PairStatisticsNetwork(a.channels + b.channels, size, **settings))

    @classmethod
    def tiny(cls) -> Mapping[str, TIGANConfig]:
        """Both directions of the information; the U-net with WGAN-GP; the GAN alone."""
        small: dict[str, Any] = {"width": 4, "discriminator_width": 4, "statistics_width": 4, "statistics_hidden": 8}
        small |= {"code_dim": 3, "ema": True}
        return {
            "min_noise": cls.Config(negatives_per_positive=2, report_information=True, **small),
            "unet_wgan_gp": cls.Config(translator="unet", gan="wgan_gp", critic_steps=2, **small),
            "max_source": cls.Config(information="max_source", translator="unet", skips=1, **small),
            "none": cls.Config(information="none", depth=2, **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Two pools."""
        return Unpaired

    def players(self) -> tuple[Player, ...]:
        """Translator and discriminator, and the statistics networks where there are any."""
        config = self.config
        rates = {"discriminator": config.discriminator_lr, "statistics": config.statistics_lr}
        networks: dict[str, tuple[str, ...]] = {"translator": ("T",), "discriminator": ("D",)}
        if config.estimates:
            networks["statistics"] = tuple(f"S_{name}" for name in config.estimates)
        return tuple(
            Player(
                name=name,
                networks=networks[name],
                optimizer=Adam(lr=rates.get(name) or config.lr, betas=config.betas),
                schedule=Schedule(hold=config.lr_hold),
                ema=config.ema and name == "translator",
            )
            for name in networks
        )

    def updates(self) -> tuple[Update, ...]:
        """T hands its fakes to D and S; WGAN-GP's critic goes before, on fakes of its own."""
        translator = Update(player="translator", backward=self.translator_terms)
        statistics = [Update(player="statistics", backward=self.statistics_terms)] if self.config.estimates else []
        if self.config.gan == "wgan_gp":
            critic = Update(player="discriminator", backward=self.critic_terms, repeat=self.config.critic_steps)
            return (critic, translator, *statistics)
        return (translator, Update(player="discriminator", backward=self.discriminator_terms), *statistics)

    def translator_terms(self, step: Step) -> Terms:
        """Eq. 4, non-saturating or Wasserstein, with the information of section 4.2."""
        x, _ = step.both
        xi = step.normal("xi", self.code_dim)
        y_hat = self.T(x, xi)
        step.share(y_hat=y_hat, xi=xi)
        loss = non_saturating if self.config.gan == "non_saturating" else wasserstein_real
        terms = {"gan": loss(self.D(y_hat))}
        if self.config.information == "min_noise":
            terms["mi"] = self._about_noise(xi, y_hat, step)
        if self.config.information == "max_source":
            terms["mi"] = -self._about_source(x, y_hat, step)
        return terms

    def discriminator_terms(self, step: Step) -> Terms:
        """Eq. 4, the discriminator's side."""
        _, y = step.both
        return {"real": log_real(self.D(y)), "fake": log_fake(self.D(step.shared.y_hat))}

    def critic_terms(self, step: Step) -> Terms:
        """WGAN-GP's critic (Gulrajani et al. 2017, Eq. 3); in validation without the penalty, which needs gradients."""
        x, y = step.both
        with torch.no_grad():
            y_hat = self.T(x, step.normal("xi", self.code_dim))
        terms = {"real": wasserstein_real(self.D(y)), "fake": wasserstein_fake(self.D(y_hat))}
        if self.training:
            points = between(y, y_hat, step.uniform("epsilon", 1, 1, 1))
            terms["gp"] = gradient_penalty(self.D(points), points)
        return terms

    def statistics_terms(self, step: Step) -> Terms:
        """Eq. 3: minus the estimates that the statistics networks maximise."""
        x, _ = step.both
        xi, y_hat = step.shared.xi, step.shared.y_hat
        terms = {}
        if "noise" in self.config.estimates:
            terms["noise"] = -self._about_noise(xi, y_hat, step)
        if "source" in self.config.estimates:
            terms["source"] = -self._about_source(x, y_hat, step)
        return terms

    def _about_noise(self, xi: Tensor, y_hat: Tensor, step: Step) -> Tensor:
        """Eq. 3 for I(xi; y_hat): (N, Z), (N, C, H, W) -> (N,), whose mean is the estimate."""
        others = step.normal("xi_independent", self.config.negatives_per_positive, self.code_dim)  # (N, M, Z)
        scores = self.S_noise(y_hat, torch.cat([xi[:, None], others], dim=1))  # (N, 1 + M)
        return donsker_varadhan(scores[:, 0], scores[:, 1:], step.comm.log_mean_exp)

    def _about_source(self, x: Tensor, y_hat: Tensor, step: Step) -> Tensor:
        """Eq. 3 for I(x; y_hat): (N, C, H, W), (N, C', H, W) -> (N,), whose mean is the estimate."""
        joint, marginal = self.S_source(x, y_hat), self.S_source(_of_others(x, step), y_hat)
        return donsker_varadhan(joint, marginal[:, None], step.comm.log_mean_exp)

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """T(x, xi), by the running statistics of its batch norms; see `Method.translate`."""
        check_target(target, self.targets)
        if tuple(x.shape[2:]) != self._size:
            height, width = self._size
            raise SizeError(
                f"This TI-GAN translates images of the size that it was trained on alone, {height}x{width}, not "
                f"{x.shape[2]}x{x.shape[3]}: F's linear layer makes one size."
            )
        with evaluating(self.T):
            y_hat: Tensor = self.T(x, require_code(code, x, self.code_dim))
        return y_hat

    def translator_networks(self) -> tuple[str, ...]:
        """T alone."""
        return ("T",)


def _of_others(x: Tensor, step: Step) -> Tensor:
    """For each sample the input of another one, each serving once: (N, C, H, W) -> the same shape.

    Raises:
        ConfigError: there is no other.
    """
    everyone, positions = step.comm.gather(x), step.comm.gather(step.batch.positions)
    if len(everyone) < 2:
        raise ConfigError("The information about the source is estimated on other samples: raise train.batch_size.")
    order = step.permutation("others", len(everyone))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    mine = (positions == step.batch.positions[:, None]).int().argmax(1)
    return everyone[other[mine]]
