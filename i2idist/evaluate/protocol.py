"""What a protocol is: which inputs, how many outputs, seen through which network, summed up how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from i2idist.errors import ConfigError
from i2idist.evaluate.folds import Fold
from i2idist.evaluate.seen import Reals, Rows, Seen, Tools
from i2idist.metrics import networks

Need = Literal["codes", "labels", "maps", "pairs", "reals"]
"""Maps: true targets that are label maps or depths, which no resizing may mix."""
Readers = Literal["target", "both"]
"""Whose images a classifier reads: the target domain's, or the inputs' too."""
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Sampling:
    """Which translations a protocol looks at.

    Attributes:
        inputs: so many, drawn by `seed` from the split without replacement; None: all.
        samples: outputs of each.
        seed: of the choice of inputs, of the codes, and of resampling.
    """

    inputs: int | None = None
    samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that mean nothing.

        Raises:
            ConfigError: a count below 1.
        """
        for name in ("inputs", "samples"):
            if vars(self)[name] is not None and vars(self)[name] < 1:
                raise ConfigError(f"{name} is {vars(self)[name]}: it must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to get a number.

    Attributes:
        name: in commands and records.
        measures: what, in a line, with its source.
        better: which way is good.
        keep: what a worker keeps of translations.
        fold: makes what sums it up.
        keep_real: what it keeps of real images of the target domain; None: they aren't looked at.
        gives: what its network must give; None: it needs no network.
        network: the default network.
        only: whether the protocol is through this network alone, as its name says.
        classifier: whose images the classifier reads that it needs; None: it needs none.
        keeps: whether it is about what translation should keep.
        sampling: which translations.
        reals: at most so many real images, drawn by the seed; None: all.
        least: outputs, and real images, that it takes at least.
        pairs: which pairs of outputs are compared, for people.
        needs: what data and model must have.
        of_outputs: whether it looks at outputs, their labels and real images alone, so that generators have a value.
        revision: goes up whenever the same images would give another number.
    """

    name: str
    measures: str
    better: Better
    keep: Callable[[Seen, Tools], Rows]
    fold: Callable[[], Fold]
    keep_real: Callable[[Reals, Tools], Rows] | None = None
    gives: networks.Gives | None = None
    network: str | None = None
    only: bool = False
    classifier: Readers | None = None
    keeps: bool = False
    sampling: Sampling = Sampling()
    reals: int | None = None
    least: int = 1
    pairs: str | None = None
    needs: tuple[Need, ...] = ()
    of_outputs: bool = False
    revision: int = 1

    def describe(self) -> dict[str, Any]:
        """As JSON: what it measures, with which counts, and what it needs."""
        return {
            "protocol": self.name,
            "measures": self.measures,
            "better": self.better,
            "inputs": self.sampling.inputs or "all",
            "samples": self.sampling.samples,
            "pairs": self.pairs,
            "reals": (self.reals or "all") if self.keep_real else None,
            "seed": self.sampling.seed,
            "network": self.network,
            "networks": self.networks(),
            "resize": networks.card(self.network).resize if self.network else None,
            "classifier": self.classifier,
            "interval": self.fold().interval,
            "needs": [*self.needs, *(["classifier"] if self.classifier else []), *self._weights()],
            "of_generators": self.of_outputs,
            "revision": self.revision,
        }

    @property
    def looks_at_targets(self) -> bool:
        """Whether it compares outputs with the inputs' true targets."""
        return bool({"pairs", "maps"} & set(self.needs))

    def networks(self) -> list[str]:
        """The networks that it may look through."""
        if self.only:
            return [self.network] if self.network else []
        return [name for name, card in networks.NETWORKS.items() if self.gives in card.gives]

    def _weights(self) -> list[str]:
        return [f"weights:{name}" for name in networks.card(self.network).weights] if self.network else []


@dataclass(frozen=True)
class Choice:
    """A protocol with its choices made."""

    protocol: Protocol
    network: str | None
    sampling: Sampling
    attribute: str | None = None
    """What its classifier reads, where that is an attribute and no class."""
