"""`i2idist weights ls | fetch | verify`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal

from i2idist.errors import SourceError

app = typer.Typer(no_args_is_help=True, help="The published weights that metrics look through: list, fetch, verify.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def ls(as_json: Json = False) -> None:
    """List the weights, where each lies on this machine or in I2IDIST_WEIGHTS, and the networks that need it."""
    from i2idist.weights import WEIGHTS

    rows = [_row(name) for name in WEIGHTS]
    if as_json:
        typer.echo(json.dumps({"weights": rows}))
        return
    console = Console(soft_wrap=True, highlight=False)
    for row in rows:
        console.print(f"[bold]{row['name']}[/bold]  {decimal(row['bytes'])}  {row['where'] or 'absent'}")
        console.print(f"  {row['summary']}; for {', '.join(row['networks'])}", markup=False)
        if not row["where"]:
            console.print(f"  {row['url']}", markup=False)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Weights, or networks that need them.")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="A file, or a folder of files under their published names: a path or URL."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring weights into the local cache, checked by their SHA-256; from where they are published by default."""
    from i2idist import weights

    rows = []
    for name in _expanded(names):
        typer.echo(f"{name}: {decimal(weights.known(name).size)}", err=True)
        rows.append({"name": name, "where": str(weights.fetch(name, source)), "sha256": weights.known(name).sha256})
    _print(as_json, rows, [f"{row['name']}: {row['where']}" for row in rows])


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Weights or networks; default: whatever is there.")] = None,
    as_json: Json = False,
) -> None:
    """Compare files with the published SHA-256. Altered ones are an error; so are absent ones that are named."""
    from i2idist.weights import WEIGHTS

    rows = [_verified(name) for name in (_expanded(names) if names else WEIGHTS)]
    _print(as_json, rows, [f"{row['state']}  {row['name']}  {row['where'] or ''}".rstrip() for row in rows])
    wrong = [row["name"] for row in rows if row["state"] == "altered" or (names and row["state"] == "absent")]
    if wrong:
        raise SourceError(
            f"Altered or absent: {', '.join(wrong)}. Get them by: i2idist weights fetch {' '.join(wrong)}"
        )


def _expanded(names: list[str]) -> list[str]:
    """Names of weights, each network's in place of its name."""
    from i2idist.metrics.networks import NETWORKS

    parts = (NETWORKS[name].weights if name in NETWORKS else (name,) for name in names)
    return list(dict.fromkeys(part for found in parts for part in found))


def _row(name: str) -> dict[str, Any]:
    from i2idist import weights
    from i2idist.metrics.networks import NETWORKS

    found = weights.known(name)
    return {
        "name": name,
        "summary": found.summary,
        "files": list(found.names),
        "sha256": found.sha256,
        "bytes": found.size,
        "url": found.url,
        "package": found.package and found.package.requirement,
        "where": weights.find(name),
        "networks": [network for network, card in NETWORKS.items() if name in card.weights],
    }


def _verified(name: str) -> dict[str, Any]:
    from i2idist import weights

    where = weights.find(name)
    sha256 = weights.digest(where) if where else None
    state = "right" if sha256 == weights.known(name).sha256 else "altered" if where else "absent"
    return {"name": name, "state": state, "where": where, "sha256": sha256}


def _print(as_json: bool, rows: list[dict[str, Any]], lines: list[str]) -> None:
    typer.echo(json.dumps({"weights": rows}) if as_json else "\n".join(lines))
