"""A search, described: a YAML file, read, overridden and checked before anything runs.

```yaml
recipe: segan_digits             # what each trial trains: a recipe's name or path
set: {resources.launcher: local} # laid over it, for trials and for what is promoted
trial: {train.total_images: 4000}# laid over that, for trials alone
objectives: [{metric: diversity-segan}, {metric: accuracy}]
constraints: [{metric: edge-iou, min: 0.3}]
space: {method.lambda_mi: {type: float, low: 0.1, high: 10, log: true}}
first: [{method.lambda_mi: 1.0}] # points to begin with
sampler: tpe                     # or nsga2, nsga3, cmaes, random, grid
pruner: none                     # or median, halving, hyperband
evaluations: 4                   # times that a trial is measured, the last at its end
seeds: 1                         # runs of each trial, whose mean counts
trials: 12
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from i2idist.errors import ConfigError
from i2idist.experiment import Experiment, flatten, from_dict, may_change
from i2idist.recipe import override, read_mapping, read_recipe, shipped
from i2idist.tuning.objectives import Constraint, Objective, check_metrics
from i2idist.tuning.space import Parameter, Params, Space, check_point, check_space, examples, points, spread
from i2idist.typed import Check

FORMAT_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How points are drawn.

    Attributes:
        name: Optuna's sampler; `grid` tries every point once.
        seed: of its draws; None: another at each start. Of drivers of one study, the first keeps it.
        startup_trials: drawn at random before the sampler has seen enough; None: Optuna's number. TPE and CMA-ES.
        population_size: of NSGA-II and NSGA-III and CMA-ES; None: Optuna's.
    """

    name: Literal["tpe", "nsga2", "nsga3", "cmaes", "random", "grid"] = "tpe"
    seed: int | None = None
    startup_trials: int | None = None
    population_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Pruner:
    """Which trials are ended early, at their evaluations.

    Attributes:
        name: Optuna's pruner.
        startup_trials: that are never pruned (median).
        warmup_evaluations: at which nothing is pruned (median).
        reduction_factor: of halving and hyperband.
    """

    name: Literal["none", "median", "halving", "hyperband"] = "none"
    startup_trials: int = 5
    warmup_evaluations: int = 0
    reduction_factor: int = 3


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search. The first group of attributes says what it is; a study keeps it. The others may change.

    Attributes:
        recipe: the recipe's name or path, for people.
        base: the experiment that is searched around, as plain values.
        trial: values by dotted key that trials have besides.
        space: what is searched.
        objectives: what is made best.
        constraints: what must hold besides.
        evaluations: how often a trial is measured, evenly, the last time at its end.
        seeds: runs of each trial, with the base's seed and those after it; their mean counts. Pruners see the first.

        name: of the search file.
        first: points to begin with, of any of the keys.
        sampler: how points are drawn.
        pruner: which trials are ended early.
        trials: how many; None: every point of a grid.
        hours: no trial begins after so many hours of a driver.
        concurrency: trials at once of one driver, as far as there are cores for them.
        retries: how often a trial that fails is tried again, from its checkpoint.
    """

    recipe: str
    base: Mapping[str, Any]
    trial: Mapping[str, Any]
    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    evaluations: int = 1
    seeds: int = 1

    name: str
    first: tuple[Mapping[str, Any], ...] = ()
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()
    trials: int | None = None
    hours: float | None = None
    concurrency: int = 1
    retries: int = 2

    @property
    def budget(self) -> int:
        """How many trials there are."""
        return len(points(self.space)) if self.trials is None else self.trials

    def definition(self) -> dict[str, Any]:
        """What a study of this search keeps, JSON-able; `from_definition` reads it."""
        kept = ("recipe", "base", "trial", "space", "objectives", "constraints", "evaluations", "seeds", "pruner")
        plain = {key: _plain(getattr(self, key)) for key in (*kept, "name")}
        return {"format_version": FORMAT_VERSION, **plain}

    def starting(self) -> list[Params]:
        """The points to begin with; all of a grid."""
        first = [dict(point) for point in self.first]
        if self.sampler.name != "grid":
            return first
        return first + [point for point in points(self.space) if point not in first]

    def experiment(self, params: Mapping[str, Any], number: int | None = None, *, seed: int = 0) -> Experiment:
        """What a trial trains.

        Args:
            params: its point.
            number: for messages.
            seed: which of its runs, from 0.
        """
        values = {**self.trial, **spread(self.space, params)}
        where = self.recipe if number is None else f"trial {number}"
        found = from_dict(override(self.base, values), where, values)
        protocols = [metric.protocol for metric in (*self.objectives, *self.constraints) if metric.protocol]
        every = max(1, found.train.total_images // self.evaluations)
        train = dataclasses.replace(
            found.train,
            validate_every_images=every,
            validate_protocols=tuple(dict.fromkeys([*found.train.validate_protocols, *protocols])),
        )
        return dataclasses.replace(found, train=train, seed=found.seed + seed)

    def recipe_of(self, params: Mapping[str, Any]) -> Experiment:
        """The experiment of a point at the base's own length: a recipe for `i2idist train`."""
        values = spread(self.space, params)
        return from_dict(override(self.base, values), self.recipe, values)


