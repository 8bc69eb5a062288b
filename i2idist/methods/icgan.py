"""IcGAN: a conditional GAN, then encoders that invert it; an image is edited by encoding it and changing its labels.

Perarnau et al. 2016, "Invertible Conditional GANs for image editing", arXiv:1611.06355.

Notation: x an image with labels y in {-1, 1}; z the latent vector; x' = G(z, y'); E_z, E_y the encoders of latent
vector and labels (the paper's independent ones, IND).

Deviations and readings:
- Two stages share `total_images` as the paper's epochs do, 25 and 15. In the second, G is frozen and draws images as it
  does in translation, with its batch norm's running averages.
- The mismatched labels of D's third term are drawn from the other classes; attributes are those of
  other images of the batch.
- The encoders end in one linear layer after their convolutions.
- Smaller or larger images than 64x64 have fewer or more `levels` in G and D, down to 4 pixels.
- Attributes of a target are set to 1, the others stay as E_y reads them, rounded to -1 or 1, which is all that G has
  seen in training (so the public code). Of classes, which exclude each other, the target's replaces the input's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.data.batches import Batch, Labelled
from i2idist.errors import SizeError
from i2idist.losses.adversarial import log_fake, log_real, non_saturating
from i2idist.losses.reconstruction import l2
from i2idist.method import Adam, Domains, Method, Player, Stage, Step, Terms, Update, check_size
from i2idist.methods.checks import check_at_least, check_probability
from i2idist.methods.labels import Labels, shuffled
from i2idist.nn.init import init_normal
from i2idist.nn.labelled import with_labels
from i2idist.nn.norm import CrossReplicaBatchNorm, evaluating


@dataclass(frozen=True, kw_only=True)
class IcGANConfig:
    """IcGAN's settings; values from its public code.

    Attributes:
        attributes: which attributes of the data are the labels; empty: the data has classes.
        latent_dim: length of z.
        levels: doublings in G from 4 pixels, halvings in D; 4 for 64x64.
        width: channels of G's last hidden and D's first layer; they double towards the inside.
        encoder_width: channels of the encoders' first layer.
        encoder_layers: their stride-2 convolutions.
        gan_share: the share of training that the conditional GAN takes: 25 of 40 epochs.
        lr: learning rate of G and D.
        betas: Adam's decay rates for G and D.
        encoder_lr: learning rate of the encoders.
        encoder_betas: Adam's decay rates for them.
        ema: whether moving averages of G and of the encoders are kept for translation.
    """

    attributes: tuple[str, ...] = ()
    latent_dim: int = 100
    levels: int = 4
    width: int = 64
    encoder_width: int = 32
    encoder_layers: int = 4
    gan_share: float = 0.625
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    encoder_lr: float = 1e-4
    encoder_betas: tuple[float, float] = (0.1, 0.999)
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_at_least(1, latent_dim=self.latent_dim, levels=self.levels, width=self.width)
        check_at_least(1, encoder_width=self.encoder_width, encoder_layers=self.encoder_layers)
        check_probability("gan_share", self.gan_share)


class Generator(nn.Module):
    """G: a latent vector and labels to an image, by transposed convolutions."""

    def __init__(self, inputs: int, channels: int, smallest: tuple[int, int], *, width: int, levels: int) -> None:
        """Make the network.

        Args:
            inputs: length of z and y together.
            channels: of the image.
            smallest: height and width after the first layer; each level doubles them.
            width: channels before the last layer.
            levels: doublings.
        """
        super().__init__()
        widths = [width * 2**level for level in reversed(range(levels))]
        parts = _normed(nn.ConvTranspose2d(inputs, widths[0], smallest, bias=False), nn.ReLU(inplace=True))
        for above, below in zip(widths, widths[1:], strict=False):
            parts += _normed(nn.ConvTranspose2d(above, below, 4, 2, 1, bias=False), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*parts, nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """(N, Z), (N, L) in {-1, 1} -> (N, channels, H, W) in [-1, 1]."""
        x: Tensor = self.layers(torch.cat([z, y.to(z.dtype)], dim=1)[:, :, None, None])
        return x


class Discriminator(nn.Module):
    """D: an image and labels, these as maps behind the first convolution."""

    def __init__(self, channels: int, labels: int, smallest: tuple[int, int], *, width: int, levels: int) -> None:
        """Make the network; for the settings see `Generator`."""
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True))
        parts: list[nn.Module] = []
        below = width + labels
        for level in range(1, levels):
            parts += _normed(nn.Conv2d(below, width * 2**level, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True))
            below = width * 2**level
        self.layers = nn.Sequential(*parts, nn.Conv2d(below, 1, smallest))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits that images are real and have these labels: (N, channels, H, W), (N, L) in {-1, 1} -> (N, 1, 1, 1)."""
        logits: Tensor = self.layers(with_labels(self.first(x), y))
        return logits


