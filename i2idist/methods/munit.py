"""MUNIT: many-to-many unpaired translation by content that domains share and style that each domain has of its own.

An image is encoded to content and style; its content, decoded with a style drawn from N(0, I) or taken from an image of
the other domain, is a translation. Reconstruction of images, contents and styles holds the parts together.

Huang et al. 2018, "Multimodal Unsupervised Image-to-Image Translation", arXiv:1804.04732.

Notation, as in section 4: domain 1 is a, 2 is b; E_i^c is `G_i.content`, E_i^s is `G_i.style`, G_i is `G_i.decode`;
c_i = E_i^c(x_i), s_i ~ q(s_i) = N(0, I), x12 = G_2(c1, s2), x21 = G_1(c2, s1).

Deviations and readings:
- The discriminators step first and the autoencoders then train on the same translations, which they still remember: the
  public code makes new ones with new styles, at the cost of a second pass.
- GAN losses are least squares at each scale, added (section 5.1 and the public code); all norms are element means.
- Instance norms use each image's own statistics in translation as in training; the public code has running ones.
- Layer norm has its epsilon inside the root and the biased variance, as torch's kernel does.
- The perceptual term follows the public code: relu5_3, instance-normalised, compared with the *input*. The network is
  VGG16 as torchvision published it, named in the recipe: `sources: {vgg: weights:vgg16}`.
- A style of an image (`style_from`) is E^s of the target domain, as in section 5.5's example-guided translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.functional import instance_norm

from i2idist.data.batches import Batch, Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.losses.adversarial import multiscale_fake, multiscale_real
from i2idist.losses.reconstruction import l1, l2
from i2idist.method import Adam, Domain, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import (
    check_at_least,
    check_equal_sizes,
    check_sources,
    check_style,
    check_target,
    require_code,
)
from i2idist.nn.adain import AdaINDecoder, ContentEncoder, StyleEncoder, style_mlp
from i2idist.nn.init import init_kaiming, init_normal
from i2idist.nn.patchgan import MultiScaleStridedPatchGAN, check_strided_patches
from i2idist.nn.vgg import VGGFeatures


@dataclass(frozen=True, kw_only=True)
class MUNITConfig:
    """MUNIT's settings; sections of the paper in brackets.

    Attributes:
        lambda_x: weight of image reconstruction [4, Eq. 2; B]; 0 leaves the term out, as in the ablation [5.3].
        lambda_c: weight of content reconstruction [Eq. 3].
        lambda_s: weight of style reconstruction [Eq. 4].
        lambda_cycle: weight of style-augmented cycle consistency [5.1; 10 on Yosemite and Synthia in the public code].
        lambda_vgg: weight of the domain-invariant perceptual term [5.1; 1 at 512x512].
        code_dim: length of the style code [B].
        width: channels of the first layer of each encoder [B.1].
        content_downs: halvings from image to content [B.1].
        style_downs: halvings in the style encoders [B.1].
        blocks: residual blocks in each content encoder, and in each decoder [B.1].
        mlp_width: hidden units of the network from a style to shifts and scales [public code].
        discriminator_width: channels of the first layer of each discriminator [B.1].
        discriminator_layers: stride-2 layers of each discriminator [B.1].
        discriminator_scales: scales of each discriminator [public code].
        vgg_width: channels of the perceptual network's first layer; VGG16's by default.
        lr: learning rate of both players [B].
        betas: Adam's decay rates [B].
        weight_decay: of both players [public code].
        lr_halve_every_images: how many images halve the learning rate [B: 100,000 steps of one image]; None: never.
        ema: whether a moving average of the autoencoders is kept for translation.
    """

    lambda_x: float = 10.0
    lambda_c: float = 1.0
    lambda_s: float = 1.0
    lambda_cycle: float = 0.0
    lambda_vgg: float = 0.0
    code_dim: int = 8
    width: int = 64
    content_downs: int = 2
    style_downs: int = 4
    blocks: int = 4
    mlp_width: int = 256
    discriminator_width: int = 64
    discriminator_layers: int = 4
    discriminator_scales: int = 3
    vgg_width: int = 64
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
        check_at_least(0, lambda_x=self.lambda_x, lambda_c=self.lambda_c, lambda_s=self.lambda_s)
        check_at_least(0, lambda_cycle=self.lambda_cycle, lambda_vgg=self.lambda_vgg, weight_decay=self.weight_decay)
        check_at_least(1, code_dim=self.code_dim, width=self.width, blocks=self.blocks, mlp_width=self.mlp_width)
        check_at_least(1, content_downs=self.content_downs, style_downs=self.style_downs, vgg_width=self.vgg_width)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)
        check_at_least(1, discriminator_scales=self.discriminator_scales)
        check_at_least(1, lr_halve_every_images=self.lr_halve_every_images)


class Autoencoder(nn.Module):
    """One domain's E^c, E^s and G, whose AdaIN layers an MLP of the style steers."""

    def __init__(self, config: MUNITConfig, channels: int) -> None:
        """Make the networks for images of so many channels."""
        super().__init__()
        self.channels = channels
        width, downs, blocks = config.width, config.content_downs, config.blocks
        self.content = ContentEncoder(channels, width=width, downs=downs, blocks=blocks)
        self.style = StyleEncoder(channels, width=width, downs=config.style_downs, code_dim=config.code_dim)
        self.decoder = AdaINDecoder(channels, width=width, ups=downs, blocks=blocks)
        self.mlp = style_mlp(config.code_dim, config.mlp_width, self.decoder.affine_size)
        init_kaiming(self)

    def decode(self, c: Tensor, s: Tensor) -> Tensor:
        """G(c, s): content and style (N, code_dim) to images (N, C, H, W) in [-1, 1]."""
        x: Tensor = self.decoder(c, self.mlp(s))
        return x


