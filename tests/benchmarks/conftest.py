"""Benchmarks write what they measured to RESULTS.md beside them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.results import write_row


@pytest.fixture(scope="session")
def report() -> Callable[[str, str, str, str], None]:
    """`report(what, measured, limit, how)`: a row of RESULTS.md, where it replaces the row of the same name."""
    path, head = Path(__file__).with_name("RESULTS.md"), "# Benchmarks\n\n`make bench` writes this file."

    def write(what: str, measured: str, limit: str, how: str) -> None:
        write_row(path, head, what, measured, limit, how)

    return write
