"""CycleGAN: unpaired two-sided translation held together by cycle consistency.

Zhu et al. 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", arXiv:1703.10593.

Notation: G: X -> Y, F: Y -> X, D_X, D_Y, as in the paper; a is X, b is Y; z a code, in CycleGAN+noise alone.

Deviations and readings:
- CycleGAN+noise: each pass through G and F draws a code of its own, the identity term's too. With the ResNet it steers
  the norms of the residual blocks, since concatenated to the input it would be removed by the first instance norm; with
  the U-net (MUNIT's rival, arXiv:1804.04732, section 5.2) it is concatenated at every encoder level.
- Of a label map the generators give logits: the cycle back to it has cross-entropy in L1's place, and discriminators,
  pools and the way back see softmax of fakes and one-hot classes of real ones. So is CycleGAN a rival of mix-and-match
  networks (Wang 2020, thesis, section 4.6.2). There is no identity term then.
- Without noise the optional dropout is off, as in the reference. With it, masks are drawn by the code in translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from i2idist.data.batches import Batch, Unpaired
from i2idist.errors import ConfigError
from i2idist.losses.adversarial import least_squares_fake, least_squares_real
from i2idist.losses.reconstruction import l1
from i2idist.losses.segmentation import pixel_cross_entropy
from i2idist.method import Adam, Domain, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import (
    check_at_least,
    check_choice,
    check_equal_sizes,
    check_probability,
    check_target,
    require_code,
)
from i2idist.methods.label_maps import as_networks_see, channels_of, likeliest
from i2idist.nn.image_pool import ImagePool
from i2idist.nn.init import init_normal
from i2idist.nn.patchgan import PatchGAN, check_patches
from i2idist.nn.resnet import ResnetGenerator
from i2idist.nn.unet import UNet, unet_depth
from i2idist.randomness import Noise, content_keys


@dataclass(frozen=True, kw_only=True)
class CycleGANConfig:
    """CycleGAN's settings; sections of the paper in brackets.

    Attributes:
        lambda_cycle: weight of cycle consistency [4].
        lambda_sem: weight of the cycle's cross-entropy, of label maps.
        lambda_identity: weight of the identity term, half of lambda_cycle [5.2]; 0 where the domains' channels differ,
            and with label maps.
        pool_size: earlier fakes kept for each discriminator [4].
        generator: ResNet [7.2], or U-net.
        code_dim: length of the code; 0: no noise.
        dropout: probability inside G and F.
        width: channels of the generators' first layer [7.2].
        blocks: residual blocks; None: 9 from 256 pixels on, 6 below [7.2].
        depth: halvings of a U-net; None: as many as the training size allows, at most 8.
        discriminator_width: channels of the discriminators' first layer [7.2].
        discriminator_layers: stride-2 layers of the discriminators [7.2].
        lr: learning rate of both players [4].
        betas: Adam's decay rates (reference).
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0 [7.1].
        ema: whether moving averages of G and F are kept for translation.
    """

    lambda_cycle: float = 10.0
    lambda_sem: float = 10.0
    lambda_identity: float = 5.0
    pool_size: int = 50
    generator: Literal["resnet", "unet"] = "resnet"
    code_dim: int = 0
    dropout: float = 0.0
    width: int = 64
    blocks: int | None = None
    depth: int | None = None
    discriminator_width: int = 64
    discriminator_layers: int = 3
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    lr_hold: float = 0.5
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("generator", self.generator, ("resnet", "unet"))
        check_probability("dropout", self.dropout)
        check_at_least(
            0, lambda_cycle=self.lambda_cycle, lambda_identity=self.lambda_identity, pool_size=self.pool_size
        )
        check_at_least(0, lambda_sem=self.lambda_sem, code_dim=self.code_dim)
        check_at_least(1, width=self.width, blocks=self.blocks, depth=self.depth)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)


class CycleGAN(Method):
    """CycleGAN: players generators (G, F) and discriminators (D_X, D_Y)."""

    Config = CycleGANConfig
    paper = "Zhu et al. 2017, Unpaired Image-to-Image Translation using Cycle-Consistent Networks (arXiv:1703.10593)"
    label_maps = True
    targets = ("b", "a")
    config: CycleGANConfig

    def __init__(self, config: CycleGANConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            ConfigError: the identity term has a weight, but the domains' channels differ, or there are label maps.
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "CycleGAN")
        a, b = domains.a, domains.b
        if config.lambda_identity and (a.classes or b.classes):
            raise ConfigError(
                f"method.lambda_identity is {config.lambda_identity}, but with label maps there is no identity term: "
                "set it to 0."
            )
        if config.lambda_identity and a.channels != b.channels:
            raise ConfigError(
                f"method.lambda_identity is {config.lambda_identity}, but the identity term compares an output "
                f"with its input, and the domains have {a.channels} and {b.channels} channels: set it to 0."
            )
        self.config, self.domains = config, domains
        self.code_dim = config.code_dim or (1 if config.dropout else 0)
        check_patches(a.height, a.width, layers=config.discriminator_layers)
        self.G, self.F = self._make_generator(a, b), self._make_generator(b, a)
        self.D_X, self.D_Y = self._make_discriminator(channels_of(a)), self._make_discriminator(channels_of(b))
        self.pool_x = ImagePool(config.pool_size, channels_of(a), a.height, a.width)
        self.pool_y = ImagePool(config.pool_size, channels_of(b), b.height, b.width)
        for network in (self.G, self.F, self.D_X, self.D_Y):
            init_normal(network)

    def _make_generator(self, source: Domain, target: Domain) -> ResnetGenerator | UNet:
        config, height, width = self.config, source.height, source.width
        ends = channels_of(source), channels_of(target)
        shared: dict[str, Any] = {"code_dim": config.code_dim, "dropout": config.dropout, "bounded": not target.classes}
        if config.generator == "resnet":
            self.size_multiple = 4
            self._check_size(height, width)
            blocks = config.blocks or (9 if min(height, width) >= 256 else 6)
            return ResnetGenerator(*ends, width=config.width, blocks=blocks, **shared)
        depth = config.depth or unet_depth(height, width)
        self.size_multiple = 2**depth
        self._check_size(height, width)
        return UNet(*ends, width=config.width, depth=depth, **shared)

    def _make_discriminator(self, channels: int) -> PatchGAN:
        config = self.config
        return PatchGAN(channels, width=config.discriminator_width, layers=config.discriminator_layers)

    @classmethod
    def tiny(cls) -> Mapping[str, CycleGANConfig]:
        """A pool that overflows within the suite; ResNet and U-net."""
        small: dict[str, Any] = {"width": 4, "discriminator_width": 4, "discriminator_layers": 1, "pool_size": 5}
        small["ema"] = True
        return {
            "resnet": cls.Config(blocks=1, **small),
            "unet": cls.Config(generator="unet", depth=3, dropout=0.5, lambda_identity=0.0, **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Two pools."""
        return Unpaired

    def players(self) -> tuple[Player, ...]:
        """Both generators, both discriminators."""
        config = self.config
        adam, schedule = Adam(lr=config.lr, betas=config.betas), Schedule(hold=config.lr_hold)
        return (
            Player(name="generators", networks=("G", "F"), optimizer=adam, schedule=schedule, ema=config.ema),
            Player(name="discriminators", networks=("D_X", "D_Y"), optimizer=adam, schedule=schedule),
        )

    def updates(self) -> tuple[Update, ...]:
        """Generators first; their fakes go through the pools to the discriminators."""
        return (
            Update(player="generators", backward=self.generator_terms),
            Update(player="discriminators", backward=self.discriminator_terms),
        )

    def generator_terms(self, step: Step) -> Terms:
        """Eq. 3, and the identity term of section 5.2."""
        x, y = self._both(step)
        y_hat = _probabilities(self._pass(self.G, x, step), self.domains.b)
        x_hat = _probabilities(self._pass(self.F, y, step), self.domains.a)
        step.share(x_hat=x_hat, y_hat=y_hat)
        # Eq. 1 with least squares, and Eq. 2.
        terms = {"gan": least_squares_real(self.D_Y(y_hat)) + least_squares_real(self.D_X(x_hat))}
        ends = ((self.F, y_hat, x, self.domains.a), (self.G, x_hat, y, self.domains.b))
        for back, fake, truth, domain in ends:
            name, distance = ("sem", pixel_cross_entropy) if domain.classes else ("cycle", l1)
            value = distance(self._pass(back, fake, step), truth)
            terms[name] = terms[name] + value if name in terms else value
        if self.config.lambda_identity:
            terms["identity"] = l1(self._pass(self.G, y, step), y) + l1(self._pass(self.F, x, step), x)  # section 5.2
        return terms

    def discriminator_terms(self, step: Step) -> Terms:
        """Eq. 1 with least squares, halved (section 7.1), on fakes from the pools."""
        x, y = self._both(step)
        x_hat = self.pool_x(step.shared.x_hat, step.uniform("pool_x", 2), step.comm)
        y_hat = self.pool_y(step.shared.y_hat, step.uniform("pool_y", 2), step.comm)
        return {
            "D_Y": 0.5 * (least_squares_real(self.D_Y(y)) + least_squares_fake(self.D_Y(y_hat))),
            "D_X": 0.5 * (least_squares_real(self.D_X(x)) + least_squares_fake(self.D_X(x_hat))),
        }

    def _both(self, step: Step) -> tuple[Tensor, Tensor]:
        x, y = step.both
        return as_networks_see(x, self.domains.a), as_networks_see(y, self.domains.b)

    def _pass(self, generator: ResnetGenerator | UNet, images: Tensor, step: Step) -> Tensor:
        """Translate a training batch, with a fresh code and fresh masks where the configuration has them."""
        z = step.normal("z", self.config.code_dim) if self.config.code_dim else None
        noise = step.noise("dropout") if self.config.dropout else None
        out: Tensor = generator(images, z, noise)
        return out

    def _check_size(self, height: int, width: int) -> None:
        smallest = max(self.size_multiple, 8)
        multiple = self.size_multiple if min(height, width) >= smallest else smallest
        check_size(height, width, multiple, f"CycleGAN's {self.config.generator} generator")

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """G(x), or F(x) for target `a`; see `Method.translate`."""
        check_target(target, self.targets)
        self._check_size(*x.shape[2:])
        z = noise = None
        if self.code_dim:
            code = require_code(code, x, self.code_dim)
            z = code if self.config.code_dim else None
            noise = Noise(content_keys(code)) if self.config.dropout else None
        source, goal = self.domains.route(target)
        out: Tensor = (self.G if target == "b" else self.F)(as_networks_see(x, source), z, noise)
        return likeliest(out) if goal.classes else out

    def translator_networks(self) -> tuple[str, ...]:
        """Both generators."""
        return ("G", "F")


def _probabilities(y: Tensor, domain: Domain) -> Tensor:
    """What a generator made, as other networks see it: softmax of a label map's logits."""
    return y.softmax(1) if domain.classes else y


@dataclass(frozen=True, kw_only=True)
class CycleGANNoiseConfig(CycleGANConfig):
    """CycleGAN's settings with a code."""

    code_dim: int = 8

    def __post_init__(self) -> None:
        """Refuse settings that can't work, a missing code among them.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        check_at_least(1, code_dim=self.code_dim)


class CycleGANNoise(CycleGAN):
    """CycleGAN+noise: both generators take a code, and nothing makes them use it."""

    Config = CycleGANNoiseConfig
    config: CycleGANNoiseConfig
