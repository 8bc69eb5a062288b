"""The protocols: which inputs, how many outputs, seen through which network, summed up how.

A protocol's name stands for one way to get a number. What a person may choose beside it (the network, other counts, the
seed) is part of the number's name, see `record`; so numbers that can't be compared never share one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from i2idist.errors import ConfigError, nearest
from i2idist.evaluate import folds, measures
from i2idist.evaluate.folds import Fold
from i2idist.evaluate.seen import Reals, Rows, Seen, Tools
from i2idist.metrics import networks

Need = Literal["codes", "labels", "pairs", "reals"]


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
        classifier: whether it needs a classifier of the target domain.
        sampling: which translations.
        pairs: which pairs of outputs are compared, for people.
        needs: what data and model must have.
        revision: goes up whenever the same images would give another number.
    """

    name: str
    measures: str
    better: Literal["higher", "lower"]
    keep: Callable[[Seen, Tools], Rows]
    fold: Callable[[], Fold]
    keep_real: Callable[[Reals, Tools], Rows] | None = None
    gives: networks.Gives | None = None
    network: str | None = None
    only: bool = False
    classifier: bool = False
    sampling: Sampling = Sampling()
    pairs: str | None = None
    needs: tuple[Need, ...] = ()
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
            "seed": self.sampling.seed,
            "network": self.network,
            "networks": self.networks(),
            "resize": networks.card(self.network).resize if self.network else None,
            "needs": [*self.needs, *(["classifier"] if self.classifier else []), *self._weights()],
            "revision": self.revision,
        }

    def networks(self) -> list[str]:
        """The networks that it may look through."""
        if self.only:
            return [self.network] if self.network else []
        return [name for name, card in networks.NETWORKS.items() if self.gives in card.gives]

    def _weights(self) -> list[str]:
        return [f"weights:{name}" for name in networks.card(self.network).weights] if self.network else []


def _diversity(name: str, source: str, pairs: str, sampling: Sampling, keep: Callable[..., Rows]) -> Protocol:
    return Protocol(
        name=name,
        measures=f"perceptual distance between outputs for one input ({source})",
        better="higher",
        keep=keep,
        fold=folds.MeanOverInputs,
        gives="distance",
        network=networks.DEFAULT,
        sampling=sampling,
        pairs=pairs,
        needs=("codes",),
    )


def _frechet(name: str, measures_what: str, only: str | None = None) -> Protocol:
    return Protocol(
        name=name,
        measures=measures_what,
        better="lower",
        keep=measures.features,
        keep_real=measures.real_features,
        fold=folds.Frechet,
        gives="features",
        network=only or networks.DEFAULT,
        only=only is not None,
        needs=("reals",),
    )


_ALL = (
    _diversity(
        "diversity-segan", "SEGAN", "all 190 of 20 outputs", Sampling(inputs=100, samples=20), measures.all_pairs
    ),
    _diversity(
        "diversity-udit",
        "UDIT, after Zhu et al. 2017",
        "19 random ones of 20 outputs",
        Sampling(inputs=100, samples=20),
        measures.pairs_19,
    ),
    _diversity("diversity-sdit", "SDIT", "all 45 of 10 outputs", Sampling(samples=10), measures.all_pairs),
    _frechet("frechet", "Fréchet distance of features to every real image of the target domain"),
    _frechet("fid", "Fréchet Inception distance to every real image (Heusel et al. 2017)", "inception-fid"),
    Protocol(
        name="accuracy",
        measures="share of outputs in which a classifier of the target domain sees the input's class (TI-GAN)",
        better="higher",
        keep=measures.class_is_kept,
        fold=folds.MeanOverInputs,
        classifier=True,
        needs=("labels",),
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}
"""Every protocol by name."""


@dataclass(frozen=True)
class Choice:
    """A protocol with its choices made."""

    protocol: Protocol
    network: str | None
    sampling: Sampling


def choose(
    text: str,
    *,
    network: str | None = None,
    inputs: int | None = None,
    samples: int | None = None,
    seed: int | None = None,
) -> Choice:
    """The protocol `NAME`, or `NAME:NETWORK`.

    Args:
        text: which.
        network: for protocols that look through one and don't name it; None: the protocol's own.
        inputs: other counts than the protocol's; None: its own.
        samples: likewise.
        seed: likewise.

    Raises:
        ConfigError: no such protocol or network, or a network that doesn't give what the protocol needs.
    """
    name, _, named = text.partition(":")
    if name not in PROTOCOLS:
        raise ConfigError(f"There is no protocol '{name}'.{nearest(name, PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    chosen = _network(protocol, named, network)
    given = {"inputs": inputs, "samples": samples, "seed": seed}
    changes = {key: value for key, value in given.items() if value is not None}
    return Choice(protocol, chosen, dataclasses.replace(protocol.sampling, **changes))


def _network(protocol: Protocol, named: str, usual: str | None) -> str | None:
    if protocol.gives is None:
        if named:
            raise ConfigError(f"The protocol {protocol.name} looks through no network: leave ':{named}' out.")
        return None
    chosen = named or (None if protocol.only else usual) or protocol.network
    assert chosen is not None, "a protocol that looks through a network has a default"
    networks.card(chosen)
    if chosen not in protocol.networks():
        able = ", ".join(protocol.networks())
        raise ConfigError(f"The protocol {protocol.name} can't look through {chosen}, but through: {able}.")
    return chosen
