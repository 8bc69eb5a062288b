"""`i2idist rank-sources`."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from i2idist.cli.progress import WorkBar
from i2idist.cli.translate import parse_size


def rank_sources(
    dataset_url: Annotated[str, typer.Argument(help="The target: a packed dataset, generated:NAME, or a folder.")],
    models: Annotated[list[str], typer.Argument(help="Generators, models:/NAME@ALIAS or folders; or datasets.")],
    protocol: Annotated[str, typer.Option(help="The distance, NAME or NAME:NETWORK.")] = "frechet",
    num: Annotated[int | None, typer.Option(min=2, help="Images that each makes. Default: the protocol's.")] = None,
    seed: Annotated[int, typer.Option(help="Of their codes.")] = 0,
    split: Annotated[str | None, typer.Option(help="Of the target. Default: all of it.")] = None,
    domain: Annotated[str | None, typer.Option(help="Of the target. Default: the only one.")] = None,
    target: Annotated[str | None, typer.Option(help="Only real images of this label.")] = None,
    size: Annotated[
        str, typer.Option(help="Resize real images to 128, or 128x96; trained: as a source makes them.")
    ] = ("trained"),
    batch_size: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each worker.")] = 1,
    launcher: Annotated[Literal["ray", "local"], typer.Option(help="A pool of Ray actors, or this process.")] = "ray",
    workers: Annotated[int | None, typer.Option(min=1, help="Actors. Default: as many as there are cores for.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")] = False,
) -> None:
    """Rank generators, or datasets, as sources of a transfer to a dataset, roughly: by their distance from it."""
    from i2idist.evaluate import choose
    from i2idist.evaluate.rank import NOTE
    from i2idist.evaluate.rank import rank_sources as rank
    from i2idist.evaluate.record import shown, shown_interval
    from i2idist.translate import Options

    choice = choose(protocol, inputs=num, seed=seed)
    options = Options(target=target, size=parse_size(size), batch_size=batch_size, threads=threads)
    with WorkBar("ranking") as bar:
        found = rank(
            dataset_url,
            models,
            choice,
            options,
            split=split,
            domain=domain,
            launcher=launcher,
            workers=workers,
            on_progress=lambda progress: bar.show(progress.done, progress.total),
            say=bar.say,
        )
    if as_json:
        typer.echo(json.dumps({"sources": [one.as_json() for one in found], "note": NOTE}))
        return
    for place, one in enumerate(found, start=1):
        estimate = one.record.estimate
        typer.echo(f"{place}. {shown(estimate.value)} ({shown_interval(estimate)})  {one.uri}")
    typer.echo(f"{found[0].record.name.rsplit('/', 1)[0]}. {NOTE}")
