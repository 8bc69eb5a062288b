"""StarGAN across modalities: one body for all, a first and a last layer for each; with pairs or without.

The rival of mix-and-match networks, "StarGAN (paired)" and "StarGAN (unpaired)": Wang 2020 (thesis), section 4.6.2 and
Tables 4.4 to 4.8, after Choi et al. 2018, arXiv:1711.09020. It is scored on modalities never seen together.

Notation: x an image of modality m, y = G(x, c) its translation to another, whose label c names it; a route is the pair
of both names. D_src and D_cls are the discriminator's outputs `real` and `labels`.

Deviations and readings:
- No pooling indices ("PI" in the tables): the thesis doesn't say where they are; G is StarGAN's, of strided layers.
- D, too, has a first layer for each modality, since modalities differ in channels.
- The paired version has no cycle; what uses the pairs isn't said. Here it is the distance to the true image, for every
  pair of modalities that samples hold: cross-entropy for label maps (L_SEM in the tables), L1 for all others, depths
  with holes too. The unpaired version goes from each modality to each other, not to one at random, whatever the sample
  holds; back again, the same distances are the cycle's.
- Of label maps G gives logits; D, and the way back, take their softmax, and real ones as one-hot classes.
- Expectations are over the samples that have the images of a term, and those of all routes to a modality together;
  terms of all modalities are added. No image is translated to its own modality.
- Without pairs, the real image of the gradient penalty is any of the global batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from i2idist.data.batches import Batch, Multimodal
from i2idist.errors import ConfigError
from i2idist.losses.adversarial import wasserstein_fake, wasserstein_real
from i2idist.losses.classification import cross_entropy
from i2idist.losses.penalty import between, gradient_penalty
from i2idist.losses.reconstruction import l1
from i2idist.losses.segmentation import pixel_cross_entropy
from i2idist.method import ARROW, Domains, Method, Step, Terms
from i2idist.methods.checks import check_at_least
from i2idist.methods.label_maps import as_networks_see, channels_of, likeliest
from i2idist.methods.samples import Route, Samples
from i2idist.methods.stargan import StarGAN, StarGANConfig
from i2idist.nn.norm import evaluating


@dataclass(frozen=True, kw_only=True)
class StarGANModalConfig(StarGANConfig):
    """StarGAN's settings, for modalities in place of labels.

    Attributes:
        paired: whether translations are compared with the true images of their samples, which takes the cycle's place.
        lambda_l1: weight of the L1 distance to the true image, with pairs.
        lambda_sem: weight of the cross-entropy of label maps, with pairs and in the cycle.
    """

    paired: bool = True
    lambda_l1: float = 10.0
    lambda_sem: float = 10.0

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        check_at_least(0, lambda_l1=self.lambda_l1, lambda_sem=self.lambda_sem)
        if self.attributes:
            raise ConfigError(
                "method.attributes is set, but stargan_modal translates modalities: leave it empty, or use the method "
                "stargan."
            )


@dataclass(frozen=True)
class Made:
    """What G made of a batch: by route, images or logits of the samples that are translated."""

    samples: Samples
    outputs: Mapping[Route, Tensor]


class StarGANModal(StarGAN):
    """StarGAN for any number of modalities: players discriminator (D) and generator (G)."""

    Config = StarGANModalConfig
    paper = "Wang 2020, Image-to-image translation (thesis), section 4.6, after StarGAN (arXiv:1711.09020)"
    label_maps = True
    config: StarGANModalConfig

    def __init__(self, config: StarGANModalConfig, domains: Domains) -> None:
        """Make the networks for images of `domains`, the modalities, all of one size.

        Raises:
            SizeError: the size doesn't suit the networks.
        """
        Method.__init__(self)
        self.config, self.domains = config, domains
        self.names = tuple(domain.name for domain in domains.images)
        self.targets = tuple(f"{a}{ARROW}{b}" for a, b in itertools.permutations(self.names, 2))
        channels = [channels_of(domain) for domain in domains.images]
        maps = [number for number, domain in enumerate(domains.images) if domain.classes]
        self.make_networks(channels, len(channels), (domains.a.height, domains.a.width), maps)

    @classmethod
    def tiny(cls) -> Mapping[str, StarGANModalConfig]:
        """With pairs and without; both kinds of statistics at test."""
        small: dict[str, Any] = {"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 2}
        return {
            "paired": cls.Config(critic_steps=2, **small),
            "unpaired": cls.Config(paired=False, critic_steps=1, statistics_at_test="running", **small),
        }

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """Several modalities."""
        return Multimodal

    def discriminator_terms(self, step: Step) -> Terms:
        """StarGAN's Eq. 5, for each modality that is translated to."""
        made = self._make(step)
        step.keep(made=(made,))
        return _sums(self._critic_terms(step, made, *goal) for goal in self._goals(made))

    def _critic_terms(self, step: Step, made: Made, goal: str, routes: list[Route], fakes: Tensor) -> Terms:
        samples, number = made.samples, self.names.index(goal)
        real = self.D(self._seen(goal, samples.images[goal]), number)
        fake = self.D(fakes.detach(), number)
        needs = [self._needs(route) for route in routes]
        terms = {
            "real": samples.mean([(goal, goal)], wasserstein_real(real.real)),
            "fake": samples.mean(needs, wasserstein_fake(fake.real)),
            "cls": samples.mean([(goal, goal)], self._classification(real.labels, goal)),
        }
        if torch.is_grad_enabled():
            reals = torch.cat([self._seen(goal, self._real(step, samples, route)) for route in routes])
            rows = [samples.rows(a) & samples.rows(b) for a, b in needs]
            epsilon = torch.cat([step.uniform("epsilon", 1, 1, 1)[here] for here in rows])
            points = between(reals, fakes, epsilon)
            terms["gp"] = samples.mean(needs, gradient_penalty(self.D(points, number).real, points))
        return terms

    def generator_terms(self, step: Step) -> Terms:
        """StarGAN's Eq. 6; with pairs, the distance to the true image in place of the cycle."""
        (made,) = step.shared.made
        parts = [self._fooled(made, *goal) for goal in self._goals(made)]
        return _sums(parts + [self._kept(made, route) for route in made.outputs])

    def _fooled(self, made: Made, goal: str, routes: list[Route], fakes: Tensor) -> Terms:
        fake, needs = self.D(fakes, self.names.index(goal)), [self._needs(route) for route in routes]
        return {
            "gan": made.samples.mean(needs, wasserstein_real(fake.real)),
            "cls": made.samples.mean(needs, self._classification(fake.labels, goal)),
        }

    def _kept(self, made: Made, route: Route) -> Terms:
        """How far a translation is from the truth, or its way back from where it began."""
        (source, goal), y = route, made.outputs[route]
        if self.config.paired:
            end, truth = goal, made.samples.of(goal, source)
        else:
            end, truth = source, made.samples.images[source]
            y = self._to(source, self._judged(goal, y), source=goal)
        term = "sem" if self.domains.named(end).classes else "l1" if self.config.paired else "rec"
        return {term: made.samples.mean([self._needs(route)], self._distance(end, y, truth))}

    def _distance(self, name: str, y: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy of a label map's logits (n, K, H, W), or L1 of images: (n,)."""
        distance = pixel_cross_entropy if self.domains.named(name).classes else l1
        return distance(y, self._seen(name, truth))

    # --- the networks at work

    def _needs(self, route: Route) -> Route:
        """The modalities that a sample must have to be translated: with pairs both, else the first."""
        return route if self.config.paired else (route[0], route[0])

    def _make(self, step: Step) -> Made:
        samples, outputs = Samples(step, self.names), {}
        for route in itertools.permutations(self.names, 2):
            source, goal = route
            needs = self._needs(route)
            if samples.count(*needs) and samples.count(goal, goal):
                outputs[route] = self._to(goal, self._seen(source, samples.of(*needs)), source=source)
        return Made(samples, outputs)

    def _goals(self, made: Made) -> Iterator[tuple[str, list[Route], Tensor]]:
        """Each modality that is translated to, by which routes, and all its translations as D judges them."""
        for goal in self.names:
            routes = made.samples.to(goal, made.outputs)
            if routes:
                yield goal, routes, torch.cat([self._judged(goal, made.outputs[route]) for route in routes])

    def _real(self, step: Step, samples: Samples, route: Route) -> Tensor:
        """A real image beside each translation of a route: the true one, or without pairs any of the global batch."""
        source, goal = route
        if self.config.paired:
            return samples.of(goal, source)
        everyone = step.comm.gather(samples.images[goal])
        drawn = (step.uniform("real") * len(everyone)).long().clamp_max(len(everyone) - 1)
        return everyone[drawn[samples.rows(source)]]

    def _to(self, goal: str, x: Tensor, *, source: str) -> Tensor:
        """G(x, c): images as networks see them -> images or logits."""
        s, t = self.names.index(source), self.names.index(goal)
        out: Tensor = self.G(x, self._labels(goal, x), s, t)
        return out

    def _seen(self, name: str, x: Tensor) -> Tensor:
        """Real images as networks see them: label maps as one-hot classes."""
        return as_networks_see(x, self.domains.named(name))

    def _judged(self, name: str, y: Tensor) -> Tensor:
        """What G made as networks see it: logits as probabilities."""
        return y.softmax(1) if self.domains.named(name).classes else y

    def _classification(self, logits: Tensor, name: str) -> Tensor:
        return cross_entropy(logits, self._labels(name, logits))

    def _labels(self, name: str, like: Tensor) -> Tensor:
        """A modality's name for each sample: (N, modalities), one-hot."""
        index = like.new_full((len(like),), self.names.index(name)).long()
        return functional.one_hot(index, len(self.names)).to(like.dtype)

    # --- translation and validation

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """G(x, c) along a path of modalities; see `Method.translate`.

        Args:
            x: (N, C, H, W) float in [-1, 1]; label maps as levels.
            code: none is taken.
            target: a path, see `Domains`, from one modality: `i->j`, seen or not; `i->k->j` is a cascade.

        Raises:
            ConfigError: an unknown modality, several at once, or images of other channels.
            SizeError: sides that the networks can't halve.
        """
        self._check_size(*x.shape[2:])
        (here, *more), *hops = self.domains.path(target)
        if more:
            raise ConfigError(f"target is '{target}', but this method translates from one modality: {self.targets}.")
        if x.shape[1] != here.channels:
            raise ConfigError(f"'{target}' takes images of {here.channels} channels, not {x.shape[1]}.")
        with evaluating(self.G):
            for (goal,) in hops:
                y = self._to(goal.name, self._seen(here.name, x), source=here.name)
                x, here = likeliest(y) if goal.classes else y, goal
        return x

    def validation_terms(self, step: Step) -> Terms:
        """The distance from the truth of every translation whose truth is there, those never seen in training too."""
        samples, terms = Samples(step, self.names), {}
        for source, goal in itertools.permutations(self.names, 2):
            if samples.count(source, goal):
                y = self._to(goal, self._seen(source, samples.of(source, goal)), source=source)
                terms[f"loss/{source}-to-{goal}"] = self._distance(goal, y, samples.of(goal, source))
        return terms


def _sums(parts: Iterable[Terms]) -> Terms:
    """Terms of the same names, added."""
    sums: dict[str, Tensor] = {}
    for name, value in itertools.chain.from_iterable(part.items() for part in parts):
        sums[name] = sums[name] + value if name in sums else value
    return sums
