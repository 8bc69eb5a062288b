"""DRIT's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from i2idist.methods.checks import check_at_least, check_choice


@dataclass(frozen=True, kw_only=True)
class DRITConfig:
    """DRIT's settings; values from section 4 of the paper, those of networks from the reference.

    Attributes:
        lambda_content: weight of deceiving D_c.
        lambda_cross_cycle: weight of cross-cycle consistency (section 3.2).
        lambda_reconstruction: weight of self-reconstruction (section 3.3).
        lambda_kl: weight of the attributes' divergence from N(0, I), summed over the code.
        lambda_content_l2: weight of content's mean square (reference).
        lambda_latent: weight of the latent regression.
        generator: takes the attribute by `concatenation`, for changes of colour and texture, or by `feature_wise`
            transformation, for changes of shape.
        separate_latent_step: whether the terms of drawn attributes make a step of their own.
        content_steps: steps of D_c, each on a new batch, for one of the others.
        code_dim: length of the attribute code.
        width: channels of E_c's first layer; content has 4 * width.
        blocks: residual blocks of each domain's content encoder and generator.
        attribute_width: channels of E_a's first layer.
        attribute_levels: halvings of E_a.
        discriminator_width: channels of the first layer of D and D2.
        discriminator_layers: stride-2 layers of D and D2 at each scale.
        discriminator_scales: scales of D and D2.
        init_std: deviation of initial weights; 0.02 suits the default widths, narrower networks need more.
        lr: learning rate of all players but D_c.
        content_lr: learning rate of D_c.
        content_clip: largest norm of D_c's gradient.
        betas: Adam's decay rates.
        weight_decay: of all players.
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0.
        ema: whether moving averages of the encoders and G are kept for translation.
    """

    lambda_content: float = 1.0
    lambda_cross_cycle: float = 10.0
    lambda_reconstruction: float = 10.0
    lambda_kl: float = 0.01
    lambda_content_l2: float = 0.01
    lambda_latent: float = 10.0
    generator: Literal["concatenation", "feature_wise"] = "concatenation"
    separate_latent_step: bool = False
    content_steps: int = 3
    code_dim: int = 8
    width: int = 64
    blocks: int = 3
    attribute_width: int = 64
    attribute_levels: int = 4
    discriminator_width: int = 64
    discriminator_layers: int = 4
    discriminator_scales: int = 3
    init_std: float = 0.02
    lr: float = 1e-4
    content_lr: float = 4e-5
    content_clip: float = 5.0
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-4
    lr_hold: float = 0.5
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("generator", self.generator, ("concatenation", "feature_wise"))
        check_at_least(0, lambda_content=self.lambda_content, lambda_cross_cycle=self.lambda_cross_cycle)
        check_at_least(0, lambda_reconstruction=self.lambda_reconstruction, lambda_kl=self.lambda_kl)
        check_at_least(0, lambda_content_l2=self.lambda_content_l2, lambda_latent=self.lambda_latent)
        check_at_least(1, content_steps=self.content_steps, code_dim=self.code_dim, width=self.width)
        check_at_least(1, blocks=self.blocks, attribute_width=self.attribute_width)
        check_at_least(1, attribute_levels=self.attribute_levels, discriminator_width=self.discriminator_width)
        check_at_least(1, discriminator_layers=self.discriminator_layers)
        check_at_least(1, discriminator_scales=self.discriminator_scales)
