"""What a launch ran on: recorded with every run, and compared when a run continues.

Bit-for-bit equality holds while these stay the same; where one differs, the run continues within tolerance and says so.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import i2idist

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


def code_revision() -> str | None:
    """The git revision of the clone that i2idist runs from, `+changes` where files differ; None for a wheel."""
    clone = Path(__file__).parents[2]
    if not (clone / ".git").exists():
        return None
    try:
        revision = _git(clone, "rev-parse", "HEAD")
        return f"{revision}+changes" if _git(clone, "status", "--porcelain", "--", "i2idist") else revision
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
