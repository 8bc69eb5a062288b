"""`i2idist train | resume | stop | logs`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from i2idist.cli.progress import TrainingDisplay, event_text

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace the recipe's: train.total_images=20000"),
]
Root = Annotated[str | None, typer.Option(help="Folder or URL of all runs. Default: I2IDIST_RUNS, or ./runs.")]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")]
_SIGNALLED = 128
"""What shells add to a signal's number for the exit status of what it ended."""


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of a YAML file.")],
    overrides: Overrides = None,
    run: Annotated[str | None, typer.Option(help="The run's name: created, or continued. Default: a new one.")] = None,
    root: Root = None,
    init_from: Annotated[str | None, typer.Option(help="A run or checkpoint that gives the initial weights.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Start without MLflow; `i2idist resume` delivers later.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a run from a recipe, or continue it, and train it to its end.

    Ctrl-C and SIGTERM stop it with a checkpoint; the same command, or `i2idist resume NAME`, goes on from there. The
    exit status is then 130 or 143, not 0, so that whoever started it knows that it hasn't come to its end.
    """
    from i2idist import launch
    from i2idist.recipe import parse_overrides

    values = parse_overrides(overrides or []) | ({"init_from": init_from} if init_from else {})
    values |= {"tracking.offline": True} if offline else {}
    _show(as_json, lambda **how: launch.train(recipe, overrides=values, run=run, root=root, **how))


def resume(name: str, overrides: Overrides = None, root: Root = None, as_json: Json = False) -> None:
    """Continue a run by its name.

    Lengths, intervals and resources may be changed: `i2idist resume NAME train.total_images=40000`.
    """
    from i2idist import launch
    from i2idist.recipe import parse_overrides

    values = parse_overrides(overrides or [])
    _show(as_json, lambda **how: launch.resume(name, overrides=values, root=root, **how))


def _show(as_json: bool, start: Callable[..., Any]) -> None:
    """Train with a display on stderr, then print the result on stdout."""
    with TrainingDisplay(Console(stderr=True)) as display:
        result = start(on_event=display.on_event, say=display.say)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(result)))
    else:
        typer.echo(f"{result.run}: {result.images:,} images ({result.stopped}), {result.images_per_s:.1f} images/s")
        typer.echo(f"checkpoint {result.checkpoint}")
        typer.echo(f"parameters {result.params_sha256}")
    end_as(result.signal)


def end_as(number: int | None) -> None:
    """End with the status of a process that a signal ended, where one stopped the work before its end."""
    if number is not None:
        raise typer.Exit(_SIGNALLED + number)


def stop(
    name: str, root: Root = None, wait: Annotated[bool, typer.Option(help="Return when it has stopped.")] = False
) -> None:
    """Stop a run with a checkpoint, wherever it runs."""
    from i2idist import launch

    launch.stop(name, root=root, wait=wait)
    typer.echo(f"{name}: {'stopped' if wait else 'asked to stop'}. Go on with: i2idist resume {name}")


def logs(
    name: str,
    root: Root = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, as recorded.")] = False,
) -> None:
    """Show what happened in a run: metrics, validations, checkpoints."""
    from i2idist import launch

    for event in launch.logs(name, root=root, follow=follow):
        typer.echo(json.dumps(event) if as_json else event_text(event))
