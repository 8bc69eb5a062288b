"""Mix-and-match networks between domains of one modality, without pairs: an encoder and a decoder for each domain.

Translations to and from an anchor domain are seen in training; all others join an encoder and a decoder that were never
trained together. Networks grow with the number of domains, not with that of their pairs.

Wang et al. 2020, arXiv:1903.04294; equations, sections and tables are those of Wang's thesis (sections 4.3.3 and 4.3.4,
appendix A.3.2).

Notation: x an image of domain y; x_hat its translation, to the anchor, or from the anchor to any other domain, drawn
for each image; f_y `encoders`, g_y `decoders`, C_y `discriminators`, in the order of the labels.

Deviations and readings:
- The thesis "only uses adversarial loss"; its public code adds CycleGAN's cycle, and wants 0.9 of real images. Both are
  settings here, `lambda_cycle` and `real_label`, off and 1 by default. So is `lambda_auto`, for the autoencoders of
  section 4.3.2, off by default: the anchor's decoder never sees what its own encoder makes without them.
- Tables A.7 and A.8 name no nonlinearity: ReLU follows each instance norm; images pass a tanh. Initial weights have
  deviation 0.02, not 0.5.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch, Labelled
from i2idist.errors import ConfigError, nearest
from i2idist.losses.adversarial import least_squares_fake, least_squares_real
from i2idist.losses.reconstruction import l1
from i2idist.losses.reduction import sample_mean, widen
from i2idist.method import ARROW, Adam, Domains, Method, Player, Step, Terms, Update, check_size
from i2idist.methods.checks import check_at_least, check_target
from i2idist.nn.init import init_normal
from i2idist.nn.patchgan import StridedPatchGAN, check_strided_patches
from i2idist.nn.pooled import Content, PooledEncoder, ResidualDecoder

DOWNS = 3
"""Halvings [A.7]."""


@dataclass(frozen=True, kw_only=True)
class MMNetUnpairedConfig:
    """Settings; sections and tables of the thesis in brackets.

    Attributes:
        anchor: the domain that others are seen with; none: the first label.
        lambda_cycle: weight of the L1 distance between an image and its translation there and back; 10 in public code.
        lambda_auto: weight of the L1 distance between an image and what its own domain's decoder makes of it [4.3.2].
        real_label: what discriminators shall say of real images; 0.9 in public code.
        pooling_indices: let decoders put values back where the encoder found them [A.7, A.8].
        width: channels of the first block [A.7].
        blocks: residual blocks of each network [A.7, A.8].
        kernel: of their convolutions [A.7].
        discriminator_width: channels of the first layer of each discriminator [A.9].
        discriminator_layers: its stride-2 layers [A.9].
        lr: learning rate of both players [A.3.2].
        betas: Adam's decay rates.
        ema: whether a moving average of the translators is kept for translation.
    """

    anchor: str = ""
    lambda_cycle: float = 0.0
    lambda_auto: float = 0.0
    real_label: float = 1.0
    pooling_indices: bool = True
    width: int = 64
    blocks: int = 6
    kernel: int = 7
    discriminator_width: int = 64
    discriminator_layers: int = 4
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_at_least(0, lambda_cycle=self.lambda_cycle, lambda_auto=self.lambda_auto, lr=self.lr)
        check_at_least(1, width=self.width, blocks=self.blocks)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)
        if self.kernel < 1 or not self.kernel % 2:
            raise ConfigError(f"method.kernel is {self.kernel}: it must be odd, to keep height and width.")


class MMNetUnpaired(Method):
    """Mix-and-match networks of domains: players discriminators and translators (all encoders and decoders)."""

    Config = MMNetUnpairedConfig
    paper = "Wang et al. 2020, Mix and match networks: cross-modal alignment (arXiv:1903.04294)"
    size_multiple = 2**DOWNS
    config: MMNetUnpairedConfig

    def __init__(self, config: MMNetUnpairedConfig, domains: Domains) -> None:
        """Make the networks for labelled images.

        Raises:
            ConfigError: fewer than two labels, or no anchor among them.
            SizeError: the size doesn't suit the networks.
        """
        super().__init__()
        self.config, self.labels = config, domains.labels
        self.anchor = _anchor(config, domains)
        image = domains.a
        self._check_size(image.height, image.width)
        check_strided_patches(image.height, image.width, layers=config.discriminator_layers)
        shape: dict[str, Any] = {"width": config.width, "blocks": config.blocks, "kernel": config.kernel}
        count, channels = range(len(self.labels)), image.channels
        self.encoders = nn.ModuleList(
            PooledEncoder(channels, **shape, downs=DOWNS, indices=config.pooling_indices, tilt=True) for _ in count
        )
        self.decoders = nn.ModuleList(ResidualDecoder(channels, **shape, ups=DOWNS) for _ in count)
        width, layers = config.discriminator_width, config.discriminator_layers
        self.discriminators = nn.ModuleList(StridedPatchGAN(channels, width=width, layers=layers) for _ in count)
        init_normal(self)
        self.targets = tuple(f"{a}{ARROW}{b}" for a, b in itertools.permutations(self.labels, 2))

    @classmethod
    def tiny(cls) -> Mapping[str, MMNetUnpairedConfig]:
        """With a cycle and the thesis's loss alone."""
        small: dict[str, Any] = {"width": 4, "blocks": 1, "kernel": 3, "discriminator_width": 2}
        small |= {"discriminator_layers": 2}
        return {
            "cycle": cls.Config(
                anchor="second", lambda_cycle=10.0, lambda_auto=10.0, real_label=0.9, ema=True, **small
            ),
            "adversarial": cls.Config(**small, pooling_indices=False),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Labelled images."""
        return Labelled

    def players(self) -> tuple[Player, ...]:
        """Discriminators; encoders and decoders."""
        adam = Adam(lr=self.config.lr, betas=self.config.betas)
        return (
            Player(name="discriminators", networks=("discriminators",), optimizer=adam),
            Player(name="translators", networks=self.translator_networks(), optimizer=adam, ema=self.config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """Discriminators first; their translations serve the translators too, which haven't stepped since."""
        return (
            Update(player="discriminators", backward=self.discriminator_terms),
            Update(player="translators", backward=self.translator_terms),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """(C_y(x) - 1)^2 of real images and C_g(x_hat)^2 of translations to g."""
        x, y = self._images(step)
        goals = self._goals(step, y)
        content = self._content(x, y)
        x_hat = self._decoded(content, goals)
        step.keep(x_hat=x_hat, goals=goals, content=content)
        real = sample_mean((widen(_each(self.discriminators, y, x)) - self.config.real_label).square())
        return {"real": real, "fake": least_squares_fake(_each(self.discriminators, goals, x_hat.detach()))}

    def translator_terms(self, step: Step) -> Terms:
        """(C_g(x_hat) - 1)^2, and how far x_hat's translation back, and x's to its own domain, are from x."""
        x, y = self._images(step)
        x_hat, goals = step.shared.x_hat, step.shared.goals
        terms = {"gan": least_squares_real(_each(self.discriminators, goals, x_hat))}
        if self.config.lambda_cycle:
            terms["cycle"] = l1(self._decoded(self._content(x_hat, goals), y), x)
        if self.config.lambda_auto:
            terms["auto"] = l1(self._decoded(step.shared.content, y), x)
        return terms

    def _images(self, step: Step) -> tuple[Tensor, Tensor]:
        batch = step.labelled
        if batch.y.dim() != 1:
            raise ConfigError("The dataset gives each image attributes, not a class: mmnet_unpaired takes classes.")
        return batch.x, batch.y

    def _goals(self, step: Step, y: Tensor) -> Tensor:
        """The anchor; of the anchor's images any other domain: (N,) -> (N,)."""
        others = len(self.labels) - 1
        drawn = (step.uniform("goals") * others).long().clamp_max(others - 1)
        drawn = drawn + (drawn >= self.anchor)
        return torch.where(y == self.anchor, drawn, self.anchor)

    def _content(self, x: Tensor, sources: Tensor) -> Content:
        """What images of domains `sources`, (N,), show."""
        return Content(*_each(self.encoders, sources, x))

    def _decoded(self, content: Content, goals: Tensor) -> Tensor:
        """Images of domains `goals`, (N,), that show it."""
        return torch.tanh(_each(self.decoders, goals, content))

    def _check_size(self, height: int, width: int) -> None:
        smallest = self.size_multiple * max(2, self.config.kernel // 2 + 1)
        multiple = self.size_multiple if min(height, width) >= smallest else smallest
        check_size(height, width, multiple, "The encoder of mix-and-match networks")

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """g_j(f_i(x)); see `Method.translate`.

        Args:
            x: (N, C, H, W) float in [-1, 1], images of one domain.
            code: none is taken.
            target: `i->j`, seen or not.
        """
        check_target(target, self.targets)
        self._check_size(*x.shape[2:])
        source, goal = (self.labels.index(name) for name in target.split(ARROW))
        latent = self.encoders[source](x)
        return torch.tanh(self.decoders[goal](latent))

    def translator_networks(self) -> tuple[str, ...]:
        """All encoders and decoders."""
        return ("encoders", "decoders")


def _anchor(config: MMNetUnpairedConfig, domains: Domains) -> int:
    labels = domains.labels
    if len(labels) < 2:
        raise ConfigError(f"The dataset's labels are {list(labels)}: translation between domains takes two or more.")
    if config.anchor and config.anchor not in labels:
        raise ConfigError(f"method.anchor is '{config.anchor}', which is no label.{nearest(config.anchor, labels)}")
    return labels.index(config.anchor) if config.anchor else 0


def _each(networks: nn.ModuleList, numbers: Tensor, given: Any) -> Any:
    """Each sample through the network of its number, (N,): tensors, or named tuples of them, samples first."""
    rows = [(numbers == number).nonzero()[:, 0] for number in range(len(networks))]
    made = [network(_rows(given, mine)) for network, mine in zip(networks, rows, strict=True) if len(mine)]
    back = torch.cat([mine for mine in rows if len(mine)]).argsort()
    return _rows(_joined(made), back)


def _rows(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[rows]
    parts = [_rows(part, rows) for part in value]
    return type(value)(*parts) if isinstance(value, Content) else tuple(parts)


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return tuple(_joined(list(part)) for part in zip(*parts, strict=True))
