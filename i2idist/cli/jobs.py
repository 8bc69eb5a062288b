"""`i2idist jobs ls | status | logs | stop`: what was submitted to a Ray cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from i2idist.cli.submit import Address, Json, TokenFile, warn

if TYPE_CHECKING:
    from i2idist.launch.head import Head

app = typer.Typer(no_args_is_help=True, help="List, look up, follow and stop what was submitted to a Ray cluster.")

Id = Annotated[str, typer.Argument(help="A submission id, or a run's name: its newest job.")]
_COLUMNS = ("submission_id", "kind", "name", "state", "started", "ended")
_UNLIMITED = 10_000
_INTERRUPTED = 130


@app.command()
def ls(address: Address = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """List the jobs that were submitted to a cluster, the newest first."""
    from i2idist.launch import submit as launch

    rows = launch.listed(_head(address, token_file), say=warn)
    if as_json:
        typer.echo(json.dumps({"jobs": rows}))
        return
    table = Table(*(Column(column, overflow="fold") for column in _COLUMNS), box=None)
    for row in rows:
        table.add_row(*(escape(str(row[column] or "")) for column in _COLUMNS))
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    console.print(table if rows else "No jobs yet.")


@app.command()
def status(id: Id, address: Address = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show how a job stands."""
    from i2idist.launch import submit as launch

    _print(launch.status(_head(address, token_file, id), id, say=warn), as_json)


@app.command()
def logs(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends; with its exit code.")] = False,
    address: Address = None,
    token_file: TokenFile = None,
) -> None:
    """Show what a job has written. Ctrl-C leaves the job alone."""
    from i2idist.launch import submit as launch

    head = _head(address, token_file, id)
    job = launch.find(head, id, say=warn)
    if follow:
        stay(head, job.id)
    else:
        typer.echo(head.logs(job.id), nl=False)


@app.command()
def stop(
    id: Id,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that a training gets to stop with a checkpoint.")] = 60.0,
    address: Address = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Stop a job: a training with a checkpoint; what doesn't stop in time is ended by Ray."""
    from i2idist.launch import submit as launch

    head = _head(address, token_file, id)
    job = launch.find(head, id, say=warn)
    how = launch.stop(head, job, grace_s=grace, say=partial(typer.echo, err=True))
    name = job.about["name"]
    found = launch.status(head, job.id, say=warn)
    if as_json:
        typer.echo(json.dumps({**found, "stopped_by": how}))
        return
    again = f" Go on with: i2idist submit resume {name}" if found["run_url"] else ""
    told = {
        "checkpoint": f"{name} stopped with a checkpoint.{again}",
        "done": f"{name} had come to its end.",
        "ray": f"Ray ended {job.id}.{again and ' It keeps its newest checkpoint.' + again}",
    }
    typer.echo(told[how])


def stay(head: Head, id: str, as_json: bool = False) -> None:
    """Show a job's log until it ends, then end as it did; with `as_json`, the log goes to stderr."""
    from i2idist.launch import submit as launch

    try:
        job = head.follow(id, partial(typer.echo, nl=False, err=as_json))
    except KeyboardInterrupt:
        warn(f"The job goes on. Look again with: i2idist jobs logs {id} --follow; end it with: i2idist jobs stop {id}")
        raise typer.Exit(_INTERRUPTED) from None
    found = launch.status(head, id, say=warn)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        typer.echo(f"{id}: {found['state']}", err=True)
    code = job.exit_code if job.exit_code is not None else int(job.state != "done")
    raise typer.Exit(code)


def _head(address: str | None, token_file: str | None, id: str | None = None) -> Head:
    """The cluster: as given, else where the catalog says that the job was sent, else the environment's."""
    from i2idist.launch.head import Head, given_address

    return Head(given_address(address or (id and _sent_to(id))), token_file)


def _sent_to(id: str) -> str | None:
    from i2idist.catalog import Catalog, default_url, exists
    from i2idist.errors import CatalogError

    try:
        if exists(default_url()):
            with Catalog() as catalog:
                return catalog.find_job(id).address
    except CatalogError:  # it knows no such job, or is away: then the environment says which cluster
        return None
    return None


def _print(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found))
        return
    for key, value in found.items():
        if value is not None:
            typer.echo(f"{key}: {value}")
