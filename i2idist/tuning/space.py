"""What is searched: a range or a list of choices for each of some dotted keys of a recipe."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from i2idist.errors import ConfigError, nearest

Params = dict[str, Any]
"""Values by dotted key."""
FIXED = ("seed", "tracking.", "resources.", "train.validate_every_images", "train.validate_protocols", "init_from.")
"""Keys, or with a final dot sections, that the search itself needs; they can't be searched."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """The values that a key may take.

    Attributes:
        type: of the values.
        low: the smallest, for numbers.
        high: the largest, included.
        log: draw the logarithm evenly.
        step: between neighbouring values; None: any float, every integer.
        choices: the values of a categorical.
        when: the key is searched only while these keys, which come before it, have this value, or one of these values;
            otherwise the recipe's own value stays.
        also: other keys that take the same value.
        along: other keys, each with its value at every choice, in their order; categoricals only.
    """

    type: Literal["float", "int", "categorical"]
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[bool | int | float | str | None, ...] = ()
    when: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    along: Mapping[str, tuple[bool | int | float | str | None, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what can't be drawn from.

        Raises:
            ConfigError: says what is wrong; `check_space` adds the key.
        """
        if self.type == "categorical":
            self._check_choices()
        else:
            self._check_range()

    def _check_choices(self) -> None:
        if (self.low, self.high, self.step, self.log) != (None, None, None, False):
            raise ConfigError("a categorical has choices, and no low, high, step or log.")
        if not self.choices:
            raise ConfigError("there are no choices: list the values.")
        if len({(type(choice), choice) for choice in self.choices}) < len(self.choices):
            raise ConfigError(f"a choice comes twice in {list(self.choices)}.")
        for key, values in self.along.items():
            if len(values) != len(self.choices):
                raise ConfigError(f"'along' gives {key} {len(values)} values for {len(self.choices)} choices.")

    def _check_range(self) -> None:
        if self.along:
            raise ConfigError(f"'along' belongs to type: categorical, not {self.type}.")
        if self.choices:
            raise ConfigError(f"choices belong to type: categorical, not {self.type}.")
        if self.low is None or self.high is None:
            raise ConfigError("a range needs low and high.")
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ConfigError(f"the range from {self.low} to {self.high} isn't finite.")
        if self.low > self.high:
            raise ConfigError(f"the range is inverted: low is {self.low}, high is {self.high}.")
        if self.low == self.high:
            raise ConfigError(f"the range is empty: low and high are {self.low}. Set the key instead.")
        if self.log and self.low <= 0:
            raise ConfigError(f"low is {self.low}: a logarithmic range begins above 0.")
        self._check_step()

    def _check_step(self) -> None:
        assert self.low is not None and self.high is not None
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ConfigError(f"step is {self.step}: it must be above 0 and within the range.")
        if self.step is not None and self.log:
            raise ConfigError("a range can't have both log and step: use a categorical.")
        if self.type == "int" and any(value is not None and value % 1 for value in (self.low, self.high, self.step)):
            raise ConfigError("low, high and step of an int must be whole.")

    def examples(self) -> list[Any]:
        """Values to try the recipe with: every choice, or both ends and one between."""
        if self.type == "categorical":
            return list(self.choices)
        assert self.low is not None and self.high is not None
        between = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        ends = [self.low, self.high, *([between] if self.step is None else [])]
        return [round(value) for value in ends] if self.type == "int" else [float(value) for value in ends]

    def grid(self) -> list[Any]:
        """Every value, in order.

        Raises:
            ConfigError: there is no end to them.
        """
        if self.type == "categorical":
            return list(self.choices)
        assert self.low is not None and self.high is not None
        step = self.step or (1 if self.type == "int" else None)
        if step is None:
            raise ConfigError("a grid needs a step, or choices.")
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        values = [self.low + number * step for number in range(count)]
        return [round(value) for value in values] if self.type == "int" else [float(value) for value in values]

    def holds(self, value: Any) -> bool:
        """Whether it is one of the values."""
        if self.type == "categorical":
            return any(_same(value, choice) for choice in self.choices)
        assert self.low is not None and self.high is not None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return self.type == "float" or value % 1 == 0
        return abs((value - self.low) / self.step - round((value - self.low) / self.step)) < 1e-8

    @property
    def followers(self) -> tuple[str, ...]:
        """The keys whose values follow from this one's."""
        return (*self.also, *self.along)

    def spread(self, value: Any) -> Params:
        """The values of the keys that follow one of its own."""
        found: Params = dict.fromkeys(self.also, value)
        if self.along:
            place = next(number for number, choice in enumerate(self.choices) if _same(value, choice))
            found |= {key: values[place] for key, values in self.along.items()}
        return found

    def is_active(self, params: Mapping[str, Any]) -> bool:
        """Whether it is searched, given the values of the keys before it."""
        return all(key in params and params[key] in as_list(wanted) for key, wanted in self.when.items())


