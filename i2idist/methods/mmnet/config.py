"""Mix-and-match networks' settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from i2idist.errors import ConfigError
from i2idist.method import Domains
from i2idist.methods.checks import check_at_least, check_choice
from i2idist.nn.segnet import Side

Weights = tuple[float, float]
"""A weight in the first stage, and from the second on."""


@dataclass(frozen=True, kw_only=True)
class MMNetConfig:
    """Settings; sections, equations and tables of the thesis in brackets.

    Attributes:
        anchor: the modality that others are seen with; its encoder is frozen from the second stage on [4.6.1].
        seen: the pairs of modalities that are trained as pairs; none: the anchor with each other [4.4.1].
        adversarial: modalities of images, with L2 and adversarial loss [4.4.3]; label maps have cross-entropy.
        regression: the loss of all others: berHu [Eq. 4.6], or L2 as for opponent colours [A.3.3].
        holes: modalities of berHu whose level 0 says that nothing was measured: such pixels don't count. Resizing
            mustn't make levels up at their rims, so `data.nearest` names them too.
        plain: modalities whose decoder takes no side information [4.4.2].
        networks: SegNets [A.3 to A.6], or residual ones [A.7 to A.12].
        side: what encoders hand to decoders beside latent features [4.4.4].
        pretrained: whether the anchor's encoder is VGG16, without batch norm, filled from the source `vgg` [A.3.1].
        width: channels of the first block.
        convs: convolutions of each block of SegNets [A.3].
        blocks: residual blocks of each residual network [A.7, A.8].
        kernel: of residual networks [A.7].
        discriminator_width: channels of the first layer of each discriminator [A.6].
        discriminator_layers: its stride-2 layers [A.6].
        discriminator_every: discriminators step each so many steps; the public code's value is 2.
        autoencoders: whether each modality is translated to itself, from the second stage on [4.3.2].
        noise: deviation of the noise on latent features, from the second stage on [4.6.1].
        lambda_R: weight of all terms of adversarial modalities [Eq. 4.1 to 4.3].
        lambda_L2: weight of their L2 distance, times lambda_R.
        lambda_S: weight of segmentation [Eq. 4.7].
        lambda_D: weight of depth and all that is like it [Eq. 4.4].
        lambda_A: weight of latent consistency [Eq. 4.9], which there is from the second stage on.
        lambda_PP: weight of pseudo-pairs [Eq. 4.12, 4.13] in the third stage.
        pseudo_labels: whether label maps of pseudo-pairs are the likeliest class, or soft.
        stages: where the first and the second stage end, as fractions of training; with 1 as the second there is no
            third, which leaves out pseudo-pairs [4.6.1].
        freeze_anchor: freeze the anchor's encoder from the second stage on.
        alpha: how much modalities other than the anchor count together where several are fused [4.6.2].
        lr: learning rate of both players.
        final_lr: in the third stage.
        betas: Adam's decay rates.
        ema: whether a moving average of the translators is kept for translation.
    """

    anchor: str = "rgb"
    seen: tuple[tuple[str, str], ...] = ()
    adversarial: tuple[str, ...] = ("rgb",)
    regression: Literal["berhu", "l2"] = "berhu"
    holes: tuple[str, ...] = ()
    plain: tuple[str, ...] = ("rgb",)
    networks: Literal["segnet", "residual"] = "segnet"
    side: Side = "indices"
    pretrained: bool = True
    width: int = 64
    convs: tuple[int, ...] = (2, 2, 3, 3, 3)
    blocks: int = 6
    kernel: int = 7
    discriminator_width: int = 64
    discriminator_layers: int = 4
    discriminator_every: int = 1
    autoencoders: bool = True
    noise: float = 0.5
    lambda_R: Weights = (1.0, 10.0)
    lambda_L2: Weights = (1.0, 100.0)
    lambda_S: float = 100.0
    lambda_D: float = 10.0
    lambda_A: float = 10.0
    lambda_PP: float = 100.0
    pseudo_labels: Literal["hard", "soft"] = "hard"
    stages: tuple[float, float] = (0.4, 0.8)
    freeze_anchor: bool = True
    alpha: float = 0.2
    lr: float = 2e-4
    final_lr: float = 2e-5
    betas: tuple[float, float] = (0.5, 0.999)
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("regression", self.regression, ("berhu", "l2"))
        check_choice("networks", self.networks, ("segnet", "residual"))
        check_choice("side", self.side, ("indices", "skip", "none"))
        check_choice("pseudo_labels", self.pseudo_labels, ("hard", "soft"))
        check_at_least(1, width=self.width, convs=min(self.convs, default=0), blocks=self.blocks)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)
        check_at_least(1, discriminator_every=self.discriminator_every)
        check_at_least(0, noise=self.noise, alpha=self.alpha, lambda_S=self.lambda_S, lambda_D=self.lambda_D)
        check_at_least(0, lambda_R=min(self.lambda_R), lambda_L2=min(self.lambda_L2))
        check_at_least(0, lambda_A=self.lambda_A, lambda_PP=self.lambda_PP, lr=self.lr, final_lr=self.final_lr)
        first, second = self.stages
        if not 0 < first <= second <= 1:
            raise ConfigError(
                f"method.stages is {list(self.stages)}: both lie above 0 and up to 1, in ascending order."
            )
        if self.kernel < 1 or not self.kernel % 2:
            raise ConfigError(f"method.kernel is {self.kernel}: it must be odd, to keep height and width.")
        self._check_networks()

    def _check_networks(self) -> None:
        if self.networks == "residual" and (self.pretrained or self.side == "skip"):
            raise ConfigError(
                "method.networks=residual has neither VGG16's layout nor skip connections: set method.pretrained=false "
                "and method.side to indices or none."
            )
        if self.pretrained and (self.width, self.convs) != (64, (2, 2, 3, 3, 3)):
            raise ConfigError("method.pretrained needs VGG16's width 64 and convs [2,2,3,3,3]: set it to false.")

    @property
    def halvings(self) -> int:
        """How often encoders halve."""
        return len(self.convs) if self.networks == "segnet" else 3

    def seen_of(self, domains: Domains) -> frozenset[tuple[str, str]]:
        """Every seen translation, both ways, for these modalities.

        Raises:
            ConfigError: a setting names a modality that isn't there, or one is in no pair.
        """
        for key, names in self._named().items():
            for name in names:
                if name not in [domain.name for domain in domains.images]:
                    raise ConfigError(
                        f"method.{key} names '{name}', which is none of the data's modalities. {_have(domains)}"
                    )
        others = [domain.name for domain in domains.images if domain.name != self.anchor]
        pairs = self.seen or tuple((self.anchor, name) for name in others)
        alone = set(others) | {self.anchor}
        for a, b in pairs:
            alone -= {a, b}
            if a == b:
                raise ConfigError(f"method.seen pairs '{a}' with itself.")
        if alone:
            raise ConfigError(f"method.seen has no pair of {', '.join(sorted(alone))}: each modality needs one.")
        return frozenset(pairs) | frozenset((b, a) for a, b in pairs)

    def _named(self) -> dict[str, tuple[str, ...]]:
        seen = tuple(name for pair in self.seen for name in pair)
        return {
            "anchor": (self.anchor,),
            "seen": seen,
            "adversarial": self.adversarial,
            "holes": self.holes,
            "plain": self.plain,
        }


def _have(domains: Domains) -> str:
    return f"It has {', '.join(domain.name for domain in domains.images)}."
