"""`i2idist methods | doctor`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, or package.module:Class; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """List the methods: name, paper, kind of data, whether they generate; with a NAME, its options and defaults."""
    from i2idist.methods import METHODS, load_method

    chosen = [_described(known, load_method(known)) for known in ([name] if name else METHODS)]
    if as_json:
        typer.echo(json.dumps({"methods": chosen}))
        return
    console = Console(soft_wrap=True)
    for method in chosen:
        data = f"{' or '.join(method['data'])} data" + (", generates" if method["generates"] else "")
        console.print(f"[bold]{method['name']}[/bold]  {data}  {method['paper']}")
        for option in method["options"] if name else []:
            console.print(f"  method.{option['name']} = {option['default']!r}", highlight=False)
    if not name:
        console.print("Options of one: i2idist methods NAME")


def _described(name: str, method: Any) -> dict[str, Any]:
    options = [{"name": field.name, "default": _default(field)} for field in dataclasses.fields(method.Config)]
    data = sorted({method.batch_type(config).__name__.lower() for config in method.tiny().values()})
    return {"name": name, "paper": method.paper, "data": data, "generates": method.generates, "options": options}


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default is not dataclasses.MISSING else None


@dataclass(frozen=True)
class Check:
    """One thing that `doctor` looked at."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str


def doctor(as_json: Json = False) -> None:
    """Check this machine, and end processes left over from killed runs."""
    checks = list(_checks())
    if as_json:
        ok = all(check.state != "failed" for check in checks)
        typer.echo(json.dumps({"ok": ok, "checks": [dataclasses.asdict(check) for check in checks]}))
    else:
        colours = {"ok": "green", "warning": "yellow", "failed": "red"}
        table = Table("check", "state", "detail", box=None)
        for check in checks:
            table.add_row(check.name, f"[{colours[check.state]}]{check.state}", check.detail)
        Console().print(table)
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(1)


def _checks() -> Iterator[Check]:
    import psutil
    import torch

    from i2idist.launch.facts import code_revision, cpu_kind
    from i2idist.launch.processes import cores
    from i2idist.launch.reap import reap
    from i2idist.recipe import recipes

    yield Check("python", "ok" if sys.version_info >= (3, 11) else "failed", platform.python_version())
    for package in ("i2idist", "torch", "torchvision", "ray", "fsspec", "s3fs"):
        yield _package(package)
    yield Check("code", "ok", code_revision() or "an installed wheel")
    yield Check("recipes", "ok" if recipes() else "failed", ", ".join(recipes()) or "none found")
    yield Check("cpu", "ok", f"{cores()} cores, {cpu_kind()}")
    yield _cuda(torch)
    memory = psutil.virtual_memory().available / 2**30
    yield Check("memory", "ok" if memory > 4 else "warning", f"{memory:.1f} GiB free; Ray and two workers take about 3")
    yield _shared_memory()
    yield _runs()
    ended = reap()
    yield Check("left-over processes", "warning" if ended else "ok", f"ended {len(ended)}" if ended else "none")


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "failed", "not installed: run `make setup`, or `pip install i2idist`")


def _cuda(torch: Any) -> Check:
    if not torch.cuda.is_available():
        return Check("cuda", "ok", "no CUDA device: training runs on the CPU")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Check("cuda", "ok", ", ".join(names))


def _shared_memory() -> Check:
    if not os.path.isdir("/dev/shm"):
        return Check("shared memory", "ok", "no /dev/shm here")
    free = shutil.disk_usage("/dev/shm").free / 2**20
    return Check("shared memory", "ok" if free > 256 else "warning", f"{free:.0f} MiB free in /dev/shm; Ray takes 200")


def _runs() -> Check:
    from i2idist import storage
    from i2idist.errors import StorageError
    from i2idist.launch.run_folder import runs_root

    root = runs_root()
    probe = storage.join(root, f".doctor-{os.getpid()}")
    try:
        storage.write_bytes(probe, b"")
        storage.delete(probe)
    except StorageError as error:
        return Check("runs", "failed", str(error))
    return Check("runs", "ok", f"{root} can be written")
