"""`i2idist data pack | ls | show | verify | stats | grid | generate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from i2idist.errors import ConfigError, DataError

if TYPE_CHECKING:
    from i2idist.data.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="Pack, list, show, verify and look at datasets.")

Url = Annotated[str, typer.Argument(help="The dataset's folder: a path, s3://, gs:// or memory:// URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, moved by calling with the number done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _summary(url: str, manifest: Manifest) -> dict[str, Any]:
    return {
        "url": url,
        "name": manifest.name,
        "role": manifest.role,
        "digest": manifest.digest,
        "labels": list(manifest.labels),
        "domains": [
            {"name": d.name, "channels": d.channels, "bits": d.bits, "size": d.size and list(d.size)}
            for d in manifest.domains
        ],
        "splits": manifest.counts,
        "shards": sum(len(pool.shards) for pools in manifest.splits.values() for pool in pools),
        "bytes": sum(s.bytes for pools in manifest.splits.values() for pool in pools for s in pool.shards),
    }


def _print_summary(summary: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]{summary['name']}[/bold]  {summary['role']}  {summary['url']}")
    for domain in summary["domains"]:
        size = "x".join(map(str, domain["size"])) if domain["size"] else "various sizes"
        console.print(f"  domain {domain['name']}: {domain['channels']} channels, {domain['bits']} bits, {size}")
    for split, counts in summary["splits"].items():
        console.print(f"  split {split}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    if summary["labels"]:
        console.print(f"  labels: {', '.join(summary['labels'])}", markup=False)
    console.print(f"  {summary['shards']} shards, {decimal(summary['bytes'])}, digest {summary['digest']}")


def _report(url: str, manifest: Manifest, as_json: bool) -> None:
    summary = _summary(url, manifest)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        _print_summary(summary)


def _report_new(url: str, manifest: Manifest, as_json: bool) -> None:
    """Report a dataset that was just made, and note it in the catalog."""
    from i2idist.catalog import hooks

    say = partial(typer.secho, err=True, fg="yellow")
    hooks.dataset(url, manifest.name, manifest.digest, manifest.role, manifest.counts, say=say)
    _report(url, manifest, as_json)


def label_names(text: str | None) -> list[str]:
    """Names in an option, between commas."""
    return text.split(",") if text else []


@app.command()
def pack(
    src: Annotated[str, typer.Argument(help="Folder of images: a path or URL.")],
    dest: Annotated[str, typer.Argument(help="Where the dataset goes: an empty or absent folder.")],
    layout: Annotated[str, typer.Option(help="Which of these: see above.")],
    labels: Annotated[
        str | None, typer.Option(help="Take only these classes or attributes, in this order: Male,Young.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Take so many training images, of each class where labelled; others stay whole."),
    ] = None,
    crop: Annotated[
        int | None, typer.Option(min=1, help="Cut a square of so many pixels out of the middle of every image.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Training scenes keep rgb and one of these each: depth,segmentation or depth+nir,segmentation."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The dataset's name; default: the last part of DEST.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; default: one a core, at most 8.")] = None,
    shard_mb: Annotated[float, typer.Option(min=0.001, help="Megabytes a shard.")] = 16.0,
    as_json: Json = False,
) -> None:
    r"""Pack images into a dataset, from the layouts in which they are published.

    Run it again to continue after an interruption. The layouts, and what SRC holds:

    \b
    side-by-side   [train|val|test/]NAME.jpg with a left and b right:
                   facades, maps, edges2shoes, edges2handbags
    trainA-trainB  trainA/NAME.jpg, trainB, testA, testB: winter2summer,
                   cat2dog
    trainA-trainB-classes
                   trainA/CLASS/NAME.jpg, trainB/CLASS/NAME.jpg, ...:
                   UDIT's biased handbags, makeup and scenes
    class-folders  [train|val|test/]CLASS/NAME.jpg
    rgb-d          [train|val|test/]rgb/NAME.png, depth/NAME.png, ...
    folder         [train|val|test/]NAME.jpg, no labels
    artworks       monet2photo/trainA/NAME.jpg, cezanne2photo, ...
    celeba         img_align_celeba, list_attr_celeba.txt and
                   list_eval_partition.txt
    color          train/blue/NAME.jpg or train/domain_0.tfrecords, ...
    mnist          train-images-idx3-ubyte[.gz] and the other three
    svhn           train_32x32.mat, test_32x32.mat[, extra_32x32.mat]
    usps           usps.bz2, usps.t.bz2
    mnist-svhn     files of both, as two unpaired domains
    mnist-usps     likewise
    flowers        jpg/image_00001.jpg, imagelabels.mat, setid.mat
    flowers-10     the same, its ten largest classes
    flowers-opponents
                   these as opponent colours
    freiburg-forest
                   train/rgb, depth_gray, nir_gray, GT_color, test/...
    scenenet       train/0/1/photo, depth, instance,
                   scenenet_rgbd_*.pb, wnid_to_class.txt
    scenenet-frames
                   the same, ten frames of each trajectory
    scenenet-ablation
                   the same, 50 frames of the first 1000 trajectories
    sun-rgbd       SUNRGBD/..., sunrgbd_training_images.txt,
                   train13labels/img13labels-000001.png
    morph          morph_2008_nonCommercial.csv and Album2
    morph-gender   the same, as UDIT's biased young and old, with gender
    morph-ethnicity
                   likewise, with ethnicity
    """
    from i2idist.data.layouts import read_layout
    from i2idist.data.pack import pack as run

    source = read_layout(src, layout, labels=label_names(labels), limit=limit, crop=crop, pairs=label_names(pairs))
    with _bar("packing", source.count) as progress:
        manifest = run(
            source.samples,
            dest,
            name=name or dest.rstrip("/").rsplit("/", 1)[-1],
            role=source.role,
            domains=source.domains,
            labels=source.labels,
            shard_bytes=int(shard_mb * 2**20),
            workers=workers,
            progress=progress,
        )
    _report_new(dest, manifest, as_json)


@app.command("ls")
def list_(url: Annotated[str, typer.Argument(help="A folder that holds datasets.")], as_json: Json = False) -> None:
    """List the datasets in a folder."""
    from i2idist.data.inspect import find_datasets

    summaries = [_summary(place, manifest) for place, manifest in find_datasets(url)]
    if as_json:
        typer.echo(json.dumps({"datasets": summaries}))
        return
    table = Table("name", "role", "samples", "size", "digest", "url", box=None)
    for one in summaries:
        samples = ", ".join(f"{split} {max(counts.values()):,}" for split, counts in one["splits"].items())
        table.add_row(one["name"], one["role"], samples, decimal(one["bytes"]), one["digest"][:12], one["url"])
    Console().print(table if summaries else f"No datasets in {url}.")


@app.command()
def show(url: Url, as_json: Json = False) -> None:
    """Show what a dataset holds."""
    from i2idist.data.manifest import load_manifest

    _report(url, load_manifest(url), as_json)


@app.command()
def verify(
    url: Url,
    decode: Annotated[bool, typer.Option("--decode", help="Also decode every image.")] = False,
    as_json: Json = False,
) -> None:
    """Check every byte of a dataset; exits with 3 if any is wrong."""
    from i2idist.data.manifest import load_manifest
    from i2idist.data.verify import verify as run

    total = _summary(url, load_manifest(url))["shards"]
    with _bar("verifying shards", total) as progress:
        report = run(url, decode_images=decode, progress=progress)
    if as_json:
        typer.echo(json.dumps({"url": url, "ok": not report.problems, **vars(report)}))
    if report.problems:
        listed = "\n".join(f"  {problem}" for problem in report.problems)
        raise DataError(f"{url} has {len(report.problems)} problems in {report.shards} shards:\n{listed}")
    if not as_json:
        typer.echo(f"{url} is whole: {report.samples:,} samples, {report.shards} shards, {decimal(report.bytes)}.")


@app.command()
def stats(
    url: Url,
    limit: Annotated[int, typer.Option(min=1, help="Images a domain to decode for moments.")] = 500,
    as_json: Json = False,
) -> None:
    """Show counts, labels, and means and deviations of the pixels."""
    from i2idist.data.inspect import stats as run

    found = run(url, limit=limit)
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("split", "domain", "samples", "shards", "size", "pixels", "mean", "std", box=None)
    for split, domains in found["splits"].items():
        for name, one in domains.items():
            decoded = one["decoded"]
            sizes = " to ".join("x".join(map(str, decoded[key])) or "none" for key in ("smallest", "largest"))
            numbers = (" ".join(f"{value:.3f}" for value in decoded[key]) for key in ("mean", "std"))
            table.add_row(
                split, name, f"{one['samples']:,}", str(one["shards"]), decimal(one["bytes"]), sizes, *numbers
            )
            for label, count in one.get("labels", {}).items():
                table.add_row("", "", f"{count:,}", "", "", f"label {label}")
    Console().print(table)


@app.command()
def grid(
    url: Url,
    out: Annotated[
        Path | None, typer.Argument(help="PNG file to write; default: NAME-grid.png in this folder.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split.")] = "train",
    columns: Annotated[int, typer.Option(min=1, help="Samples a row.")] = 12,
    rows: Annotated[int, typer.Option(min=1, help="Rows of samples.")] = 4,
    label_map: Annotated[
        list[str] | None, typer.Option(help="A domain whose levels number the labels: shown in colours.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a contact sheet of a split's first samples."""
    from i2idist.data.inspect import save_grid
    from i2idist.data.manifest import load_manifest

    path = out or Path(f"{load_manifest(url).name}-grid.png")
    save_grid(url, path, split=split, columns=columns, rows=rows, label_maps=label_map or ())
    typer.echo(json.dumps({"url": url, "picture": str(path)}) if as_json else f"Wrote {path}.")


