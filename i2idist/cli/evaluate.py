"""`i2idist evaluate | compare | protocols`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from i2idist.cli.translate import parse_size

if TYPE_CHECKING:
    from i2idist.evaluate import Choice, Progress, Record
    from i2idist.translate import Options

Data = Annotated[str, typer.Argument(help="A packed dataset, generated:NAME, or a folder of images.")]
Protocols = Annotated[list[str], typer.Option("--protocol", help="NAME or NAME:NETWORK; may be given several times.")]
Network = Annotated[str | None, typer.Option(help="For protocols that look through one. Default: each protocol's.")]
Inputs = Annotated[int | None, typer.Option(min=1, help="Other counts than the protocol's; the name then differs.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Outputs an input, likewise.")]
Seed = Annotated[int | None, typer.Option(help="Of inputs, codes and resampling, likewise.")]
Split = Annotated[str | None, typer.Option(help="Of the inputs. Default: test, else all.")]
Domain = Annotated[str | None, typer.Option(help="Of the inputs. Default: the model's source.")]
Target = Annotated[
    str | None, typer.Option(help="Translate to this domain (b, or a) or label. Default: the model's first.")
]
Reference = Annotated[str | None, typer.Option(help="Real images of the target. Default: all of the dataset's.")]
Classifier = Annotated[
    str | None, typer.Option(help="A saved classifier of the target. Default: one that is trained on first use.")
]
Size = Annotated[str, typer.Option(help="Resize to 128, or 128x96 for height x width; trained: as in training.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images translated at once.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of each worker; another number gives other bits.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What computes.")]
Launcher = Annotated[Literal["ray", "local"], typer.Option(help="A pool of Ray actors, or this process.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Actors. Default: as many as there are cores for.")]
Root = Annotated[str | None, typer.Option(help="Folder or URL of all runs. Default: I2IDIST_RUNS, or the model's.")]
Uri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow server or database. Default: MLFLOW_TRACKING_URI, or beside the runs."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Tell MLflow nothing.")]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")]


def evaluate(
    model_uri: Annotated[str, typer.Argument(help="A model's folder, or models:/NAME@ALIAS or models:/NAME/VERSION.")],
    dataset_url: Data,
    protocol: Protocols,
    network: Network = None,
    inputs: Inputs = None,
    samples: Samples = None,
    seed: Seed = None,
    split: Split = None,
    domain: Domain = None,
    target: Target = None,
    reference: Reference = None,
    classifier: Classifier = None,
    size: Size = "trained",
    batch_size: BatchSize = 16,
    threads: Threads = 1,
    device: Device = "auto",
    launcher: Launcher = "ray",
    workers: Workers = None,
    root: Root = None,
    tracking_uri: Uri = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Measure a model by protocols, the same values under any number of workers; to MLflow and as a table."""
    from i2idist.evaluate import evaluate as run
    from i2idist.evaluate.tracked import default_uri, log_records

    choices = _choices(protocol, network, inputs, samples, seed)
    options = _options(target, size, batch_size, threads, device)
    with progress_bar() as (show, say):
        found = run(
            model_uri,
            dataset_url,
            choices,
            options,
            split=split,
            domain=domain,
            reference=reference,
            classifier=classifier,
            launcher=launcher,
            workers=workers,
            on_progress=show,
            say=say,
        )
    if not as_json:
        _print(found.records)
    run_id = None
    if not offline:
        run_id = log_records(found.records, found.model, uri := default_uri(found.model, tracking_uri, root))
        typer.echo(f"MLflow run {run_id} in {uri}", err=True)
    if as_json:
        values = [record.as_json() for record in found.records]
        typer.echo(json.dumps({"values": values, "seconds": round(found.seconds, 2), "mlflow_run_id": run_id}))


