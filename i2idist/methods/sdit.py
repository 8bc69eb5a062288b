"""SDIT: one generator for all domains and for many outputs: the label steers the encoder, a code the bottleneck.

Wang et al. 2019, "SDIT: Scalable and Diverse Cross-Domain Image Translation", arXiv:1908.06881, and chapter 6 of Wang's
thesis, whose equations are cited.

Notation: x a real image with labels l_sc, here `source`; l_tg the target's, here `target`; z a code;
y = G(E(x, l_tg), M(z)); D's outputs D_src, D_cls, F_rec are `real`, `labels`, `code`. In G: T^c content blocks with
conditional instance norm (CIN), T^a attention.

Deviations and readings:
- Weights: the thesis sets lambda_lat 10 and lambda_rec 800; its author later said that the two were swapped
  (`weighting: author`).
- 4096 outputs of M steer 4 of T^c's 6 blocks (2 norms x gamma and beta x 256 channels each); the other 2 have plain
  instance norms. `cin_blocks: 6` makes M 6144 wide.
- M's last layer starts with biases 1 for gamma, so that training starts at plain instance norm.
- T^a ends in one 3x3 convolution to one map and a sigmoid.
- D's class branch convolves the whole last map, as the public code's does (D 44.91M); the thesis says 3x3.
- Eq. 6.1 is the log loss, G's side in its non-saturating form; `gan: wgan_gp` is the public code's, with `critic_steps`
  5. It trained F_rec through G alone, drew a new z for the cycle, and multiplied the attention on (19.68M for E, G, M).
- Target labels are the batch's own in random order; instance norm as in StarGAN.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2idist.data.batches import Batch, Labelled
from i2idist.errors import ConfigError
from i2idist.losses.adversarial import log_fake, log_real, non_saturating, wasserstein_fake, wasserstein_real
from i2idist.losses.penalty import between, gradient_penalty
from i2idist.losses.reconstruction import l1
from i2idist.method import Adam, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import check_at_least, check_choice, require_code
from i2idist.methods.labels import Labels, shuffled
from i2idist.nn.init import init_normal
from i2idist.nn.labelled import LabelDiscriminator, PaddedResidualBlock, decoder, encoder, with_labels
from i2idist.nn.norm import AffineInstanceNorm, NormLayer, evaluating

WEIGHTINGS = {"thesis": {"lat": 10.0, "rec": 800.0}, "author": {"lat": 800.0, "rec": 10.0}}
"""Both published weightings of code and image reconstruction."""


@dataclass(frozen=True, kw_only=True)
class SDITConfig:
    """SDIT's settings; values from section 6.4 of the thesis unless noted.

    Attributes:
        weighting: where lambda_lat and lambda_rec come from, unless they are set: the thesis, or its author's later
            word.
        lambda_gan: weight of the adversarial loss, in both players.
        lambda_fake: weight of the classification of translations.
        lambda_real: weight of the classification of real images.
        lambda_lat: weight of code reconstruction; 0 leaves it out, and D's branch.
        lambda_rec: weight of image reconstruction.
        lambda_gp: weight of the gradient penalty, with `gan: wgan_gp` (public code).
        gan: log loss (Eq. 6.1), or the public code's critic.
        critic_steps: updates of D for each of G, each on a new batch; the public code takes 5.
        attributes: which attributes of the data to translate between; empty: the data has classes.
        attention: whether outputs differ from inputs only where T^a says so [6.3.3]; off for scenes [6.5.4].
        cin: what the code steers: `both` gamma and beta, one alone (Fig. 6.6), or `none`: no code.
        cin_blocks: how many of T^c's blocks the code steers.
        code_dim: length of the code.
        width: channels of E's first layer.
        blocks: residual blocks in each of E, T^c and T^a.
        hidden: width of M's hidden layer.
        discriminator_width: channels of D's first layer.
        discriminator_layers: stride-2 layers of D.
        statistics_at_test: instance norm's statistics in translation: each `sample`'s own, or the `running` averages.
        lr: learning rate of both players.
        betas: Adam's decay rates.
        lr_hold: the learning rate is constant for this fraction of training, then falls linearly to 0.
        ema: whether moving averages of E, G and M are kept for translation.
    """

    weighting: Literal["thesis", "author"] = "thesis"
    lambda_gan: float = 10.0
    lambda_fake: float = 1.0
    lambda_real: float = 1.0
    lambda_lat: float | None = None
    lambda_rec: float | None = None
    lambda_gp: float = 10.0
    gan: Literal["log", "wgan_gp"] = "log"
    critic_steps: int = 1
    attributes: tuple[str, ...] = ()
    attention: bool = True
    cin: Literal["both", "gamma", "beta", "none"] = "both"
    cin_blocks: int = 4
    code_dim: int = 8
    width: int = 64
    blocks: int = 6
    hidden: int = 256
    discriminator_width: int = 64
    discriminator_layers: int = 6
    statistics_at_test: Literal["sample", "running"] = "sample"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    lr_hold: float = 1.0
    ema: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        check_choice("weighting", self.weighting, tuple(WEIGHTINGS))
        check_choice("gan", self.gan, ("log", "wgan_gp"))
        check_choice("cin", self.cin, ("both", "gamma", "beta", "none"))
        check_choice("statistics_at_test", self.statistics_at_test, ("sample", "running"))
        check_at_least(0, lambda_gan=self.lambda_gan, lambda_fake=self.lambda_fake, lambda_real=self.lambda_real)
        check_at_least(0, lambda_lat=self.lambda_lat, lambda_rec=self.lambda_rec, lambda_gp=self.lambda_gp)
        check_at_least(1, critic_steps=self.critic_steps, cin_blocks=self.cin_blocks, code_dim=self.code_dim)
        check_at_least(1, width=self.width, blocks=self.blocks, hidden=self.hidden)
        check_at_least(1, discriminator_width=self.discriminator_width, discriminator_layers=self.discriminator_layers)
        if self.cin_blocks > self.blocks:
            raise ConfigError(
                f"method.cin_blocks is {self.cin_blocks}, but T^c has {self.blocks} residual blocks: raise "
                "method.blocks or steer fewer."
            )


class Encoder(nn.Module):
    """E: an image and the target's labels to features at a quarter of the resolution."""

    def __init__(self, channels: int, labels: int, *, width: int, blocks: int, norm: NormLayer) -> None:
        """Make the network for images of so many channels."""
        super().__init__()
        first = nn.Conv2d(channels + labels, width, 7, 1, 3, bias=False)
        self.layers = nn.Sequential(first, encoder(width, blocks, norm))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(N, channels, H, W), (N, L) -> (N, 4 * width, H / 4, W / 4)."""
        e: Tensor = self.layers(with_labels(x, labels))
        return e


class ConditionalBlock(nn.Module):
    """x + CIN(conv(relu(CIN(conv(x))))), CIN(e) = gamma (e - mu(e)) / sigma(e) + beta (Eq. 6.10)."""

    def __init__(self, channels: int) -> None:
        """Make the block for (N, channels, H, W)."""
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.conv_2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """(N, C, H, W), and (N, 2, C, 1, 1) for the two norms -> (N, C, H, W)."""
        h = functional.relu(_cin(self.conv_1(x), gamma[:, 0], beta[:, 0]))
        return x + _cin(self.conv_2(h), gamma[:, 1], beta[:, 1])


class Generator(nn.Module):
    """G: features to an image, T^c steered by M(z) and mixed in where T^a attends."""

    def __init__(self, channels: int, config: SDITConfig, norm: NormLayer) -> None:
        """Make the network for images of so many channels."""
        super().__init__()
        self.width, self.cin, steered = 4 * config.width, config.cin, config.cin_blocks if config.cin != "none" else 0
        self.steered = nn.ModuleList(ConditionalBlock(self.width) for _ in range(steered))
        self.plain = nn.Sequential(*(PaddedResidualBlock(self.width, norm) for _ in range(config.blocks - steered)))
        self.attention = _attention(self.width, config.blocks, norm) if config.attention else None
        self.up = nn.Sequential(decoder(config.width, norm), nn.Conv2d(config.width, channels, 7, 1, 3, bias=False))

    def forward(self, e: Tensor, affine: Tensor) -> Tensor:
        """Finish an image.

        Args:
            e: (N, 4 * width, h, w), from E.
            affine: (N, A), from M; A is 0 without CIN.

        Returns:
            (N, channels, 4 * h, 4 * w) in [-1, 1].
        """
        f = self.plain(self._steer(e, affine))
        if self.attention is not None:
            a = self.attention(e)
            f = (1 - a) * e + a * f  # Eq. 6.9
        return torch.tanh(self.up(f))

    def _steer(self, e: Tensor, affine: Tensor) -> Tensor:
        if not len(self.steered):
            return e
        each = affine.reshape(len(e), len(self.steered), -1, 2, self.width, 1, 1)
        one, zero = torch.ones_like(each[:, :, 0]), torch.zeros_like(each[:, :, 0])
        gamma = one if self.cin == "beta" else each[:, :, 0]
        beta = zero if self.cin == "gamma" else each[:, :, -1]
        for place, block in enumerate(self.steered):
            e = block(e, gamma[:, place], beta[:, place])
        return e


class SDIT(Method):
    """SDIT: players discriminator (D) and generator (E, G, M)."""

    Config = SDITConfig
    paper = "Wang et al. 2019, SDIT: Scalable and Diverse Cross-Domain Image Translation (arXiv:1908.06881)"
    size_multiple = 4
    config: SDITConfig

    def __init__(self, config: SDITConfig, domains: Domains) -> None:
        """Make the networks for images and labels of `domains`.

        Raises:
            ConfigError: the labels don't suit the config.
            SizeError: the size doesn't suit the networks.
        """
        super().__init__()
        self.config = config
        self.labels = Labels.of(domains, config.attributes)
        self.targets = self.labels.names
        self.code_dim = 0 if config.cin == "none" else config.code_dim
        self.rebuilds_code = bool(self.code_dim and self.weights()["lat"])
        a = domains.a
        self._check_size(a.height, a.width)
        norm = functools.partial(AffineInstanceNorm, at_test=config.statistics_at_test)
        self.E = Encoder(a.channels, len(self.labels), width=config.width, blocks=config.blocks, norm=norm)
        self.G = Generator(a.channels, config, norm)
        self.D = LabelDiscriminator(
            [a.channels],
            len(self.labels),
            (a.height, a.width),
            width=config.discriminator_width,
            layers=config.discriminator_layers,
            code_dim=self.code_dim if self.rebuilds_code else 0,
        )
        for network in (self.E, self.G, self.D):
            init_normal(network)
        if self.code_dim:
            self.M = _mapping(config)

    @classmethod
    def tiny(cls) -> Mapping[str, SDITConfig]:
        """Both adversarial losses; every way to steer; with attention and without."""
        small: dict[str, Any] = {"width": 4, "blocks": 1, "cin_blocks": 1, "hidden": 8, "code_dim": 3}
        small |= {"discriminator_width": 4, "discriminator_layers": 2}
        return {
            "attention": cls.Config(ema=True, **small),
            "wgan_gp": cls.Config(
                gan="wgan_gp", critic_steps=2, cin="beta", attention=False, weighting="author", **small
            ),
            "gamma": cls.Config(cin="gamma", lambda_lat=0.0, statistics_at_test="running", **small),
            "no_code": cls.Config(cin="none", **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Images with labels."""
        return Labelled

    def weights(self) -> dict[str, float]:
        """The config's, the weighting's where it has none."""
        return {**WEIGHTINGS[self.config.weighting], **super().weights()}

    def players(self) -> tuple[Player, ...]:
        """Discriminator and generator."""
        config = self.config
        adam, schedule = Adam(lr=config.lr, betas=config.betas), Schedule(hold=config.lr_hold)
        return (
            Player(name="discriminator", networks=("D",), optimizer=adam, schedule=schedule),
            Player(
                name="generator",
                networks=self.translator_networks(),
                optimizer=adam,
                schedule=schedule,
                ema=config.ema,
            ),
        )

    def updates(self) -> tuple[Update, ...]:
        """D steps first; G then steps on D's last batch, whose fakes it has made already."""
        return (
            Update(player="discriminator", backward=self.discriminator_terms, repeat=self.config.critic_steps),
            Update(player="generator", backward=self.generator_terms),
        )

    def discriminator_terms(self, step: Step) -> Terms:
        """D's side of Eq. 6.8; without gradients, as in validation, there is no gradient penalty."""
        batch = _images(step)
        source = self.labels.read(batch)
        target = shuffled(source, step)
        z = step.normal("z", self.code_dim)
        affine = self.M(z) if self.code_dim else z
        y = self.G(self.E(batch.x, target), affine)
        step.keep(y=y, target=target, z=z, affine=affine)
        real, fake = self.D(batch.x), self.D(y.detach())
        on_real, on_fake = (log_real, log_fake) if self.config.gan == "log" else (wasserstein_real, wasserstein_fake)
        terms = {
            "gan": on_real(real.real) + on_fake(fake.real),  # Eq. 6.1
            "real": self.labels.loss(real.labels, source),  # Eq. 6.4
        }
        if self.rebuilds_code:
            terms["lat"] = l1(fake.code, z)  # Eq. 6.6
        if self.config.gan == "wgan_gp" and torch.is_grad_enabled():
            points = between(batch.x, y, step.uniform("epsilon", 1, 1, 1))
            terms["gp"] = gradient_penalty(self.D(points).real, points)
        return terms

    def generator_terms(self, step: Step) -> Terms:
        """E's, G's and M's side of Eq. 6.8."""
        batch, shared = _images(step), step.shared
        y = shared.y
        fake = self.D(y)
        on_fake = non_saturating if self.config.gan == "log" else wasserstein_real
        again = self.G(self.E(y, self.labels.read(batch)), shared.affine)
        terms = {
            "gan": on_fake(fake.real),  # Eq. 6.1
            "fake": self.labels.loss(fake.labels, shared.target),  # Eq. 6.3
            "rec": l1(again, batch.x),  # Eq. 6.7
        }
        if self.rebuilds_code:
            terms["lat"] = l1(fake.code, shared.z)  # Eq. 6.6
        return terms

    def _check_size(self, height: int, width: int) -> None:
        check_size(height, width, self.size_multiple if min(height, width) >= 8 else 8, "SDIT")

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """G(E(x, l_tg), M(z)), l_tg the labels that `target` names; see `Method.translate`."""
        labels = self.labels.target(target, x)
        self._check_size(*x.shape[2:])
        with evaluating(self.E), evaluating(self.G):
            affine = self.M(require_code(code, x, self.code_dim)) if self.code_dim else x.new_empty(len(x), 0)
            y: Tensor = self.G(self.E(x, labels), affine)
        return y

    def attention(self, x: Tensor, *, target: str) -> Tensor | None:
        """Where T^a lets `target` change an image; see `Method.attention`."""
        if self.G.attention is None:
            return None
        with evaluating(self.E), evaluating(self.G):
            a: Tensor = self.G.attention(self.E(x, self.labels.target(target, x)))
        return functional.interpolate(a, x.shape[2:], mode="nearest")

    def translator_networks(self) -> tuple[str, ...]:
        """E and G, and M where there is a code."""
        return ("E", "G", "M") if self.code_dim else ("E", "G")


