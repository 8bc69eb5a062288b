"""UNIT's domain adaptation: a classifier for a domain without labels, trained on another one that has them.

UNIT translates between the two while its discriminators, whose high-level layers are one network, also classify the
labelled images; images that are translations of each other must look alike to both. The classifier then reads the other
domain through that domain's discriminator.

Liu et al. 2017, "Unsupervised Image-to-Image Translation Networks", arXiv:1703.00848, section 4, "Domain adaptation",
and Table 2; networks and what the text leaves open are those of the authors' first public code.

Notation: as in `unit`; the code is one vector, and all but the outermost layers of encoders and generators are shared;
D_1 = D_H . D_L1 and D_2 = D_H . D_L2, D_H tied; f = D_H(D_L(x)) the top features, from which one linear layer gives the
logit of being real and another, C, those of the classes; y_1 the labels of x_1.

Deviations and readings:
- As in that code, reconstructions count as fake like translations (Eqs. 5 and 6 have translations alone), each with
  half the weight in the discriminators' loss; and the distance of features trains the discriminators alone: it
  "encouraged D_1 and D_2 to interpret a pair of corresponding images in the same way". The pairs are (x_11, x_12) and
  (x_22, x_21).
- Reconstructions and features are compared by the text's L1; that code squares, and weighs them accordingly.
- q(z | x) has unit variance, as in the text; that code learns it.
- Features are dropped where images are classified; that code drops them where it judges them too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from i2idist.data.batches import Batch, SourceLabelled
from i2idist.errors import ConfigError, SizeError
from i2idist.losses.adversarial import log_fake, log_real, non_saturating, over_scales
from i2idist.losses.classification import cross_entropy
from i2idist.losses.reconstruction import l1
from i2idist.method import Domain, Domains, Player, Step, Terms, check_size
from i2idist.methods.checks import check_at_least, check_target
from i2idist.methods.unit import UNIT, UNITConfig
from i2idist.nn import digits
from i2idist.nn.init import init_xavier
from i2idist.randomness import Noise

_LEAST = 16
_UNREAD = ("networks", "gan", "blocks", "shared_layers", "discriminator_layers", "discriminator_scales")


@dataclass(frozen=True, kw_only=True)
class UNITAdaptationConfig(UNITConfig):
    """UNIT's settings without cycles, which were "not necessary for this task", and those of the classifier.

    The text gives no weights; those of reconstruction and features are ours, the others the public code's.

    Attributes:
        lambda_class: weight of the classification of labelled images.
        lambda_feature: weight of the distance of a pair's top features.
        invert: whether half of the second domain's images are inverted in training, as that code does to MNIST's, since
            street numbers are lighter or darker than what is behind them.
    """

    lambda_gan: float = 1.0
    lambda_kl: float = 0.2
    lambda_recon: float = 10.0
    lambda_cycle_kl: float = 0.0
    lambda_cycle: float = 0.0
    lambda_class: float = 10.0
    lambda_feature: float = 1.0
    invert: bool = False
    lr: float = 2e-4
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        check_at_least(0, lambda_class=self.lambda_class, lambda_feature=self.lambda_feature)
        for key in _UNREAD:
            if getattr(self, key) != getattr(UNITConfig, key):
                raise ConfigError(f"Domain adaptation has networks and losses of its own: leave method.{key} as it is.")
        if not self.lambda_recon:
            raise ConfigError("Domain adaptation compares reconstructions: leave method.lambda_recon above 0.")


class UNITAdaptation(UNIT):
    """UNIT with tied discriminators and a classifier on their features: players generators and discriminators."""

    classifies = True
    size_multiple = _LEAST
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
        self.C = nn.Linear(self.D_real.in_features, len(domains.labels))
        for network in ("D_1", "D_2", "D_H", "D_real", "C"):
            init_xavier(getattr(self, network))

    def _make_encoder(self, domain: Domain) -> nn.Module:
        return digits.front(domain.channels, self.config.width)

    def _make_shared(self, domain: Domain) -> tuple[nn.Module, nn.Module]:
        return digits.encoder(self.config.width, self.size), digits.decoder(self.config.width, self.size)

    def _make_generator(self, domain: Domain) -> nn.Module:
        return digits.back(domain.channels, self.config.width)

    def _make_discriminators(self, a: Domain, b: Domain) -> None:
        width = self.config.discriminator_width
        self.D_H = digits.Tied(width)
        self.D_real = nn.Linear(8 * width * (a.height // _LEAST) * (a.width // _LEAST), 1)
        self.D_1 = TiedDiscriminator(digits.level(a.channels, width), self.D_H, self.D_real)
        self.D_2 = TiedDiscriminator(digits.level(b.channels, width), self.D_H, self.D_real)

    @classmethod
    def tiny(cls) -> Mapping[str, UNITAdaptationConfig]:
        """Without cycles; with them, and inverted images."""
        small: dict[str, Any] = {"width": 4, "discriminator_width": 4, "ema": True}
        cycle = cls.Config(lambda_cycle=100.0, lambda_cycle_kl=0.1, invert=True, **small)
        return {"plain": cls.Config(**small), "cycle": cycle}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Two pools, the first with labels."""
        return SourceLabelled

    def players(self) -> tuple[Player, ...]:
        """Encoders and generators against the discriminators, who classify too."""
        discriminators, generators = super().players()
        return dataclasses.replace(discriminators, networks=("D_1", "D_2", "D_H", "D_real", "C")), generators

    def discriminator_terms(self, step: Step) -> Terms:
        """Eqs. 5 and 6; classification of the labelled images; distances of pairs."""
        if self.config.invert:
            _invert(step)
        x_1, x_2, y_1 = _samples(step)
        self._make_streams(step)
        made = {name: tensor.detach() for name, tensor in vars(step.shared).items()}
        f_1, f_21, f_11 = self.D_1.features(torch.cat([x_1, made["x_21"], made["x_11"]])).chunk(3)
        f_2, f_12, f_22 = self.D_2.features(torch.cat([x_2, made["x_12"], made["x_22"]])).chunk(3)
        classes = self.C(self.D_1.features(x_1, step.noise("dropout")))
        real, fake = [[self.D_real(f) for f in some] for some in ((f_1, f_2), (f_21, f_11, f_12, f_22))]
        return {
            "gan": over_scales(log_real, real) + 0.5 * over_scales(log_fake, fake),
            "class": cross_entropy(classes, one_hot(y_1, self.C.out_features)),
            "feature": l1(f_11, f_12) + l1(f_22, f_21),
        }

    def generator_terms(self, step: Step) -> Terms:
        """Eq. 2, the generators' side; reconstructions must look real too."""
        terms = super().generator_terms(step)
        (logits_11,), (logits_22,) = self.D_1(step.shared.x_11), self.D_2(step.shared.x_22)
        return {**terms, "gan": terms["gan"] + non_saturating(logits_11) + non_saturating(logits_22)}

    def _check_size(self, height: int, width: int) -> None:
        check_size(height, width, _LEAST, "Domain adaptation")
        if (height, width) != self.size:
            raise SizeError(f"Networks for digits take images of {self.size[0]}x{self.size[1]}, as in training.")

    def classify(self, x: Tensor, *, domain: str = "b") -> Tensor:
        """Logits of the classes of images of a domain: (N, C, H, W) in [-1, 1] -> (N, classes).

        Raises:
            ConfigError: no such domain.
            SizeError: images of another size than training's.
        """
        check_target(domain, self.targets)
        self._check_size(*x.shape[2:])
        logits: Tensor = self.C((self.D_2 if domain == "b" else self.D_1).features(x))
        return logits

    def generator_networks(self) -> tuple[str, ...]:
        """Encoders and generators, with what they share."""
        return ("E_L1", "E_L2", "E_H", "G_H", "G_L1", "G_L2")

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

    def features(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """The top features: (N, C, H, W) -> (N, F). With `noise`, some are dropped at each level."""
        tied, _ = self._shared
        features: Tensor = tied(self.own(x), noise)
        return features

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Logits of being real, at one scale: (N, C, H, W) -> (N, 1)."""
        _, head = self._shared
        return (head(self.features(x)),)


def _invert(step: Step) -> None:
    """Turn light into dark in half of the second domain's images, for both updates of the step."""
    batch = step.batch
    assert isinstance(batch, SourceLabelled)
    chosen = step.bernoulli("inverted", 0.5, 1, 1, 1)
    step.batch = dataclasses.replace(batch, b=torch.where(chosen, -batch.b, batch.b))


def _samples(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    batch = step.batch
    assert isinstance(batch, SourceLabelled)
    return batch.a, batch.b, batch.y
