"""`i2idist demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer()

_SHOWN = {
    "images": "input images drawn in training",
    "images_per_s": "images/s in training",
    "workers": "workers",
    "translated": "translations",
    "label_agreement": "label agreement of the translations",
    "label_agreement_of_inputs": "label agreement of the untranslated digits",
    "classifier_accuracy": "the classifier's accuracy on real street-style digits",
    "diversity": "diversity (ST-LPIPS between codes)",
    "seconds": "seconds",
}
_PICTURES = ("contact_sheet.png", "synchronised.png", "interpolation.png", "losses.png", "summary.json")


@app.command()
def demo(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace the recipe's: train.total_images=20000"),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for everything that the demo makes.")] = Path("demo"),
    as_json: Annotated[bool, typer.Option("--json", help="End with summary.json on stdout.")] = False,
) -> None:
    """Translate handwritten digits to street-style digits: data, training on two Ray workers, pictures, measures.

    Takes some minutes on two cores. Run again with the same folder it goes on from where it was.
    """
    from i2idist.cli.progress import TrainingDisplay
    from i2idist.demo import run_demo
    from i2idist.recipe import parse_overrides

    values = parse_overrides(overrides or [])
    with TrainingDisplay(Console(stderr=True)) as display:
        summary = run_demo(out, overrides=values, say=display.say, on_event=display.on_event)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        _print(summary, out)


def _print(summary: dict[str, Any], out: Path) -> None:
    console = Console(soft_wrap=True)
    table = Table(show_header=False, box=None)
    for key, words in _SHOWN.items():
        table.add_row(words, f"{summary[key]}")
    console.print(table)
    console.print("Look at:")
    for name in _PICTURES:
        console.print(f"  {out / name}", highlight=False)