class MUNIT(Method):
    """MUNIT: players discriminators (D_1, D_2) and autoencoders (G_1, G_2)."""

    Config = MUNITConfig
    paper = "Huang et al. 2018, Multimodal Unsupervised Image-to-Image Translation (arXiv:1804.04732)"
    targets = ("b", "a")
    config: MUNITConfig

    def __init__(self, config: MUNITConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            ConfigError: the perceptual term has a weight, but a domain has neither one channel nor three.
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "MUNIT")
        a, b = domains.a, domains.b
        self.config = config
        self.code_dim = config.code_dim
        self.size_multiple = 2**config.content_downs
        self._check_size(a.height, a.width)
        if min(a.height, a.width) < self._smallest_style:
            raise SizeError(
                f"MUNIT's style encoder takes images of at least {self._smallest_style} pixels a side, not "
                f"{a.height}x{a.width}: set a larger data.size, or a lower method.style_downs."
            )
        layers, scales = config.discriminator_layers, config.discriminator_scales
        check_strided_patches(a.height, a.width, layers=layers, scales=scales)
        self.G_1, self.G_2 = Autoencoder(config, a.channels), Autoencoder(config, b.channels)
        self.D_1, self.D_2 = self._make_discriminator(a.channels), self._make_discriminator(b.channels)
        if config.lambda_vgg:
            _check_visible(a, b)
            self.vgg = VGGFeatures(config.vgg_width)

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

    @classmethod
    def build(cls, config: Any, domains: Domains, sources: Mapping[str, Mapping[str, Tensor]] | None = None) -> Self:
        """MUNIT, with the source `vgg` where the perceptual term has a weight; see `Method.build`.

        Raises:
            ConfigError: a source is missing, or one is given that the configuration has no use for.
            SourceError: `vgg` holds no VGG16.
        """
        needed = {"vgg": "VGG16 (weights:vgg16), since method.lambda_vgg is set"} if config.lambda_vgg else {}
        check_sources(sources, needed)
        method = cls(config, domains)
        if sources:
            method.vgg.fill(sources["vgg"], "sources.vgg")
        return method

    @classmethod
    def tiny(cls) -> Mapping[str, MUNITConfig]:
        """Two scales; with every term, and with none but the GAN's."""
        small: dict[str, Any] = {"width": 1, "blocks": 1, "mlp_width": 4, "style_downs": 2}
        small |= {"discriminator_width": 2, "discriminator_layers": 1, "discriminator_scales": 2, "code_dim": 3}
        without: dict[str, Any] = dict.fromkeys(("lambda_x", "lambda_c", "lambda_s"), 0.0)
        return {
            "reconstruction": cls.Config(ema=True, **small),
            "every_term": cls.Config(lambda_cycle=10.0, lambda_vgg=1.0, vgg_width=2, **small),
            "gan_alone": cls.Config(lr_halve_every_images=None, **small, **without),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Two pools."""
        return Unpaired

    def players(self) -> tuple[Player, ...]:
        """Both discriminators, both autoencoders."""
        config = self.config
        adam = Adam(lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
        schedule = Schedule(step_every_images=config.lr_halve_every_images)
        return (
            Player(name="discriminators", networks=("D_1", "D_2"), optimizer=adam, schedule=schedule),
            Player(name="autoencoders", networks=("G_1", "G_2"), optimizer=adam, schedule=schedule, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """Discriminators first; their translations serve the autoencoders too, which haven't stepped since."""
        return (
            Update(player="discriminators", backward=self.discriminator_terms),
            Update(player="autoencoders", backward=self.autoencoder_terms),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """Eq. 5 with least squares, for D_1 and D_2."""
        x1, x2 = step.both
        s1, s2 = step.normal("s1", self.code_dim), step.normal("s2", self.code_dim)
        c1, c2 = self.G_1.content(x1), self.G_2.content(x2)
        x12, x21 = self.G_2.decode(c1, s2), self.G_1.decode(c2, s1)
        step.keep(s1=s1, s2=s2, c1=c1, c2=c2, x12=x12, x21=x21)
        return {
            "D_1": multiscale_real(self.D_1(x1)) + multiscale_fake(self.D_1(x21.detach())),
            "D_2": multiscale_real(self.D_2(x2)) + multiscale_fake(self.D_2(x12.detach())),
        }

    def autoencoder_terms(self, step: Step) -> Terms:
        """Eq. 6, with the optional terms of section 5.1."""
        x1, x2 = step.both
        config, made = self.config, step.shared
        c1, c2, x12, x21 = made.c1, made.c2, made.x12, made.x21
        terms = {"gan": multiscale_real(self.D_2(x12)) + multiscale_real(self.D_1(x21))}  # Eq. 5
        if config.lambda_x or config.lambda_cycle:
            s1, s2 = self.G_1.style(x1), self.G_2.style(x2)
        if config.lambda_x:
            terms["x"] = l1(self.G_1.decode(c1, s1), x1) + l1(self.G_2.decode(c2, s2), x2)  # Eq. 2
        if config.lambda_c or config.lambda_cycle:
            c1_hat, c2_hat = self.G_2.content(x12), self.G_1.content(x21)
        if config.lambda_c:
            terms["c"] = l1(c1_hat, c1) + l1(c2_hat, c2)  # Eq. 3
        if config.lambda_s:
            terms["s"] = l1(self.G_2.style(x12), made.s2) + l1(self.G_1.style(x21), made.s1)  # Eq. 4
        if config.lambda_cycle:
            terms["cycle"] = l1(self.G_1.decode(c1_hat, s1), x1) + l1(self.G_2.decode(c2_hat, s2), x2)  # section 5.1
        if config.lambda_vgg:
            terms["vgg"] = self._perceptual(x12, x1) + self._perceptual(x21, x2)  # section 5.1
        return terms

    def _perceptual(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean squared difference of normalised VGG features, which say little of style: (N, ...), (N, ...) -> (N,)."""
        return l2(instance_norm(self.vgg(x)), instance_norm(self.vgg(y)))

    def _check_size(self, height: int, width: int) -> None:
        smallest = max(2 * self.size_multiple, 8)
        multiple = self.size_multiple if min(height, width) >= smallest else smallest
        check_size(height, width, multiple, "MUNIT's content encoder")

    @property
    def _smallest_style(self) -> int:
        """Pixels a side of the smallest image that has a style."""
        return max(int(2**self.config.style_downs), 4)

    def translate(
        self, x: Tensor, code: Tensor | None = None, *, target: str = "b", style_from: Tensor | None = None
    ) -> Tensor:
        """G_2(E_1^c(x), s), or for target `a` the reverse; see `Method.translate`.

        Args:
            x: (N, C, H, W) float in [-1, 1].
            code: the style s, (N, code_dim).
            target: `b` or `a`.
            style_from: (C', H', W') float in [-1, 1], an image of the target domain whose style all outputs take.
        """
        check_target(target, self.targets)
        self._check_size(*x.shape[2:])
        source, goal = (self.G_1, self.G_2) if target == "b" else (self.G_2, self.G_1)
        if style_from is None:
            return goal.decode(source.content(x), require_code(code, x, self.code_dim))
        check_style(style_from, goal.channels, self._smallest_style)
        s = goal.style(style_from[None].to(x))
        return goal.decode(source.content(x), s.expand(len(x), -1))

    def translator_networks(self) -> tuple[str, ...]:
        """Both autoencoders."""
        return ("G_1", "G_2")


def _check_visible(*domains: Domain) -> None:
    for domain in domains:
        if domain.channels not in (1, 3):
            raise ConfigError(
                f"method.lambda_vgg needs images of 1 or 3 channels, but {domain.name} has {domain.channels}: set it "
                "to 0."
            )
