"""`i2idist extractor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from i2idist.cli.translate import parse_size
from i2idist.errors import ConfigError

if TYPE_CHECKING:
    from i2idist.extractors import ExtractorCard
    from i2idist.extractors import Progress as Report


def extractor(
    dataset_url: Annotated[str, typer.Argument(help="A packed dataset with classes, or generated:NAME?...")],
    dest: Annotated[str, typer.Argument(help="The folder to write, local or in an object store.")],
    domain: Annotated[str, typer.Option(help="Whose images to train on.")],
    dims: Annotated[str, typer.Option(help="The D to try; 0: features aren't reduced.")] = "2,8,16,32,64,128,256",
    adequate: Annotated[float | None, typer.Option(help="The accuracy that is enough.")] = None,
    margin: Annotated[float, typer.Option(help="Without --adequate: how far below the best is enough.")] = 0.02,
    size: Annotated[str, typer.Option(help="Resize to 128, or 128x96; stored: as the images are.")] = "stored",
    width: Annotated[int, typer.Option(min=1, help="Channels of the first block; VGG16: 64.")] = 64,
    convs: Annotated[str, typer.Option(help="Convolutions in each block; VGG16: 2,2,3,3,3.")] = "2,2,3,3,3",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training split.")] = 10,
    seed: Annotated[int, typer.Option(help="Of initial weights, order and distortions.")] = 0,
    register: Annotated[str | None, typer.Option(help="Register it with MLflow under this name.")] = None,
    alias: Annotated[str, typer.Option(help="The alias that the registered version gets.")] = "candidate",
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow. Default: MLFLOW_TRACKING_URI, or ./runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train UDIT's semantic extractor: a classifier for each D, of which the smallest that is adequate is kept."""
    from i2idist import extractors
    from i2idist.data.manifest import load_manifest
    from i2idist.evaluate.classifiers import domains_of

    url, (chosen_domain,) = domains_of(dataset_url, [domain], parse_size(size))
    layout = extractors.Layout(width, _numbers(convs, "--convs", 1))
    with _bar() as progress:
        found = extractors.sweep(
            url,
            chosen_domain,
            _numbers(dims, "--dims", 0),
            layout=layout,
            epochs=epochs,
            seed=seed,
            progress=progress,
        )
    table = [trained.row for trained in found]
    row = extractors.smallest_adequate(table, adequate=adequate, margin=margin)
    chosen = next(trained for trained in found if trained.row == row)
    manifest = load_manifest(url)
    card = extractors.save(dest, chosen, table, manifest, chosen_domain, layout=layout, epochs=epochs, seed=seed)
    uri = None
    if register:
        extractors.register(dest, register, alias=alias, tracking_uri=tracking_uri)
        uri = f"models:/{register}@{alias}"
    _tell(card, dest, uri, as_json)


def _numbers(text: str, option: str, least: int) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) >= least for part in parts):
        raise ConfigError(f"{option} is {text!r}; write whole numbers of at least {least}: 2,8,16.")
    return tuple(map(int, parts))


@contextmanager
def _bar() -> Iterator[Report]:
    """A progress bar on stderr, moved by calling with the fraction done."""
    columns = (TextColumn("training"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=1.0)
        yield lambda done: progress.update(task, completed=done)


def _tell(card: ExtractorCard, dest: str, uri: str | None, as_json: bool) -> None:
    rows = [{"dim": row.dim, "accuracy": row.accuracy} for row in card.table]
    if as_json:
        told = {"dim": card.dim, "accuracy": card.accuracy, "table": rows, "settings": card.settings()}
        typer.echo(json.dumps({"url": dest, "version": card.weights_sha256, **told, "uri": uri}))
        return
    table = Table("D", "accuracy", "")
    for row in card.table:
        table.add_row(str(row.dim or "none"), f"{row.accuracy:.1%}", "kept" if row.dim == card.dim else "")
    Console().print(table)
    settings = " ".join(f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in card.settings().items())
    typer.echo(f"{dest}: reads {', '.join(card.labels)}. In a recipe: {settings} sources.extractor={uri or 'FILE'}")
