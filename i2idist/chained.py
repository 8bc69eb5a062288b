"""Translators one after the other, as one: mix-and-match networks' rivals "2 x pix2pix" and "D -> R -> S".

A URI names them in order, with `|` between: `models:/depth-rgb@champion|models:/rgb-segmentation@champion` (Wang et al.
2020, arXiv:1903.04294; thesis, section 4.6.2). Each translates to its first target.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torch import Tensor, nn

from i2idist.errors import ConfigError
from i2idist.method import Domain, Domains, Method
from i2idist.model import FORMAT_VERSION, ModelCard, Translator


class Chained(Method):
    """Methods whose translations go on as the next one's inputs."""

    paper = "Wang et al. 2020, Mix and match networks: cross-modal alignment (arXiv:1903.04294), section 4.6.2"

    def __init__(self, methods: Sequence[Method]) -> None:
        """Chain `methods`, the first taking the images."""
        super().__init__()
        self.methods = nn.ModuleList(methods)

    def translate(self, x: Tensor, code: Tensor | None = None, *, target: str = "b") -> Tensor:
        """Every method's translation to its first target, in turn; see `Method.translate`."""
        for method in self.methods:
            assert isinstance(method, Method)
            x = method.translate(x, target=method.targets[0])
        return x


def chained(translators: Sequence[Translator]) -> Translator:
    """One translator of several.

    Raises:
        ConfigError: one takes codes, or other images than the one before it makes.
    """
    ends = [translator.card.domains.route(translator.targets[0]) for translator in translators]
    for translator in translators:
        if translator.card.code_dim:
            raise ConfigError(f"{translator.card.method} takes codes: in a chain there are none to give.")
    for (_, made), (taken, _) in zip(ends, ends[1:], strict=False):
        if _kind(made) != _kind(taken):
            raise ConfigError(
                f"In the chain '{made.name}' goes on as '{taken.name}', but one has {made.channels} channels at "
                f"{made.height}x{made.width}, the other {taken.channels} at {taken.height}x{taken.width}."
            )
    cards = [translator.card for translator in translators]
    card = ModelCard(
        format_version=FORMAT_VERSION,
        method=" | ".join(card.method for card in cards),
        config={"chain": [card.config for card in cards]},
        domains=Domains((ends[0][0], ends[-1][1])),
        code_dim=0,
        weights="",
        weights_sha256=hashlib.sha256(" ".join(card.weights_sha256 for card in cards).encode()).hexdigest(),
        lineage={"chain": [card.lineage for card in cards]},
    )
    return Translator(card, Chained([translator.method for translator in translators]))


def _kind(domain: Domain) -> tuple[int, int, int, int | None]:
    return domain.channels, domain.height, domain.width, domain.classes
