"""`i2idist submit VERB ...`: a command of this package, run by a Ray cluster.

Each verb takes what the command takes, and where to send it. All that can be wrong is refused here, before anything is
sent, with the command's own messages.
"""

from __future__ import annotations

import importlib
import json
import os
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from i2idist.cli import load

VERBS = {
    "train": "i2idist.cli.verbs:train",
    "resume": "i2idist.cli.verbs:resume",
    "translate": "i2idist.cli.verbs:translate",
    "sample": "i2idist.cli.verbs:sample",
    "evaluate": "i2idist.cli.verbs:evaluate",
    "tune run": "i2idist.cli.verbs:tune",
    "data pack": "i2idist.cli.verbs:data_pack",
}
"""What can be submitted, and what checks it and makes it ready to travel."""

Address = Annotated[
    str | None,
    typer.Option(
        help="The cluster's dashboard, http://HEAD:8265. Default: RAY_API_SERVER_ADDRESS, an http RAY_ADDRESS."
    ),
]
TokenFile = Annotated[
    str | None,
    typer.Option(envvar="RAY_AUTH_TOKEN_PATH", help="A file of mode 0600 that holds the cluster's token."),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show its log, and end with its exit code.")]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")]


class _Verbs(TyperGroup):
    """The commands that can be submitted."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, those of a group once."""
        return list(dict.fromkeys(verb.split()[0] for verb in VERBS))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command `cmd_name` as one that submits; in a group, those of its commands that can be."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found = load(cmd_name)
        if cmd_name in VERBS:
            return _submitting(cmd_name, found)
        inside = {f"{cmd_name} {name}": command for name, command in found.commands.items()}
        found.name = cmd_name
        found.commands = {v.split()[1]: _submitting(v, command) for v, command in inside.items() if v in VERBS}
        return found


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    help="Send a command to a Ray cluster.\n\n"
    "The client's MLFLOW_TRACKING_URI, I2IDIST_RUNS (else its ./runs) and I2IDIST_CATALOG hold there as here; keys, "
    "tokens and passwords stay: nodes read their own. Local paths mean the same paths on the nodes.",
)


@app.callback()
def _root() -> None:
    pass


def options(
    address: Address = None,
    token_file: TokenFile = None,
    ship_code: Annotated[
        bool, typer.Option("--ship-code", help="Send this i2idist, to run instead of what the cluster has.")
    ] = False,
    follow: Follow = False,
    submission_id: Annotated[str | None, typer.Option(help="Names the job. Default: one is made up.")] = None,
    as_json: Json = False,
) -> None:
    """The options of a submission."""


def _submitting(verb: str, command: TyperCommand) -> TyperCommand:
    """A command that takes its own parameters and those of a submission, and submits."""
    holder = typer.Typer(add_completion=False)
    holder.command()(options)
    added = typer.main.get_command(holder).params
    names = {parameter.name for parameter in added}
    own = [parameter for parameter in command.params if parameter.name not in names]

    def callback(**values: Any) -> None:
        where = {name: values.pop(name) for name in names}
        submit(verb, own, values, **where)

    command.params, command.callback = [*own, *added], callback
    command.help = (command.help or "").partition("\n\n")[0]  # what follows is about a terminal of its own
    return command


def submit(
    verb: str,
    parameters: list[Any],
    values: dict[str, Any],
    *,
    address: str | None,
    token_file: str | None,
    ship_code: bool,
    follow: bool,
    submission_id: str | None,
    as_json: bool,
) -> None:
    """Check, send, and with `follow` stay until it ends."""
    from i2idist.cli.verbs import Client
    from i2idist.launch import submit as launch
    from i2idist.launch.head import Head, given_address, is_loopback
    from i2idist.launch.run_folder import check_name
    from i2idist.launch.submission import Submission, environment, refuse_passwords

    address = given_address(address)
    refuse_passwords(values)  # before anything is looked at, and named in a message
    module, _, function = VERBS[verb].partition(":")
    client = Client(is_loopback(address), warn)
    prepared = getattr(importlib.import_module(module), function)(values, client)
    id = submission_id or f"{prepared.name[:80]}-{os.urandom(3).hex()}"
    check_name(id)
    submission = Submission(
        id=id,
        verb=verb,
        name=prepared.name,
        command=[*verb.split(), *_arguments(parameters, prepared.values)],
        root=prepared.root,
        environment=environment(prepared.root, client.database),
        run_url=prepared.run_url,
        experiment=prepared.experiment,
    )
    head = Head(address, token_file)
    launch.submit(head, submission, ship_code=ship_code, say=warn)
    typer.echo(f"Submitted {id} to {address}: {verb} {prepared.name}", err=as_json)
    if prepared.run_url:
        typer.echo(f"run folder {prepared.run_url}", err=as_json)
    if follow:
        from i2idist.cli.jobs import stay

        stay(head, id, as_json)
        return
    if as_json:
        typer.echo(json.dumps(launch.status(head, id, say=warn)))
    else:
        typer.echo(f"Look after it with: i2idist jobs status|logs|stop {id}")


def warn(message: str) -> None:
    """Tell a person on stderr."""
    typer.secho(message, err=True, fg="yellow")


def _arguments(parameters: list[Any], values: Any) -> list[str]:
    """The command line that gives a command these values."""
    line: list[str] = []
    positional: list[str] = []
    for parameter in parameters:
        value = values.get(parameter.name)
        if value is None or value is False:
            continue
        texts = [str(one) for one in value] if isinstance(value, (list, tuple)) else [str(value)]
        if parameter.param_type_name == "argument":
            positional += texts
        elif value is True:
            line.append(parameter.opts[0])
        else:
            line += [part for text in texts for part in (parameter.opts[0], text)]
    return [*line, "--", *positional]
