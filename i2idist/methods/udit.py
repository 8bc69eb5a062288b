"""UDIT: MUNIT whose translations keep a semantic property, so that a bias of the data doesn't become one of the output.

Where the target domain ties what shall change to what shall not (makeup to women), a translator changes both. UDIT
holds the features of a pretrained extractor h, which tell the property to keep, equal between input and output.

Wang et al. 2021, "Controlling biases and diversity in diverse image-to-image translation", arXiv:1907.09754; equations,
sections and tables are those of Wang's thesis (chapter 5, appendix A.4). MUNIT is Huang et al. 2018, arXiv:1804.04732.

Notation, as in section 5.3: E_i^c is `G_i.content`, E_i^s is `G_i.style`, G_i is `G_i.decode`, for i in {A, B}, which
are a and b; x_AB = G_B(E_A^c(x_A), s_B) with s_B ~ N(0, I); h is `h`.

Deviations and readings:
- Pooling indices ("+PI"), the thesis's "UDIT" from section 5.6.4 on, are on; without, decoders enlarge by nearest
  neighbour. With lambda_U = 0 it *is* MUNIT on these networks, MUNIT+PI among the thesis's rivals.
- Eq. 5.4's factor of one half is left out, as in MUNIT's public code, whose weights these are; D's three losses are
  added. All norms are means of absolute differences, the semantic one's too.
- Tables A.13 and A.17 name no nonlinearity: ReLU follows each instance norm outside the residual blocks. Table A.14
  halves between relu1 and conv2: by max pooling. Convolutions reflect at the border, as MUNIT's do.
- Discriminators step first, and the translators train on the same translations, as in our MUNIT.
- Features are those before the first fully connected layer, as section 5.5.1's, so behind the last pooling: 4x4x512 of
  images of 128x128. Section 5.6.6 gives the last convolutional layer's, 8x8x512.
- The extractor has VGG16's layout with batch norm, since `i2idist extractor` trains it from nothing; the face network
  is Inception-ResNet-v1 on VGGFace2, not VGG-Face, whose weights come in no form that we read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch, Unpaired
from i2idist.errors import ConfigError, SourceError
from i2idist.losses.adversarial import multiscale_fake, multiscale_real
from i2idist.losses.reconstruction import l1
from i2idist.method import Adam, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import (
    check_at_least,
    check_choice,
    check_equal_sizes,
    check_sources,
    check_style,
    check_target,
    require_code,
)
from i2idist.nn.adain import style_mlp
from i2idist.nn.extractor import FaceExtractor, Frozen, SemanticExtractor
from i2idist.nn.init import init_kaiming, init_normal
from i2idist.nn.patchgan import MultiScaleStridedPatchGAN, check_strided_patches
from i2idist.nn.pooled import Content, PooledEncoder, PooledStyleEncoder, UnpoolingDecoder

SOURCE = "extractor"
"""The name of the source that h is filled from."""

_WHAT = (
    "a semantic extractor, which `i2idist extractor` trains and registers (models:/NAME@ALIAS), or with "
    "method.extractor=face the face network (weights:facenet-vggface2)"
)


@dataclass(frozen=True, kw_only=True)
class UDITConfig:
    """UDIT's settings; tables and sections of the thesis in brackets, MUNIT's values where it says nothing.

    Attributes:
        lambda_U: weight of the semantic constraint [Eq. 5.8], whose value no source gives: that of the other features
            here; 0: there is no extractor.
        lambda_x: weight of image reconstruction [Eq. 5.5].
        lambda_c: weight of content reconstruction [Eq. 5.6].
        lambda_s: weight of style reconstruction [Eq. 5.7].
        extractor: what h is: a classifier that `i2idist extractor` trained [5.5.1], or the face network [5.6.4].
        extractor_dim: the channels D that the classifier's features are reduced to [5.5.1]; 0: none, the naive variant.
        extractor_width: channels of the classifier's first block.
        extractor_convs: convolutions in each of its blocks.
        pooling_indices: let decoders put values back where the encoder found them [Tables A.13, A.17].
        code_dim: length of the style code [A.14].
        width: channels of the first layer of each encoder [A.13].
        downs: halvings [A.13].
        blocks: residual blocks in each content encoder, and in each decoder [A.13, A.17].
        kernel: of their convolutions [A.13].
        mlp_width: hidden units of the network from a style to (mu, sigma) [A.15, A.16].
        discriminator_width: channels of the first layer of each discriminator [A.18].
        discriminator_layers: stride-2 layers of each discriminator [A.18].
        discriminator_scales: scales of each discriminator [A.18].
        lr: learning rate of both players.
        betas: Adam's decay rates.
        weight_decay: of both players.
        lr_halve_every_images: how many images halve the learning rate; None: never.
        ema: whether a moving average of the translators is kept for translation.
    """

    lambda_U: float = 1.0
    lambda_x: float = 10.0
    lambda_c: float = 1.0
    lambda_s: float = 1.0
    extractor: Literal["classifier", "face"] = "classifier"
    extractor_dim: int = 16
    extractor_width: int = 64
    extractor_convs: tuple[int, ...] = (2, 2, 3, 3, 3)
    pooling_indices: bool = True
    code_dim: int = 8
    width: int = 64
    downs: int = 3
    blocks: int = 6
    kernel: int = 7
    mlp_width: int = 256
    discriminator_width: int = 64
    discriminator_layers: int = 4
    discriminator_scales: int = 3
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-4
    lr_halve_every_images: int | None = 100_000
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("extractor", self.extractor, ("classifier", "face"))
        check_at_least(0, lambda_U=self.lambda_U, lambda_x=self.lambda_x, lambda_c=self.lambda_c)
        check_at_least(0, lambda_s=self.lambda_s, extractor_dim=self.extractor_dim, weight_decay=self.weight_decay)
        check_at_least(1, extractor_width=self.extractor_width, extractor_convs=min(self.extractor_convs, default=0))
        check_at_least(1, code_dim=self.code_dim, width=self.width, downs=self.downs, blocks=self.blocks)
        check_at_least(1, mlp_width=self.mlp_width, discriminator_width=self.discriminator_width)
        check_at_least(1, discriminator_layers=self.discriminator_layers)
        check_at_least(1, discriminator_scales=self.discriminator_scales)
        check_at_least(1, lr_halve_every_images=self.lr_halve_every_images)
        if self.kernel < 1 or not self.kernel % 2:
            raise ConfigError(f"method.kernel is {self.kernel}: it must be odd, to keep height and width.")


class Translator(nn.Module):
    """One domain's E^c, E^s and G, whose AdaIN layers one (mu, sigma) of the style steers."""

    def __init__(self, config: UDITConfig, channels: int) -> None:
        """Make the networks for images of so many channels."""
        super().__init__()
        self.channels = channels
        shape: dict[str, Any] = {"width": config.width, "blocks": config.blocks, "kernel": config.kernel}
        self.content = PooledEncoder(channels, downs=config.downs, indices=config.pooling_indices, **shape)
        self.style = PooledStyleEncoder(
            channels, width=config.width, downs=config.downs, kernel=config.kernel, code_dim=config.code_dim
        )
        self.affine = style_mlp(config.code_dim, config.mlp_width, 2 * config.width * 2 ** (config.downs - 1))
        self.decoder = UnpoolingDecoder(channels, ups=config.downs, **shape)
        init_kaiming(self)

    def decode(self, c: Content, s: Tensor) -> Tensor:
        """G(c, s): content and style (N, code_dim) to images (N, C, H, W) in [-1, 1]."""
        x: Tensor = self.decoder(c, self.affine(s))
        return x


