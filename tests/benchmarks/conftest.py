"""Benchmarks write what they measured to RESULTS.md beside them."""

import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import torch

Rows = dict[str, tuple[str, str, str]]


@pytest.fixture(scope="session")
def report() -> Callable[[str, str, str, str], None]:
    """`report(what, measured, limit, how)`: a row of RESULTS.md, where it replaces the row of the same name."""
    path = Path(__file__).with_name("RESULTS.md")

    def write(what: str, measured: str, limit: str, how: str) -> None:
        rows: Rows = {}
        if path.exists():
            for line in path.read_text().splitlines():
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                if line.startswith("|") and len(cells) == 4 and cells[0] not in ("what", "---"):
                    rows[cells[0]] = (cells[1], cells[2], cells[3])
        rows[what] = (measured, limit, f"{how}; {date.today()}")
        lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in sorted(rows.items())]
        head = (
            f"# Benchmarks\n\n`make bench` writes this file. Last run on {processor()}, torch {torch.__version__}.\n\n"
        )
        path.write_text(
            head + "| what | measured | must be | how |\n| --- | --- | --- | --- |\n" + "\n".join(lines) + "\n"
        )

    return write


def processor() -> str:
    info = Path("/proc/cpuinfo")
    models = (
        [x.split(":")[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        if info.exists()
        else []
    )
    return f"{models[0] if models else platform.processor()}, {torch.get_num_threads()} threads"