def _size(text: str) -> tuple[int, int]:
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise ConfigError(f"--size is {text!r}; write 32, or 64x96 for height x width.")
    return int(sides[0]), int(sides[-1])


def _choice(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--choose is {text!r}; write KEY=VALUE.")
    return key, value


@app.command()
def generate(
    name: Annotated[str, typer.Argument(help="digits, edges, maps, textures, ...")],
    dest: Annotated[str, typer.Argument(help="Where the dataset goes: an empty or absent folder.")],
    size: Annotated[str, typer.Option(help="Pixels: 32, or 64x96 for height x width.")] = "32",
    train: Annotated[int | None, typer.Option(min=0, help="Training samples.")] = None,
    val: Annotated[int | None, typer.Option(min=0, help="Validation samples.")] = None,
    test: Annotated[int | None, typer.Option(min=0, help="Test samples.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other samples.")] = 0,
    choose: Annotated[list[str] | None, typer.Option(help="The dataset's own parameters: bias=colour.")] = None,
    as_json: Json = False,
) -> None:
    """Make a dataset with ground truth, in seconds, the same from a seed on any machine."""
    from i2idist.data.generated import generate as run

    with _bar("generating", None) as progress:
        manifest = run(
            name,
            dest,
            size=_size(size),
            train=train,
            val=val,
            test=test,
            seed=seed,
            choices=dict(map(_choice, choose or [])),
            progress=progress,
        )
    _report_new(dest, manifest, as_json)
