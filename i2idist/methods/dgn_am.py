"""DGN-AM: images of a class are sought among a generator's, by gradient ascent on what a classifier says of them.

Nguyen et al. 2016, "Synthesizing the preferred inputs for neurons in neural networks via deep generator networks",
arXiv:1605.09304; a rival of MineGAN (Wang's thesis, Table 3.2). The generator is pretrained and stays as it is; what is
trained is the classifier. Each sample then takes `iterations` passes through both, forwards and backwards.

    sources: {generator: models:/NAME@ALIAS}

Notation: z a code, which begins as it is drawn; C_y the classifier's logit of class y.

Deviations and readings:
- The generator is that of a GAN on codes of N(0, I), not one that inverts a classifier's features: codes are held to
  `clip` standard deviations on both sides, and steps, of 8 where features lie in [0, 30], are a tenth of theirs.
- The classifier is ours, trained on the target's labelled images by this method: the critic of our WGAN-GP with an
  output for each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from i2idist.data.batches import Batch, Labelled
from i2idist.method import Adam, Described, Domain, Domains, Player, Step, Terms, Update
from i2idist.methods.checks import check_at_least, check_probability
from i2idist.methods.labels import Labels
from i2idist.methods.pretrained import Pretrained
from i2idist.nn.norm import evaluating
from i2idist.nn.resnet_gan import ResidualEncoder

_TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class DGNAMConfig:
    """DGN-AM's settings; the defaults are those of the public code, in our codes' scale.

    Attributes:
        iterations: steps for each sample.
        step: length of the first step, in the mean of its coordinates' magnitudes; it falls linearly to 0.
        decay: share of the code that each step takes away.
        clip: codes lie within so many standard deviations.
        blocks: residual blocks of the classifier.
        width: channels of its first block.
        lr: its learning rate.
        generator: what the source is; filled in from the recipe's `sources` when a run is created.
    """

    iterations: int = 200
    step: float = 0.8
    decay: float = 0.01
    clip: float = 3.0
    blocks: int = 4
    width: int = 64
    lr: float = 1e-4
    generator: Described | None = None

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_at_least(1, iterations=self.iterations, blocks=self.blocks, width=self.width)
        check_at_least(0, step=self.step, clip=self.clip)
        check_probability("decay", self.decay)


class DGNAM(Pretrained):
    """DGN-AM: one player, classifier (C)."""

    is_source = False
    Config: ClassVar[type[Any]] = DGNAMConfig
    paper = "Nguyen et al. 2016, Synthesizing the preferred inputs for neurons in neural networks (arXiv:1605.09304)"

    def __init__(self, config: Any, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            ConfigError: there are no classes, or the generator doesn't suit.
            SizeError: the generator's images have another size.
        """
        super().__init__(config, domains)
        self.labels = Labels.of(domains, ())
        self.targets = self.labels.names
        a, self.size_multiple = domains.a, 2**config.blocks
        size, classes = self.check_size(domains, "The classifier"), len(self.labels)
        self.C = ResidualEncoder(a.channels, size, classes, width=config.width, blocks=config.blocks)

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Three steps."""
        return {"plain": cls.Config(iterations=3, blocks=2, width=4, generator=tiny_generator())}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images with classes."""
        return Labelled

    def players(self) -> tuple[Player, ...]:
        """The classifier."""
        return (Player(name="classifier", networks=("C",), optimizer=Adam(lr=self.config.lr)),)

    def updates(self) -> tuple[Update, ...]:
        """One."""
        return (Update(player="classifier", backward=self.classifier_terms),)

    def classifier_terms(self, step: Step) -> Terms:
        """-log of the probability of each image's class."""
        batch = step.labelled
        return {"class": self.labels.loss(self.C(batch.x), self.labels.read(batch))}

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """G of the code that is reached from z for the classes y, (N, L) one-hot; not differentiable."""
        assert y is not None, "there are labels"
        # A model samples in inference mode, whose tensors take part in no gradient: their copies may.
        with torch.inference_mode(False), torch.enable_grad(), evaluating(self.G), evaluating(self.C):
            start, y = z.detach().clone(), y.clone().to(z.dtype)
            h = start.clamp(-self.config.clip, self.config.clip)
            for number in range(self.config.iterations):
                h = self.next_code(h, y, start, number).detach()
            images: Tensor = self.G(h)
        return images.detach()

    def next_code(self, h: Tensor, y: Tensor, start: Tensor, number: int) -> Tensor:
        """Step `number` from h towards the classes y: (N, code_dim), (N, L), the first code -> (N, code_dim)."""
        config = self.config
        length = config.step * (1 - number / config.iterations)
        gradient = self.ascent(h, lambda logits: (logits * y).sum())
        h = (h + length * scaled(gradient)) * (1 - config.decay)
        return h.clamp(-config.clip, config.clip)

    def ascent(self, h: Tensor, objective: Any) -> Tensor:
        """The gradient by h of a scalar function of the classifier's logits of G(h): (N, code_dim)."""
        h = h.detach().requires_grad_()
        gradient: Tensor = torch.autograd.grad(objective(self.C(self.G(h))), h)[0]
        return gradient

    def translator_networks(self) -> tuple[str, ...]:
        """The generator and the classifier."""
        return ("G", "C")


def scaled(direction: Tensor) -> Tensor:
    """Each row divided by the mean magnitude of its coordinates: (N, Z) -> (N, Z)."""
    return direction / direction.abs().mean(1, keepdim=True).clamp_min(_TINY)


def tiny_generator() -> Described:
    """A generator for `Method.tiny`."""
    config = {"latent_dim": 4, "blocks": 2, "width": 4}
    return Described(method="wgan_gp", config=config, domains=Domains((Domain("image", 3, 16, 16),)))
