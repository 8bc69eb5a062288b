"""`i2idist classifier`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from i2idist.cli.translate import parse_size


def classifier(
    dataset_url: Annotated[str, typer.Argument(help="A packed dataset with classes or attributes, or generated:NAME.")],
    dest: Annotated[str, typer.Argument(help="The folder to write, local or in an object store.")],
    domain: Annotated[list[str], typer.Option(help="Whose images it shall read; may be given several times.")],
    size: Annotated[str, typer.Option(help="Resize to 128, or 128x96; stored: as the images are.")] = "stored",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training split.")] = 3,
    seed: Annotated[int, typer.Option(help="Of initial weights, order and distortions.")] = 0,
    register: Annotated[str | None, typer.Option(help="Register it with MLflow under this name.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow. Default: MLFLOW_TRACKING_URI, or ./runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a classifier on real images, of classes or attributes, for protocols that read translations by one."""
    from i2idist.evaluate.classifiers import domains_of, pin, train
    from i2idist.evaluate.classifiers import register as register_classifier

    chosen = domains_of(dataset_url, domain, parse_size(size))
    train(*chosen, dest, epochs=epochs, seed=seed)
    found = pin(dest)
    uri = None
    if register:
        uri = f"models:/{register}/{register_classifier(dest, register, tracking_uri=tracking_uri)}"
    if as_json:
        typer.echo(json.dumps({**found.describe(), "uri": uri}))
        return
    accuracy = "" if found.card.accuracy is None else f", reads {found.card.accuracy:.1%} of the held-out images"
    what = "classes" if found.card.kind == "class" else "attributes"
    whose = ", ".join(domain)
    typer.echo(f"{dest}: {len(found.card.labels)} {what} of {whose}{accuracy}; {found.card.weights_sha256[:12]}")
    if uri:
        typer.echo(uri)
