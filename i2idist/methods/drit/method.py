"""DRIT: unpaired one-to-many translation in both directions; content is shared, attributes belong to a domain.

Lee et al. 2018, "Diverse Image-to-Image Translation via Disentangled Representations", arXiv:1808.00948.

Notation: domains a and b are the paper's X and Y; E_c and E_a encode content and attribute, G makes images of both, D
judges translations with encoded attributes, D2 those with drawn ones, D_c content. u has the content of b and the
attribute of a, v that of a and b, as in the paper.

Deviations and readings:
- Of each two samples the first is encoded; the second gives D2's real image (reference).
- D_c takes three steps, each on a new batch, for one step of the others (reference: "two content-D-only batches").
- The latent term, and D2's, don't train E_a, and are part of the one step of E_c, E_a and G. The reference makes a
  second step of E_c and G of them: `separate_latent_step`.
- D_c has no norm. The reference means it to have one, and by a slip of its code doesn't.
- Content is held near N(0, I) by the mean of its squares (reference; the paper has no such term).
- The attribute of a feature-wise generator has no spread, and the mean of its squares for a divergence (reference).
- Initial biases are 0, and linear layers' weights are drawn as convolutions' are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch, Unpaired
from i2idist.losses.adversarial import log_fake, log_real, non_saturating, over_scales
from i2idist.losses.latent import kl_to_standard_normal
from i2idist.losses.reconstruction import l1
from i2idist.losses.reduction import sample_mean, widen
from i2idist.method import Adam, Backward, Domain, Domains, Method, Player, Schedule, Step, Terms, Update, check_size
from i2idist.methods.checks import check_encoded, check_equal_sizes, check_style, check_target, require_code
from i2idist.methods.drit.config import DRITConfig
from i2idist.methods.drit.networks import (
    ConcatenationGenerators,
    ContentDiscriminator,
    ContentEncoders,
    FeatureWiseGenerators,
)
from i2idist.nn.adain import StyleEncoder
from i2idist.nn.frozen import frozen
from i2idist.nn.init import init_normal
from i2idist.nn.patchgan import MultiScaleStridedPatchGAN, check_strided_patches
from i2idist.nn.resnet import ReflectConv
from i2idist.nn.resnet_encoder import ResnetEncoder


class _Made(NamedTuple):
    """Images of one domain, (n, C, H, W) but for `drawn`, (codes * n, C, H, W)."""

    crossed: Tensor
    """With the content of the other domain's images and the attributes of this one's: u, or v."""
    again: Tensor
    """With both of this domain's."""
    drawn: Tensor
    """With the content of the other domain's images and drawn attributes, all images of a code together."""


