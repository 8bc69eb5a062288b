"""`python -m cluster.local up | down | status | exec ...`: a cluster of several hosts on this machine."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.local.cluster import Cluster, default_folder
from i2idist.cli import run

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Folder = Annotated[
    Path,
    typer.Option(help="Where everything is kept. Default: I2IDIST_CLUSTER.", default_factory=default_folder),
]
Name = Annotated[str, typer.Argument(metavar="HOST", help="head, host1, host2 ...")]


@app.command()
def up(
    folder: Folder,
    hosts: Annotated[int, typer.Option(help="Hosts that work, besides the head.", min=1, max=200)] = 3,
    cpus: Annotated[int, typer.Option(help="That Ray may use on each new host.", min=1)] = 1,
    cache_mb: Annotated[int, typer.Option(help="The size of a host's cache disk.", min=8)] = 64,
) -> None:
    """Make services, a network, a head and hosts; does nothing for what is there."""
    Cluster(folder).up(hosts, cpus=cpus, cache_mb=cache_mb, say=typer.echo)


@app.command()
def down(folder: Folder) -> None:
    """End all of it and nothing else, also after a crash; the services' data and keys stay."""
    Cluster(folder).down(say=typer.echo)


@app.command()
def status(
    folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """How each host stands; the exit code is 1 unless all are in Ray."""
    cluster = Cluster(folder)
    states = cluster.states()
    running = {name: cluster.running(name) for name in ("s3", "postgres", "mlflow", "supervisor")}
    if as_json:
        typer.echo(json.dumps({"hosts": [state.as_dict() for state in states], "running": running}))
    else:
        table = Table("host", "address", "process", "runs", "in Ray", "wire", "starts", box=None)
        for state in states:
            words = (_word(state.running), _word(state.in_ray), _word(state.connected))
            table.add_row(state.name, state.address, str(state.pid or ""), *words, str(state.starts))
        Console().print(table)
        typer.echo("  ".join(f"{name} {'runs' if runs else 'stopped'}" for name, runs in running.items()))
    if not all(running.values()) or not all(state.in_ray and state.running for state in states):
        raise typer.Exit(1)


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec(host: Name, command: Annotated[list[str], typer.Argument()], folder: Folder) -> None:
    """Run a command inside a host, with its exit code: exec --folder F host1 ray status."""
    raise typer.Exit(Cluster(folder).exec(host, command).returncode)


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def drive(
    name: Annotated[str, typer.Argument(help="Names the driver; its output is in hosts/head/driver-NAME.txt.")],
    command: Annotated[list[str], typer.Argument()],
    folder: Folder,
) -> None:
    """Run a command on the head until it succeeds: drive first i2idist train RECIPE --run first."""
    Cluster(folder).drive(name, command)


@app.command()
def env(folder: Folder) -> None:
    """What a shell of this machine sets to use the cluster: addresses and paths of files, no secret."""
    typer.echo("unset RAY_ADDRESS AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_CA_BUNDLE")
    for name, value in Cluster(folder).client_environment().items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def add(folder: Folder) -> None:
    """Add a host."""
    typer.echo(Cluster(folder).add(say=typer.echo))


@app.command()
def kill(host: Name, folder: Folder) -> None:
    """Switch a host off, as a power cut does."""
    Cluster(folder).kill(host)


@app.command()
def start(host: Name, folder: Folder) -> None:
    """Switch a host on that was switched off, or left."""
    Cluster(folder).start(host)


@app.command()
def cut(host: Name, folder: Folder) -> None:
    """Pull a host's wire."""
    Cluster(folder).cut(host)


@app.command()
def mend(host: Name, folder: Folder) -> None:
    """Put a host's wire back."""
    Cluster(folder).mend(host)


@app.command()
def preempt(host: Name, folder: Folder) -> None:
    """Ask a host to leave within 30 s, as whoever takes a spot machine back does."""
    Cluster(folder).preempt(host)


def _word(flag: bool | None) -> str:
    return "?" if flag is None else "[green]yes" if flag else "[red]no"


if __name__ == "__main__":
    run(app, "python -m cluster.local")
