"""Options that several commands share, as a dataclass that each of them takes whole."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any


def takes(options: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of a dataclass as options of its own; it gets them as its parameter `how`.

    Args:
        options: a dataclass whose fields are annotated as a command's parameters are.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter.replace(annotation=typing.get_type_hints(command, include_extras=True)[name])
            for name, parameter in inspect.signature(command).parameters.items()
            if name != "how"
        ]
        hints = typing.get_type_hints(options, include_extras=True)
        shared = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in dataclasses.fields(options)
        ]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            how = options(**{field.name: given.pop(field.name) for field in shared})
            command(**given, how=how)

        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__dict__["__signature__"] = inspect.Signature([*keyword, *shared])
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*keyword, *shared]}
        return run

    return decorate
