"""`i2idist sample`."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from typing import Annotated

import typer

from i2idist.cli.progress import WorkBar
from i2idist.cli.translate import Device, Launcher, print_speed, show


def sample(
    model_uri: Annotated[str, typer.Argument(help="A model's folder, or models:/NAME@ALIAS or models:/NAME/VERSION.")],
    out_url: Annotated[str, typer.Argument(help="The folder in which this job gets a folder of its own.")],
    num: Annotated[int, typer.Option(min=1, help="How many images.")],
    seed: Annotated[int, typer.Option(help="Seed of the codes.")] = 0,
    target: Annotated[str | None, typer.Option(help="All of this label. Default: the model's labels in turn.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each worker; another number gives other bits.")] = 1,
    device: Annotated[Device, typer.Option(help="What computes.")] = Device.AUTO,
    launcher: Annotated[Launcher, typer.Option(help="A pool of Ray actors, or this process.")] = Launcher.RAY,
    workers: Annotated[int | None, typer.Option(min=1, help="Actors. Default: as many as there are cores for.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")] = False,
) -> None:
    """Let a trained generator make images, into a dataset.

    Killed and started again, it keeps what is finished and makes the rest, to the same bytes. More images of one seed
    begin with those of fewer.
    """
    from i2idist.translate import Options
    from i2idist.translate import sample as run

    options = Options(seed=seed, target=target, batch_size=batch_size, threads=threads, device=device.value)
    with WorkBar("sampling") as bar:
        result = run(
            model_uri,
            num,
            out_url,
            options,
            launcher=launcher.value,
            workers=workers,
            on_progress=partial(show, bar),
            say=bar.say,
        )
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(result)))
        return
    kept = f", {result.kept} of them kept from before" if result.kept else ""
    typer.echo(f"{result.outputs:,} images in {result.shards} shards{kept}")
    print_speed(result)
    typer.echo(result.url)
