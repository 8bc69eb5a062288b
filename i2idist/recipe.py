"""Recipes: YAML files that describe runs, found by name or path, and the overrides laid over them.

YAML as read here is narrower than YAML 1.1: only `true` and `false` are booleans, `1e-4` is a number, there are no
dates and no octal or sexagesimal numbers, and a key that is given twice is an error. So are tags, which make other
values than those, and aliases, by which a short text becomes a value that nothing can walk through.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from i2idist import storage
from i2idist.errors import ConfigError, nearest

_SCALARS = {
    "bool": (r"true|false|True|False", "tfTF"),
    "int": (r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.inf)|\.nan",
        "-+0123456789.",
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
}


_DIGITS = 64
LARGEST = 1 << 20
"""Characters of a YAML text; a longer one is refused unread."""


class Dumper(yaml.SafeDumper):
    """Writes what `parse_yaml` reads back equal: text that would be read as a number is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        """A value that occurs twice is written twice."""
        return True


class _Loader(yaml.SafeLoader):
    """The safe loader with the narrower scalars above, refusing tags, aliases and doubled keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = f"the tag {event.tag} isn't read" if getattr(event, "tag", None) is not None else None
        if isinstance(event, yaml.events.AliasEvent):
            problem = "aliases aren't read: write it out"
        if problem:
            mark: Any = event.start_mark
            raise yaml.composer.ComposerError(None, None, problem, mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _DIGITS:
        raise yaml.constructor.ConstructorError(None, None, f"a number of over {_DIGITS} digits", node.start_mark)
    return int(node.value.replace("_", ""), 16 if node.value.startswith("0x") else 10)


for _tag, (_pattern, _first) in _SCALARS.items():
    for _side in (_Loader, Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Args:
        text: the YAML.
        where: its file or option, for messages.

    Raises:
        ConfigError: it is no YAML as read here, holds a key twice, or is too long or too deep.
    """
    if len(text) > LARGEST:
        raise ConfigError(f"{where} is {len(text)} characters long; YAML of up to {LARGEST} is read.")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {_problem(error)}") from error
    except RecursionError as error:  # brackets by the thousand
        raise ConfigError(f"{where} can't be read: {error}.") from error


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}."
    return str(error)


def recipes() -> dict[str, Path]:
    """The recipes that come with i2idist, by name."""
    return shipped("recipes")


def shipped(kind: str) -> dict[str, Path]:
    """The YAML files of a folder that comes with i2idist, by name: from the wheel, or from the clone's `jobs`."""
    package = Path(__file__).parent
    for folder in (package / kind, package.parent / "jobs" / kind):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def read_recipe(name_or_path: str) -> tuple[dict[str, Any], str]:
    """Read a recipe by its name, path or URL.

    Returns:
        Its mapping, and the file's name for messages.

    Raises:
        ConfigError: there is none, or it holds no mapping.
    """
    return read_mapping(name_or_path, "recipe", recipes(), "method, data, train, ...")


def read_mapping(name_or_path: str, what: str, known: Mapping[str, Path], keys: str) -> tuple[dict[str, Any], str]:
    """Read a YAML file that holds a mapping.

    Args:
        name_or_path: one of `known`, or a path or URL.
        what: it is called, in messages.
        known: files by name.
        keys: that it has, for messages.

    Returns:
        Its mapping, and the file's name for messages.

    Raises:
        ConfigError: there is none, or it holds no mapping.
    """
    is_name = not name_or_path.endswith((".yaml", ".yml")) and "/" not in name_or_path
    if is_name and name_or_path not in known:
        raise ConfigError(f"There is no {what} named '{name_or_path}'.{nearest(name_or_path, known)}")
    where = str(known[name_or_path]) if is_name else name_or_path
    if not storage.exists(where):
        raise ConfigError(f"There is no {what} file {where}: give the name of a {what}, or the path of a YAML file.")
    raw = parse_yaml(_text(where), where)
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} holds no mapping: a {what} has the keys {keys}")
    return raw, where


def _text(where: str) -> str:
    data = storage.read_bytes(where, 0, 4 * LARGEST + 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is no UTF-8 text: {error}.") from error


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Overrides from the command line, `KEY=VALUE` each, the value being YAML: `train.total_images=20000`.

    Raises:
        ConfigError: an argument has no `=`, or a value that is no YAML, or a key comes twice.
    """
    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{argument}' is no override: write KEY=VALUE, such as train.total_images=20000.")
        if key in values:
            raise ConfigError(f"The override '{key}' is given twice.")
        values[key] = parse_yaml(text, f"the override '{argument}'")
    return values


def override(raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a recipe's mapping with the values of dotted keys put in.

    Raises:
        ConfigError: a key leads through something that is no mapping.
    """
    result = _copy(raw)
    for dotted, value in values.items():
        *path, last = dotted.split(".")
        place = result
        for depth, part in enumerate(path):
            inner = place.setdefault(part, {})
            if part == "method" and depth == 0 and isinstance(inner, str):
                inner = place[part] = {"name": inner}
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"The override '{dotted}' can't be applied: {'.'.join(path[: depth + 1])} is {inner!r}, "
                    "not a section."
                )
            place = inner
        place[last] = _copy(value) if isinstance(value, Mapping) else value
    return result


def _copy(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in raw.items()}
