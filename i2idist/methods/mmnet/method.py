"""Mix-and-match networks: an encoder and a decoder for each modality, any of which fit each other.

Pairs of some modalities are seen in training; translations between others, never seen together, join the encoder of one
and the decoder of the other. Latent features of all encoders are aligned for it.

Wang et al. 2020, "Mix and match networks: cross-modal alignment for zero-pair image-to-image translation",
arXiv:1903.04294; equations, sections and tables are those of Wang's thesis (chapter 4, appendix A.3).

Notation, as in section 4.4: modalities i, j; x^(i) an image of modality i; f_i an encoder (`anchor_encoder` is f_R, the
others are in `encoders`), g_j a decoder (`decoders`), T_ij = g_j o f_i; C a discriminator (`discriminators`). R is the
anchor, RGB, that others are seen with; S a label map, D depth.

Deviations and readings:
- Expectations are over the samples that have the images of a term, and terms of all their pairs are added.
- Norms are means of squares; those of latent consistency are without noise. berHu's c is a constant, without gradient.
- A modality is encoded once a step, and a decoder decodes all that is translated to it at once, pseudo-pairs too: its
  batch norm sees all sources together, as it does on translation. (Decoded apart, they spoilt its running averages:
  rooms' S -> D had an RMSE of 0.054 in place of 0.045.) Only where the anchor's encoder isn't frozen pseudo-pairs are
  apart, since nothing of them may reach it. Discriminators step first, on the same translations.
- An RGB encoder that isn't pretrained has batch norm like all others; frozen, it uses the running statistics. The layer
  before the last of Table A.4 has batch norm and ReLU, as the text says of every layer.
- Label maps have a channel a class, rooms' 13; unlabelled pixels are zero in all of them, and don't count in the
  cross-entropy. Tables A.3 and A.4 have 14, whose last one the text doesn't name.
- RGB passes a tanh; depths aren't bounded in training, and cut to [-1, 1] on translation. Label maps come out as the
  number of the likeliest class, as they went in.
- Pooling prefers the first of nearly equal values, see `tilted_max_pool`.
- Targets of pseudo-pairs are translations as the trained model makes them: by batch norm's running statistics, without
  noise.
- VGG16's weights for the anchor's encoder are the source `vgg`: `sources: {vgg: weights:vgg16}`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch, Multimodal
from i2idist.errors import ConfigError
from i2idist.losses.adversarial import least_squares_fake, least_squares_real
from i2idist.losses.alignment import alignment
from i2idist.losses.depth import berhu
from i2idist.losses.reconstruction import l2
from i2idist.losses.segmentation import pixel_cross_entropy
from i2idist.method import (
    ARROW,
    PLUS,
    Adam,
    Domain,
    Domains,
    Method,
    Player,
    Schedule,
    Stage,
    Step,
    Terms,
    Update,
    check_size,
)
from i2idist.methods.checks import check_sources
from i2idist.methods.label_maps import as_networks_see, likeliest, one_hot
from i2idist.methods.mmnet.config import MMNetConfig
from i2idist.methods.mmnet.networks import make_decoder, make_discriminator, make_encoder
from i2idist.methods.samples import Route, Samples
from i2idist.nn.norm import evaluating
from i2idist.nn.segnet import Latent, SegNetEncoder

SOURCE = "vgg"
"""The name of the source that the anchor's encoder is filled from."""

_WHAT = "VGG16 (weights:vgg16) in the anchor's encoder, or method.pretrained=false"


@dataclass(frozen=True)
class Made:
    """Translations of one training step.

    Attributes:
        samples: which images there are.
        clean: latents by modality, of the samples that have it.
        latents: the same with noise, where there is noise.
        outputs: by (source, target): what was decoded, of the samples that have both.
        unseen: the same for pseudo-pairs, of the samples that have the source and the anchor.
    """

    samples: Samples
    clean: Mapping[str, Latent]
    latents: Mapping[str, Latent]
    outputs: Mapping[Route, Tensor]
    unseen: Mapping[Route, Tensor]


