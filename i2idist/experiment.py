"""One typed description of a run: method, data, training, resources, seed, sources.

It is read from a recipe, overridden by dotted keys, checked, and written to the run folder; what is read back equals
what was written, and `Experiment.digest` names it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from i2idist.data.settings import DataSettings
from i2idist.errors import ConfigError
from i2idist.method import Described, Method
from i2idist.recipe import Dumper, override, parse_yaml, read_recipe
from i2idist.tracking.settings import Tracking
from i2idist.train.settings import Training
from i2idist.typed import Check

MAY_CHANGE = (
    "train.total_images",
    "train.log_every_images",
    "train.preview_every_images",
    "train.validate_every_images",
    "train.validation_images",
    "train.validate_protocols",
    "train.checkpoint_every_images",
    "train.keep_checkpoints",
    "train.patience",
    "data.url",
    "data.workers",
    "data.prefetch",
    "data.pin_memory",
    "data.memory_bytes",
    "data.cache_dir",
    "data.cache_bytes",
    "resources.",
    "tracking.",
)
"""Keys, or with a final dot sections, that may differ when a run is continued. `data.url` may: the data's digest may
not.
"""


@dataclass(frozen=True)
class MethodChoice:
    """Which method, by its name in `METHODS` or as `package.module:Class`, and its `Config`."""

    name: str
    config: Any


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run runs on: the `resources:` section.

    Attributes:
        num_workers: processes that share each batch; two numbers: as many as the cluster has room for, between these.
        launcher: `ray` trains on Ray workers, `local` in one process without Ray.
        threads_per_worker: threads that each worker computes with; None: cores // workers, fixed when the run is
            created.
        device: `auto` takes CUDA where there is a device for each worker.
        max_failures: how many worker failures are mended by starting again from the newest checkpoint.
    """

    num_workers: int | tuple[int, int] = 1
    launcher: Literal["ray", "local"] = "ray"
    threads_per_worker: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_failures: int = 3

    def __post_init__(self) -> None:
        """Refuse numbers that can't work.

        Raises:
            ConfigError: a number is out of range, or the local launcher is given several workers.
        """
        low, high = self.workers_range
        if not 1 <= low <= high:
            raise ConfigError(
                f"resources.num_workers is {self.num_workers}: use a number of at least 1, or [smallest, largest]."
            )
        if self.threads_per_worker is not None and self.threads_per_worker < 1:
            raise ConfigError(f"resources.threads_per_worker is {self.threads_per_worker}: it must be at least 1.")
        if self.max_failures < 0:
            raise ConfigError(f"resources.max_failures is {self.max_failures}: it must be 0 or more.")
        if self.launcher == "local" and high > 1:
            raise ConfigError(f"resources.launcher=local runs one process, not {high}: use resources.launcher=ray.")

    @property
    def workers_range(self) -> tuple[int, int]:
        """The smallest and largest number of workers."""
        return (self.num_workers, self.num_workers) if isinstance(self.num_workers, int) else self.num_workers


@dataclass(frozen=True, kw_only=True)
class Source:
    """State that a run starts from. A plain URI in a recipe; `url` and `sha256` are filled in when the run is created.

    Attributes:
        uri: what the recipe names: a safetensors file, a run, a saved model's folder, a registered model
            (`models:/NAME@ALIAS`), or published weights (`weights:NAME`).
        url: the file or checkpoint that was found there; of what isn't in storage, a copy beside the runs.
        sha256: its digest.
        version: `models:/NAME/VERSION`, which an alias stood for.
        model: what it is, where it is a saved or registered model of a method of ours.
    """

    uri: str
    url: str | None = None
    sha256: str | None = None
    version: str | None = None
    model: Described | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, described.

    Attributes:
        method: the method and its config.
        data: what it trains on.
        train: how long and how.
        resources: on what.
        tracking: where it is tracked.
        seed: the seed of every random draw.
        init_from: a run whose newest checkpoint gives the initial weights, or the URL of a checkpoint.
        sources: pretrained parts of the method, by name.
    """

    method: MethodChoice
    data: DataSettings
    train: Training
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    seed: int = 0
    init_from: Source | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as a recipe holds them: `from_dict` of them gives an equal experiment."""
        plain = _plain(dataclasses.asdict(self))
        return {**plain, "method": {"name": self.method.name, **plain["method"]["config"]}}

    def as_yaml(self) -> str:
        """The resolved experiment as YAML."""
        return yaml.dump(self.as_dict(), Dumper=Dumper, sort_keys=False, width=120)

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved experiment, as 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def replace_resources(self, **changes: Any) -> Experiment:
        """A copy with other resources."""
        return dataclasses.replace(self, resources=dataclasses.replace(self.resources, **changes))


