"""`i2idist translate`."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from i2idist.cli.progress import WorkBar
from i2idist.errors import ConfigError

if TYPE_CHECKING:
    from i2idist.translate import Progress as Done


class Launcher(StrEnum):
    """Who works."""

    RAY = "ray"
    LOCAL = "local"


class Device(StrEnum):
    """What computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def translate(
    model_uri: Annotated[str, typer.Argument(help="A model's folder, or models:/NAME@ALIAS or models:/NAME/VERSION.")],
    dataset_url: Annotated[str, typer.Argument(help="A packed dataset, generated:NAME, or a folder of images.")],
    out_url: Annotated[str, typer.Argument(help="The folder in which this job gets a folder of its own.")],
    num_samples: Annotated[int, typer.Option(min=1, help="Codes for each image.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the codes.")] = 0,
    split: Annotated[str | None, typer.Option(help="One split. Default: all of them.")] = None,
    domain: Annotated[str | None, typer.Option(help="The dataset's domain to read. Default: the model's.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Translate to this domain (b, or a), label or path (depth->rgb). Default: the model's first."
        ),
    ] = None,
    style_from: Annotated[
        str | None,
        typer.Option(help="An image file of the target domain, whose style all translations take instead of codes."),
    ] = None,
    size: Annotated[
        str,
        typer.Option(help="Resize to 128, or 128x96 for height x width; trained: as in training; stored: as it is."),
    ] = "trained",
    batch_size: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each worker; another number gives other bits.")] = 1,
    device: Annotated[Device, typer.Option(help="What computes.")] = Device.AUTO,
    launcher: Annotated[Launcher, typer.Option(help="A pool of Ray actors, or this process.")] = Launcher.RAY,
    workers: Annotated[int | None, typer.Option(min=1, help="Actors. Default: as many as there are cores for.")] = None,
    max_errors: Annotated[int, typer.Option(min=0, help="Images that may fail; one more ends the job.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")] = False,
) -> None:
    """Translate a dataset or a folder of images with a trained model, into a dataset.

    Killed and started again, it keeps what is finished and makes the rest, to the same bytes.
    """
    from i2idist.translate import Options
    from i2idist.translate import translate as run

    options = Options(
        num_samples=num_samples,
        seed=seed,
        target=target,
        style_from=style_from,
        size=parse_size(size),
        batch_size=batch_size,
        threads=threads,
        device=device.value,
    )
    with WorkBar("translating") as bar:
        result = run(
            model_uri,
            dataset_url,
            out_url,
            options,
            split=split,
            domain=domain,
            launcher=launcher.value,
            workers=workers,
            max_errors=max_errors,
            on_progress=partial(show, bar),
            say=bar.say,
        )
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(result)))
    else:
        _print(result)


def _print(result: Any) -> None:
    kept = f", {result.kept} of them kept from before" if result.kept else ""
    typer.echo(f"{result.outputs:,} translations of {result.inputs:,} images in {result.shards} shards{kept}")
    print_speed(result)
    if result.errors:
        typer.echo(f"{result.errors} images couldn't be translated: see {result.url}/errors.jsonl")
    typer.echo(result.url)


def print_speed(result: Any) -> None:
    """How fast a job was, and what limited it; nothing where nothing was left to do."""
    if result.limited_by:
        spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result.stages.items())
        typer.echo(f"{result.images_per_s:.1f} images/s, limited by: {result.limited_by} (workers' seconds: {spent})")


def parse_size(text: str) -> Any:
    """What `--size` says, for `Options.size`.

    Raises:
        ConfigError: it says nothing known.
    """
    sides = text.split("x")
    if text in ("trained", "stored"):
        return text
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise ConfigError(f"--size is {text!r}; write 128, or 128x96 for height x width, or trained, or stored.")
    return int(sides[0]), int(sides[-1])


def show(bar: WorkBar, done: Done) -> None:
    """How far a job is."""
    errors = f"{done.errors} bad" if done.errors else ""
    bar.show(done.done, done.total, f"{done.images_per_s:.1f} images/s", errors)