def compare(
    models: Annotated[list[str], typer.Argument(help="Two models or more, as `evaluate` takes them.")],
    data: Annotated[str, typer.Option(help="A packed dataset, generated:NAME, or a folder of images.")],
    protocol: Protocols,
    out: Annotated[str, typer.Option(help="The folder for the page, the picture and the records.")] = "comparison",
    network: Network = None,
    inputs: Inputs = None,
    samples: Samples = None,
    seed: Seed = None,
    split: Split = None,
    domain: Domain = None,
    target: Target = None,
    reference: Reference = None,
    classifier: Classifier = None,
    size: Size = "trained",
    batch_size: BatchSize = 16,
    threads: Threads = 1,
    device: Device = "auto",
    launcher: Launcher = "ray",
    workers: Workers = None,
    root: Root = None,
    tracking_uri: Uri = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Measure several models on the same inputs and codes: a table with intervals, a picture, one HTML page."""
    from i2idist.evaluate.compare import compare as run
    from i2idist.evaluate.compare import comparison_table
    from i2idist.evaluate.page import write_comparison
    from i2idist.evaluate.tracked import default_uri, log_records

    with progress_bar() as (show, say):
        found = run(
            models,
            data,
            _choices(protocol, network, inputs, samples, seed),
            _options(target, size, batch_size, threads, device),
            split=split,
            domain=domain,
            reference=reference,
            classifier=classifier,
            launcher=launcher,
            workers=workers,
            on_progress=show,
            say=say,
        )
    urls = write_comparison(found, out)
    if as_json:
        typer.echo(json.dumps({**found.as_json(), "files": urls}))
    else:
        _print_rows(comparison_table(found))
        typer.echo("".join(f"{letter}: {label}\n" for letter, label in found.labels.items()) + urls["html"])
    for one in [] if offline else found.evaluated:
        log_records(one.records, one.model, default_uri(one.model, tracking_uri, root))


def _print_rows(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def protocols(as_json: Json = False) -> None:
    """List the protocols: what each measures, on how many translations, through which network, and what it needs."""
    from i2idist.evaluate import PROTOCOLS

    described = [protocol.describe() for protocol in PROTOCOLS.values()]
    if as_json:
        typer.echo(json.dumps({"protocols": described}))
        return
    console = Console(soft_wrap=True)
    for one in described:
        network = f", through {one['network']}" if one["network"] else ""
        pairs = f", {one['pairs']}" if one["pairs"] else ""
        console.print(f"[bold]{one['protocol']}[/bold]  {one['measures']}; {one['better']} is better", highlight=False)
        console.print(
            f"  {one['inputs']} inputs x {one['samples']} outputs{pairs}{network}; "
            f"needs {', '.join(one['needs']) or 'nothing more'}",
            highlight=False,
            markup=False,
        )


def _choices(
    protocols: list[str], network: str | None, inputs: int | None, samples: int | None, seed: int | None
) -> list[Choice]:
    from i2idist.evaluate import choose

    return [choose(text, network=network, inputs=inputs, samples=samples, seed=seed) for text in protocols]


def _options(target: str | None, size: str, batch_size: int, threads: int, device: Any) -> Options:
    from i2idist.translate import Options

    return Options(target=target, size=parse_size(size), batch_size=batch_size, threads=threads, device=device)


def _print(records: tuple[Record, ...]) -> None:
    """The values as a table; notes under it."""
    from i2idist.evaluate.record import shown, shown_interval

    rows = [["value", "95 % interval", "inputs", "outputs", "reals", "name"]]
    for record in records:
        counts = record.estimate.counts
        numbers = (f"{counts[key]:,}" if counts.get(key) else "" for key in ("inputs", "outputs", "reals"))
        rows.append([shown(record.estimate.value), shown_interval(record.estimate), *numbers, record.name])
    _print_rows(rows)
    for record in records:
        for note in record.estimate.notes:
            typer.echo(f"{record.choice.protocol.name}: {note}")


@contextmanager
def progress_bar() -> Iterator[tuple[Callable[[Progress], None], Callable[[str], None]]]:
    """What shows progress and what says messages, on stderr: a bar on a terminal, else the messages alone."""
    console = Console(stderr=True)
    bar = Bar(
        TextColumn("evaluating"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task("evaluating", total=None)
    with bar:
        yield (
            lambda progress: bar.update(task, completed=progress.done, total=progress.total),
            lambda message: console.print(message, markup=False, highlight=False, soft_wrap=True),
        )
