"""What a launch ran on: recorded with every run, and compared when a run continues.

Bit-for-bit equality holds while these stay the same; where one differs, the run continues within tolerance and says so.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import i2idist
from i2idist.experiment import flatten

DECIDE_BITS = (
    "versions.torch",
    "versions.numpy",
    "versions.i2idist",
    "code",
    "cpu",
    "device",
    "threads_per_worker",
    "workers",
)
"""Facts that must stay the same for bit-for-bit equality."""
REVISION_FILE = "REVISION"
"""Where code that was shipped to a cluster, without its repository, says which revision it is."""


def facts(device: torch.device, workers: int) -> dict[str, Any]:
    """This process's versions, processor, device and threads; the number of workers and the code revision."""
    packages = ("torch", "numpy", "ray", "safetensors")
    return {
        "versions": {"python": platform.python_version(), "i2idist": i2idist.__version__}
        | {package: importlib.metadata.version(package) for package in packages},
        "cpu": cpu_kind(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads_per_worker": torch.get_num_threads(),
        "workers": workers,
        "code": code_revision(),
    }


def merged(everyone: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All workers' facts as one: where they differ, the list of the distinct values."""
    whole: dict[str, Any] = {}
    for key, value in everyone[0].items():
        values = [one[key] for one in everyone]
        if isinstance(value, dict):
            whole[key] = merged(values)
        else:
            whole[key] = value if all(one == value for one in values) else sorted({str(one) for one in values})
    return whole


def unequal(whole: dict[str, Any]) -> str:
    """Which of `merged` facts differ among workers and matter, for a message; empty where none does."""
    found = flatten(whole)
    return "; ".join(f"{key} {' and '.join(found[key])}" for key in DECIDE_BITS if isinstance(found[key], list))


def cpu_kind() -> str:
    """The processor's model and the instruction set that torch uses on it."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = (
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        )
        model = next(names, model)
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


def code_revision(clone: Path = Path(__file__).parents[2]) -> str | None:
    """The git revision of the clone that i2idist runs from, or was shipped from; None for a wheel.

    Where files differ from it, `+changes-` and the start of a digest of the changes follow.
    """
    if not (clone / ".git").exists():
        shipped = clone / "i2idist" / REVISION_FILE
        return shipped.read_text() if shipped.exists() else None
    try:
        revision, changes = _git(clone, "rev-parse", "HEAD"), _changes(clone)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{revision}+changes-{hashlib.sha256(changes).hexdigest()[:8]}" if changes else revision


def _changes(clone: Path) -> bytes:
    """What differs from the revision: the changes of tracked files, and the names and content of new ones."""
    parts = [_git(clone, "diff", "HEAD", "--", "i2idist")]
    for name in _git(clone, "ls-files", "--others", "--exclude-standard", "--", "i2idist").splitlines():
        parts += [name, _git(clone, "hash-object", "--", name)]
    return "\n".join(parts).strip().encode()


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    found = subprocess.run(command, check=True, capture_output=True, timeout=10).stdout
    return found.decode(errors="backslashreplace").strip()
