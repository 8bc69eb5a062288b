"""All services of one folder, as a team runs them: what each is called, what it needs, and how it stands.

```
FOLDER/s3  FOLDER/postgres  FOLDER/mlflow  FOLDER/ray  FOLDER/optuna     see each module
```
Data, ports and secrets stay there when the services are stopped, so that the same addresses work again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from i2idist.errors import ServiceError
from services import object_store, postgres, ray_head, study_dashboard, supervise, tracking_server
from services.hosts import checked
from services.processes import find
from services.supervise import Service

NAMES = ("s3", "postgres", "mlflow", "ray", "optuna")
"""The services, in the order in which they need each other."""

BUCKET = "i2idist"
_DATABASES = ("mlflow", "catalog", "optuna")
_URLS = {"s3": "http", "postgres": "postgresql", "mlflow": "http", "ray": "http", "optuna": "http"}


def default_folder() -> Path:
    """`I2IDIST_PLATFORM`, else a folder that outlives this session; Postgres, which refuses root, must reach it."""
    given = os.environ.get("I2IDIST_PLATFORM")
    if given:
        return Path(given)
    return Path("/var/lib/i2idist") if os.geteuid() == 0 else Path.home() / ".local/share/i2idist/platform"


def up(
    folder: Path | str,
    ports: Mapping[str, int] | None = None,
    say: Callable[[Service], None] = lambda service: None,
    *,
    host: str | None = None,
) -> dict[str, Service]:
    """Start what doesn't run, side by side where nothing is waited for.

    Args:
        folder: of the platform.
        ports: by service, the port that clients use; others stay as they are, or are chosen.
        say: told of each service that answers.
        host: this machine's IPv4 address on which other hosts reach all but the study dashboard, which asks for no
            password; None: as at the last start, else loopback.

    Returns:
        The services by name.

    Raises:
        ServiceError: one didn't start; those that did go on.
    """
    home, ports = _home(folder), dict(ports or {})
    if unknown := sorted(ports.keys() - set(NAMES)):
        raise ServiceError(f"There is no service '{unknown[0]}': ports are of {', '.join(NAMES)}.")
    if host is not None:
        checked(host)
    with ThreadPoolExecutor(len(NAMES)) as pool:
        s3 = pool.submit(lambda: object_store.start(home / "s3", ports.get("s3"), host=host, buckets=(BUCKET,)))
        pg = pool.submit(
            lambda: postgres.start(home / "postgres", ports.get("postgres"), host=host, databases=_DATABASES)
        )
        started: dict[str, Future[Service]] = {"s3": s3, "postgres": pg}
        started["mlflow"] = pool.submit(lambda: _tracking(home, ports.get("mlflow"), host, s3.result(), pg.result()))
        started["ray"] = pool.submit(lambda: _ray(home, ports.get("ray"), host, s3, pg, started["mlflow"]))
        started["optuna"] = pool.submit(lambda: _dashboard(home, ports.get("optuna"), pg.result()))
        for future in started.values():
            future.add_done_callback(lambda done: None if done.exception() else say(done.result()))
    return {name: started[name].result() for name in NAMES}


def _tracking(home: Path, port: int | None, host: str | None, s3: Service, pg: Service) -> Service:
    return tracking_server.start(
        home / "mlflow",
        port,
        host=host,
        database=postgres.address(pg, "mlflow"),
        artifacts=f"s3://{BUCKET}/mlflow",
        environment=s3.environment,
    )


def _ray(
    home: Path,
    port: int | None,
    host: str | None,
    s3: Future[Service],
    pg: Future[Service],
    mlflow: Future[Service],
) -> Service:
    """Jobs find the other services through the head's environment."""
    environment = _records(s3.result(), pg.result(), mlflow.result())
    return ray_head.start(home / "ray", port, host=host, environment=environment)


def _dashboard(home: Path, port: int | None, pg: Service) -> Service:
    return study_dashboard.start(home / "optuna", postgres.address(pg, "optuna"), port)


def _records(s3: Service, pg: Service, mlflow: Service) -> dict[str, str]:
    return {
        **s3.environment,
        **mlflow.environment,
        "I2IDIST_CATALOG": postgres.address(pg, "catalog"),
        "I2IDIST_STUDIES": postgres.address(pg, "optuna"),
        "I2IDIST_RUNS": f"s3://{BUCKET}/runs",
    }


def environment(services: Mapping[str, Service]) -> dict[str, str]:
    """What a client sets to use the platform: addresses and paths of files, no secret."""
    records = _records(services["s3"], services["postgres"], services["mlflow"])
    return records | dict(services["ray"].environment)


def unset(services: Mapping[str, Service]) -> tuple[str, ...]:
    """Variables that would win over `environment`."""
    return tuple(dict.fromkeys(name for service in services.values() for name in service.unset))


def client_environment(services: Mapping[str, Service]) -> dict[str, str]:
    """A copy of this process's environment that leads a client process to the platform."""
    dropped = unset(services)
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, **environment(services)}


def down(folder: Path | str, say: Callable[[str], None] = lambda name: None) -> list[str]:
    """Stop what runs, whoever started it, and nothing else; the names of what was stopped."""
    home, stopped = _home(folder), []
    for name in reversed(NAMES):
        if state(home, name).running:
            supervise.stop(home / name)
            stopped.append(name)
            say(name)
        if name == "ray":
            ray_head.forget_sessions(home / name)
    return stopped


@dataclass(frozen=True)
class State:
    """How a service stands.

    Attributes:
        name: one of `NAMES`.
        running: whether its process runs.
        pid: its process, or the last one; None where it was never started.
        url: where clients find it.
        memory_bytes: resident, with its children.
        log: its file.
    """

    name: str
    running: bool
    pid: int | None
    url: str | None
    memory_bytes: int
    log: Path

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {**vars(self), "log": str(self.log)}


def state(folder: Path | str, name: str) -> State:
    """How one service stands.

    Raises:
        ServiceError: there is no such service.
    """
    if name not in NAMES:
        raise ServiceError(f"There is no service '{name}': there are {', '.join(NAMES)}.")
    place = _home(folder) / name
    record = supervise.read_record(place)
    log = place / supervise.LOG
    if record is None:
        return State(name, False, None, None, 0, log)
    process = find(record.pid, record.started)
    url = f"{_URLS[name]}://{record.host}:{next(iter(record.ports.values()))}"
    return State(name, process is not None, record.pid, url, _memory(process) if process else 0, log)


def _memory(process: psutil.Process) -> int:
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_info().rss
        except psutil.Error:
            continue
    return total


def _home(folder: Path | str) -> Path:
    return Path(folder).expanduser().resolve()
