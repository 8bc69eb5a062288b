"""What a search makes best, and what must hold besides: values of a trial's last validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from i2idist.errors import ConfigError, nearest
from i2idist.evaluate.protocols import PROTOCOLS, choose
from i2idist.train.loop import named_value

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A value of a validation.

    Attributes:
        metric: a protocol, `NAME` or `NAME:NETWORK`, or one of the method's own terms, such as `generator/l1`.
    """

    metric: str

    @property
    def protocol(self) -> str | None:
        """The protocol, as `train.validate_protocols` takes it; None for a term of the method."""
        return None if "/" in self.metric else self.metric

    @property
    def key(self) -> str:
        """How a validation names the value: this, or this and a slash and more."""
        return f"eval/{self.metric.replace(':', '/')}" if self.protocol else self.metric

    def of(self, values: Mapping[str, float], key: str) -> float:
        """The value, among those of a validation; `key` is what asks, for messages.

        Raises:
            ConfigError: the validation doesn't give it.
        """
        return named_value(values, self.key, key)


@dataclass(frozen=True, kw_only=True)
class Objective(Metric):
    """A value to be made best; of a protocol, the direction is known."""

    direction: Direction | None = None

    @property
    def resolved(self) -> Direction:
        """Which way is better."""
        if self.direction:
            return self.direction
        assert self.protocol, "a term without direction is refused when the search is read"
        return "maximize" if choose(self.protocol).protocol.better == "higher" else "minimize"


@dataclass(frozen=True, kw_only=True)
class Constraint(Metric):
    """Bounds of a value: trials outside are worse than all within."""

    min: float | None = None
    max: float | None = None

    def violations(self, value: float) -> dict[str, float]:
        """By how much each bound is passed; zero or less where it holds."""
        found = {}
        if self.min is not None:
            found[f"{self.metric} >= {self.min:g}"] = self.min - value
        if self.max is not None:
            found[f"{self.metric} <= {self.max:g}"] = value - self.max
        return found


def check_metrics(objectives: Sequence[Objective], constraints: Sequence[Constraint], where: str) -> None:
    """Refuse what no validation can give, as far as names tell.

    Raises:
        ConfigError: names the file and the metric.
    """
    for what, metrics in (("objectives", objectives), ("constraints", constraints)):
        for metric in metrics:
            _check_name(metric, f"{where}: '{what}'")
    if len({objective.metric for objective in objectives}) < len(objectives):
        raise ConfigError(f"{where}: 'objectives' names a metric twice.")
    for objective in objectives:
        _check_direction(objective, f"{where}: 'objectives'")
    for constraint in constraints:
        if constraint.min is None and constraint.max is None:
            raise ConfigError(f"{where}: 'constraints': {constraint.metric} has neither min nor max.")


def _check_name(metric: Metric, place: str) -> None:
    if metric.protocol is None:
        return
    name = metric.protocol.partition(":")[0]
    if name not in PROTOCOLS:
        raise ConfigError(
            f"{place}: '{metric.metric}' is no protocol, and a term of the method is PLAYER/TERM."
            f"{nearest(name, PROTOCOLS)}"
        )
    choose(metric.protocol)


def _check_direction(objective: Objective, place: str) -> None:
    if objective.protocol is None:
        if objective.direction is None:
            raise ConfigError(f"{place}: say whether to minimize or maximize {objective.metric}: direction: minimize.")
        return
    protocol = choose(objective.protocol).protocol
    if objective.direction not in (None, "maximize" if protocol.better == "higher" else "minimize"):
        raise ConfigError(f"{place}: of {protocol.name}, {protocol.better} is better: leave the direction out.")
