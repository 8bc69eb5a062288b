"""`i2idist methods`."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, or package.module:Class; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """List the methods: name, paper, kind of data, whether they generate; with a NAME, its options and defaults."""
    from i2idist.methods import METHODS, load_method

    chosen = [_described(known, load_method(known)) for known in ([name] if name else METHODS)]
    if as_json:
        typer.echo(json.dumps({"methods": chosen}))
        return
    console = Console(soft_wrap=True)
    for method in chosen:
        data = f"{' or '.join(method['data'])} data" + (", generates" if method["generates"] else "")
        console.print(f"[bold]{method['name']}[/bold]  {data}  {method['paper']}")
        for option in method["options"] if name else []:
            console.print(f"  method.{option['name']} = {option['default']!r}", highlight=False)
    if not name:
        console.print("Options of one: i2idist methods NAME")


def _described(name: str, method: Any) -> dict[str, Any]:
    options = [{"name": field.name, "default": _default(field)} for field in dataclasses.fields(method.Config)]
    data = sorted({method.batch_type(config).__name__.lower() for config in method.tiny().values()})
    return {"name": name, "paper": method.paper, "data": data, "generates": method.generates, "options": options}


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default is not dataclasses.MISSING else None
