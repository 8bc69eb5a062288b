"""`python -m services up | down | status | logs | env | backup | restore`: the platform, without Docker."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from i2idist.cli import run
from i2idist.errors import ServiceError
from services import platform
from services.backup import backup as back_up
from services.backup import restore as put_back
from services.demo import run as run_demo
from services.supervise import Service

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Folder = Annotated[
    Path,
    typer.Option(
        help="Where everything is kept. Default: I2IDIST_PLATFORM, else a folder of this user's.",
        default_factory=platform.default_folder,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def up(
    folder: Folder,
    port: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER, of s3, postgres, mlflow, ray, optuna. Default: as before.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="This machine's IPv4 address on which other hosts reach them; all ask for keys or a password there. "
            "Default: as before, else 127.0.0.1."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start object store, Postgres, MLflow, Ray and the search dashboard; does nothing for those that run."""
    began, console = time.monotonic(), Console(stderr=True)

    def say(service: Service) -> None:
        if not as_json:
            console.print(f"{service.name} at {service.url}, after {time.monotonic() - began:.0f} s", highlight=False)

    services = platform.up(folder, dict(map(_port, port or [])), say, host=host)
    if as_json:
        typer.echo(json.dumps({name: service.url for name, service in services.items()}))
        return
    where = "" if folder == platform.default_folder() else f" --folder {shlex.quote(str(folder))}"
    console.print(f'Ready. To use it from this shell:\n  eval "$(python -m services env{escape(where)})"')


@app.command()
def down(folder: Folder, as_json: Json = False) -> None:
    """Stop them, and nothing else; data, ports and keys stay."""
    stopped = platform.down(folder, lambda name: None if as_json else typer.echo(f"{name} stopped"))
    if as_json:
        typer.echo(json.dumps({"stopped": stopped}))


@app.command()
def status(folder: Folder, as_json: Json = False) -> None:
    """How each of them stands; the exit code is 1 unless all run."""
    states = [platform.state(folder, name) for name in platform.NAMES]
    if as_json:
        typer.echo(json.dumps([state.as_dict() for state in states]))
    else:
        table = Table("service", "state", "address", "process", "memory", box=None)
        for state in states:
            colour, word = ("green", "runs") if state.running else ("red", "stopped")
            memory = f"{state.memory_bytes / 2**20:,.0f} MiB" if state.running else ""
            table.add_row(state.name, f"[{colour}]{word}", state.url or "", str(state.pid or ""), memory)
        Console().print(table)
    if not all(state.running for state in states):
        raise typer.Exit(1)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="s3, postgres, mlflow, ray or optuna.")],
    folder: Folder,
    lines: Annotated[int, typer.Option("--lines", "-n", help="The last so many lines.", min=0)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
) -> None:
    """What a service has written."""
    for line in _lines(platform.state(folder, name).log, lines, follow):
        typer.echo(line, nl=False)


@app.command()
def env(folder: Folder, as_json: Json = False) -> None:
    """What a shell sets to use the platform: addresses and paths of files, no secret."""
    stopped = [name for name in platform.NAMES if not platform.state(folder, name).running]
    if stopped:
        raise ServiceError(f"{', '.join(stopped)} of {folder} doesn't run: python -m services up")
    services = platform.up(folder)
    found = platform.environment(services)
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"unset {' '.join(platform.unset(services))}")
    for name, value in found.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def demo(
    folder: Folder,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Of the training, such as train.total_images=800.")
    ] = None,
) -> None:
    """Start the platform, and run the demo's training, evaluation and translation on it."""
    console = Console(stderr=True)
    services = platform.up(folder, say=lambda service: console.print(f"{service.name} at {service.url}"))
    run = run_demo(services, lambda command: console.print(f"[bold]$ {escape(command)}"), tuple(overrides or ()))
    console.print(f"Run {run} in MLflow: {services['mlflow'].url}   jobs in Ray: {services['ray'].url}", soft_wrap=True)
    console.print("Stop the platform: python -m services down")


@app.command()
def backup(
    archive: Annotated[Path, typer.Argument(help="The file to write, as secret as the keys in it.")], folder: Folder
) -> None:
    """Write data, runs, models, databases, ports and keys of the stopped platform to a file."""
    size = back_up(folder, archive)
    typer.echo(f"{archive}: {size / 2**20:,.0f} MiB. Keep it where only you can read it, on another machine.")


@app.command()
def restore(archive: Annotated[Path, typer.Argument(help="What `backup` wrote.")], folder: Folder) -> None:
    """Put a platform back into a new folder; `up` starts it at the addresses that it had."""
    put_back(archive, folder)
    typer.echo(f"Restored to {folder}. Start it: python -m services up --folder {shlex.quote(str(folder))}")


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise typer.BadParameter(f"--port is '{text}': it is NAME=NUMBER, such as mlflow=5000.")
    return name, int(number)


def _lines(path: Path, count: int, follow: bool) -> Iterator[str]:
    if not path.exists():
        return
    with path.open(errors="replace") as file:
        yield from file.readlines()[-count:] if count else []
        while follow:
            line = file.readline()
            if line:
                yield line
            else:
                time.sleep(0.5)


if __name__ == "__main__":
    run(app, "python -m services")
