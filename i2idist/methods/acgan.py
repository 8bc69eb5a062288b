"""AC-GAN: WGAN-GP for images of classes, which the generator is told and the discriminator tells apart.

Odena et al. 2017, "Conditional Image Synthesis with Auxiliary Classifier GANs", arXiv:1610.09585, with WGAN-GP's loss
and networks, as in Wang et al. 2018, arXiv:1805.01677 (Wang's thesis, section 2.4.1, whose equations are cited).

Notation: as in `wgan_gp`; y the class of a real image, y' that of a fake; P(C = y | x) the auxiliary classifier;
alpha_D is `lambda_class_D`, alpha_G `lambda_class_G`.

Deviations and readings:
- The networks are WGAN-GP's residual ones, of four blocks, for the "Resnet-18" of section 2.4.1.
- The class enters G alone: appended to z (`concat`, "Cond Concat"), or by a scale and shift of batch norm for each
  class (`bnorm`, "Cond BNorm", the thesis's choice after Fig. 2.5).
- P learns from real images alone, as Eq. 2.8 says; Odena et al. let it learn from fakes, too.
- Samples without a target take the classes in turn: the thesis generates them uniformly (section 2.4.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from i2idist.data.batches import Batch, Labelled
from i2idist.method import Domains
from i2idist.methods.checks import check_at_least, check_choice
from i2idist.methods.labels import Labels
from i2idist.methods.wgan_gp import WGANGP, WGANGPConfig
from i2idist.nn.resnet_gan import Condition


@dataclass(frozen=True, kw_only=True)
class ACGANConfig(WGANGPConfig):
    """AC-GAN's settings beside WGAN-GP's; sections of the thesis in brackets.

    Attributes:
        condition: how classes enter G: `concat` or `bnorm` [2.4.1].
        lambda_class_D: alpha_D, the weight of classification in D [Eq. 2.8].
        lambda_class_G: alpha_G, its weight in G [Eq. 2.7].
    """

    condition: Condition = "bnorm"
    conditions: ClassVar[tuple[str, ...]] = ("concat", "bnorm")
    lambda_class_D: float = 1.0
    lambda_class_G: float = 0.1

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        check_choice("condition", self.condition, self.conditions)
        check_at_least(0, lambda_class_D=self.lambda_class_D, lambda_class_G=self.lambda_class_G)


class ACGAN(WGANGP):
    """AC-GAN: players discriminator (D, with its classifier) and generator (G)."""

    Config = ACGANConfig
    paper = "Odena et al. 2017, Conditional Image Synthesis with Auxiliary Classifier GANs (arXiv:1610.09585)"
    config: ACGANConfig

    def make_networks(self, domains: Domains, condition: Condition = "none") -> None:
        """Make G and D for the classes of `domains`.

        Raises:
            ConfigError: there are no classes.
            SizeError: the size doesn't suit the networks.
        """
        self.labels = Labels.of(domains, ())
        self.targets = self.labels.names
        super().make_networks(domains, self.config.condition)

    @classmethod
    def tiny(cls) -> Mapping[str, ACGANConfig]:
        """Both ways in which classes enter."""
        small: dict[str, Any] = {"latent_dim": 4, "blocks": 2, "width": 4, "critic_steps": 2}
        return {"bnorm": cls.Config(**small), "concat": cls.Config(condition="concat", **small)}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images with classes."""
        return Labelled
