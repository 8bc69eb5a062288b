"""`i2idist studies ls | show | best | export`: what searches have found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from i2idist.cli.runs import Root
from i2idist.cli.tune import Json, Storage

app = typer.Typer(no_args_is_help=True, help="List studies, show them, and take out what they found.")

Name = Annotated[str, typer.Argument(help="The study.")]
_UNLIMITED = 10_000


@app.command()
def ls(storage: Storage = None, root: Root = None, as_json: Json = False) -> None:
    """List the studies of a storage."""
    from i2idist.tuning.results import listed
    from i2idist.tuning.storage import is_absent, storage_url

    url = storage_url(storage, root)
    rows = [] if is_absent(url) else listed(url)
    if as_json:
        typer.echo(json.dumps({"storage": url, "studies": rows}))
    elif rows:
        _print(rows)
    else:
        typer.echo(f"No studies in {url} yet.")


@app.command()
def show(name: Name, storage: Storage = None, root: Root = None, as_json: Json = False) -> None:
    """Show a study: its points, how they ended, and the best."""
    from i2idist.tuning.results import standing

    found = standing(_study(name, storage, root))
    if as_json:
        typer.echo(json.dumps(found))
        return
    counted = ", ".join(f"{count} {state}" for state, count in found["counts"].items() if count)
    typer.echo(f"{name}: search {found['search']} around {found['recipe']}; {counted or 'no trials yet'}")
    typer.echo("; ".join(f"{direction} {metric}" for metric, direction in found["objectives"].items()))
    hidden = ("runs", "mlflow_run_ids", "step_s")
    rows = [{key: value for key, value in each.items() if key not in hidden} for each in found["trials"]]
    for each in rows:
        each["trial"] = f"{each['trial']}{' *' if each['trial'] in found['best'] else ''}"
    if rows:
        _print(rows)
        typer.echo("* best" if len(found["best"]) < 2 else "* none is better in all objectives")


@app.command()
def best(
    name: Name,
    trial: Annotated[int | None, typer.Option(help="Which trial. Default: the best, where there is one.")] = None,
    storage: Storage = None,
    root: Root = None,
) -> None:
    """Print the best trial's recipe, YAML, ready for `i2idist train`."""
    from i2idist.tuning.results import chosen, recipe_text
    from i2idist.tuning.study import search_of

    study = _study(name, storage, root)
    typer.echo(recipe_text(study, search_of(study), chosen(study, trial)), nl=False)


@app.command()
def export(
    name: Name,
    dest: Annotated[str, typer.Argument(help="The folder to write, local or in an object store.")],
    storage: Storage = None,
    root: Root = None,
) -> None:
    """Write a study's table, plots and recipes to a folder."""
    from i2idist.tuning.results import export as write

    for file in write(_study(name, storage, root), dest):
        typer.echo(f"{dest.rstrip('/')}/{file}")


def _study(name: str, storage: str | None, root: str | None) -> Any:
    from i2idist.errors import StudyError
    from i2idist.tuning.storage import is_absent, storage_url
    from i2idist.tuning.study import load

    url = storage_url(storage, root)
    if is_absent(url):
        raise StudyError(f"There is no study '{name}': there are no studies in {url} yet. (--storage, --root.)")
    return load(url, name)


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row if any(each.get(key) is not None for each in rows)))
    table = Table(*(Column(column.removeprefix("param "), overflow="fold") for column in columns), box=None)
    for row in rows:
        table.add_row(*(escape(_text(row.get(column))) for column in columns))
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    console.print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