def from_definition(found: Mapping[str, Any], where: str) -> Search:
    """The search that a study keeps.

    Raises:
        ConfigError: another version of i2idist wrote it.
    """
    if found.get("format_version") != FORMAT_VERSION:
        raise ConfigError(
            f"{where} has format version {found.get('format_version')}; this i2idist reads {FORMAT_VERSION}."
        )
    check = Check(where, {})
    values = {key: value for key, value in found.items() if key != "format_version"}
    return _parsed(check, values, dict(values.pop("base")), values.pop("name"), values.pop("recipe"))


def differing(old: Search, new: Search) -> dict[str, tuple[Any, Any]]:
    """The keys in which two searches aren't the same search, with the old and the new value."""
    before, after = flatten(old.definition()), flatten(new.definition())
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key) and _kept(key)}


def _kept(key: str) -> bool:
    """Whether a study's search must keep the value of a key."""
    section, _, inner = key.partition(".")
    if section in ("name", "recipe", "pruner"):
        return False
    lengths = ("train.total_images", "train.validation_images")
    return not (section in ("base", "trial") and may_change(inner) and inner not in lengths)


def searches() -> dict[str, Path]:
    """The searches that come with i2idist, by name."""
    return shipped("searches")


def read_search(name_or_path: str, overrides: Mapping[str, Any] | None = None, **changes: Any) -> Search:
    """Read a search by its name, path or URL, and check all that can be checked without data.

    Args:
        name_or_path: which.
        overrides: values by dotted key for its recipe.
        changes: other values than the file's for `trials`, `hours` and the like; None: the file's.

    Raises:
        ConfigError: it can't be used; names the file and the key.
    """
    raw, where = read_mapping(name_or_path, "search", searches(), "recipe, objectives, space, ...")
    raw = {**raw, **{key: value for key, value in changes.items() if value is not None}}
    check = Check(where, {})
    recipe = raw.pop("recipe", None)
    if not isinstance(recipe, str):
        raise ConfigError(f"{where}: 'recipe' is missing: name the recipe that is searched around.")
    values = {**check.mapping(raw.pop("set", None) or {}, "set"), **(overrides or {})}
    base, file = read_recipe(recipe)
    experiment = from_dict(override(base, values), f"{where}: recipe {file}", values)
    search = _parsed(check, raw, experiment.as_dict(), Path(where).stem, recipe)
    _check_search(search, where)
    return search


