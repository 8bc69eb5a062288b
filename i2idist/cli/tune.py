"""`i2idist tune SEARCH` and `i2idist tune promote STUDY`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from i2idist.cli.runs import Overrides, Root, end_as

if TYPE_CHECKING:
    from i2idist.tuning import Summary

Storage = Annotated[
    str | None,
    typer.Option(
        help="Where studies are: sqlite:///FILE or postgresql://... Default: I2IDIST_STUDIES, or beside runs."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")]


class _Tune(TyperGroup):
    """`tune SEARCH` means `tune run SEARCH`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that `args` name; a search's name stands for `run`."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["run", *args])


app = typer.Typer(
    cls=_Tune,
    no_args_is_help=True,
    help="Search hyperparameters: `i2idist tune SEARCH [KEY=VALUE]...`, the same as `tune run`. Go on with the same.",
)


@app.command()
def run(
    search: Annotated[str, typer.Argument(help="A search's name (`i2idist tune ls`), or the path of a YAML file.")],
    overrides: Overrides = None,
    study: Annotated[
        str | None, typer.Option(help="The study's name: created, or continued. Default: the search's.")
    ] = None,
    storage: Storage = None,
    root: Root = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many, those before included.")] = None,
    hours: Annotated[float | None, typer.Option(min=0, help="Begin no trial after so long.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Trials at once.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Tell MLflow nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Search: run trials until there are enough; start it again to go on, in several places to go faster.

    Ctrl-C and SIGTERM end it with a checkpoint of each trial, and with exit status 130 or 143. Several drivers need a
    study in Postgres.
    """
    from i2idist.recipe import parse_overrides
    from i2idist.tuning import read_search, tune

    values = parse_overrides(overrides or []) | ({"tracking.offline": True} if offline else {})
    found = read_search(search, values, trials=trials, hours=hours, concurrency=concurrency)
    summary = tune(found, study=study, storage=storage, root=root, say=_say)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(summary)))
    else:
        _tell(summary)
    end_as(summary.signal)


def _tell(summary: Summary) -> None:
    counted = ", ".join(f"{count} {state}" for state, count in summary.counts.items() if count)
    typer.echo(f"{summary.study}: {counted or 'no trials'}")
    for number, text in summary.best.items():
        typer.echo(f"best: trial {number}: {text}")
    if summary.best:
        typer.echo(
            f"i2idist studies show {summary.study}; i2idist tune promote {summary.study} --trial {min(summary.best)}"
        )


@app.command()
def ls(as_json: Json = False) -> None:
    """List the searches that come with i2idist."""
    from i2idist.tuning import read_search, searches

    found = {name: read_search(name) for name in searches()}
    if as_json:
        typer.echo(json.dumps({name: search.definition() for name, search in found.items()}))
        return
    for name, search in found.items():
        goals = ", ".join(f"{one.resolved} {one.metric}" for one in search.objectives)
        typer.echo(f"{name}: {search.recipe}; {goals}; {', '.join(search.space)}; {search.budget} trials")


@app.command()
def promote(
    study: Annotated[str, typer.Argument(help="The study.")],
    overrides: Overrides = None,
    trial: Annotated[int | None, typer.Option(help="Which trial. Default: the best, where there is one.")] = None,
    model: Annotated[str | None, typer.Option(help="The registered model. Default: the study's name.")] = None,
    run: Annotated[str | None, typer.Option(help="The run's name: created, or continued.")] = None,
    storage: Storage = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Train a trial's recipe at the search's full length, and register the model as the candidate."""
    from i2idist.cli.progress import TrainingDisplay
    from i2idist.recipe import parse_overrides
    from i2idist.tuning import promote as promote_trial

    values = parse_overrides(overrides or [])
    with TrainingDisplay(Console(stderr=True)) as display:
        found = promote_trial(
            study,
            trial=trial,
            model=model,
            run=run,
            storage=storage,
            root=root,
            overrides=values,
            on_event=display.on_event,
            say=display.say,
        )
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found)))
    else:
        typer.echo(f"models:/{found.model}/{found.version} is models:/{found.model}@candidate: trial {found.trial}")


def _say(message: str) -> None:
    Console(stderr=True).print(escape(message), highlight=False, soft_wrap=True)
