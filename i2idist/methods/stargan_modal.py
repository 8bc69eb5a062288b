"""StarGAN across modalities: one body for all, a first and a last layer for each; with pairs or without.

The rival of mix-and-match networks, "StarGAN (paired)" and "StarGAN (unpaired)": Wang 2020 (thesis), section 4.6, after
Choi et al. 2018, arXiv:1711.09020.

Notation: x[m] a real image of modality m (0 is domain `a`, 1 is `b`); x_hat[m] the other one's translation to m, whose
labels name m.

Deviations and readings:
- D, too, has a first layer for each modality, since modalities differ in channels.
- The paired version has no cycle; what uses the pairs isn't said. Here it is the L1 distance to the true image.
- Every step translates both ways; no image is translated to its own modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from i2idist.data.batches import Batch, Paired, Unpaired
from i2idist.errors import ConfigError
from i2idist.losses.adversarial import wasserstein_fake, wasserstein_real
from i2idist.losses.classification import cross_entropy
from i2idist.losses.penalty import between, gradient_penalty
from i2idist.losses.reconstruction import l1
from i2idist.method import Domains, Method, Step, Terms
from i2idist.methods.checks import check_at_least, check_equal_sizes, check_target
from i2idist.methods.stargan import StarGAN, StarGANConfig
from i2idist.nn.norm import evaluating

_MODALITIES = (0, 1)


@dataclass(frozen=True, kw_only=True)
class StarGANModalConfig(StarGANConfig):
    """StarGAN's settings, for modalities in place of labels.

    Attributes:
        paired: whether `b` shows what `a` shows; then the distance to the true image takes the cycle's place.
        lambda_l1: weight of the distance to the true image, with pairs.
    """

    paired: bool = True
    lambda_l1: float = 10.0

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        check_at_least(0, lambda_l1=self.lambda_l1)
        if self.attributes:
            raise ConfigError(
                "method.attributes is set, but stargan_modal translates modalities: leave it empty, or use the method "
                "stargan."
            )


class StarGANModal(StarGAN):
    """StarGAN for two modalities: players discriminator (D) and generator (G)."""

    Config = StarGANModalConfig
    paper = "Wang 2020, Image-to-image translation (thesis), section 4.6, after StarGAN (arXiv:1711.09020)"
    targets = ("b", "a")
    config: StarGANModalConfig

    def __init__(self, config: StarGANModalConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        Method.__init__(self)
        check_equal_sizes(domains, "StarGAN")
        self.config = config
        channels = [domain.channels for domain in domains.images]
        self.make_networks(channels, len(channels), (domains.a.height, domains.a.width))

    @classmethod
    def tiny(cls) -> Mapping[str, StarGANModalConfig]:
        """With pairs and without."""
        small: dict[str, Any] = {"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 2}
        return {
            "paired": cls.Config(critic_steps=2, **small),
            "unpaired": cls.Config(paired=False, critic_steps=1, **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Pairs, or two pools."""
        return Paired if config.paired else Unpaired

    def discriminator_terms(self, step: Step) -> Terms:
        """StarGAN's Eq. 5, for images of both modalities."""
        x = step.both
        x_hat = tuple(self._to(m, x[1 - m], source=1 - m) for m in _MODALITIES)
        step.keep(x_hat=x_hat)
        real = [self.D(x[m], m) for m in _MODALITIES]
        fake = [self.D(x_hat[m].detach(), m).real for m in _MODALITIES]
        terms = {
            "real": wasserstein_real(real[0].real) + wasserstein_real(real[1].real),
            "fake": wasserstein_fake(fake[0]) + wasserstein_fake(fake[1]),
            "cls": self._classification(real[0].labels, 0) + self._classification(real[1].labels, 1),
        }
        if torch.is_grad_enabled():
            points = [between(x[m], x_hat[m], step.uniform("epsilon", 1, 1, 1)) for m in _MODALITIES]
            penalties = [gradient_penalty(self.D(points[m], m).real, points[m]) for m in _MODALITIES]
            terms["gp"] = penalties[0] + penalties[1]
        return terms

    def generator_terms(self, step: Step) -> Terms:
        """StarGAN's Eq. 6; with pairs, the distance to the true image in place of the cycle."""
        x, x_hat = step.both, step.shared.x_hat
        fake = [self.D(x_hat[m], m) for m in _MODALITIES]
        terms = {
            "gan": wasserstein_real(fake[0].real) + wasserstein_real(fake[1].real),
            "cls": self._classification(fake[0].labels, 0) + self._classification(fake[1].labels, 1),
        }
        if self.config.paired:
            return {**terms, "l1": l1(x_hat[0], x[0]) + l1(x_hat[1], x[1])}
        again = [self._to(m, x_hat[1 - m], source=1 - m) for m in _MODALITIES]
        return {**terms, "rec": l1(again[0], x[0]) + l1(again[1], x[1])}

    def _to(self, target: int, x: Tensor, *, source: int) -> Tensor:
        """Translate images from one modality to another."""
        out: Tensor = self.G(x, _labels(target, x), source, target)
        return out

    def _classification(self, logits: Tensor, modality: int) -> Tensor:
        return cross_entropy(logits, _labels(modality, logits))

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """x_hat of modality `target`; see `Method.translate`."""
        check_target(target, self.targets)
        self._check_size(*x.shape[2:])
        modality = 1 if target == "b" else 0
        with evaluating(self.G):
            return self._to(modality, x, source=1 - modality)


def _labels(modality: int, like: Tensor) -> Tensor:
    """A modality's name for each sample: (N, 2), one-hot."""
    index = like.new_full((len(like),), modality).long()
    return functional.one_hot(index, len(_MODALITIES)).to(like.dtype)
