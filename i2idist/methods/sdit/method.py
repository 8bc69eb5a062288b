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
- E, G and M have 23.65M parameters at 128x128 with five attributes, by the thesis's 6 blocks of 256 channels in each of
  E, T^c and T^a; the public code's have 19.68M.
- D's class branch convolves the whole last map, as the public code's does (D 44.91M); the thesis says 3x3.
- Eq. 6.1 is the log loss, G's side in its non-saturating form; `gan: wgan_gp` is the public code's, with `critic_steps`
  5. It trained F_rec through G alone, drew a new z for the cycle, and multiplied the attention on.
- The Gaussian initial weights have He's variances, since D has no norm that would make up for others.
- Target labels are the batch's own in random order; instance norm as in StarGAN.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from i2idist.data.batches import Batch, Labelled
from i2idist.losses.adversarial import log_fake, log_real, non_saturating, wasserstein_fake, wasserstein_real
from i2idist.losses.penalty import between, gradient_penalty
from i2idist.losses.reconstruction import l1
from i2idist.method import Adam, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import require_code
from i2idist.methods.labels import Labels, shuffled
from i2idist.methods.sdit.config import WEIGHTINGS, SDITConfig
from i2idist.methods.sdit.networks import CodeMapping, Encoder, Generator
from i2idist.nn.init import init_kaiming
from i2idist.nn.labelled import LabelDiscriminator
from i2idist.nn.norm import AffineInstanceNorm, evaluating


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
        init_kaiming(self.E)
        init_kaiming(self.D)
        if self.code_dim:
            self.M = CodeMapping(config)

    @classmethod
    def tiny(cls) -> Mapping[str, SDITConfig]:
        """Both adversarial losses; every way to steer; with attention and without.

        Slow, since the instance norm behind E's first layer takes away what the middle of its kernel makes of a label's
        constant map: that gradient is rounding alone, 800-fold here, and Adam's first step scales it to the learning
        rate.
        """
        small: dict[str, Any] = {"width": 4, "blocks": 1, "cin_blocks": 1, "hidden": 8, "code_dim": 3, "lr": 1e-5}
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
        batch = step.labelled
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
        batch, shared = step.labelled, step.shared
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
