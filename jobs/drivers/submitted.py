"""What a submitted job runs: the client's command, once the code here is known to be the client's.

It travels with `identity.py`, a copy of `i2idist.launch.identity`, and `submission.json`. Until the check is done it
uses the standard library alone, and runs no code of the package that it finds.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from identity import package_digest, versions

REFUSED = 11
"""The exit code of `i2idist.errors.SubmissionError`, which isn't imported before the check."""


def main() -> None:
    """Check, then run the command; ends with its exit code."""
    submission = json.loads(Path(__file__).with_name("submission.json").read_text())
    refused = difference(submission["code"], submission["shipped"])
    if refused:
        print(f"Error: {refused}", file=sys.stderr)
        sys.exit(REFUSED)
    here = versions()
    for name, there in submission["versions"].items():
        if here.get(name) != there:
            print(f"Warning: {name} is {here.get(name)} here and {there} on the client.", file=sys.stderr)
    from i2idist.cli import main as run

    run(submission["command"])


def difference(client: dict[str, Any], shipped: bool) -> str | None:
    """How the package that Python finds here differs from the client's; None where it doesn't.

    Args:
        client: version, revision and digest of the client's package.
        shipped: whether that travelled along.
    """
    found = importlib.util.find_spec("i2idist")
    if found is None or found.origin is None:
        return f"The cluster has no i2idist. Install {described(client)} on its nodes, or submit with --ship-code."
    package = Path(found.origin).parent
    here = {"version": version(package), "revision": revision(package), "digest": package_digest(package)}
    if here["digest"] == client["digest"]:
        return None
    if shipped:
        return (
            f"Python found {package} ({described(here)}) before the code that was shipped ({described(client)}). "
            f"The path was {sys.path}."
        )
    return (
        f"The cluster's code isn't the client's: it has {described(here)} in {package}; the client has "
        f"{described(client)}. Install the same on both, or submit with --ship-code."
    )


def described(code: dict[str, Any]) -> str:
    """Code in words."""
    return f"i2idist {code['version']}, revision {code['revision'] or 'unknown'}, digest {code['digest']}"


def version(package: Path) -> str:
    """The version that the package's source gives itself."""
    match = re.search(r'^__version__ = "(.+)"$', (package / "__init__.py").read_text(), re.MULTILINE)
    return match[1] if match else "unknown"


def revision(package: Path) -> str | None:
    """The git revision of the clone that the package lies in; None where it lies in none."""
    clone = package.parent
    if not (clone / ".git").exists():
        return None
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


if __name__ == "__main__":
    main()