class Encoder(nn.Module):
    """E_z or E_y: an image to a vector."""

    def __init__(self, channels: int, outputs: int, size: tuple[int, int], *, width: int, layers: int) -> None:
        """Make the network for images of `size` (H, W): `layers` halvings from `width` channels on, which double."""
        super().__init__()
        parts: list[nn.Module] = []
        below = channels
        for level in range(layers):
            parts += _normed(nn.Conv2d(below, width * 2**level, 5, 2, 2, bias=False), nn.ReLU(inplace=True))
            below = width * 2**level
        rows, columns = (-(-side // 2**layers) for side in size)
        self.layers = nn.Sequential(*parts, nn.Flatten(), nn.Linear(below * rows * columns, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, outputs)."""
        vector: Tensor = self.layers(x)
        return vector


class IcGAN(Method):
    """IcGAN: players discriminator (D) and generator (G), then encoders (E_z, E_y)."""

    Config = IcGANConfig
    paper = "Perarnau et al. 2016, Invertible Conditional GANs for image editing (arXiv:1611.06355)"
    config: IcGANConfig

    def __init__(self, config: IcGANConfig, domains: Domains) -> None:
        """Make the networks for images and labels of `domains`.

        Raises:
            ConfigError: the labels don't suit the config.
            SizeError: the size doesn't suit the networks.
        """
        super().__init__()
        self.config = config
        self.labels = Labels.of(domains, config.attributes)
        self.targets = self.labels.names
        a, count = domains.a, len(self.labels)
        self.size, self.size_multiple = (a.height, a.width), 2**config.levels
        check_size(a.height, a.width, self.size_multiple, f"IcGAN with {config.levels} levels")
        smallest = a.height >> config.levels, a.width >> config.levels
        shape: dict[str, int] = {"width": config.width, "levels": config.levels}
        self.G = Generator(config.latent_dim + count, a.channels, smallest, **shape)
        self.D = Discriminator(a.channels, count, smallest, **shape)
        self.E_z, self.E_y = (
            Encoder(a.channels, outputs, self.size, width=config.encoder_width, layers=config.encoder_layers)
            for outputs in (config.latent_dim, count)
        )
        for network in (self.G, self.D, self.E_z, self.E_y):
            init_normal(network)

    @classmethod
    def tiny(cls) -> Mapping[str, IcGANConfig]:
        """Both stages within the suite's few steps.

        Slow, since a label that all of a batch of four lack has no gradient behind a batch norm but rounding, which
        Adam's first step scales up to the learning rate.
        """
        small: dict[str, Any] = {"latent_dim": 5, "levels": 2, "width": 4, "encoder_width": 4, "encoder_layers": 2}
        return {"stages": cls.Config(gan_share=0.5, lr=1e-5, ema=True, **small)}

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images with labels."""
        return Labelled

    def players(self) -> tuple[Player, ...]:
        """Discriminator and generator; the encoders."""
        config = self.config
        gan = Adam(lr=config.lr, betas=config.betas)
        encoders = Adam(lr=config.encoder_lr, betas=config.encoder_betas)
        return (
            Player(name="discriminator", networks=("D",), optimizer=gan),
            Player(name="generator", networks=("G",), optimizer=gan, ema=config.ema),
            Player(name="encoders", networks=("E_z", "E_y"), optimizer=encoders, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """Those of both stages."""
        return tuple(update for stage in self.stages() for update in stage.updates)

    def stages(self) -> tuple[Stage, ...]:
        """The conditional GAN; then the encoders, G and D left as they are."""
        gan = (
            Update(player="discriminator", backward=self.discriminator_terms),
            Update(player="generator", backward=self.generator_terms),
        )
        encoders = (Update(player="encoders", backward=self.encoder_terms),)
        return (
            Stage(name="gan", updates=gan, until=self.config.gan_share),
            Stage(name="encoders", updates=encoders, frozen=("G", "D")),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """-log D(x, y) - (log(1 - D(x', y)) + log(1 - D(x, y_other))) / 2: real images with other labels are fakes."""
        batch = step.labelled
        labels = self.labels.read(batch)
        y = _signed(labels)
        generated = self.G(step.normal("z", self.config.latent_dim), y)
        step.keep(generated=generated)
        return {
            "real": log_real(self.D(batch.x, y)),
            "generated": 0.5 * log_fake(self.D(generated.detach(), y)),
            "mismatched": 0.5 * log_fake(self.D(batch.x, _signed(self._mismatched(labels, step)))),
        }

    def generator_terms(self, step: Step) -> Terms:
        """-log D(x', y)."""
        y = _signed(self.labels.read(step.labelled))
        return {"gan": non_saturating(self.D(step.shared.generated, y))}

    def encoder_terms(self, step: Step) -> Terms:
        """|z - E_z(G(z, y))|^2 on generated images, |y - E_y(x)|^2 on real ones."""
        batch = step.labelled
        y = _signed(self.labels.read(batch))
        z = step.normal("z", self.config.latent_dim)
        with torch.no_grad(), evaluating(self.G):
            generated = self.G(z, y)
        return {"z": l2(self.E_z(generated), z), "y": l2(self.E_y(batch.x), y)}

    def _mismatched(self, labels: Tensor, step: Step) -> Tensor:
        """Labels that the images don't have: another class each, or other images' attributes."""
        if self.labels.columns:
            return shuffled(labels, step)
        others = len(self.labels) - 1
        further = 1 + (step.uniform("mismatch") * others).long().clamp_(max=others - 1)
        return functional.one_hot((labels.argmax(1) + further) % len(self.labels), len(self.labels)).to(labels.dtype)

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """G(E_z(x), y), y the labels of `target` and, of attributes, the input's others; see `Method.translate`."""
        y = _signed(self.labels.target(target, x))
        if tuple(x.shape[2:]) != self.size:
            raise SizeError(
                f"This IcGAN was trained for images of {self.size[0]}x{self.size[1]} and translates no others, such as "
                f"{x.shape[2]}x{x.shape[3]}: resize the images."
            )
        with evaluating(self.E_z), evaluating(self.E_y), evaluating(self.G):
            if self.labels.columns:
                y = torch.maximum(y, self.E_y(x).sign())
            edited: Tensor = self.G(self.E_z(x), y)
        return edited

    def translator_networks(self) -> tuple[str, ...]:
        """G and the encoders, that of labels only for attributes."""
        return ("G", "E_z", "E_y") if self.labels.columns else ("G", "E_z")


def _normed(layer: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module) -> list[nn.Module]:
    return [layer, CrossReplicaBatchNorm(layer.out_channels), activation]


def _signed(labels: Tensor) -> Tensor:
    """{0, 1} -> {-1, 1}."""
    return 2 * labels - 1