class DRIT(Method):
    """DRIT: players content_discriminator (D_c), discriminator (D, D2) and generator (E_c, E_a, G)."""

    Config = DRITConfig
    paper = "Lee et al. 2018, Diverse Image-to-Image Translation via Disentangled Representations (arXiv:1808.00948)"
    targets = ("b", "a")
    group_size = 2
    size_multiple = 4
    codes = 1
    """Attribute codes drawn for each image."""
    config: DRITConfig

    def __init__(self, config: DRITConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`.

        Raises:
            SizeError: the size doesn't suit the networks, or the domains differ in it.
        """
        super().__init__()
        check_equal_sizes(domains, "DRIT")
        a, b = domains.a, domains.b
        self.config = config
        self.code_dim = config.code_dim
        self._check_size(a.height, a.width)
        check_encoded((a.height, a.width), config.attribute_levels, "attribute_levels")
        check_strided_patches(a.height, a.width, layers=config.discriminator_layers, scales=config.discriminator_scales)
        channels = a.channels, b.channels
        self._channels = {"a": a.channels, "b": b.channels}
        generators = ConcatenationGenerators if config.generator == "concatenation" else FeatureWiseGenerators
        self.E_c = ContentEncoders(channels, width=config.width, blocks=config.blocks)
        self.E_a = nn.ModuleDict({"a": self._attribute_encoder(a), "b": self._attribute_encoder(b)})
        self.G = generators(channels, width=config.width, blocks=config.blocks, code_dim=config.code_dim)
        self.D = nn.ModuleDict({"a": self._discriminator(a), "b": self._discriminator(b)})
        self.D2 = nn.ModuleDict({"a": self._discriminator(a), "b": self._discriminator(b)})
        self.D_c = ContentDiscriminator(4 * config.width, min(a.height, a.width) // 4)
        for _, network in self.networks():
            init_normal(network, config.init_std)

    def _attribute_encoder(self, domain: Domain) -> nn.Module:
        config = self.config
        if config.generator == "feature_wise":
            return StyleEncoder(
                domain.channels, width=config.attribute_width, downs=config.attribute_levels, code_dim=config.code_dim
            )
        return ResnetEncoder(
            domain.channels,
            width=config.attribute_width,
            levels=config.attribute_levels,
            code_dim=config.code_dim,
            norm=nn.Identity,
            conv=ReflectConv,
        )

    def _discriminator(self, domain: Domain) -> MultiScaleStridedPatchGAN:
        config = self.config
        return MultiScaleStridedPatchGAN(
            domain.channels,
            scales=config.discriminator_scales,
            width=config.discriminator_width,
            layers=config.discriminator_layers,
            slope=0.01,
        )

    @classmethod
    def tiny(cls) -> Mapping[str, DRITConfig]:
        """Both generators, and the latent terms in the step and apart from it."""
        small: dict[str, Any] = {"width": 4, "attribute_width": 4, "discriminator_width": 4, "blocks": 1}
        small |= {"attribute_levels": 3, "discriminator_layers": 1, "discriminator_scales": 2, "code_dim": 3}
        return {
            "concatenation": cls.Config(content_steps=2, ema=True, **small),
            "feature_wise": cls.Config(generator="feature_wise", separate_latent_step=True, content_steps=1, **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Two pools."""
        return Unpaired

    def players(self) -> tuple[Player, ...]:
        """D_c, whose gradient is clipped; D and D2; the encoders and G."""
        config = self.config
        schedule = Schedule(hold=config.lr_hold)
        adam = Adam(lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
        slow = Adam(
            lr=config.content_lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
            clip_norm=config.content_clip,
        )
        return (
            Player(name="content_discriminator", networks=("D_c",), optimizer=slow, schedule=schedule),
            Player(name="discriminator", networks=("D", "D2"), optimizer=adam, schedule=schedule),
            Player(name="generator", networks=("E_c", "E_a", "G"), optimizer=adam, schedule=schedule, ema=config.ema),
        )

    def updates(self) -> tuple[Update, ...]:
        """D_c steps several times; D and D2 then step on images whose graph the generator uses."""
        judges = (
            Update(
                player="content_discriminator",
                backward=self.content_discriminator_terms,
                repeat=self.config.content_steps,
            ),
            Update(player="discriminator", backward=self.discriminator_terms),
        )
        if not self.config.separate_latent_step:
            return (*judges, Update(player="generator", backward=self.joint_terms))
        latent = Backward(self.latent_terms, ("E_c", "G"))
        return (
            *judges,
            Update(player="generator", backward=self.generator_terms),
            Update(player="generator", backward=(latent,)),
        )

    def content_discriminator_terms(self, step: Step) -> Terms:
        """Section 3.1: D_c tells content of b, real, from that of a."""
        a, b, _, _ = _halves(step)
        c_a, c_b = self._content(a, "a", step), self._content(b, "b", step)
        step.keep(c_a=c_a, c_b=c_b)
        return {"real": log_real(self.D_c(c_b.detach())), "fake": log_fake(self.D_c(c_a.detach()))}

    def discriminator_terms(self, step: Step) -> Terms:
        """Section 3.3, domain adversarial loss: D against encoded attributes, D2 against drawn ones."""
        a, b, a_other, b_other = _halves(step)
        made_a, made_b = self._make_all(a, b, step)
        return {
            "D_a": _judged(self.D["a"], a, made_a.crossed),
            "D_b": _judged(self.D["b"], b, made_b.crossed),
            "D2_a": _judged(self.D2["a"], a_other, made_a.drawn),
            "D2_b": _judged(self.D2["b"], b_other, made_b.drawn),
        }

    def _make_all(self, a: Tensor, b: Tensor, step: Step) -> tuple[_Made, _Made]:
        """All images of a step but the second ones of the cycle, kept for the generator's terms."""
        c_a, c_b = step.shared.c_a, step.shared.c_b
        (z_a, kl_a), (z_b, kl_b) = self._attribute(a, "a", step), self._attribute(b, "b", step)
        z = self._draw(step)
        made_a, made_b = self._make("a", c_b, c_a, z_a, z), self._make("b", c_a, c_b, z_b, z)
        step.keep(made_a=made_a, made_b=made_b, z=z, kl=kl_a + kl_b)
        return made_a, made_b

    def _make(self, domain: str, crossed: Tensor, own: Tensor, attribute: Tensor, z: Tensor) -> _Made:
        """Images of `domain` with the content of the other domain, `crossed`, and with that of its `own`."""
        contents = torch.cat([crossed, own] + [crossed] * self.codes)
        images = self.G(contents, torch.cat([attribute, attribute, z]), domain)
        n = len(own)
        return _Made(images[:n], images[n : 2 * n], images[2 * n :])

    def generator_terms(self, step: Step) -> Terms:
        """Section 3.4 but for drawn attributes: what E_c, E_a and G learn of encoded ones."""
        a, b, _, _ = _halves(step)
        c_a, c_b, made_a, made_b = step.shared.c_a, step.shared.c_b, step.shared.made_a, step.shared.made_b
        u, v = made_a.crossed, made_b.crossed
        (z_a, _), (z_b, _) = self._attribute(u, "a", step), self._attribute(v, "b", step)
        a_hat = self.G(self._content(v, "b", step), z_a, "a")
        b_hat = self.G(self._content(u, "a", step), z_b, "b")
        return {
            "content": self._confused(c_a) + self._confused(c_b),  # section 3.1
            "gan": over_scales(non_saturating, self.D["a"](u)) + over_scales(non_saturating, self.D["b"](v)),
            "cross_cycle": l1(a_hat, a) + l1(b_hat, b),  # section 3.2
            "reconstruction": l1(made_a.again, a) + l1(made_b.again, b),  # section 3.3, as the next
            "kl": step.shared.kl,
            "content_l2": _mean_square(c_a) + _mean_square(c_b),  # reference
        }

    def drawn_terms(self, drawn_a: Tensor, drawn_b: Tensor, z: Tensor) -> Terms:
        """Section 3.3: D2 is deceived, and the latent regression of the first code.

        Args:
            drawn_a: (codes * n, C, H, W), images of a with drawn attributes, all of a code together.
            drawn_b: (codes * n, C', H, W), those of b.
            z: (codes * n, code_dim), their attributes.
        """
        n = len(z) // self.codes
        gan = over_scales(non_saturating, self.D2["a"](drawn_a)) + over_scales(non_saturating, self.D2["b"](drawn_b))
        with frozen(self.E_a):
            z_a, z_b = self._expected(drawn_a[:n], "a"), self._expected(drawn_b[:n], "b")
        return {"gan_drawn": self.codes * gan, "latent": l1(z_a, z[:n]) + l1(z_b, z[:n])}

    def joint_terms(self, step: Step) -> Terms:
        """Section 3.4: all that E_c, E_a and G learn."""
        shared = step.shared
        drawn = self.drawn_terms(shared.made_a.drawn, shared.made_b.drawn, shared.z)
        return {**self.generator_terms(step), **drawn}

    def latent_terms(self, step: Step) -> Terms:
        """The terms of drawn attributes for the networks as the first step has left them."""
        a, b, _, _ = _halves(step)
        c_a, c_b = self._content(a, "a", step), self._content(b, "b", step)
        z = self._draw(step)
        drawn_a = self.G(torch.cat([c_b] * self.codes), z, "a")
        return self.drawn_terms(drawn_a, self.G(torch.cat([c_a] * self.codes), z, "b"), z)

    def _content(self, x: Tensor, domain: str, step: Step) -> Tensor:
        """Content, with the noise that training adds."""
        content: Tensor = self.E_c(x, domain)
        return content + step.normal("content_noise", *content.shape[1:])[::2]

    def _attribute(self, x: Tensor, domain: str, step: Step) -> tuple[Tensor, Tensor]:
        """An attribute of each image, (n, code_dim), and its divergence from N(0, I), (n,)."""
        if self.config.generator == "feature_wise":
            z = self.E_a[domain](x)
            return z, _mean_square(z)
        mean, log_variance = self.E_a[domain](x)
        noise = step.normal("attribute_noise", self.code_dim)[::2]
        return mean + noise * torch.exp(0.5 * log_variance), kl_to_standard_normal(mean, log_variance)

    def _expected(self, x: Tensor, domain: str) -> Tensor:
        """The mean of each image's attribute, (n, code_dim)."""
        out = self.E_a[domain](x)
        return out if isinstance(out, Tensor) else out[0]

    def _draw(self, step: Step) -> Tensor:
        """Attributes for the encoded samples, (codes * n, code_dim), all of a code together."""
        return step.normal("z", self.codes, self.code_dim)[::2].transpose(0, 1).flatten(0, 1)

    def _confused(self, content: Tensor) -> Tensor:
        """Cross-entropy of D_c's answer with one half."""
        logits = self.D_c(content)
        return 0.5 * (log_real(logits) + log_fake(logits))

    def translate(
        self, x: Tensor, code: Tensor | None = None, *, target: str = "b", style_from: Tensor | None = None
    ) -> Tensor:
        """G(E_c(x), z) in the target's domain, z the attribute of `style_from`, (C', H', W'), where there is one."""
        check_target(target, self.targets)
        self._check_size(*x.shape[2:])
        if style_from is None:
            z = require_code(code, x, self.code_dim)
        else:
            check_style(style_from, self._channels[target], 2**self.config.attribute_levels)
            z = self._expected(style_from[None].to(x), target).expand(len(x), -1)
        images: Tensor = self.G(self.E_c(x, "a" if target == "b" else "b"), z, target)
        return images

    def _check_size(self, height: int, width: int) -> None:
        multiple = self.size_multiple if min(height, width) >= 8 else 8
        check_size(height, width, multiple, "DRIT")

    def translator_networks(self) -> tuple[str, ...]:
        """G, E_c, and E_a for styles."""
        return ("E_c", "E_a", "G")


def _judged(judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """A discriminator's loss on images, (n, C, H, W), and on fakes, a whole number for each: (n,)."""
    codes = len(fake) // len(real)
    fakes = over_scales(log_fake, judge(fake.detach())).reshape(codes, -1).sum(0)
    return codes * over_scales(log_real, judge(real)) + fakes


def _mean_square(x: Tensor) -> Tensor:
    return sample_mean(widen(x).square())


def _halves(step: Step) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images of a and b that are encoded, then the others: (N / 2, C, H, W) each."""
    batch = step.batch
    assert isinstance(batch, Unpaired)
    return batch.a[::2], batch.b[::2], batch.a[1::2], batch.b[1::2]
