"""UNIT's domain adaptation: a classifier for a domain without labels, trained on another one that has them.

UNIT translates between the two while its discriminators, whose high-level layers are one network, also classify the
labelled images; images that are translations of each other must look alike to both. The classifier then reads the other
domain through that domain's discriminator.

Liu et al. 2017, "Unsupervised Image-to-Image Translation Networks", arXiv:1703.00848, section 4, "Domain adaptation",
and Table 2.

Notation: as in `unit`; D_1 = D_H . D_L1 and D_2 = D_H . D_L2, D_H tied; f = D_H(D_L(x)) the top features, from which
one linear layer gives the logit of being real and another, C, those of the classes; y_1 the labels of x_1.

Deviations and readings:
- The discriminators' layers are ours: 5x5 convolutions of stride 2, the first `private_layers` not tied, and one linear
  layer to the features. Nothing rectifies these: pairs that don't correspond yet draw rectified features, which are
  mostly 0, to 0 for good.
- The distance of features trains the discriminators alone: it "encouraged D_1 and D_2 to interpret a pair of
  corresponding images in the same way". The pairs are (x_11, x_12) and (x_22, x_21).
- The weights of classification and features aren't given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from i2idist.data.batches import Batch, SourceLabelled
from i2idist.errors import ConfigError, SizeError
from i2idist.losses.adversarial import log_fake, log_real
from i2idist.losses.classification import cross_entropy
from i2idist.losses.reconstruction import l1
from i2idist.method import Domain, Domains, Player, Step, Terms
from i2idist.methods.checks import check_at_least, check_target
from i2idist.methods.unit import UNIT, UNITConfig
from i2idist.nn.init import init_normal


@dataclass(frozen=True, kw_only=True)
class UNITAdaptationConfig(UNITConfig):
    """UNIT's settings without cycles, which were "not necessary for this task", and those of the classifier.

    Attributes:
        lambda_class: weight of the classification of labelled images.
        lambda_feature: weight of the distance of a pair's top features.
        private_layers: layers of each discriminator, from the image on, that aren't tied.
        features: how many top features there are.
    """

    lambda_cycle_kl: float = 0.0
    lambda_cycle: float = 0.0
    lambda_class: float = 10.0
    lambda_feature: float = 1.0
    discriminator_layers: int = 3
    private_layers: int = 1
    features: int = 256

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        check_at_least(0, lambda_class=self.lambda_class, lambda_feature=self.lambda_feature)
        check_at_least(1, private_layers=self.private_layers, features=self.features)
        if self.networks == "public" or self.gan != "log" or not self.lambda_recon:
            raise ConfigError(
                "Domain adaptation compares reconstructions with translations by discriminators of its own: leave "
                "method.networks and method.gan as they are, and method.lambda_recon above 0."
            )
        if self.private_layers >= self.discriminator_layers:
            raise ConfigError(
                f"method.private_layers is {self.private_layers}, so none of the {self.discriminator_layers} layers of "
                "the discriminators would be tied: lower it, or raise method.discriminator_layers."
            )


class UNITAdaptation(UNIT):
    """UNIT with tied discriminators and a classifier on their features: players generators and discriminators."""

    classifies = True
    Config = UNITAdaptationConfig
    config: UNITAdaptationConfig
    D_1: TiedDiscriminator
    D_2: TiedDiscriminator

    def __init__(self, config: UNITAdaptationConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`, of which the first has labels.

        Raises:
            ConfigError: there are no labels.
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        if len(domains.labels) < 2:
            raise ConfigError("Domain adaptation classifies: it needs a dataset with at least two classes.")
        super().__init__(config, domains)
        self.C = nn.Linear(config.features, len(domains.labels))
        init_normal(self.C)
        self._size = (domains.a.height, domains.a.width)

    def _make_discriminators(self, a: Domain, b: Domain) -> None:
        config = self.config
        widths = [config.discriminator_width * 2**level for level in range(config.discriminator_layers)]
        own, tied = widths[: config.private_layers], widths[config.private_layers :]
        height, width = (-(-side // 2 ** len(widths)) for side in (a.height, a.width))
        self.D_H = nn.Sequential(
            *_layers(own[-1], tied),
            nn.Flatten(),
            nn.Linear(widths[-1] * height * width, config.features),
        )
        self.D_real = nn.Linear(config.features, 1)
        self.D_1 = TiedDiscriminator(_layers(a.channels, own), self.D_H, self.D_real)
        self.D_2 = TiedDiscriminator(_layers(b.channels, own), self.D_H, self.D_real)

    @classmethod
    def tiny(cls) -> Mapping[str, UNITAdaptationConfig]:
        """One tied layer of two, with cycles and without."""
        small: dict[str, Any] = {"width": 4, "discriminator_width": 4, "discriminator_layers": 2, "blocks": 1}
        small |= {"features": 8, "ema": True}
        return {"plain": cls.Config(**small), "cycle": cls.Config(lambda_cycle=100.0, lambda_cycle_kl=0.1, **small)}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Two pools, the first with labels."""
        return SourceLabelled

    def players(self) -> tuple[Player, ...]:
        """Encoders and generators against the discriminators, who classify too."""
        discriminators, generators = super().players()
        return dataclasses.replace(discriminators, networks=("D_1", "D_2", "D_H", "D_real", "C")), generators

    def discriminator_terms(self, step: Step) -> Terms:
        """Eqs. 5 and 6; classification of the labelled images; distances of pairs. Each image passes once."""
        x_1, x_2, y_1 = _samples(step)
        self._make_streams(step)
        made = {name: tensor.detach() for name, tensor in vars(step.shared).items()}
        f_1, f_21, f_11 = self.D_1.features(torch.cat([x_1, made["x_21"], made["x_11"]])).chunk(3)
        f_2, f_12, f_22 = self.D_2.features(torch.cat([x_2, made["x_12"], made["x_22"]])).chunk(3)
        D = self.D_real
        return {
            "gan": log_real(D(f_1)) + log_fake(D(f_21)) + log_real(D(f_2)) + log_fake(D(f_12)),
            "class": cross_entropy(self.C(f_1), one_hot(y_1, self.C.out_features)),
            "feature": l1(f_11, f_12) + l1(f_22, f_21),
        }

    def classify(self, x: Tensor, *, domain: str = "b") -> Tensor:
        """Logits of the classes of images of a domain: (N, C, H, W) in [-1, 1] -> (N, classes).

        Raises:
            ConfigError: no such domain.
            SizeError: images of another size than training's.
        """
        check_target(domain, self.targets)
        if tuple(x.shape[2:]) != self._size:
            raise SizeError(f"Classes are read from images of {self._size[0]}x{self._size[1]}, as in training.")
        logits: Tensor = self.C((self.D_2 if domain == "b" else self.D_1).features(x))
        return logits

    def translator_networks(self) -> tuple[str, ...]:
        """Encoders and generators, and what classifies."""
        return (*self.generator_networks(), "D_1", "D_2", "D_H", "C")


class TiedDiscriminator(nn.Module):
    """One domain's layers below those that both share, which aren't part of this module: checkpoints hold them once."""

    def __init__(self, own: nn.Module, tied: nn.Module, head: nn.Module) -> None:
        """Join `own` layers to `tied` ones, which give the features that `head` judges."""
        super().__init__()
        self.own = own
        self._shared = (tied, head)

    def features(self, x: Tensor) -> Tensor:
        """The top features: (N, C, H, W) -> (N, F)."""
        tied, _ = self._shared
        features: Tensor = tied(self.own(x))
        return features

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Logits of being real, at one scale: (N, C, H, W) -> (N, 1)."""
        _, head = self._shared
        return (head(self.features(x)),)


def _layers(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """5x5 convolutions of stride 2, of `widths` channels; sizes are rounded up."""
    parts: list[nn.Module] = []
    for width in widths:
        parts += [nn.Conv2d(channels, width, 5, 2, 2), nn.LeakyReLU(0.2, inplace=True)]
        channels = width
    return nn.Sequential(*parts)


def _samples(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    batch = step.batch
    assert isinstance(batch, SourceLabelled)
    return batch.a, batch.b, batch.y
