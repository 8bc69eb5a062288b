"""`i2idist doctor`: what this machine, and the services that its environment names, are like, and what to mend."""

from __future__ import annotations

import dataclasses
import http.client
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from i2idist.errors import ConfigError, I2IError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
State = Literal["ok", "warning", "failed"]
_PACKAGES = ("i2idist", "torch", "torchvision", "ray", "mlflow", "optuna", "sqlalchemy", "fsspec", "s3fs")
_SECRETS = ("AWS_SHARED_CREDENTIALS_FILE", "I2IDIST_MLFLOW_CREDENTIALS", "RAY_AUTH_TOKEN_PATH")
_DATABASES = ("I2IDIST_CATALOG", "I2IDIST_STUDIES")
_SERVERS = ("AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI", "RAY_API_SERVER_ADDRESS")
_MIN_DISK_GIB = 2.0
_SKEW_S, _MAX_SKEW_S = 5.0, 300.0
"""Clocks that differ by more confuse logs; by more than the second, S3 refuses requests (from 15 minutes on)."""


@dataclass(frozen=True)
class Check:
    """One thing that `doctor` looked at; where something is wrong, `detail` says what, and `mend` what to do."""

    name: str
    state: State
    detail: str
    mend: str = ""


def doctor(as_json: Json = False) -> None:
    """Check this machine and its services, and end processes left over from killed runs."""
    checks = [check for part in _PARTS for check in part()]
    ok = all(check.state != "failed" for check in checks)
    if as_json:
        typer.echo(json.dumps({"ok": ok, "checks": [dataclasses.asdict(check) for check in checks]}))
    else:
        _print(checks)
    if not ok:
        raise typer.Exit(1)


def _print(checks: list[Check]) -> None:
    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    table = Table("check", "state", "detail", box=None)
    for check in checks:
        mend = f"\n{escape(check.mend)}" if check.mend else ""
        table.add_row(check.name, f"[{colours[check.state]}]{check.state}", escape(check.detail) + mend)
    Console().print(table)


def _versions() -> Iterator[Check]:
    is_new = sys.version_info >= (3, 11)
    yield Check("python", "ok" if is_new else "failed", platform.python_version(), "" if is_new else "Install 3.11+.")
    for name in _PACKAGES:
        try:
            yield Check(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, "failed", "not installed", "Run `make setup`, or `pip install i2idist`.")
    yield _lock()


def _lock() -> Check:
    """Whether what is installed is what the clone's lock says; a wheel carries no lock."""
    path = Path(__file__).parents[2] / "requirements.lock"
    if not path.exists():
        return Check("lock", "ok", "an installed wheel: none to compare with")
    wanted = dict(line.split("==") for line in path.read_text().split() if "==" in line)
    there = {name.lower(): version for name in wanted if (version := _version(name))}
    wrong = [name for name in wanted if _differs(name, wanted, there)]
    if not wrong:
        return Check("lock", "ok", f"{len(there)} of {len(wanted)} packages are installed, all of the locked versions")
    told = "; ".join(f"{name} {there[name.lower()]} (lock: {wanted[name]})" for name in wrong[:5])
    return Check("lock", "warning", told, "pip install -c requirements.lock, so that all nodes are alike.")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _differs(name: str, wanted: dict[str, str], there: dict[str, str]) -> bool:
    found = there.get(name.lower())
    return found is not None and found.partition("+")[0] != wanted[name].partition("+")[0]


def _machine() -> Iterator[Check]:
    import psutil
    import torch

    from i2idist.launch.facts import code_revision, cpu_kind
    from i2idist.launch.processes import cores
    from i2idist.launch.reap import reap
    from i2idist.recipe import recipes

    yield Check("code", "ok", code_revision() or "an installed wheel")
    count = len(recipes())
    yield Check("recipes", "ok" if count else "failed", f"{count} found", "" if count else "Install i2idist anew.")
    yield Check("cpu", "ok", f"{cores()} cores, {cpu_kind()}")
    yield _cuda(torch)
    memory = psutil.virtual_memory().available / 2**30
    less = "" if memory > 4 else "Ray and two workers take about 3 GiB: end other programs."
    yield Check("memory", "warning" if less else "ok", f"{memory:.1f} GiB free", less)
    yield _shared_memory()
    yield from _disks()
    ended = reap()
    yield Check("left-over processes", "warning" if ended else "ok", f"ended {len(ended)}" if ended else "none")


