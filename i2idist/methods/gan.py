"""What methods that make images from codes alone share: generator, discriminators, sampling, pretrained parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from i2idist.data.batches import Batch, Images, Labelled
from i2idist.errors import ConfigError, SourceError
from i2idist.method import Described, Domains, Method, check_size
from i2idist.methods.checks import check_sources
from i2idist.methods.classes import Classes
from i2idist.nn.norm import evaluating
from i2idist.nn.resnet_gan import Verdict

SOURCES = {"generator": "G", "discriminator": "D"}
"""Sources that a GAN may start from, and the network that each fills."""


class GAN(Method):
    """A generator G(z), or G(z, y) of labels y, against a discriminator D(x) that gives a `Verdict`.

    A subclass makes both. A run may start from those of another model, see `transfergan`:
    `sources: {generator: URI, discriminator: URI}`.

    Attributes:
        is_source: whether others may start from G and D: whether these are all that makes and judges its images.
    """

    generates = True
    is_source: ClassVar[bool] = True
    G: nn.Module
    D: nn.Module
    targets: tuple[str, ...] = ()

    @classmethod
    def build(cls, config: Any, domains: Domains, sources: Mapping[str, Mapping[str, Tensor]] | None = None) -> Self:
        """The method, with G and D filled from `sources` where those name them.

        Raises:
            ConfigError: a source of another name.
            SourceError: a source whose network can't be made this one.
        """
        check_sources(sources, dict.fromkeys(set(SOURCES) & set(sources or ()), ""))
        method = cls(config, domains)
        for name, state in (sources or {}).items():
            classes = Classes(method.targets, method.source_labels(name), len(state.get("D.classes.bias", ())))
            fill(method.get_submodule(SOURCES[name]), SOURCES[name], state, f"sources.{name}", classes)
        return method

    def source_labels(self, name: str) -> tuple[str, ...]:
        """The labels of the source of that name; none where they aren't known."""
        return ()

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """G as it is, differentiable: (N, code_dim), labels (N, L) or None -> (N, C, H, W) in [-1, 1]."""
        images: Tensor = self.G(z, y)
        return images

    def judge(self, x: Tensor) -> Verdict:
        """D as it is, differentiable: (N, C, H, W) -> its verdict."""
        verdict: Verdict = self.D(x)
        return verdict

    def sample(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """G(z, y) with batch norm's running statistics; see `Method.sample`.

        Raises:
            ConfigError: labels for a method without them, or the reverse.
        """
        if (label is None) == bool(self.targets):
            raise ConfigError(
                f"This model makes images of {', '.join(self.targets)}: each needs one of these labels."
                if self.targets
                else "This model makes images without labels: leave them out."
            )
        with evaluating(self.G):
            return self.generate(code, None if label is None else one_hot(label, len(self.targets)))

    def translator_networks(self) -> tuple[str, ...]:
        """Both networks: others start from D, too."""
        return ("G", "D")

    def check_size(self, domains: Domains, what: str) -> tuple[int, int]:
        """The images' height and width.

        Raises:
            SizeError: they aren't multiples of `size_multiple`.
        """
        check_size(domains.a.height, domains.a.width, self.size_multiple, what)
        return domains.a.height, domains.a.width


def built(what: Described) -> GAN:
    """The GAN that a source is, with random weights, which leave torch's generator as it was.

    Raises:
        ConfigError: it is no GAN on codes that others start from, or its method or config isn't known here.
    """
    from i2idist.methods import load_method  # which imports this module

    cls = load_method(what.method)
    if not issubclass(cls, GAN):
        raise ConfigError(f"A source is a model of {what.method}, which makes no images of codes alone.")
    if not cls.is_source:
        raise ConfigError(f"A source is a model of {what.method}, which no other method starts from.")
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in what.config.items()}
    with torch.random.fork_rng(devices=[]):
        return cls(cls.Config(**config), what.domains)


def fill(
    network: nn.Module, prefix: str, state: Mapping[str, Tensor], where: str, classes: Classes | None = None
) -> None:
    """Copy a pretrained network's state into one like it.

    Args:
        network: to fill.
        prefix: its name in `state`, where each key begins with it and a dot.
        state: of a model.
        where: names the source in messages.
        classes: those of both, where they may be others; see `Classes.adapted`.

    Raises:
        SourceError: the state is of another network.
    """
    own = network.state_dict()
    found = {key.removeprefix(f"{prefix}."): t for key, t in state.items() if key.startswith(f"{prefix}.")}
    fitting = classes.adapted(own, found) if classes and found else found
    wrong = sorted(own.keys() ^ fitting.keys())
    common = own.keys() & fitting.keys()
    wrong += sorted(f"{key} {list(found[key].shape)}" for key in common if own[key].shape != fitting[key].shape)
    if wrong or not found:
        raise SourceError(
            f"{where} isn't the network {prefix} that the method's settings describe: {', '.join(wrong[:4])} "
            f"({len(wrong)} tensors). Give this run the source's image size, width, blocks and code length."
        )
    with torch.no_grad():
        for key, tensor in fitting.items():
            own[key].copy_(tensor)


def images_of(batch: Batch) -> Tensor:
    """The images of a batch of a GAN, (N, C, H, W) in [-1, 1]."""
    assert isinstance(batch, Images | Labelled), "a GAN's batch_type is one of these"
    return batch.x
