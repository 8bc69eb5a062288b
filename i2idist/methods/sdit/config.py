"""SDIT's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from i2idist.errors import ConfigError
from i2idist.methods.checks import check_at_least, check_choice

WEIGHTINGS = {"thesis": {"lat": 10.0, "rec": 800.0}, "author": {"lat": 800.0, "rec": 10.0}}
"""Both published weightings of code and image reconstruction."""


@dataclass(frozen=True, kw_only=True)
class SDITConfig:
    """SDIT's settings; values from section 6.4 of the thesis unless noted.

    Attributes:
        weighting: where lambda_lat and lambda_rec come from, unless they are set: the thesis, or its author's later
            word.
        lambda_gan: weight of the adversarial loss, in both players.
        lambda_fake: weight of the classification of translations.
        lambda_real: weight of the classification of real images.
        lambda_lat: weight of code reconstruction; 0 leaves it out, and D's branch.
        lambda_rec: weight of image reconstruction.
        lambda_gp: weight of the gradient penalty, with `gan: wgan_gp` (public code).
        gan: log loss (Eq. 6.1), or the public code's critic.
        critic_steps: updates of D for each of G, each on a new batch; the public code takes 5.
        attributes: which attributes of the data to translate between; empty: the data has classes.
        attention: whether outputs differ from inputs only where T^a says so [6.3.3]; off for scenes [6.5.4].
        cin: what the code steers: `both` gamma and beta, one alone (Fig. 6.6), or `none`: no code.
        cin_blocks: how many of T^c's blocks the code steers.
        code_dim: length of the code.
        width: channels of E's first layer.
        blocks: residual blocks in each of E, T^c and T^a.
        hidden: width of M's hidden layer.
        discriminator_width: channels of D's first layer.
        discriminator_layers: stride-2 layers of D.
        statistics_at_test: instance norm's statistics in translation: each `sample`'s own, or the `running` averages.
        lr: learning rate of both players.
        betas: Adam's decay rates.
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0.
        ema: whether moving averages of E, G and M are kept for translation.
    """

    weighting: Literal["thesis", "author"] = "thesis"
    lambda_gan: float = 10.0
    lambda_fake: float = 1.0
    lambda_real: float = 1.0
    lambda_lat: float | None = None
    lambda_rec: float | None = None
    lambda_gp: float = 10.0
    gan: Literal["log", "wgan_gp"] = "log"
    critic_steps: int = 1
    attributes: tuple[str, ...] = ()
    attention: bool = True
    cin: Literal["both", "gamma", "beta", "none"] = "both"
    cin_blocks: int = 4
    code_dim: int = 8
    width: int = 64
    blocks: int = 6
    hidden: int = 256
    discriminator_width: int = 64
    discriminator_layers: int = 6
    statistics_at_test: Literal["sample", "running"] = "sample"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    lr_hold: float = 1.0
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("weighting", self.weighting, tuple(WEIGHTINGS))
        check_choice("gan", self.gan, ("log", "wgan_gp"))
        check_choice("cin", self.cin, ("both", "gamma", "beta", "none"))
        check_choice("statistics_at_test", self.statistics_at_test, ("sample", "running"))
        check_at_least(0, lambda_gan=self.lambda_gan, lambda_fake=self.lambda_fake, lambda_real=self.lambda_real)
        check_at_least(0, lambda_lat=self.lambda_lat, lambda_rec=self.lambda_rec, lambda_gp=self.lambda_gp)
        check_at_least(1, critic_steps=self.critic_steps, cin_blocks=self.cin_blocks, code_dim=self.code_dim)
        check_at_least(1, width=self.width, blocks=self.blocks, hidden=self.hidden)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)
        if self.cin_blocks > self.blocks:
            raise ConfigError(
                f"method.cin_blocks is {self.cin_blocks}, but T^c has {self.blocks} residual blocks: raise "
                "method.blocks or steer fewer."
            )
