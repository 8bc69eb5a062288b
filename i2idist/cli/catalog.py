"""`i2idist ls | show | lineage`: what the catalog knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.tree import Tree

from i2idist.errors import CatalogError

if TYPE_CHECKING:
    from i2idist.catalog import Catalog
    from i2idist.catalog.models import Base
    from i2idist.catalog.references import Link

Where = Annotated[
    str | None,
    typer.Option("--catalog", help="sqlite:///FILE or postgresql://... Default: I2IDIST_CATALOG, or beside the runs."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class What(StrEnum):
    """What can be listed."""

    datasets = "datasets"
    jobs = "jobs"
    translations = "translations"
    evaluations = "evaluations"
    runs = "runs"


_COLUMNS = {
    What.datasets: ("name", "role", "samples", "digest", "url", "created"),
    What.jobs: ("id", "kind", "name", "state", "submission_id", "study", "updated"),
    What.translations: ("name", "state", "model", "model_version", "dataset_url", "out_url", "updated"),
    What.evaluations: ("name", "value", "low", "high", "model", "model_version", "mlflow_run_id", "updated"),
    What.runs: ("name", "state", "images", "method", "code", "mlflow_run_id", "url"),
}
_AT_ONCE = 16
"""Runs that are read at once."""
_UNLIMITED = 10_000
"""Columns of what isn't a terminal."""
_SHORT = 12
"""Digits shown of a digest or revision."""
_LINES = (
    *("url", "uri", "out_url", "version", "state", "ended", "images", "method", "digest", "dataset_digest"),
    *(
        "value",
        "low",
        "high",
        "experiment_digest",
        "code",
        "checkpoint",
        "weights_sha256",
        "mlflow_run_id",
        "options",
        "key",
    ),
)
"""Facts of a lineage that are shown to a person; `--json` has all."""


def ls(
    what: Annotated[What, typer.Argument(help="What to list.")] = What.runs,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    catalog: Where = None,
    as_json: Json = False,
) -> None:
    """List runs, jobs, datasets, translations or evaluations, the newest first."""
    with _open(catalog) as opened:
        rows = _rows(opened, what, limit)
    if as_json:
        typer.echo(json.dumps({what.value: rows}))
        return
    columns = _COLUMNS[what]
    table = Table(*(Column(column, overflow="fold") for column in columns), box=None)
    for row in rows:
        table.add_row(*(_cell(column, row.get(column)) for column in columns))
    _console().print(table if rows else f"No {what.value} yet.")


def show(
    name: Annotated[str, typer.Argument(help="A name, URL, submission id, or the first digits of a digest.")],
    catalog: Where = None,
    as_json: Json = False,
) -> None:
    """Show what the catalog knows under a name."""
    with _open(catalog) as opened:
        entries = [_entry(opened, row) for row in opened.find(name)]
    if as_json:
        typer.echo(json.dumps({"name": name, "found": entries}))
        return
    for entry in entries:
        _print_entry(entry)


def lineage(
    uri: Annotated[str, typer.Argument(help="An image, shard or folder of a translation; a model, run or dataset.")],
    catalog: Where = None,
    as_json: Json = False,
) -> None:
    """Follow where something came from, to model, run, config, code and data; and what became of it."""
    from i2idist.catalog.lineage import trace

    with _open(catalog) as opened:
        found = trace(opened, uri)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
        return
    tree = Tree(_text(found.subject))
    for title, links in (("comes from", found.origins), ("led to", found.uses)):
        if links:
            branch = tree.add(f"[italic]{title}[/italic]")
            for link in links:
                branch.add(_text(link))
    _console().print(tree)


def _open(url: str | None) -> Catalog:
    """The catalog, which must be there: a wrong folder shouldn't look like an empty catalog."""
    from i2idist.catalog import Catalog, default_url, exists

    url = url or default_url()
    if not exists(url):
        raise CatalogError(
            f"There is no catalog {url} yet. The first training there makes it; for another place set I2IDIST_CATALOG "
            "or I2IDIST_RUNS, or give --catalog."
        )
    return Catalog(url)