def _cuda(torch: Any) -> Check:
    if not torch.cuda.is_available():
        return Check("gpu", "ok", "no CUDA device: training runs on the CPU")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Check("gpu", "ok", ", ".join(names))


def _shared_memory() -> Check:
    if not os.path.isdir("/dev/shm"):
        return Check("shared memory", "ok", "no /dev/shm here")
    free = shutil.disk_usage("/dev/shm").free / 2**20
    less = "" if free > 256 else "Ray takes 200 MiB: make room, or give the container a larger --shm-size."
    return Check("shared memory", "warning" if less else "ok", f"{free:.0f} MiB free in /dev/shm", less)


def _disks() -> Iterator[Check]:
    from i2idist import storage
    from i2idist.data.cache import default_folder
    from i2idist.launch.run_folder import runs_root

    places = {"cache disk": default_folder(), "temporary disk": Path(tempfile.gettempdir())}
    if storage.is_local(runs_root()):
        places["runs disk"] = storage.local_path(runs_root())
    for name, path in places.items():
        there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
        free = shutil.disk_usage(there).free / 2**30
        less = "" if free > _MIN_DISK_GIB else f"Make room there: {_MIN_DISK_GIB:.0f} GiB are the least to work with."
        yield Check(name, "warning" if less else "ok", f"{free:.1f} GiB free at {path}", less)


def _secrets() -> Iterator[Check]:
    """Files that hold keys are there, and for their owner alone."""
    named = {name: os.environ[name] for name in _SECRETS if os.environ.get(name)}
    for name in _DATABASES:
        for path in parse_qs(urlsplit(os.environ.get(name, "")).query).get("passfile", []):
            named[f"passfile of {name}"] = path
    for name, path in named.items():
        if not os.access(path, os.R_OK):
            yield Check(name, "failed", f"{path} can't be read", "Put the file there; see services/README.md.")
        elif os.stat(path).st_mode & 0o077:
            yield Check(name, "failed", f"others can read {path}", f"chmod 600 {path}")
        else:
            yield Check(name, "ok", path)
    if os.environ.get("AWS_CA_BUNDLE") and os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        yield Check("AWS_CA_BUNDLE", "failed", "it breaks S3 over plain HTTP", "unset AWS_CA_BUNDLE")


def _storage() -> Iterator[Check]:
    yield _tried("object store", _object_store)
    yield _tried("runs", _runs)


def _tried(name: str, look: Callable[[], str]) -> Check:
    """What `look` says; its error, which says what to do, is what is wrong."""
    try:
        return Check(name, "ok", look())
    except I2IError as error:
        return Check(name, "failed", str(error))


def _object_store() -> str:
    """Whether S3 takes our keys: it must answer, and know them."""
    from i2idist import storage

    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return "AWS_ENDPOINT_URL isn't set: none, or AWS' own"
    _reach(endpoint, "The object store")
    found = storage.list_dir("s3://")
    return f"{endpoint} knows these keys; buckets: {', '.join(found) or 'none'}"


def _runs() -> str:
    from i2idist import storage
    from i2idist.launch.run_folder import runs_root

    root = runs_root()
    probe = storage.join(root, f".doctor-{os.getpid()}")
    storage.write_bytes(probe, b"")
    storage.delete(probe)
    return f"{root} can be written"


def _records() -> Iterator[Check]:
    yield _tried("mlflow", _mlflow)
    yield _tried("catalog", _catalog)
    yield _tried("studies", _studies)


