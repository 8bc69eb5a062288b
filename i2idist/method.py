"""The contract between a method and the trainer. Both import this file, never each other.

A method is a `torch.nn.Module` that holds its networks and says, as data, who is trained and how: `players` names
the networks that one optimizer steps, `updates` lists the optimizer steps of one training step in order. Its losses
read a `Step` and return named, unweighted terms. The trainer does the rest: sharing the batch among workers, exact
global gradients, weights, schedules, checkpoints. Nothing here knows how many workers there are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from i2idist.data.batches import Batch, Labelled, Multimodal, Paired, Unpaired
from i2idist.errors import ConfigError, SizeError, nearest
from i2idist.randomness import Noise, bernoulli, key_of, normal, permutation, sample_keys, uniform

Terms = Mapping[str, Tensor]
"""Named loss terms, unweighted. A term is a vector, one value a sample, which the trainer averages over the *global*
batch (its length may be any multiple of the local batch), or a scalar that is already global: an estimate made through
`Step.comm`."""

TermsFunction = Callable[["Step"], Terms]


class Comm(Protocol):
    """Collectives that losses may use; differentiable, twice. Each is the identity at one worker."""

    rank: int
    world_size: int

    def sum(self, x: Tensor) -> Tensor:
        """Elementwise sum of every rank's `x`, all of one shape."""
        ...

    def gather(self, x: Tensor) -> Tensor:
        """Every rank's `x`, concatenated in rank order along the first dimension; lengths may differ."""
        ...

    def log_mean_exp(self, x: Tensor) -> Tensor:
        """Log of the mean of exp over every rank's values, (n,) -> scalar."""
        ...

    def max(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of every rank's values and its index in rank order, (n,) -> two scalars. Ties: lowest index."""
        ...


@dataclass(frozen=True)
class Domain:
    """One set of images: its name, channels, and the height and width (pixels) that training sees.

    Where images are label maps, they have one channel of 8 bits, whose levels number the `classes`; levels beyond are
    unlabelled. Where images are `nearest`, resizing takes each pixel of the nearest one, as it does of label maps, so
    that no values are mixed.
    """

    name: str
    channels: int
    height: int
    width: int
    classes: int | None = None
    nearest: bool = False

    @property
    def mixes(self) -> bool:
        """Whether resizing may mix values of its images."""
        return self.classes is None and not self.nearest


@dataclass(frozen=True)
class Domains:
    """What a method is told about its data.

    Paired and unpaired data have exactly two domains, source `a` and target `b`. Labelled data has one, and labels.
    Multimodal data has any number, and a translation is named by its path: `depth->segmentation`; from several images
    of a sample, `rgb+depth->segmentation`, whose channels are one another's neighbours; through others,
    `depth->rgb->segmentation`.

    Attributes:
        images: the domains.
        labels: names of the data's classes or attributes.
        count: samples to train on, of the larger pool where there are two; None where that isn't known.
    """

    images: tuple[Domain, ...]
    labels: tuple[str, ...] = ()
    count: int | None = dataclasses.field(default=None, compare=False)

    @property
    def a(self) -> Domain:
        """The source domain."""
        return self.images[0]

    @property
    def b(self) -> Domain:
        """The target domain."""
        return self.images[1]

    def route(self, target: str | None = None) -> tuple[Domain, Domain]:
        """The domains that a translation to `target` leads from and to; None: the first target.

        From a to b, or back where the target is a. Labelled images stay in their one domain. A path says itself where
        it leads from; else one of several domains is reached from the first other.

        Raises:
            ConfigError: a path, or one of several domains, that isn't known.
        """
        hops = self._hops(target)
        return _joined(hops[0]), hops[-1][0]

    def sources(self, target: str | None = None) -> tuple[Domain, ...]:
        """The domains of which a translation to `target` takes an image each; otherwise as `route`."""
        return self._hops(target)[0]

    def _hops(self, target: str | None) -> tuple[tuple[Domain, ...], ...]:
        if len(self.images) == 1:
            return (self.images, self.images)
        if target is not None and (ARROW in target or len(self.images) > 2):
            return self.path(target)
        return ((self.b,), (self.a,)) if target == "a" else ((self.a,), (self.b,))

    def path(self, target: str) -> tuple[tuple[Domain, ...], ...]:
        """The domains of a path's hops: those that it leads from together, those between, the one that it leads to.

        Raises:
            ConfigError: an unknown domain, one named twice in a hop, or several where there can be one alone.
        """
        names = [hop.split(PLUS) for hop in target.split(ARROW)]
        hops = tuple(tuple(map(self.named, hop)) for hop in names)
        if len(hops) == 1:
            hops = ((self.b if hops[0][0] == self.a else self.a,), *hops)
        if any(len(set(hop)) < len(hop) for hop in hops) or any(len(hop) > 1 for hop in hops[1:]):
            raise ConfigError(f"target is '{target}': write FROM{ARROW}TO, or FROM{PLUS}FROM{ARROW}TO.")
        return hops

    def named(self, name: str) -> Domain:
        """The domain called `name`.

        Raises:
            ConfigError: there is none; names the nearest.
        """
        for domain in self.images:
            if domain.name == name:
                return domain
        raise ConfigError(f"There is no domain '{name}'.{nearest(name, [domain.name for domain in self.images])}")


ARROW, PLUS = "->", "+"
"""In a path: lead to; together with."""


def _joined(domains: tuple[Domain, ...]) -> Domain:
    """Images of several domains with their channels side by side."""
    if len(domains) == 1:
        return domains[0]
    channels = sum(domain.channels for domain in domains)
    return dataclasses.replace(
        domains[0], name=PLUS.join(domain.name for domain in domains), channels=channels, classes=None
    )


@dataclass(frozen=True, kw_only=True)
class Described:
    """A model of ours without its weights: what it takes to build it again.

    Attributes:
        method: the method's name, or `package.module:Class`.
        config: its config, as plain values.
        domains: what it was trained on.
    """

    method: str
    config: Mapping[str, Any]
    domains: Domains


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980).

    With `clip_norm`, a step's whole gradient is scaled down to that norm where it is longer.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A factor on the learning rate, by progress through training.

    Constant until `hold` (a fraction of `total_images`), then linear to `final` at the end, or `final` at once where
    it isn't `linear`; or, with `step_every_images`, `step_factor` once more each time so many images have been seen.
    """

    hold: float = 1.0
    final: float = 0.0
    linear: bool = True
    step_every_images: int | None = None
    step_factor: float = 0.5

    def factor(self, images: int, total_images: int) -> float:
        """The factor after `images` of `total_images`."""
        if self.step_every_images:
            return float(self.step_factor ** (images // self.step_every_images))
        progress = images / total_images
        if not self.linear:
            return self.final if progress >= self.hold else 1.0
        if progress <= self.hold or self.hold >= 1.0:
            return 1.0
        return 1.0 + (self.final - 1.0) * min(1.0, (progress - self.hold) / (1.0 - self.hold))


@dataclass(frozen=True, kw_only=True)
class Player:
    """Networks that one optimizer steps.

    Attributes:
        name: the player's name in updates, logs and checkpoints.
        networks: names of the method's attributes that hold its modules.
        optimizer: Adam's settings.
        schedule: the learning rate's factor through training.
        ema: whether an exponential moving average of its parameters is kept for translation.
    """

    name: str
    networks: tuple[str, ...]
    optimizer: Adam
    schedule: Schedule = Schedule()
    ema: bool = False


@dataclass(frozen=True)
class Backward:
    """Terms whose gradient reaches only the named `networks`, all of the update's player."""

    terms: TermsFunction
    networks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Update:
    """One optimizer step of one player.

    Attributes:
        player: who steps.
        backward: a loss function for all the player's networks, or several `Backward`, whose gradients add up before
            the step. Networks that none of them names stay as they are.
        every: the update runs on training steps 0, every, 2 x every, ...
        repeat: steps taken in a row, each after the first on a new batch.
    """

    player: str
    backward: TermsFunction | tuple[Backward, ...]
    every: int = 1
    repeat: int = 1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of training with its own updates, loss weights and frozen networks.

    Attributes:
        name: for logs.
        updates: the updates of one step.
        until: the fraction of `total_images` at which the stage ends; the last stage's is 1.
        weights: loss weights that differ from the config's in this stage, by term.
        frozen: networks that no update may change in this stage.
    """

    name: str
    updates: tuple[Update, ...]
    until: float = 1.0
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    frozen: tuple[str, ...] = ()


class Step:
    """What a loss function sees of one training step: this worker's part of the batch, keyed randomness, collectives.

    Tensors that one update made may serve the next: `share` stores them cut from their graph, `keep` with it (sound
    while the players that made them have not stepped since; autograd refuses otherwise).
    """

    def __init__(
        self, batch: Batch, *, images: int, seed: int, comm: Comm, weights: Mapping[str, float], global_batch: int
    ) -> None:
        """Made by the trainer. `images` counts the samples drawn before this step by all workers together."""
        self.batch = batch
        self.images = images
        self.comm = comm
        self.weights = weights
        self.global_batch = global_batch
        self.shared = SimpleNamespace()
        self._seed = seed
        self._update = ""
        self._calls: dict[str, int] = {}

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        """The images of domains a and b, (N, C, H, W) each in [-1, 1], of a paired or unpaired batch."""
        assert isinstance(self.batch, Paired | Unpaired), "the method's batch_type has two domains"
        return self.batch.a, self.batch.b

    @property
    def labelled(self) -> Labelled:
        """The batch of a method that trains on labelled images."""
        assert isinstance(self.batch, Labelled), "the method's batch_type is Labelled"
        return self.batch

    @property
    def multimodal(self) -> Multimodal:
        """The batch of a method that trains on several modalities."""
        assert isinstance(self.batch, Multimodal), "the method's batch_type is Multimodal"
        return self.batch

    def share(self, **tensors: Tensor) -> None:
        """Hand tensors to later updates of this step, detached, as `step.shared.NAME`."""
        self.keep(**{name: tensor.detach() for name, tensor in tensors.items()})

    def keep(self, **tensors: Tensor | tuple[Any, ...]) -> None:
        """Hand tensors, or tuples of them, to later updates of this step with their graph, as `step.shared.NAME`."""
        vars(self.shared).update(tensors)

    def begin(self, update: str) -> None:
        """Called when an update begins: draws are keyed by its name."""
        self._update = update
        self._calls.clear()

    def _keys(self, purpose: str, per_sample: int) -> Tensor:
        call = self._calls[purpose] = self._calls.get(purpose, -1) + 1
        positions = self.batch.positions
        if per_sample > 1:
            positions = (positions[:, None] * per_sample + torch.arange(per_sample, device=positions.device)).flatten()
        return sample_keys(key_of(self._seed, purpose, self._update, call), positions)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = next(t.dtype for t in self.batch.tensors() if t.is_floating_point())
        return dtype

    def normal(self, purpose: str, *shape: int, per_sample: int = 1) -> Tensor:
        """Standard normal numbers for this update: (N * per_sample, *shape), those of one sample adjacent."""
        return normal(self._keys(purpose, per_sample), shape, self._dtype)

    def uniform(self, purpose: str, *shape: int, per_sample: int = 1) -> Tensor:
        """Uniform numbers in [0, 1): (N * per_sample, *shape), those of one sample adjacent."""
        return uniform(self._keys(purpose, per_sample), shape, self._dtype)

    def bernoulli(self, purpose: str, p: float, *shape: int, per_sample: int = 1) -> Tensor:
        """True with probability `p`: (N * per_sample, *shape) bool, those of one sample adjacent."""
        return bernoulli(self._keys(purpose, per_sample), p, shape)

    def noise(self, purpose: str, *, per_sample: int = 1) -> Noise:
        """A stream for the layers of one forward pass of N * per_sample samples."""
        return Noise(self._keys(purpose, per_sample))

    def permutation(self, purpose: str, n: int) -> Tensor:
        """A random order of 0..n-1, the same on every worker: (n,) int64."""
        call = self._calls[purpose] = self._calls.get(purpose, -1) + 1
        key = key_of(self._seed, purpose, self._update, call, self.images)
        return permutation(key, n, self.batch.positions.device)


class Method(nn.Module):
    """A translation or transfer method.

    A subclass is constructed as `Subclass(config, domains)`, with `config` an instance of its frozen dataclass
    `Config`. Fields of the config named `lambda_X` are the weights of the terms named `X`; other terms weigh 1.
    It translates images by `translate`, or `generates` them by `sample`.

    Attributes:
        Config: the frozen dataclass of settings, defaults being the paper's.
        paper: the paper and its identifier, for listings.
        group_size: samples of a batch that must stay on one worker.
        size_multiple: height and width must be multiples of this.
        code_dim: length of the latent code that `translate` or `sample` takes; 0 where outputs depend on the input
            alone.
        generates: whether it makes images from codes alone: it has `sample`, and no `translate`.
        classifies: whether `classify` reads the classes of images.
        label_maps: whether it takes domains whose images are label maps; a run on others' is refused.
        targets: what `translate` translates to, the usual one first: domains, the labels of labelled data, or paths
            between the domains of multimodal data; the labels that `sample` takes, none where it takes none.
        domains: the modalities, of methods that train on multimodal batches.
    """

    Config: ClassVar[type[Any]]
    paper: ClassVar[str]
    targets: tuple[str, ...] = ("b",)
    generates: ClassVar[bool] = False
    classifies: ClassVar[bool] = False
    label_maps: ClassVar[bool] = False
    group_size: int = 1
    size_multiple: int = 1
    code_dim: int = 0
    config: Any
    domains: Domains

    @classmethod
    def build(cls, config: Any, domains: Domains, sources: Mapping[str, Mapping[str, Tensor]] | None = None) -> Method:
        """Construct the method; `sources` are the states of pretrained parts, by name, where it starts from some.

        With None it must have the same networks: a checkpoint's values follow. Empty sources begin a run without any.
        """
        if sources:
            raise TypeError(f"{cls.__name__} starts from no pretrained sources, got {sorted(sources)}")
        return cls(config, domains)

    @classmethod
    def with_sources(cls, config: Any, models: Mapping[str, Described]) -> Any:
        """The config once it is known what a run's sources are, by name: of those that are models of ours.

        It is called before `build`, when a run is created and when it is continued. A method whose networks are those
        of its sources notes here what it needs to build them from the config alone, as a saved model is.
        """
        return config

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Configs by name, of tiny widths for 16x16 images, on which `i2idist conform` tests the method.

        The first is tested by default; together they should reach every path of the method.
        """
        raise NotImplementedError

    @classmethod
    def batch_type(cls, config: Any) -> type[Batch]:
        """The kind of batch that this configuration trains on."""
        raise NotImplementedError

    def players(self) -> tuple[Player, ...]:
        """Who is trained."""
        raise NotImplementedError

    def updates(self) -> tuple[Update, ...]:
        """The updates of one step, in order."""
        raise NotImplementedError

    def stages(self) -> tuple[Stage, ...]:
        """The stages of training; one by default, with `updates` throughout."""
        return (Stage(name="train", updates=self.updates()),)

    def validation_terms(self, step: Step) -> Terms:
        """What validation measures on one batch, in eval mode and without gradients, by `player/term`.

        By default every update's terms. A method whose terms need gradients says here what to measure instead.
        """
        terms: dict[str, Tensor] = {}
        for update in self.updates():
            functions = [update.backward] if callable(update.backward) else [b.terms for b in update.backward]
            step.begin(f"validation:{update.player}")
            for function in functions:
                terms |= {f"{update.player}/{name}": value for name, value in function(step).items()}
        return terms

    def weights(self) -> dict[str, float]:
        """Loss weights by term: the config's `lambda_X` for each term X, where it isn't None."""
        values = {f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config)}
        given = {name.removeprefix("lambda_"): v for name, v in values.items() if name.startswith("lambda_")}
        return {name: float(v) for name, v in given.items() if v is not None}

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """Translate images; a function of each (input, code) alone.

        Args:
            x: (N, C, H, W) float in [-1, 1].
            code: (N, code_dim) float, standard normal; None where `code_dim` is 0.
            target: the domain or label to translate to, one of `targets`.

        Returns:
            (N, C', H, W) float in [-1, 1].

        Raises:
            SizeError: the method can't process H x W; the message names sizes that it can.
        """
        raise NotImplementedError

    def sample(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Make images; a function of each (code, label) alone. For methods that generate.

        Args:
            code: (N, code_dim) float, standard normal.
            label: (N,) int64, places in `targets`; None where there are none.

        Returns:
            (N, C, H, W) float in [-1, 1], of the size that training saw.
        """
        raise NotImplementedError

    def attention(self, x: Tensor, *, target: str) -> Tensor | None:
        """Where a translation to `target` may change the images, for pictures of a training.

        Args:
            x: (N, C, H, W) float in [-1, 1].
            target: one of `targets`.

        Returns:
            (N, 1, H, W) in [0, 1]; None for a method without attention.
        """
        return None

    def classify(self, x: Tensor, *, domain: str = "b") -> Tensor:
        """Logits of the classes of images of a domain: (N, C, H, W) in [-1, 1] -> (N, classes)."""
        raise NotImplementedError

    def translator_networks(self) -> tuple[str, ...]:
        """The networks that a saved model holds, by attribute name: all that `translate` or `sample` needs.

        A generator's discriminators are among them, for others to start from.
        """
        raise NotImplementedError

    def networks(self) -> Iterator[tuple[str, nn.Module]]:
        """Every player's networks by name, each once."""
        names = dict.fromkeys(name for player in self.players() for name in player.networks)
        for name in names:
            yield name, getattr(self, name)


def check_size(height: int, width: int, multiple: int, what: str) -> None:
    """Refuse an image size that is no multiple of `multiple`, naming the nearest ones that are.

    Raises:
        SizeError: `height` or `width` is no multiple.
    """
    if height % multiple or width % multiple or min(height, width) < multiple:
        near = [f"{max(1, round(side / multiple)) * multiple}" for side in (height, width)]
        raise SizeError(
            f"{what} takes heights and widths that are multiples of {multiple}, not {height}x{width}. "
            f"The nearest that works is {near[0]}x{near[1]}: set data.size, or resize or pad the images."
        )
