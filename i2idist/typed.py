"""Plain values, as YAML gives them, into typed dataclasses; or an error that says where and what was wrong."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import pydantic

from i2idist.errors import ConfigError, nearest

T = TypeVar("T")


class Check:
    """Turns plain values into dataclasses; errors name the file or override, the key, and the nearest known key."""

    def __init__(self, where: str, overridden: Mapping[str, Any]) -> None:
        """Check values of the file `where`, of which those with the keys `overridden` were given otherwise."""
        self._where = where
        self._overridden = overridden

    def place(self, path: str) -> str:
        """The key `path` and where it was given, for a message."""
        given = any(path == key or path.startswith(f"{key}.") for key in self._overridden)
        return f"The override '{path}'" if given else f"{self._where}: '{path}'"

    def keys(self, raw: Mapping[str, Any], known: set[str], path: str) -> None:
        """Refuse keys that aren't known."""
        for key in raw:
            if key not in known:
                raise ConfigError(f"{self.place(f'{path}{key}')} is no known key.{_suggest(key, known, path)}")

    def mapping(self, raw: Any, path: str) -> dict[str, Any]:
        """A copy of a section's mapping."""
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{self.place(path)} is {raw!r}, not a section with keys.")
        return dict(raw)

    def section(self, kind: type[T], raw: Any, path: str) -> T:
        """A dataclass made of a section's mapping."""
        self._known(kind, self.mapping(raw, path), path)
        return self.value(kind, raw, path)

    def value(self, kind: type[T], raw: Any, path: str) -> T:
        """A value of the type `kind`."""
        try:
            return pydantic.TypeAdapter(kind).validate_python(raw)
        except pydantic.ValidationError as error:
            raise ConfigError(self._problems(error, kind, path)) from error

    def _known(self, kind: type[Any], raw: Mapping[str, Any], path: str) -> None:
        hints = typing.get_type_hints(kind)
        self.keys(raw, {f.name for f in dataclasses.fields(kind)}, f"{path}.")
        for key, value in raw.items():
            for inner in _dataclasses_in(hints[key]):
                if isinstance(value, Mapping):
                    self._known(inner, value, f"{path}.{key}")

    def _problems(self, error: pydantic.ValidationError, kind: type[Any], path: str) -> str:
        problems: dict[str, str] = {}
        for entry in error.errors(include_url=False):
            key = ".".join([path, *_field_path(kind, entry["loc"])])
            given = "" if entry["type"].startswith("missing") else f", not {entry['input']!r}"
            problems.setdefault(key, f"{self.place(key)}: {entry['msg'][0].lower()}{entry['msg'][1:]}{given}.")
        return "\n".join(problems.values())


def _suggest(key: str, known: set[str], path: str) -> str:
    text = nearest(key, known)
    return text.replace("Did you mean '", f"Did you mean '{path}")


def _dataclasses_in(hint: Any) -> Iterator[type[Any]]:
    """The dataclass that a hint names, alone or in a union with None."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return (option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option))


def _field_path(kind: type[Any], location: tuple[int | str, ...]) -> Iterator[str]:
    """The fields that a pydantic error location leads through; names of union members and indices follow them."""
    for part in location:
        if not dataclasses.is_dataclass(kind) or part not in {f.name for f in dataclasses.fields(kind)}:
            return
        yield str(part)
        kind = next(_dataclasses_in(typing.get_type_hints(kind)[str(part)]), type(None))
