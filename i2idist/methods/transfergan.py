"""TransferGAN: a GAN for few images that starts from the networks of one that was trained on many.

Wang et al. 2018, "Transferring GANs: generating images from limited data", arXiv:1805.01677; sections, equations and
tables are those of Wang's thesis (chapter 2, appendix A.1). The GAN is WGAN-GP, or with classes AC-GAN.

What a recipe names as sources is what is transferred, each by the URI of a registered model, a run or a checkpoint; the
four configurations of Table 2.1 are `{}`, either alone, and both:

    sources: {generator: models:/celeba-gan@champion, discriminator: models:/celeba-gan@champion}

Notation: as in `wgan_gp` and `acgan`.

Deviations and readings:
- With classes, G starts from one without (section 2.4.1): weights that read an appended class are random (`concat`),
  batch norm's scales and shifts are copied to every class (`bnorm`). D's classifier is new.
- From a conditional source the thesis transfers with the target's labels where the source knows them, and without any
  where it doesn't (section 3.4.2, Table 3.2), and is silent on how. Here weights of a class (batch norm's, and those
  that read an appended one) come from the source's class of the same name; for a class that it doesn't know, and
  without labels, they are the mean over its classes. D's classifier is new unless it tells the same classes apart.
  Where the source's labels aren't known, as of a checkpoint, equally many are taken for the same.
- Adam starts anew; batch norm's running averages come along.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from i2idist.data.batches import Batch, Images
from i2idist.method import Described, Domains, Player
from i2idist.methods.acgan import ACGAN, ACGANConfig
from i2idist.methods.checks import check_at_least
from i2idist.methods.wgan_gp import WGANGP
from i2idist.nn.resnet_gan import Condition


@dataclass(frozen=True, kw_only=True)
class TransferGANConfig(ACGANConfig):
    """TransferGAN's settings; sections of the thesis in brackets. The networks' must be those of the sources.

    Attributes:
        condition: how classes enter G: not at all (`none`), `concat` or `bnorm` [2.4.1].
        small_lr: the learning rate for small targets, in place of `lr` [2.3.3].
        small_target: a target of so many images is small [2.3.3].
        source_labels: the labels of each source; filled in from the recipe's `sources` when a run is created.
    """

    condition: Condition = "none"
    conditions: ClassVar[tuple[str, ...]] = ("none", *ACGANConfig.conditions)
    small_lr: float = 1e-5
    small_target: int = 1000
    source_labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        check_at_least(0, small_target=self.small_target)


class TransferGAN(ACGAN):
    """TransferGAN: players discriminator (D) and generator (G)."""

    Config = TransferGANConfig
    paper = "Wang et al. 2018, Transferring GANs: generating images from limited data (arXiv:1805.01677)"
    config: TransferGANConfig

    def __init__(self, config: TransferGANConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            ConfigError: classes are wanted, and there are none.
            SizeError: the size doesn't suit the networks.
        """
        super().__init__(config, domains)
        self._is_small = domains.count is not None and domains.count <= config.small_target

    def make_networks(self, domains: Domains, condition: Condition = "none") -> None:
        """Make G and D, for the classes of `domains` where they are wanted."""
        if self.config.condition == "none":
            WGANGP.make_networks(self, domains)
        else:
            super().make_networks(domains)

    @classmethod
    def with_sources(cls, config: TransferGANConfig, models: Mapping[str, Described]) -> TransferGANConfig:
        """The config with the labels of the sources."""
        labels = {name: what.domains.labels for name, what in models.items() if what.domains.labels}
        return dataclasses.replace(config, source_labels=labels) if labels else config

    def source_labels(self, name: str) -> tuple[str, ...]:
        """The labels of the source of that name; none where they aren't known."""
        return tuple(self.config.source_labels.get(name, ()))

    @classmethod
    def tiny(cls) -> Mapping[str, TransferGANConfig]:
        """Without classes, and with them."""
        small: dict[str, Any] = {"latent_dim": 4, "blocks": 2, "width": 4, "critic_steps": 2}
        return {"none": cls.Config(**small), "bnorm": cls.Config(condition="bnorm", **small)}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images, with classes where they are wanted."""
        return Images if config.condition == "none" else ACGAN.batch_type(config)

    def players(self) -> tuple[Player, ...]:
        """Discriminator and generator, slower where the target is small."""
        if not self._is_small:
            return super().players()
        return tuple(
            dataclasses.replace(player, optimizer=dataclasses.replace(player.optimizer, lr=self.config.small_lr))
            for player in super().players()
        )