def _mlflow() -> str:
    from i2idist.tracking.settings import ENVIRONMENT, SQLITE, shown

    uri = os.environ.get(ENVIRONMENT)
    if not uri or uri.startswith(SQLITE):
        return f"{uri or 'no server is named: a SQLite file beside local runs'}"
    from i2idist.tracking.place import connect, mlflow_errors

    with mlflow_errors("look at its experiments", uri):
        found = connect(uri).search_experiments(max_results=100)
    return f"{shown(uri)} answers; {len(found)} experiments"


def _catalog() -> str:
    from i2idist.catalog import default_url, version

    url = default_url()
    found, known = version(url)
    if found is None:
        return f"{_plain(url)} has no tables yet; they are made on first use"
    if found != known:
        return f"{_plain(url)} has tables of version {found}; the next use brings them to {known}"
    return f"{_plain(url)}, tables of version {found}"


def _studies() -> str:
    from i2idist.tuning.storage import is_absent, open_storage, storage_url

    try:
        url = storage_url()
    except ConfigError as error:
        return f"none: {error}"
    if is_absent(url):
        return f"{_plain(url)} isn't there yet; it is made on first use"
    return f"{_plain(url)}, {len(open_storage(url).get_all_studies())} studies"


def _plain(url: str) -> str:
    return url.partition("?")[0]


def _cluster() -> Iterator[Check]:
    yield _tried("ray head", _ray)


def _ray() -> str:
    from i2idist.launch.head import Head, given_address

    try:
        address = given_address(None)
    except ConfigError:
        return "none is named (RAY_API_SERVER_ADDRESS): Ray is started for each run"
    jobs = Head(address).jobs()
    return f"{address} takes our token and runs our version; {len(jobs)} jobs of i2idist"


def _weights() -> Iterator[Check]:
    from i2idist import weights

    try:
        there = [name for name in sorted(weights.WEIGHTS) if weights.find(name)]
    except I2IError as error:
        yield Check("weights", "failed", str(error))
        return
    absent = sorted(set(weights.WEIGHTS) - set(there))
    mend = f"For metrics that need them: i2idist weights fetch {absent[0]}" if absent else ""
    yield Check("weights", "ok", f"{', '.join(there) or 'none'}; absent: {', '.join(absent) or 'none'}", mend)


def _clock() -> Iterator[Check]:
    """This machine's clock against those of the servers that it talks to."""
    skews = {url: skew for name in _SERVERS if (url := os.environ.get(name)) and (skew := _skew(url)) is not None}
    if not skews:
        yield Check("clock", "ok", "no server to compare it with")
        return
    url, worst = max(skews.items(), key=lambda item: abs(item[1]))
    state: State = "failed" if abs(worst) > _MAX_SKEW_S else "warning" if abs(worst) > _SKEW_S else "ok"
    detail = f"within {_SKEW_S:.0f} s of the servers'" if state == "ok" else f"{worst:+.0f} s off that of {url}"
    yield Check("clock", state, detail, "" if state == "ok" else "Let NTP or chrony set the clocks of both machines.")


def _skew(url: str) -> float | None:
    """Seconds that our clock is ahead of a server's; None where it doesn't say."""
    try:
        connection = _connection(url)
        connection.request("HEAD", "/")
        said = connection.getresponse().getheader("Date")
        return None if said is None else time.time() - parsedate_to_datetime(said).timestamp()
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _reach(url: str, what: str) -> None:
    try:
        _connection(url).connect()
    except OSError as error:
        raise ConfigError(f"{what} at {url} can't be reached: {error}. Start it, or correct its address.") from error


def _connection(url: str) -> http.client.HTTPConnection:
    place = urlsplit(url)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    return kind(place.hostname or "", place.port, timeout=3)


_PARTS: tuple[Callable[[], Iterator[Check]], ...] = (
    _versions,
    _machine,
    _secrets,
    _storage,
    _records,
    _cluster,
    _weights,
    _clock,
)