class UDIT(Method):
    """UDIT: players discriminators (D_A, D_B) and translators (G_A, G_B); h is trained by neither."""

    Config = UDITConfig
    paper = (
        "Wang et al. 2021, Controlling Biases and Diversity in Diverse Image-to-Image Translation (arXiv:1907.09754)"
    )
    targets = ("b", "a")
    config: UDITConfig

    def __init__(self, config: UDITConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            ConfigError: the semantic constraint has a weight, but the domains' channels differ.
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "UDIT")
        a, b = domains.a, domains.b
        self.config = config
        self.code_dim = config.code_dim
        self.size_multiple = 2**config.downs
        self._check_size(a.height, a.width)
        layers, scales = config.discriminator_layers, config.discriminator_scales
        check_strided_patches(a.height, a.width, layers=layers, scales=scales)
        self.G_A, self.G_B = Translator(config, a.channels), Translator(config, b.channels)
        self.D_A, self.D_B = self._make_discriminator(a.channels), self._make_discriminator(b.channels)
        if config.lambda_U:
            if a.channels != b.channels:
                raise ConfigError(
                    f"method.lambda_U is {config.lambda_U}, but the extractor compares an output with its input, and "
                    f"the domains have {a.channels} and {b.channels} channels: set it to 0."
                )
            if config.extractor == "face" and a.channels not in (1, 3):
                raise ConfigError(f"method.extractor=face takes images of 1 or 3 channels, not {a.channels}.")
            self.h = Frozen(self._make_extractor(a.channels))

    def _make_discriminator(self, channels: int) -> MultiScaleStridedPatchGAN:
        config = self.config
        d = MultiScaleStridedPatchGAN(
            channels,
            scales=config.discriminator_scales,
            width=config.discriminator_width,
            layers=config.discriminator_layers,
        )
        init_normal(d)
        return d

    def _make_extractor(self, channels: int) -> nn.Module:
        config = self.config
        if config.extractor == "face":
            return FaceExtractor()
        return SemanticExtractor(
            channels, width=config.extractor_width, convs=config.extractor_convs, dim=config.extractor_dim
        )

    @classmethod
    def build(cls, config: Any, domains: Domains, sources: Mapping[str, Mapping[str, Tensor]] | None = None) -> UDIT:
        """UDIT, with h as the source `extractor` has it; see `Method.build`.

        Raises:
            ConfigError: the source is missing, or there is one that the configuration has no use for.
            SourceError: the source holds another network than the configuration says.
        """
        method = cls(config, domains)
        check_sources(sources, {SOURCE: _WHAT} if config.lambda_U else {})
        if sources:
            _fill(method.h.network, sources[SOURCE], config)
        return method

    @classmethod
    def tiny(cls) -> Mapping[str, UDITConfig]:
        """With pooling indices and a reduced extractor; without, and naive."""
        small: dict[str, Any] = {"width": 2, "downs": 2, "blocks": 1, "kernel": 5, "mlp_width": 3, "code_dim": 3}
        small |= {"discriminator_width": 2, "discriminator_layers": 1, "discriminator_scales": 2}
        small |= {"extractor_width": 2, "extractor_convs": (1, 1), "ema": True}
        return {
            "pooling_indices": cls.Config(extractor_dim=2, **small),
            "naive": cls.Config(**{**small, "extractor_dim": 0, "pooling_indices": False, "ema": False}),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Two pools."""
        return Unpaired

    def players(self) -> tuple[Player, ...]:
        """Both discriminators, both translators."""
        config = self.config
        adam = Adam(lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
        schedule = Schedule(step_every_images=config.lr_halve_every_images)
        return (
            Player(name="discriminators", networks=("D_A", "D_B"), optimizer=adam, schedule=schedule),
            Player(name="translators", networks=("G_A", "G_B"), optimizer=adam, schedule=schedule, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """Discriminators first; their translations serve the translators too, which haven't stepped since."""
        return (
            Update(player="discriminators", backward=self.discriminator_terms),
            Update(player="translators", backward=self.translator_terms),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """Eq. 5.4, for D_A and D_B."""
        x_A, x_B = step.both
        s_A, s_B = step.normal("s_A", self.code_dim), step.normal("s_B", self.code_dim)
        c_A, c_B = self.G_A.content(x_A), self.G_B.content(x_B)
        x_AB, x_BA = self.G_B.decode(c_A, s_B), self.G_A.decode(c_B, s_A)
        step.keep(s_A=s_A, s_B=s_B, c_A=c_A, c_B=c_B, x_AB=x_AB, x_BA=x_BA)
        return {
            "D_A": multiscale_real(self.D_A(x_A)) + multiscale_fake(self.D_A(x_BA.detach())),
            "D_B": multiscale_real(self.D_B(x_B)) + multiscale_fake(self.D_B(x_AB.detach())),
        }

    def translator_terms(self, step: Step) -> Terms:
        """Eq. 5.8."""
        x_A, x_B = step.both
        made = step.shared
        c_A, c_B, x_AB, x_BA = made.c_A, made.c_B, made.x_AB, made.x_BA
        terms = {"gan": multiscale_real(self.D_B(x_AB)) + multiscale_real(self.D_A(x_BA))}  # Eq. 5.4
        if self.config.lambda_x:
            x_AA = self.G_A.decode(c_A, self.G_A.style(x_A))
            x_BB = self.G_B.decode(c_B, self.G_B.style(x_B))
            terms["x"] = l1(x_AA, x_A) + l1(x_BB, x_B)  # Eq. 5.5
        if self.config.lambda_c:
            c_AB, c_BA = self.G_B.content(x_AB), self.G_A.content(x_BA)
            terms["c"] = l1(c_AB.features, c_A.features) + l1(c_BA.features, c_B.features)  # Eq. 5.6
        if self.config.lambda_s:
            terms["s"] = l1(self.G_B.style(x_AB), made.s_B) + l1(self.G_A.style(x_BA), made.s_A)  # Eq. 5.7
        if self.config.lambda_U:
            terms["U"] = self._change(x_A, x_AB) + self._change(x_B, x_BA)  # Eq. 5.3
        return terms

    def _change(self, x: Tensor, y: Tensor) -> Tensor:
        """How far the semantic features of `y` are from those of its input `x`: (N, C, H, W) twice -> (N,)."""
        with torch.no_grad():
            u = self.h(x)
        return l1(self.h(y), u)

    def _check_size(self, height: int, width: int) -> None:
        smallest = self.size_multiple * max(2, self.config.kernel // 2 + 1)
        multiple = self.size_multiple if min(height, width) >= smallest else smallest
        check_size(height, width, multiple, "UDIT's content encoder")

    def translate(
        self, x: Tensor, code: Tensor | None = None, *, target: str = "b", style_from: Tensor | None = None
    ) -> Tensor:
        """G_B(E_A^c(x), s), or for target `a` the reverse; see `Method.translate`.

        Args:
            x: (N, C, H, W) float in [-1, 1].
            code: the style s, (N, code_dim).
            target: `b` or `a`.
            style_from: (C', H', W') float in [-1, 1], an image of the target domain whose style all outputs take.
        """
        check_target(target, self.targets)
        self._check_size(*x.shape[2:])
        source, goal = (self.G_A, self.G_B) if target == "b" else (self.G_B, self.G_A)
        if style_from is None:
            return goal.decode(source.content(x), require_code(code, x, self.code_dim))
        check_style(style_from, goal.channels, max(self.size_multiple, self.config.kernel // 2 + 1))
        s = goal.style(style_from[None].to(x))
        return goal.decode(source.content(x), s.expand(len(x), -1))

    def translator_networks(self) -> tuple[str, ...]:
        """Both translators; h is needed in training alone."""
        return ("G_A", "G_B")


@dataclass(frozen=True, kw_only=True)
class MUNITPIConfig(UDITConfig):
    """UDIT's settings without the semantic constraint."""

    lambda_U: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that can't work, a weight of the constraint and missing indices among them.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        if self.lambda_U:
            raise ConfigError(f"method.lambda_U is {self.lambda_U}: munit_pi is UDIT with 0. Use the method udit.")
        if not self.pooling_indices:
            raise ConfigError("method.pooling_indices is off, which leaves nothing of munit_pi: use the method munit.")


class MUNITPI(UDIT):
    """MUNIT+PI: UDIT with lambda_U = 0, its baseline in section 5.6.4."""

    Config = MUNITPIConfig
    config: MUNITPIConfig

    @classmethod
    def tiny(cls) -> Mapping[str, MUNITPIConfig]:
        """UDIT's first."""
        first = next(iter(UDIT.tiny().values()))
        return {"pooling_indices": cls.Config(**{**vars(first), "lambda_U": 0.0})}


def _fill(extractor: nn.Module, state: Mapping[str, Tensor], config: UDITConfig) -> None:
    """Copy a source into h: what `i2idist extractor` saved, or the face network's weights."""
    prefix = "extractor." if config.extractor == "classifier" else ""
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    try:
        extractor.load_state_dict(found)
    except RuntimeError as error:
        what = f"extractor={config.extractor}"
        if config.extractor == "classifier":
            what += (
                f" extractor_width={config.extractor_width} extractor_convs={list(config.extractor_convs)} "
                f"extractor_dim={config.extractor_dim}"
            )
        raise SourceError(
            f"sources.{SOURCE} isn't the network that the method's settings describe ({what}); `i2idist extractor` "
            f"printed the settings that fit its own: {error}"
        ) from error
