"""`i2idist evaluate | compare | protocols`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from i2idist.cli.options import takes
from i2idist.cli.progress import WorkBar
from i2idist.cli.translate import parse_size

if TYPE_CHECKING:
    from i2idist.evaluate import Choice, Evaluated, Record
    from i2idist.translate import Options

Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")]


@dataclass(frozen=True, kw_only=True)
class How:
    """What `evaluate` and `compare` share."""

    protocol: Annotated[
        list[str],
        typer.Option("--protocol", help="NAME, NAME:NETWORK or NAME:ATTRIBUTE; may be given several times."),
    ]
    network: Annotated[
        str | None, typer.Option(help="For protocols that look through one. Default: each protocol's.")
    ] = None
    inputs: Annotated[
        int | None, typer.Option(min=1, help="Other counts than the protocol's; the name then differs.")
    ] = None
    samples: Annotated[int | None, typer.Option(min=1, help="Outputs an input, likewise.")] = None
    seed: Annotated[int | None, typer.Option(help="Of inputs, codes and resampling, likewise.")] = None
    split: Annotated[str | None, typer.Option(help="Of the inputs. Default: test, else all.")] = None
    domain: Annotated[str | None, typer.Option(help="Of the inputs. Default: the model's source.")] = None
    target: Annotated[
        str | None,
        typer.Option(
            help="Translate to this domain (b, or a), label or path (depth->rgb). Default: the model's first."
        ),
    ] = None
    reference: Annotated[str | None, typer.Option(help="Real images of the target. Default: all of the dataset's.")] = (
        None
    )
    classifier: Annotated[
        str | None, typer.Option(help="A saved classifier. Default: one that is trained on first use.")
    ] = None
    size: Annotated[str, typer.Option(help="Resize to 128, or 128x96 for height x width; trained: as in training.")] = (
        "trained"
    )
    batch_size: Annotated[int, typer.Option(min=1, help="Images translated at once.")] = 16
    threads: Annotated[int, typer.Option(min=1, help="Threads of each worker; another number gives other bits.")] = 1
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What computes.")] = "auto"
    launcher: Annotated[Literal["ray", "local"], typer.Option(help="A pool of Ray actors, or this process.")] = "ray"
    workers: Annotated[int | None, typer.Option(min=1, help="Actors. Default: as many as there are cores for.")] = None
    root: Annotated[
        str | None, typer.Option(help="Folder or URL of all runs. Default: I2IDIST_RUNS, or the model's.")
    ] = None
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            "--tracking-uri", help="MLflow server or database. Default: MLFLOW_TRACKING_URI, or beside the runs."
        ),
    ] = None
    offline: Annotated[bool, typer.Option("--offline", help="Tell MLflow nothing.")] = False
    as_json: Json = False

    def choices(self) -> list[Choice]:
        """The protocols."""
        from i2idist.evaluate import choose

        return [
            choose(text, network=self.network, inputs=self.inputs, samples=self.samples, seed=self.seed)
            for text in self.protocol
        ]

    def options(self) -> Options:
        """Of translation."""
        from i2idist.translate import Options

        return Options(
            target=self.target,
            size=parse_size(self.size),
            batch_size=self.batch_size,
            threads=self.threads,
            device=self.device,
        )

    def rest(self, bar: WorkBar) -> dict[str, Any]:
        """The other arguments of `evaluate` and `compare`."""
        names = ("split", "domain", "reference", "classifier", "launcher", "workers")
        given = {name: getattr(self, name) for name in names}
        return given | {"on_progress": lambda progress: bar.show(progress.done, progress.total), "say": bar.say}

    def log(self, found: Evaluated, say: Callable[[str], None]) -> str | None:
        """Tell MLflow, unless offline, and the catalog; the MLflow run's id."""
        from i2idist.evaluate.tracked import default_uri, log_records, note_records

        run_id = None
        if not self.offline:
            uri = default_uri(found.model, self.tracking_uri, self.root)
            run_id = log_records(found.records, found.model, uri)
            say(f"MLflow run {run_id} in {uri}")
        note_records(found.records, found.model, run_id, self.root, say)
        return run_id


@takes(How)
def evaluate(
    model_uri: Annotated[
        str,
        typer.Argument(
            help="A model's folder, or models:/NAME@ALIAS or models:/NAME/VERSION; several: chained by |. Or a dataset "
            "in a generator's place."
        ),
    ],
    dataset_url: Annotated[str, typer.Argument(help="A packed dataset, generated:NAME, or a folder of images.")],
    how: How,
) -> None:
    """Measure a model by protocols, the same values under any number of workers; to MLflow and as a table."""
    from i2idist.evaluate import evaluate as run

    choices, options = how.choices(), how.options()
    with WorkBar("evaluating") as bar:
        found = run(model_uri, dataset_url, choices, options, **how.rest(bar))
    if not how.as_json:
        _print(found.records)
    run_id = how.log(found, partial(typer.echo, err=True))
    if how.as_json:
        values = [record.as_json() for record in found.records]
        typer.echo(json.dumps({"values": values, "seconds": round(found.seconds, 2), "mlflow_run_id": run_id}))


@takes(How)
def compare(
    models: Annotated[list[str], typer.Argument(help="Two models or more, as `evaluate` takes them.")],
    data: Annotated[str, typer.Option(help="A packed dataset, generated:NAME, or a folder of images.")],
    how: How,
    out: Annotated[str, typer.Option(help="The folder for the page, the picture and the records.")] = "comparison",
) -> None:
    """Measure several models on the same inputs and codes: a table with intervals, a picture, one HTML page."""
    from i2idist.evaluate.compare import compare as run
    from i2idist.evaluate.compare import comparison_table
    from i2idist.evaluate.page import write_comparison

    choices, options = how.choices(), how.options()
    with WorkBar("evaluating") as bar:
        found = run(models, data, choices, options, **how.rest(bar))
    urls = write_comparison(found, out)
    if how.as_json:
        typer.echo(json.dumps({**found.as_json(), "files": urls}))
    else:
        _print_rows(comparison_table(found))
        typer.echo("".join(f"{letter}: {label}\n" for letter, label in found.labels.items()) + urls["html"])
    for one in found.evaluated:
        how.log(one, partial(typer.echo, err=True))


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
        console.print(f"  interval: {one['interval']}", highlight=False, markup=False)
        console.print(
            f"  {one['inputs']} inputs x {one['samples']} outputs{pairs}{network}; "
            f"needs {', '.join(one['needs']) or 'nothing more'}",
            highlight=False,
            markup=False,
        )


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