def _cin(e: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Eq. 6.10: (N, C, H, W), (N, C, 1, 1), (N, C, 1, 1) -> (N, C, H, W)."""
    return torch.addcmul(beta, functional.instance_norm(e), gamma)


def _attention(channels: int, blocks: int, norm: NormLayer) -> nn.Sequential:
    """T^a: (N, channels, h, w) -> (N, 1, h, w) in [0, 1]."""
    body = (PaddedResidualBlock(channels, norm) for _ in range(blocks))
    return nn.Sequential(*body, nn.Conv2d(channels, 1, 3, 1, 1), nn.Sigmoid())


def _mapping(config: SDITConfig) -> nn.Sequential:
    """M: a code to the gammas and betas of T^c, by block, then kind, then norm: (N, code_dim) -> (N, A)."""
    kinds = 2 if config.cin == "both" else 1
    per_kind = 2 * 4 * config.width
    last = nn.Linear(config.hidden, config.cin_blocks * kinds * per_kind)
    network = nn.Sequential(nn.Linear(config.code_dim, config.hidden), nn.ReLU(inplace=True), last)
    init_normal(network)
    if config.cin != "beta":
        with torch.no_grad():
            last.bias.view(config.cin_blocks, kinds, per_kind)[:, 0] = 1
    return network


def _images(step: Step) -> Labelled:
    batch = step.batch
    assert isinstance(batch, Labelled)
    return batch