def _same(value: Any, choice: Any) -> bool:
    return value == choice and isinstance(value, bool) == isinstance(choice, bool)


Space = Mapping[str, Parameter]


def as_list(wanted: Any) -> list[Any]:
    """One value, or several."""
    return list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]


def check_space(space: Space, where: str) -> None:
    """Refuse keys that can't be searched and conditions that can't be met.

    Raises:
        ConfigError: names the file and the key.
    """
    if not space:
        raise ConfigError(f"{where}: 'space' is empty: give at least one key a range.")
    before: dict[str, Parameter] = {}
    seen = set(space)
    for key, parameter in space.items():
        for each in (key, *parameter.followers):
            if any(each == fixed or (fixed.endswith(".") and each.startswith(fixed)) for fixed in FIXED):
                raise ConfigError(f"{where}: 'space.{key}' can't be searched: the search itself sets {each}.")
        for twin in parameter.followers:
            if twin in seen:
                raise ConfigError(f"{where}: 'space.{key}' sets '{twin}' besides, which is searched already.")
            seen.add(twin)
        for other, wanted in parameter.when.items():
            _check_condition(f"{where}: 'space.{key}.when'", other, wanted, before)
        before[key] = parameter


def _check_condition(place: str, other: str, wanted: Any, before: Space) -> None:
    if other not in before:
        raise ConfigError(f"{place} speaks of '{other}', which isn't searched before it.{nearest(other, before)}")
    for value in as_list(wanted):
        if not before[other].holds(value):
            raise ConfigError(f"{place} asks for {other} = {value!r}, which it never is.")


def spread(space: Space, params: Mapping[str, Any]) -> Params:
    """A point with the values of the keys that follow others."""
    found = dict(params)
    for key, value in params.items():
        found |= space[key].spread(value)
    return found


def check_point(space: Space, point: Mapping[str, Any], place: str) -> None:
    """Refuse a point to be tried first that isn't in the space.

    Raises:
        ConfigError: names the key.
    """
    for key, value in point.items():
        if key not in space:
            raise ConfigError(f"{place} has '{key}', which isn't searched.{nearest(key, space)}")
        if not space[key].holds(value):
            raise ConfigError(f"{place}: {key} = {value!r} is outside its range.")
        if not space[key].is_active(point):
            raise ConfigError(f"{place}: {key} is searched only when {dict(space[key].when)}.")


def examples(space: Space) -> Iterator[tuple[str, Params]]:
    """For each key and each value worth trying, a point in which the key is searched; with the key."""
    for key, parameter in space.items():
        base = _met(space, parameter)
        yield from ((key, {**base, key: value}) for value in parameter.examples())


def _met(space: Space, parameter: Parameter) -> Params:
    """The values by which a parameter's conditions are met, and those of the keys that these depend on."""
    point: Params = {}
    for key, wanted in parameter.when.items():
        point |= _met(space, space[key]) | {key: as_list(wanted)[0]}
    return point


def points(space: Space) -> list[Params]:
    """Every point of a grid, in order.

    Raises:
        ConfigError: a key's range has no step; names the key.
    """
    found: list[Params] = [{}]
    for key, parameter in space.items():
        try:
            values = parameter.grid()
        except ConfigError as error:
            raise ConfigError(f"'space.{key}': {error}") from error
        found = list(
            itertools.chain.from_iterable(
                [{**point, key: value} for value in values] if parameter.is_active(point) else [point]
                for point in found
            )
        )
    return found
