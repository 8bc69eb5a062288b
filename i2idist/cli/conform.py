"""`i2idist conform`: run the conformance suite on a method."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from i2idist.errors import ConformanceError


def conform(
    method: Annotated[str, typer.Argument(help="A method's name, or package.module:Class for one from outside.")],
    every: Annotated[bool, typer.Option("--all", help="All of the method's tiny configs, not only the first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Test the promises that every method keeps: exact on any number of workers, resumable at any step, ..."""
    from i2idist.conformance import Finding
    from i2idist.conformance import conform as run

    console = Console(stderr=as_json)

    def show(finding: Finding) -> None:
        mark = "[red]broken[/red]" if finding.problems else "[green]kept[/green]  "
        console.print(f"{mark} {finding.method} ({finding.config}): {finding.check.replace('_', ' ')}")
        for problem in finding.problems:
            console.print(f"       {problem}", markup=False)

    findings = run(method, every=every, on_finding=show)
    broken = [finding for finding in findings if finding.problems]
    if as_json:
        print(json.dumps({"method": method, "conforms": not broken, "findings": [asdict(f) for f in findings]}))
    if broken:
        raise ConformanceError(f"{method} breaks {len(broken)} of {len(findings)} promises, listed above.")
