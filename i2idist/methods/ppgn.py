"""PPGN: DGN-AM with a prior on codes, which a denoising autoencoder knows; its samples differ more.

Nguyen et al. 2017, "Plug & Play Generative Networks: Conditional Iterative Generation of Images in Latent Space",
arXiv:1612.00005; a rival of MineGAN (Wang's thesis, Table 3.2). The generator is pretrained and stays as it is; the
classifier and the autoencoder are trained.

    sources: {generator: models:/NAME@ALIAS}

Notation: h a code, R(h) its reconstruction, C_c the classifier's probability of class c.

Deviations and readings:
- As in `dgn_am`. Steps, of 1 where features lie in [0, 30], are a tenth of theirs.
- Of the paper's models it is the noiseless PPGN-h, the autoencoder being that of the generator's codes, N(0, I).
- What the last term draws is a function of the first code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from i2idist.losses.reconstruction import l2
from i2idist.method import Adam, Described, Domains, Player, Step, Terms, Update
from i2idist.methods.checks import check_at_least
from i2idist.methods.dgn_am import DGNAM, scaled, tiny_generator
from i2idist.randomness import content_keys, normal


@dataclass(frozen=True, kw_only=True)
class PPGNConfig:
    """PPGN's settings; sections of the paper in brackets; the defaults are those of its public code, in our scale.

    Attributes:
        epsilon_1: weight of the prior [Eq. 5].
        epsilon_2: weight of the class [Eq. 5].
        epsilon_3: weight of the noise [Eq. 5].
        iterations: steps for each sample.
        step: length of a step, in the mean of its coordinates' magnitudes.
        clip: codes lie within so many standard deviations.
        hidden: widths of the autoencoder's layers [S3].
        noise: standard deviation of the noise that it removes.
        blocks: residual blocks of the classifier.
        width: channels of its first block.
        lr: learning rate of both.
        generator: what the source is; filled in from the recipe's `sources` when a run is created.
    """

    epsilon_1: float = 1e-5
    epsilon_2: float = 1.0
    epsilon_3: float = 1e-17
    iterations: int = 200
    step: float = 0.1
    clip: float = 3.0
    hidden: tuple[int, ...] = (2048, 1024, 500, 1024, 2048)
    noise: float = 0.1
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
        check_at_least(1, hidden=min(self.hidden, default=1))
        check_at_least(0, step=self.step, clip=self.clip, noise=self.noise, epsilon_1=self.epsilon_1)
        check_at_least(0, epsilon_2=self.epsilon_2, epsilon_3=self.epsilon_3)


class PPGN(DGNAM):
    """PPGN: players classifier (C) and autoencoder (R)."""

    Config = PPGNConfig
    paper = "Nguyen et al. 2017, Plug & Play Generative Networks (arXiv:1612.00005)"

    def __init__(self, config: PPGNConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`; see `DGNAM`."""
        super().__init__(config, domains)
        self.R = _autoencoder(self.code_dim, config.hidden)

    @classmethod
    def tiny(cls) -> Mapping[str, PPGNConfig]:
        """Three steps, in which each term counts."""
        small: dict[str, Any] = {"iterations": 3, "blocks": 2, "width": 4, "hidden": (6, 3)}
        return {"plain": cls.Config(epsilon_1=0.5, epsilon_3=0.1, generator=tiny_generator(), **small)}

    def players(self) -> tuple[Player, ...]:
        """The classifier and the autoencoder."""
        return (*super().players(), Player(name="autoencoder", networks=("R",), optimizer=Adam(lr=self.config.lr)))

    def updates(self) -> tuple[Update, ...]:
        """One of each."""
        return (*super().updates(), Update(player="autoencoder", backward=self.autoencoder_terms))

    def autoencoder_terms(self, step: Step) -> Terms:
        """|R(h + noise) - h|^2 on the generator's codes."""
        h = step.normal("h", self.code_dim)
        return {"denoising": l2(self.R(h + self.config.noise * step.normal("noise", self.code_dim)), h)}

    def next_code(self, h: Tensor, y: Tensor, start: Tensor, number: int) -> Tensor:
        """Along epsilon_1 (R(h) - h) + epsilon_2 d log C_c / dh + epsilon_3 N(0, I) (Eq. 5), in steps of one length."""
        config = self.config
        prior = self.R(h).detach() - h
        gradient = self.ascent(h, lambda logits: (logits.log_softmax(1) * y).sum())
        noise = normal(content_keys(start) + number, (self.code_dim,), h.dtype)
        direction = config.epsilon_1 * prior + config.epsilon_2 * gradient + config.epsilon_3 * noise
        further: Tensor = h + config.step * scaled(direction)
        return further.clamp(-config.clip, config.clip)

    def translator_networks(self) -> tuple[str, ...]:
        """The generator, the classifier and the autoencoder."""
        return ("G", "C", "R")


def _autoencoder(code_dim: int, hidden: Sequence[int]) -> nn.Sequential:
    """Fully connected layers with ReLU between them: (N, code_dim) -> (N, code_dim)."""
    widths = [code_dim, *hidden, code_dim]
    parts: list[nn.Module] = []
    for below, above in zip(widths, widths[1:], strict=False):
        parts += [nn.Linear(below, above), nn.ReLU()]
    return nn.Sequential(*parts[:-1])