class MMNet(Method):
    """Mix-and-match networks: players discriminators and translators (all encoders and decoders)."""

    Config = MMNetConfig
    paper = "Wang et al. 2020, Mix and match networks: cross-modal alignment (arXiv:1903.04294)"
    label_maps = True
    config: MMNetConfig

    def __init__(self, config: MMNetConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`, the modalities.

        Raises:
            ConfigError: settings that don't fit the modalities.
            SizeError: the size doesn't suit the networks.
        """
        super().__init__()
        self.config, self.domains = config, domains
        self.seen = config.seen_of(domains)
        self.names = tuple(domain.name for domain in domains.images)
        self.size_multiple = 2**config.halvings
        self._check_size(domains.a.height, domains.a.width)
        self._check_kinds()
        self.targets = _targets(self.names)
        others = [domain for domain in domains.images if domain.name != config.anchor]
        images = [domain for domain in domains.images if domain.name in config.adversarial]
        self.anchor_encoder = make_encoder(config, domains.named(config.anchor))
        self.encoders = nn.ModuleDict({domain.name: make_encoder(config, domain) for domain in others})
        self.decoders = nn.ModuleDict({domain.name: make_decoder(config, domain) for domain in domains.images})
        self.discriminators = nn.ModuleDict({domain.name: make_discriminator(config, domain) for domain in images})

    def _check_kinds(self) -> None:
        maps = {domain.name for domain in self.domains.images if domain.classes}
        wrong = maps & set(self.config.adversarial)
        if wrong:
            raise ConfigError(f"method.adversarial names {', '.join(sorted(wrong))}: label maps have no discriminator.")
        for name in self.config.holes:
            if self.domains.named(name).mixes:
                raise ConfigError(
                    f"method.holes names {name}, which is resized by mixing pixels: rims of holes would pass for "
                    f"measurements. Set data.nearest=[{name}]."
                )

    def _check_size(self, height: int, width: int) -> None:
        # Instance norm of residual networks needs more than one pixel, and their kernels a border to reflect.
        least = self.config.kernel // 2 + 1 if self.config.networks == "residual" else 1
        smallest = self.size_multiple * least
        multiple = self.size_multiple if min(height, width) >= smallest else smallest
        check_size(height, width, multiple, "The encoder of mix-and-match networks")

    @classmethod
    def build(cls, config: Any, domains: Domains, sources: Mapping[str, Mapping[str, Tensor]] | None = None) -> MMNet:
        """Mix-and-match networks, the anchor's encoder as the source `vgg` has it; see `Method.build`.

        Raises:
            ConfigError: the source is missing, or there is one that the configuration has no use for.
            SourceError: the source isn't VGG16.
        """
        method = cls(config, domains)
        check_sources(sources, {SOURCE: _WHAT} if config.pretrained else {})
        if sources:
            assert isinstance(method.anchor_encoder, SegNetEncoder)
            method.anchor_encoder.fill(sources[SOURCE], f"sources.{SOURCE}")
        return method

    @classmethod
    def tiny(cls) -> Mapping[str, MMNetConfig]:
        """Every stage, with pooling indices; skip connections, soft pseudo-pairs; residual networks; a stage less."""
        small: dict[str, Any] = {"pretrained": False, "width": 2, "convs": (1, 2), "discriminator_width": 2}
        small |= {"discriminator_layers": 2}
        skips: dict[str, Any] = {"side": "skip", "pseudo_labels": "soft", "discriminator_every": 2, "plain": ()}
        residual: dict[str, Any] = {"networks": "residual", "blocks": 1, "kernel": 3, "convs": (1,), "plain": ()}
        residual |= {"seen": (("rgb", "depth"), ("rgb", "segmentation")), "adversarial": ("depth",), "regression": "l2"}
        return {
            "indices": cls.Config(ema=True, **small),
            "skips": cls.Config(freeze_anchor=False, **small, **skips),
            "residual": cls.Config(**{**small, **residual}),
            "without": cls.Config(**small, side="none", stages=(0.4, 1.0), autoencoders=False, lambda_A=0.0),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Several modalities."""
        return Multimodal

    # --- who is trained, and when

    def players(self) -> tuple[Player, ...]:
        """Discriminators, where there are any; encoders and decoders."""
        config = self.config
        adam = Adam(lr=config.lr, betas=config.betas)
        schedule = Schedule(
            hold=config.stages[1], final=config.final_lr / config.lr if config.lr else 1.0, linear=False
        )
        translators = Player(
            name="translators",
            networks=self.translator_networks(),
            optimizer=adam,
            schedule=schedule,
            ema=config.ema,
        )
        judges = Player(name="discriminators", networks=("discriminators",), optimizer=adam, schedule=schedule)
        return (judges, translators) if config.adversarial else (translators,)

    def updates(self) -> tuple[Update, ...]:
        """Those of the last stage."""
        return self.stages()[-1].updates

    def stages(self) -> tuple[Stage, ...]:
        """Seen translations; all that aligns latent features; pseudo-pairs (section 4.6.1)."""
        first, second = self.config.stages
        frozen = ("anchor_encoder",) if self.config.freeze_anchor else ()
        later = self._weights(1)
        stages = [
            Stage(name="seen", updates=self._updates(1), until=first),
            Stage(name="aligned", updates=self._updates(2), until=second, weights=later, frozen=frozen),
            Stage(name="pseudo_pairs", updates=self._updates(3), weights=later, frozen=frozen),
        ]
        return tuple(stages[:2] if second == 1 else stages)

    def _updates(self, stage: int) -> tuple[Update, ...]:
        judges = Update(
            player="discriminators",
            backward=functools.partial(self.discriminator_terms, stage=stage),
            every=self.config.discriminator_every,
        )
        translators = Update(player="translators", backward=functools.partial(self.translator_terms, stage=stage))
        return (judges, translators) if self.config.adversarial else (translators,)

    def weights(self) -> dict[str, float]:
        """Those of the first stage, Eq. 4.1 and before: lambda_R (lambda_L2 L2 + GAN) and so on."""
        return self._weights(0)

    def _weights(self, place: int) -> dict[str, float]:
        config = self.config
        image = config.lambda_R[place]
        return {
            "gan": image,
            "l2": image * config.lambda_L2[place],
            "sem": config.lambda_S,
            "depth": config.lambda_D,
            "lat": config.lambda_A,
            "pp": config.lambda_PP,
        }

    # --- the losses

    def discriminator_terms(self, step: Step, *, stage: int) -> Terms:
        """L_GAN of each image modality, for C; fakes are all that is translated to it."""
        made = self._made(step, stage)
        terms: dict[str, Tensor] = {}
        for name, judge in self.discriminators.items():
            routes = made.samples.to(name, made.outputs)
            if not routes:
                continue
            real = least_squares_real(judge(made.samples.images[name]))
            fake = least_squares_fake(judge(torch.cat([made.outputs[route] for route in routes]).detach()))
            terms[f"C_{name}"] = made.samples.mean([(name, name)], real) + made.samples.mean(routes, fake)
        return terms

    def translator_terms(self, step: Step, *, stage: int) -> Terms:
        """L_RGB, L_SEM, L_DEPTH; from the second stage on L_LAT, in the third L_PP."""
        made = self._made(step, stage)
        terms: dict[str, Tensor] = {}

        def add(term: str, value: Tensor) -> None:
            terms[term] = terms[term] + value if term in terms else value

        for (source, goal), y in made.outputs.items():
            error = self._error(goal, y, made.samples.of(goal, source))
            add(self._term(goal), made.samples.mean([(source, goal)], error))
        for name, judge in self.discriminators.items():
            routes = made.samples.to(name, made.outputs)
            if routes:
                fakes = torch.cat([made.outputs[route] for route in routes])
                add("gan", made.samples.mean(routes, least_squares_real(judge(fakes))))
        if stage > 1 and self.config.lambda_A:
            for value in self._inconsistency(made):
                add("lat", value)
        if stage > 2 and self.config.lambda_PP:
            for value in self._pseudo_pairs(made):
                add("pp", value)
        return terms

    def _term(self, goal: str) -> str:
        if goal in self.config.adversarial:
            return "l2"
        return "sem" if self.domains.named(goal).classes else "depth"

    def _error(self, goal: str, y: Tensor, truth: Tensor) -> Tensor:
        """`_distance` from real images (n, C, H, W), where they were measured."""
        return self._distance(goal, y, self._truth(goal, truth), truth > -1 if goal in self.config.holes else None)

    def _distance(self, goal: str, y: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
        """How far translations are from the truth: L2, cross-entropy or berHu, (n, C, H, W) twice -> (n,)."""
        kind = self._term(goal)
        if kind == "sem":
            return pixel_cross_entropy(y, truth)  # Eqs. 4.7, 4.8
        if kind == "l2" or self.config.regression == "l2":
            return l2(y, truth)  # Eqs. 4.1 to 4.3
        return berhu(y, truth, known)  # Eqs. 4.4, 4.5

    def _inconsistency(self, made: Made) -> Iterable[Tensor]:
        """Eqs. 4.10, 4.11 of each seen pair."""
        for a, b in itertools.combinations(self.names, 2):
            if (a, b) in self.seen and made.samples.count(a, b):
                f, g = (made.samples.pick(made.clean[m].features, m, other) for m, other in ((a, b), (b, a)))
                yield made.samples.mean([(a, b)], l2(f, g))

    def _pseudo_pairs(self, made: Made) -> Iterable[Tensor]:
        """Eqs. 4.12, 4.13: T_Ri(x^(R)) stands for the image of i that is never seen with x^(j); T_ji learns from it."""
        anchor = self.config.anchor
        for (j, i), y in made.unseen.items():
            with torch.no_grad(), evaluating(self.decoders[i]):
                target = self._decode(i, _side_of(made.samples, made.clean[anchor], anchor, j))
            yield made.samples.mean([(anchor, j)], self._distance(i, y, self._pseudo(i, target)))

    def _pseudo(self, goal: str, y: Tensor) -> Tensor:
        """A translation as a target: a label map as one-hot or soft classes."""
        if not self.domains.named(goal).classes:
            return y
        return y.softmax(1) if self.config.pseudo_labels == "soft" else one_hot(y.argmax(1), y.shape[1], y.dtype)

    # --- the networks at work

    def _made(self, step: Step, stage: int) -> Made:
        """This step's translations, made by whichever update comes first."""
        if not hasattr(step.shared, "made"):
            step.keep(made=(self._make(step, stage),))
        made: Made = step.shared.made[0]
        return made

    def _make(self, step: Step, stage: int) -> Made:
        samples = Samples(step, self.names)
        frozen = self.config.anchor if stage > 1 and self.config.freeze_anchor else None
        clean = {}
        for name in self.names:
            if samples.count(name, name):
                clean[name] = (self._encode_frozen if name == frozen else self._encode)(name, samples.images[name])
        noise = self.config.noise if stage > 1 else 0.0
        latents = {name: self._noisy(step, samples, name, latent, noise) for name, latent in clean.items()}
        outputs: dict[Route, Tensor] = {}
        unseen: dict[Route, Tensor] = {}
        for goal in self.names:
            sources = self._seen_from(goal, samples, stage > 1 and self.config.autoencoders)
            others = self._unseen_from(goal, samples) if stage > 2 and self.config.lambda_PP else []
            routes = [(m, goal) for m in sources] + [(m, self.config.anchor) for m in others]
            parts = [_side_of(samples, latents[m], m, other) for m, other in routes]
            seen, blind = self._decode_all(goal, parts, len(sources), together=frozen is not None)
            outputs |= {(m, goal): y for m, y in zip(sources, seen, strict=True)}
            unseen |= {(m, goal): y for m, y in zip(others, blind, strict=True)}
        return Made(samples, clean, latents, outputs, unseen)

    def _noisy(self, step: Step, samples: Samples, name: str, latent: Latent, noise: float) -> Latent:
        if not noise:
            return latent
        draws = step.normal(f"noise {name}", *latent.features.shape[1:])[samples.rows(name)]
        return latent._replace(features=latent.features + noise * draws.to(latent.features.dtype))

    def _seen_from(self, goal: str, samples: Samples, autoencoder: bool) -> list[str]:
        """The modalities that are translated to `goal`, of samples that have both."""
        sources = [m for m in self.names if (m, goal) in self.seen or (m == goal and autoencoder)]
        return [m for m in sources if samples.count(m, goal)]

    def _unseen_from(self, goal: str, samples: Samples) -> list[str]:
        """The modalities that are translated to `goal` as pseudo-pairs, of samples that have the anchor too."""
        anchor = self.config.anchor
        others = [m for m in self.names if m != anchor and (anchor, m) in self.seen]
        if goal not in others:
            return []
        return [m for m in others if m != goal and (m, goal) not in self.seen and samples.count(anchor, m)]

    def _decode_all(
        self, goal: str, latents: Sequence[Latent], seen: int, *, together: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """`_decode` of several latents at once: of the first `seen`, and of all others.

        Apart where they aren't `together`: batch statistics of all would lead gradients of the latter to the former.
        """
        if not together:
            return self._decode_many(goal, latents[:seen]), self._decode_many(goal, latents[seen:])
        decoded = self._decode_many(goal, latents)
        return decoded[:seen], decoded[seen:]

    def _decode_many(self, goal: str, latents: Sequence[Latent]) -> list[Tensor]:
        if not latents:
            return []
        joined = Latent(
            torch.cat([latent.features for latent in latents]),
            tuple(torch.cat(level) for level in zip(*(latent.side for latent in latents), strict=True)),
        )
        return list(torch.split(self._decode(goal, joined), [len(latent.features) for latent in latents]))

    def _encode(self, name: str, x: Tensor) -> Latent:
        """f_i(x): images (n, C, H, W) in [-1, 1]."""
        network = self.anchor_encoder if name == self.config.anchor else self.encoders[name]
        return Latent(*network(self._truth(name, x)))

    def _encode_frozen(self, name: str, x: Tensor) -> Latent:
        with torch.no_grad(), evaluating(self.anchor_encoder):
            return self._encode(name, x)

    def _decode(self, name: str, latent: Latent) -> Tensor:
        """g_j(h): logits of classes, an image in [-1, 1], or unbounded depths."""
        side = () if name in self.config.plain else latent.side
        y: Tensor = self.decoders[name](Latent(latent.features, side))
        return torch.tanh(y) if name in self.config.adversarial else y

    def _truth(self, name: str, x: Tensor) -> Tensor:
        """Images as networks take them and losses compare them: label maps as one-hot classes."""
        return as_networks_see(x, self.domains.named(name))

    # --- translation

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """g_j(f_i(x)) along a path of modalities; see `Method.translate`.

        Args:
            x: (N, C, H, W) float in [-1, 1]; of several modalities that are fused, their channels in the path's order.
            code: none is taken.
            target: a path, see `Domains`: `i->j`, seen or not; `i+k->j` fuses; `i->k->j` is a cascade.

        Raises:
            ConfigError: an unknown modality, or images of other channels.
            SizeError: sides that encoders can't halve.
        """
        self._check_size(*x.shape[2:])
        sources, *hops = self.domains.path(target)
        channels = [domain.channels for domain in sources]
        if x.shape[1] != sum(channels):
            raise ConfigError(f"'{target}' takes images of {sum(channels)} channels, not {x.shape[1]}.")
        images = dict(zip((domain.name for domain in sources), torch.split(x, channels, dim=1), strict=True))
        with evaluating(self):
            for (goal,) in hops:
                images = {goal.name: self._finished(goal, self._decode(goal.name, self._fused(images)))}
        (y,) = images.values()
        return y

    def _fused(self, images: Mapping[str, Tensor]) -> Latent:
        """(1 - alpha) h_R + alpha h_j, the others sharing alpha, with the anchor's side information (section 4.6.2)."""
        latents = {name: self._encode(name, x) for name, x in images.items()}
        first = self.config.anchor if self.config.anchor in latents else next(iter(latents))
        if len(latents) == 1:
            return latents[first]
        shares = dict.fromkeys(latents, 1 / len(latents))
        if first == self.config.anchor:
            shares = dict.fromkeys(latents, self.config.alpha / (len(latents) - 1)) | {first: 1 - self.config.alpha}
        features = torch.stack([shares[name] * latent.features for name, latent in latents.items()]).sum(0)
        return Latent(features, latents[first].side)

    def _finished(self, goal: Domain, y: Tensor) -> Tensor:
        """A decoder's output as an image: of logits, the level that numbers the likeliest class."""
        return likeliest(y) if goal.classes else y.clamp(-1, 1)

    def translator_networks(self) -> tuple[str, ...]:
        """All encoders and decoders."""
        return ("anchor_encoder", "encoders", "decoders")

    # --- validation

    def validation_terms(self, step: Step) -> Terms:
        """The loss of every translation whose truth is there, unseen ones too, and alignment factors (Eq. 4.16)."""
        samples = Samples(step, self.names)
        latents = {name: self._encode(name, samples.images[name]) for name in self.names if samples.count(name, name)}
        terms = {}
        for a, b in itertools.permutations(latents, 2):
            if samples.count(a, b):
                y = self._decode(b, _side_of(samples, latents[a], a, b))
                terms[f"loss/{a}-to-{b}"] = self._error(b, y, samples.of(b, a))
        for a, b in itertools.combinations(latents, 2):
            if samples.count(a, b):
                f, g = (samples.pick(latents[m].features, m, other) for m, other in ((a, b), (b, a)))
                terms[f"alignment/{a}-{b}"] = alignment(f, g)
        return terms


def _targets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Every translation, and to each modality that of all others together."""
    single = [f"{a}{ARROW}{b}" for a, b in itertools.permutations(names, 2)]
    others = {goal: PLUS.join(name for name in names if name != goal) for goal in names}
    fused = [f"{sources}{ARROW}{goal}" for goal, sources in others.items() if len(names) > 2]
    return (*single, *fused)


def _side_of(samples: Samples, latent: Latent, source: str, other: str) -> Latent:
    """The latents of those samples of `source` that have `other` too."""
    return Latent(
        samples.pick(latent.features, source, other), tuple(samples.pick(t, source, other) for t in latent.side)
    )