def _console() -> Console:
    """Lines in a pipe or file are as long as they are, for `grep`; on a terminal long cells are folded, never cut."""
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    return console


def _rows(catalog: Catalog, what: What, limit: int) -> list[dict[str, Any]]:
    if what is What.runs:
        with ThreadPoolExecutor(_AT_ONCE) as executor:  # a few small files each, perhaps in an object store
            return list(executor.map(_run, (job.as_dict() for job in catalog.runs(limit))))
    listed: dict[What, Callable[..., Sequence[Base]]] = {
        What.datasets: catalog.datasets,
        What.jobs: catalog.jobs,
        What.translations: catalog.translations,
        What.evaluations: catalog.evaluations,
    }
    rows = [row.as_dict() for row in listed[what](limit=limit)]
    for row in rows:
        if what is What.translations:
            row["name"] = row["out_url"].rsplit("/", 1)[-1]
        if what is What.datasets:
            row["samples"] = _samples(row["counts"])
    return rows


def _run(job: Mapping[str, Any]) -> dict[str, Any]:
    """A run as its folder describes it, and the state of its newest job."""
    from i2idist.catalog.references import run_link

    facts = run_link(job["run_url"]).as_dict()
    del facts["kind"]
    facts.pop("config", None)
    return {**facts, "state": job["state"], "mlflow_run_id": facts.get("mlflow_run_id") or job["mlflow_run_id"]}


def _samples(counts: Mapping[str, int | Mapping[str, int]]) -> str:
    """Samples by split, of its largest domain where each is counted."""
    most = {split: max(n.values(), default=0) if isinstance(n, Mapping) else n for split, n in counts.items()}
    return ", ".join(f"{split} {count:,}" for split, count in most.items())


def _entry(catalog: Catalog, row: Base) -> dict[str, Any]:
    """A row with what it points to."""
    from i2idist.catalog.models import Job, Translation
    from i2idist.catalog.references import run_link

    entry = {"type": type(row).__name__.lower(), **row.as_dict()}
    if isinstance(row, Translation):
        entry["shards"] = [shard.as_dict() for shard in catalog.shards(row.id)]
    if isinstance(row, Job) and row.run_url:
        entry["run"] = run_link(row.run_url).as_dict()
    return entry


def _print_entry(entry: Mapping[str, Any]) -> None:
    console = _console()
    title = entry.get("name") or entry["out_url"]
    console.print(f"[bold]{entry['type']}[/bold] {escape(str(title))}")
    for key, value in entry.items():
        if key in ("type", "name", "experiment", "run", "shards") or value is None:
            continue
        console.print(f"  {key}: {escape(_plain(value))}")
    for shard in entry.get("shards", []):
        console.print(f"    {escape(shard['shard'])}  {shard['state']}  {shard['count']:,}  {shard['digest'] or ''}")
    run = entry.get("run")
    if run:
        shown = {key: run.get(key) for key in ("method", "images", "ended", "code", "dataset_digest", "problem")}
        for key, value in shown.items():
            if value is not None:
                console.print(f"  run {key}: {escape(_plain(value))}")


def _text(link: Link) -> str:
    """A link for a person: its kind and name, and below them what matters of it."""
    lines = [f"[bold]{link.kind}[/bold] {escape(link.name)}"]
    facts = {**link.facts, **({"shard": _shard(link)} if "shard" in link.facts else {})}
    lines += [f"  {key}: {escape(_plain(facts[key]))}" for key in ("shard", *_LINES) if facts.get(key) is not None]
    if link.problem:
        lines.append(f"  [yellow]{escape(link.problem)}[/yellow]")
    return "\n".join(lines)


def _shard(link: Link) -> str:
    shard = link.facts["shard"]
    return f"{shard['shard']}, {shard['count']:,} images, {shard['state']}, sha256 {shard['digest']}"


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    return escape(str(value)[:_SHORT] if column in ("digest", "code") else _plain(value))