def _parsed(check: Check, raw: Mapping[str, Any], base: dict[str, Any], name: str, recipe: str) -> Search:
    values = dict(raw)
    fields = {f.name for f in dataclasses.fields(Search)} - {"base", "name", "recipe"}
    check.keys(values, fields, "")
    for key in ("objectives", "space"):
        if not values.get(key):
            raise ConfigError(f"{check.place(key)} is missing.")
    parsed: dict[str, Any] = {
        "space": {key: _parameter(check, value, key) for key, value in check.mapping(values["space"], "space").items()},
        "objectives": _metrics(check, Objective, values["objectives"], "objectives"),
        "constraints": _metrics(check, Constraint, values.get("constraints") or [], "constraints"),
        "trial": check.mapping(values.get("trial") or {}, "trial"),
        "first": tuple(check.value(list[dict[str, Any]], values.get("first") or [], "first")),
    }
    for key, named in (("sampler", Sampler), ("pruner", Pruner)):
        given = values.get(key, {})
        parsed[key] = check.section(named, {"name": given} if isinstance(given, str) else given, key)
    for key, kind, least in _NUMBERS:
        if values.get(key) is not None:
            parsed[key] = check.value(kind, values[key], key)
            if not parsed[key] >= least:
                raise ConfigError(f"{check.place(key)} is {parsed[key]}: it must be at least {least}.")
    return Search(name=name, recipe=recipe, base=base, **parsed)


_NUMBERS: tuple[tuple[str, type[Any], int], ...] = (
    ("trials", int, 1),
    ("evaluations", int, 1),
    ("seeds", int, 1),
    ("concurrency", int, 1),
    ("retries", int, 0),
    ("hours", float, 0),
)


def _parameter(check: Check, raw: Any, key: str) -> Parameter:
    place = f"space.{key}"
    try:
        return check.section(Parameter, raw, place)
    except ConfigError as error:
        if "'space." in str(error):
            raise
        raise ConfigError(f"{check.place(place)}: {error}") from error


def _metrics(check: Check, kind: type[T], raw: Any, path: str) -> tuple[T, ...]:
    """A list of metrics, each a name alone or a mapping."""
    entries = check.value(list[Any], raw, path)
    return tuple(check.section(kind, {"metric": one} if isinstance(one, str) else one, path) for one in entries)


def _check_search(search: Search, where: str) -> None:
    """Refuse what can't work, whatever the data."""
    check_metrics(search.objectives, search.constraints, where)
    check_space(search.space, where)
    for number, point in enumerate(search.first, 1):
        check_point(search.space, point, f"{where}: 'first' number {number}")
    _check_sampler(search, where)
    _check_pruner(search, where)
    if search.trials is None and search.sampler.name != "grid":
        raise ConfigError(f"{where}: 'trials' is missing: say how many, or use sampler: grid.")
    for key, point in examples(search.space):
        _check_example(search, key, point, where)


def _check_sampler(search: Search, where: str) -> None:
    name = search.sampler.name
    if name == "grid":
        points(search.space)
    if name == "cmaes" and len(search.objectives) > 1:
        raise ConfigError(f"{where}: sampler cmaes takes one objective: use tpe, nsga2 or nsga3 for several.")
    if name == "cmaes" and search.constraints:
        raise ConfigError(f"{where}: sampler cmaes knows no constraints: use tpe, nsga2 or nsga3.")
    if search.sampler.population_size is not None and search.sampler.population_size < 2:
        raise ConfigError(f"{where}: 'sampler.population_size' is {search.sampler.population_size}: at least 2.")


def _check_pruner(search: Search, where: str) -> None:
    if search.pruner.name == "none":
        return
    if len(search.objectives) > 1:
        raise ConfigError(f"{where}: a pruner compares one value, and there are several objectives: use pruner: none.")
    if search.evaluations < 2:
        raise ConfigError(
            f"{where}: pruner {search.pruner.name} decides at evaluations before the last, and there are none: set "
            "evaluations to 2 or more."
        )
    if search.pruner.reduction_factor < 2:
        raise ConfigError(f"{where}: 'pruner.reduction_factor' is {search.pruner.reduction_factor}: at least 2.")


def _check_example(search: Search, key: str, point: Params, where: str) -> None:
    try:
        search.experiment(point)
        search.recipe_of(point)
    except ConfigError as error:
        raise ConfigError(f"{where}: 'space.{key}' = {point[key]!r} can't be used: {error}") from error


def _plain(value: Any) -> Any:
    """As JSON holds it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({key: inner for key, inner in vars(value).items() if inner not in (None, (), {})})
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
