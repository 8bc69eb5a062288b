"""`i2idist export | register | promote`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import typer

Root = Annotated[str | None, typer.Option(help="Folder or URL of all runs. Default: I2IDIST_RUNS, or ./runs.")]
Uri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow server or database. Default: MLFLOW_TRACKING_URI, or beside the runs."),
]
Which = Annotated[Literal["best", "newest"], typer.Option(help="Which checkpoint of the run.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def export(
    run: str,
    dest: Annotated[str, typer.Argument(help="The model folder to write, local or in an object store.")],
    root: Root = None,
    which: Which = "best",
    as_json: Json = False,
) -> None:
    """Save a run's translator as a folder of weights and model.json, for i2idist.load and `i2idist register`."""
    from i2idist import launch

    card = launch.export(run, dest, root=root, which=which)
    _print(
        as_json,
        f"{dest}: {card.method} of run {run}, checkpoint {card.lineage['checkpoint']}",
        url=dest,
        weights_sha256=card.weights_sha256,
        lineage=card.lineage,
    )


def register(
    model: Annotated[str, typer.Argument(help="A run's name, or the URL of a model folder.")],
    name: Annotated[str, typer.Argument(help="The registered model, made where absent.")],
    alias: Annotated[str, typer.Option(help="Given to the version.")] = "candidate",
    run_id: Annotated[str | None, typer.Option(help="The MLflow run; default: what the model's lineage names.")] = None,
    which: Which = "best",
    root: Root = None,
    tracking_uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Register a model with MLflow, under the alias `candidate`. The same model again keeps its version."""
    from i2idist.tracking.place import tracking_uri as place
    from i2idist.tracking.registry import check_alias, check_model_name
    from i2idist.tracking.registry import register as register_model
    from i2idist.tracking.settings import shown

    check_model_name(name)  # before a run's model is exported
    check_alias(alias)
    where = place(tracking_uri, root)
    with _folder_of(model, root, which) as folder:
        version = register_model(folder, name, run_id=run_id, alias=alias, uri=where)
    text = f"models:/{name}/{version} is models:/{name}@{alias}"
    _print(as_json, text, name=name, version=version, tracking_uri=shown(where))


def promote(
    name: Annotated[str, typer.Argument(help="The registered model.")],
    to: Annotated[str, typer.Option(help="The alias to give.")] = "champion",
    version: Annotated[str | None, typer.Option(help="Which version; default: the candidate.")] = None,
    root: Root = None,
    tracking_uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Make the candidate the champion, or give any version any alias."""
    from i2idist.tracking.place import tracking_uri as place
    from i2idist.tracking.registry import promote as promote_model
    from i2idist.tracking.settings import shown

    where = place(tracking_uri, root)
    found = promote_model(name, to, version, uri=where)
    text = f"models:/{name}@{to} is version {found}"
    _print(as_json, text, name=name, version=found, alias=to, tracking_uri=shown(where))


@contextmanager
def _folder_of(model: str, root: str | None, which: Literal["best", "newest"]) -> Iterator[str]:
    """The model folder at a URL, or one made of a run's checkpoint for a moment."""
    from i2idist import launch, storage
    from i2idist.model import FILE_NAME

    if "/" in model or storage.exists(storage.join(model, FILE_NAME)):
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="i2idist-") as folder:
        launch.export(model, folder, root=root, which=which)
        yield folder


def _print(as_json: bool, text: str, **values: Any) -> None:
    typer.echo(json.dumps(values) if as_json else text)
