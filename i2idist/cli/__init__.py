"""The `i2idist` command. Each subcommand's module is imported when it is called, so that help comes at once."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup

import i2idist
from i2idist.errors import I2IError

COMMANDS = {
    "demo": ("i2idist.cli.demo:app", "Train on handwritten digits and look at the translations, in minutes."),
    "data": ("i2idist.cli.data:app", "Pack, list, show, verify and look at datasets."),
    "train": ("i2idist.cli.runs:train", "Create a run from a recipe, or continue it, and train it to its end."),
    "resume": ("i2idist.cli.runs:resume", "Continue a run by its name."),
    "stop": ("i2idist.cli.runs:stop", "Stop a run with a checkpoint."),
    "logs": ("i2idist.cli.runs:logs", "Show what happened in a run."),
    "tune": ("i2idist.cli.tune:app", "Search hyperparameters, and promote what was found."),
    "studies": ("i2idist.cli.studies:app", "List and show studies, and take out what they found."),
    "export": ("i2idist.cli.models:export", "Save a run's translator as a model folder."),
    "register": ("i2idist.cli.models:register", "Register a model with MLflow, as the candidate."),
    "promote": ("i2idist.cli.models:promote", "Make the candidate the champion."),
    "ls": ("i2idist.cli.catalog:ls", "List runs, jobs, datasets or translations."),
    "show": ("i2idist.cli.catalog:show", "Show what the catalog knows under a name."),
    "lineage": ("i2idist.cli.catalog:lineage", "Follow an image, model, run or dataset to where it came from, and on."),
    "translate": ("i2idist.cli.translate:translate", "Translate a dataset or a folder of images with a model."),
    "sample": ("i2idist.cli.sample:sample", "Let a generator make a dataset of images."),
    "rank-sources": ("i2idist.cli.rank:rank_sources", "Rank generators as sources of a transfer to a dataset."),
    "submit": ("i2idist.cli.submit:app", "Send a command to a Ray cluster: train, translate, evaluate and others."),
    "jobs": ("i2idist.cli.jobs:app", "List, look up, follow and stop what was submitted."),
    "evaluate": ("i2idist.cli.evaluate:evaluate", "Measure a model by protocols."),
    "compare": ("i2idist.cli.evaluate:compare", "Measure several models on the same inputs and codes, side by side."),
    "classifier": ("i2idist.cli.classifier:classifier", "Train a classifier that protocols read translations with."),
    "extractor": ("i2idist.cli.extractor:extractor", "Train UDIT's semantic extractor, and register it."),
    "protocols": ("i2idist.cli.evaluate:protocols", "List the protocols that models are measured by."),
    "weights": ("i2idist.cli.weights:app", "List, fetch and verify the weights that metrics need."),
    "methods": ("i2idist.cli.methods:methods", "List the methods, their papers and options."),
    "conform": ("i2idist.cli.conform:conform", "Run the conformance suite on a method."),
    "doctor": ("i2idist.cli.doctor:doctor", "Check this machine and its services, and say what to mend."),
}
"""Subcommands: the function, or the group, that each is, and a line for the help."""


class _Commands(TyperGroup):
    """Lists commands by name and summary alone, and imports the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that `args` name."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and found else found, rest


def load(name: str) -> Any:
    """The command or group `name`, imported now."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = vars(importlib.import_module(module))[attribute]
    if not isinstance(found, typer.Typer):
        holder = typer.Typer()
        holder.command(name)(found)
        found = holder
    return typer.main.get_command(found)


app = typer.Typer(
    cls=_Commands,
    help="Train, tune, compare and serve image-to-image translation and GAN-transfer methods.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(i2idist.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _listed() -> None:
    """Stands for a command in listings."""


for _name, (_, _summary) in COMMANDS.items():
    app.command(_name, help=_summary)(_listed)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; `arguments` default to the process's."""
    run(app, "i2idist", arguments)


def run(commands: typer.Typer, name: str, arguments: list[str] | None = None) -> None:
    """Run the command line called `name`; an error on purpose is told in red, and gives the exit status."""
    try:
        commands(args=arguments, prog_name=name)
    except I2IError as error:
        typer.secho(f"Error: {_printable(str(error))}", err=True, fg="red")
        sys.exit(error.exit_code)


def _printable(text: str) -> str:
    """Text whose control characters are spelt out: a name from elsewhere must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
