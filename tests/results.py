"""Tables of what tests measured, in Markdown, kept from run to run."""

from __future__ import annotations

import platform
from datetime import date
from pathlib import Path

import torch


def write_row(path: Path, head: str, what: str, measured: str, limit: str, how: str) -> None:
    """Write a row; it replaces the row of the same name."""
    rows: dict[str, tuple[str, str, str]] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if line.startswith("|") and len(cells) == 4 and cells[0] not in ("what", "---"):
                rows[cells[0]] = (cells[1], cells[2], cells[3])
    rows[what] = (measured, limit, f"{how}; {date.today()}")
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in sorted(rows.items())]
    text = f"{head} Last run on {processor()}, torch {torch.__version__}.\n\n"
    table = ["| what | measured | must be | how |", "| --- | --- | --- | --- |", *lines]
    path.write_text(f"{text}{chr(10).join(table)}\n")


def processor() -> str:
    """This machine's processor, and the threads that torch uses."""
    info = Path("/proc/cpuinfo")
    models = (
        [x.split(":")[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        if info.exists()
        else []
    )
    return f"{models[0] if models else platform.processor()}, {torch.get_num_threads()} threads"