def read_experiment(recipe: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Read a recipe, lay overrides over it, and check the result.

    Args:
        recipe: a recipe's name, path or URL.
        overrides: values by dotted key.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or range, an unknown method; names the file and the key.
    """
    raw, where = read_recipe(recipe)
    overrides = overrides or {}
    return from_dict(override(raw, overrides), where, overrides)


def from_yaml(text: str, where: str) -> Experiment:
    """The experiment that `Experiment.as_yaml` wrote.

    Raises:
        ConfigError: it isn't one.
    """
    raw = parse_yaml(text, where)
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} holds no experiment.")
    return from_dict(raw, where)


def from_dict(raw: Mapping[str, Any], where: str, overridden: Mapping[str, Any] | None = None) -> Experiment:
    """Check a recipe's mapping.

    Args:
        raw: the mapping.
        where: its file, for messages.
        overridden: the keys that came from overrides, for messages.

    Raises:
        ConfigError: it can't be used; names the file and the key.
    """
    check = Check(where, overridden or {})
    check.keys(raw, {f.name for f in dataclasses.fields(Experiment)}, "")
    for section in ("method", "data", "train"):
        if section not in raw:
            raise ConfigError(f"{where} has no '{section}' section.")
    return Experiment(
        method=_method(check, raw["method"]),
        data=check.section(DataSettings, raw["data"], "data"),
        train=check.section(Training, raw["train"], "train"),
        resources=check.section(Resources, raw.get("resources") or {}, "resources"),
        tracking=check.section(Tracking, raw.get("tracking") or {}, "tracking"),
        seed=check.value(int, raw.get("seed", 0), "seed"),
        init_from=_source(check, raw.get("init_from"), "init_from"),
        sources={name: _given(check, value, f"sources.{name}") for name, value in _sources(check, raw).items()},
    )


def _sources(check: Check, raw: Mapping[str, Any]) -> dict[str, Any]:
    return check.mapping(raw.get("sources") or {}, "sources")


def _given(check: Check, value: Any, path: str) -> Source:
    source = _source(check, value, path)
    if source is None:
        raise ConfigError(f"{check.place(path)} is empty: name a file or a run.")
    return source


def _source(check: Check, value: Any, path: str) -> Source | None:
    if value is None:
        return None
    return Source(uri=value) if isinstance(value, str) else check.section(Source, value, path)


def method_class(choice: MethodChoice) -> type[Method]:
    """The class of a chosen method."""
    from i2idist.methods import load_method

    return load_method(choice.name)


def _method(check: Check, raw: Any) -> MethodChoice:
    from i2idist.methods import load_method

    values = {"name": raw} if isinstance(raw, str) else check.mapping(raw, "method")
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"{check.place('method.name')} is missing: name a method, or package.module:Class.")
    return MethodChoice(name, check.section(load_method(name).Config, values, "method"))


def _plain(value: Any) -> Any:
    """Tuples become lists, as YAML and JSON have them."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def flatten(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted key. An empty mapping stays as a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = value
    return flat


def differences(old: Experiment, new: Experiment) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with the old and the new value (None where a key is absent)."""
    before, after = flatten(old.as_dict()), flatten(new.as_dict())
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def may_change(key: str) -> bool:
    """Whether a key may differ when a run is continued."""
    return any(key == allowed or (allowed.endswith(".") and key.startswith(allowed)) for allowed in MAY_CHANGE)
