"""Which code a package is: what a client and a cluster compare before the one works for the other.

A copy of this file travels with every submission, so that both sides compute alike whatever they have installed:
the standard library alone.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path

_DRIVERS = "drivers"
"""What a wheel holds beside the package; in a clone it lies elsewhere."""


def package_digest(package: Path) -> str:
    """SHA-256 of what Python can import of a package: its files' paths and contents.

    A clone and the wheel that was built from it have the same.

    Args:
        package: the package's folder.

    Returns:
        64 hexadecimal digits.
    """
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(files):
        if not name.startswith(f"{_DRIVERS}/"):
            content = files[name].read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of Python, and of the packages that decide results and protocols, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "ray", "torch"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
