"""What methods share whose generator is a pretrained one: what it is, how it comes to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from i2idist.errors import ConfigError, SizeError
from i2idist.method import Described, Domain, Domains
from i2idist.methods.checks import check_sources
from i2idist.methods.gan import GAN, built, fill


class Pretrained(GAN):
    """A method that leaves a pretrained generator of images without labels as it is: `sources: {generator: URI}`.

    Its config has the field `generator: Described | None`, which is filled in when a run is created.
    """

    config: Any

    def __init__(self, config: Any, domains: Domains) -> None:
        """Make the generator for images of `domains`.

        Raises:
            ConfigError: there is none, or it takes labels, or its images have other channels.
            SizeError: its images have another size.
        """
        super().__init__()
        if config.generator is None:
            raise ConfigError(
                "This method starts from a pretrained generator: name a registered or exported model in the recipe, "
                "`sources: {generator: models:/NAME@ALIAS}`, which says what it is."
            )
        self.config = config
        source = source_gan("generator", config.generator, domains.a)
        if source.targets:
            raise ConfigError(
                f"sources.generator makes images of {', '.join(source.targets)}: this method takes one without labels."
            )
        self.G, self.code_dim = source.G, source.code_dim

    @classmethod
    def with_sources(cls, config: Any, models: Mapping[str, Described]) -> Any:
        """The config with what the generator is."""
        return dataclasses.replace(config, generator=models["generator"]) if "generator" in models else config

    @classmethod
    def build(cls, config: Any, domains: Domains, sources: Mapping[str, Mapping[str, Tensor]] | None = None) -> Self:
        """The method, with the generator filled from `sources`.

        Raises:
            ConfigError: the generator is missing, or no model of ours, or another source is named.
            SourceError: weights aren't those of what a source says it is.
        """
        method = cls(config, domains)
        check_sources(sources, {"generator": "a pretrained generator", **method.other_sources()})
        if sources is not None:
            fill(method.G, "G", sources["generator"], "sources.generator")
            method.begin(sources)
        return method

    def other_sources(self) -> dict[str, str]:
        """What else the method starts from, by name."""
        return {}

    def begin(self, sources: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over what training starts from, once the generator has its weights."""

    def translator_networks(self) -> tuple[str, ...]:
        """The generator."""
        return ("G",)


def source_gan(name: str, what: Described, target: Domain) -> GAN:
    """The GAN that a source is, with random weights.

    Args:
        name: of the source, for messages.
        what: it is.
        target: the images that are wanted.

    Raises:
        ConfigError: it isn't one that others start from, or its images have other channels.
        SizeError: its images have another size.
    """
    gan, own = built(what), what.domains.a
    if own.channels != target.channels:
        raise ConfigError(
            f"sources.{name} makes images of {own.channels} channels, but those of {target.name} have "
            f"{target.channels}: choose other data, or another source."
        )
    if (own.height, own.width) != (target.height, target.width):
        raise SizeError(
            f"sources.{name} makes images of one size: it can't be used for {target.height}x{target.width}, nor for "
            f"multiples of its own, but for {own.height}x{own.width} alone. Set data.size=[{own.height},{own.width}]."
        )
    return gan
