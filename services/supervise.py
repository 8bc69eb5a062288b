"""Starting a server process that outlives its starter, once a folder, and ending it by its process id.

A service's folder holds `service.json` (process, ports, settings; no secret), `log.txt`, the server's own data, and
where there are secrets a file with mode 0600.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from i2idist.errors import ServiceError
from services.hosts import LOOPBACK, checked, is_free
from services.processes import end, end_leftovers, find, spawn

LOG = "log.txt"
RECORD, _LOCK = "service.json", ".lock"
_TAIL_LINES = 25
_PAUSE_S = 0.1
_GRACE_S = 20.0
_GRPC_OFFSET = 10_000


@dataclass(frozen=True)
class Service:
    """A server that runs.

    Attributes:
        name: what it is.
        url: where clients find it; holds no secret.
        pid: its process.
        folder: where it keeps everything.
        environment: what a client process sets to find it; holds no secret, only the paths of files that do.
        unset: variables that a client process must not have, since they would win over `environment`.
        started: the process's start, seconds since the epoch; process ids are reused.
        stop_signal: the signal that ends it in order.
    """

    name: str
    url: str
    pid: int
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    started: float = 0.0
    stop_signal: int = signal.SIGTERM

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return find(self.pid, self.started) is not None

    def client_environment(self) -> dict[str, str]:
        """A copy of this process's environment that leads a client process to the service."""
        kept = {name: value for name, value in os.environ.items() if name not in self.unset}
        return {**kept, **self.environment}

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """End the process and its children: asked first, killed after `grace_s` seconds. None there is no error."""
        end(self.pid, self.started, self.stop_signal, grace_s)

    def kill(self) -> None:
        """End the process and its children at once, as a crash would."""
        end(self.pid, self.started, signal.SIGKILL, _GRACE_S)


@dataclass(frozen=True)
class Record:
    """What `service.json` says; for its fields see `Service`."""

    pid: int
    started: float
    ports: dict[str, int]
    settings: dict[str, Any]
    stop_signal: int
    host: str = LOOPBACK


def stop(folder: Path | str, grace_s: float = _GRACE_S) -> None:
    """End the service of a folder, whoever started it; none there is no error."""
    record = read_record(Path(folder))
    if record:
        end(record.pid, record.started, record.stop_signal, grace_s)


class Claim:
    """A service's folder, while one process starts what belongs there."""

    def __init__(self, name: str, folder: Path, host: str | None) -> None:
        """The service `name` in `folder`; see `claimed`."""
        self.name, self.folder = name, folder
        self._before = read_record(folder)
        self.host = checked(host or (self._before.host if self._before else LOOPBACK))
        self._ports = dict(self._before.ports) if self._before else {}

    def ports(self, names: Sequence[str], first: int | None) -> dict[str, int]:
        """A port for each of `names`: those of the last start, so that clients find it again, else free ones.

        Args:
            names: what the ports are for; clients use the first.
            first: the port that the caller wants for it, None for any.
        """
        for name in names:
            self._ports.setdefault(name, free_port(self.host))
        if first is not None:
            self._ports[names[0]] = first
        return self._ports

    def run(
        self,
        command: Sequence[str],
        *,
        ready: Callable[[], bool],
        timeout_s: float,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: int = signal.SIGTERM,
    ) -> tuple[int, float]:
        """Start the server unless it runs, and wait until it answers.

        Args:
            command: its command line, which others can read: no secret.
            ready: whether it answers; an OSError means not yet.
            timeout_s: how long to wait for that.
            settings: what a running server must have been started with.
            environment: added to this process's.
            user: whom it runs as, None for this process's user.
            stop_signal: the signal that ends it in order.

        Returns:
            Its process id and start.

        Raises:
            ServiceError: it runs with other settings, ended, or didn't answer in time.
        """
        record = self._running(dict(settings or {}))
        is_new = record is None
        if record is None:
            end_leftovers(self.folder, _GRACE_S)
            self._refuse_taken_ports()
            pid, started = spawn(command, self.folder, self.folder / LOG, environment or {}, user)
            record = Record(pid, started, self._ports, dict(settings or {}), stop_signal, self.host)
            (self.folder / RECORD).write_text(json.dumps(asdict(record), indent=1))
        try:
            self._wait(record, ready, timeout_s)
        except BaseException:
            if is_new:
                end(record.pid, record.started, signal.SIGKILL, _GRACE_S)
            raise
        return record.pid, record.started

    def _running(self, settings: dict[str, Any]) -> Record | None:
        record = self._before
        if record is None or find(record.pid, record.started) is None:
            return None
        wanted = {**settings, "ports": self._ports, "host": self.host}
        there = {**record.settings, "ports": record.ports, "host": record.host}
        if wanted != there:
            differing = [f"{key} {there.get(key)!r}" for key in wanted if wanted[key] != there.get(key)]
            raise ServiceError(
                f"The {self.name} in {self.folder} runs already (process {record.pid}) with {', '.join(differing)}. "
                "Use those settings, or stop it first."
            )
        return record

    def _refuse_taken_ports(self) -> None:
        for name, port in self._ports.items():
            if not (is_free(port) and is_free(port, self.host)):
                raise ServiceError(
                    f"Port {port}, which the {self.name} in {self.folder} needs ({name}), is taken by another process. "
                    f"End that one, or delete {self.folder / RECORD} to have other ports chosen."
                )

    def _wait(self, record: Record, ready: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if find(record.pid, record.started) is None:
                raise ServiceError(f"The {self.name} in {self.folder} ended at once. {self._tail()}")
            with suppress(OSError):
                if ready():
                    return
            time.sleep(_PAUSE_S)
        raise ServiceError(f"The {self.name} in {self.folder} didn't answer within {timeout_s:.0f} s. {self._tail()}")

    def _tail(self) -> str:
        path = self.folder / LOG
        lines = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:] if path.exists() else []
        return "\n".join([f"The end of {path}:", *lines])


@contextmanager
def claimed(name: str, folder: Path | str, host: str | None = None) -> Iterator[Claim]:
    """The folder of a service for one starter at a time, made if need be.

    Args:
        name: the service, for people.
        folder: its folder.
        host: where it shall listen, an IPv4 address of this machine; None: as at the last start, else loopback.

    Raises:
        ServiceError: it can't listen there.
    """
    path = Path(folder).expanduser().resolve()
    path.mkdir(parents=True, exist_ok=True)
    with (path / _LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Claim(name, path, host)


def write_secret(path: Path, text: str) -> None:
    """Write a file that only this user can read, from its first moment on."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(temporary, path)


def refuse_password(url: str) -> None:
    """Refuse an address that would show its password to every user of this machine, in a server's command line.

    Raises:
        ServiceError: it holds one.
    """
    if urllib.parse.urlsplit(url).password:
        raise ServiceError(
            "The database address holds a password, which every user of this machine could read in the server's "
            "command line. Put it in a 0600 file instead: ...?passfile=FILE (see services/README.md)."
        )


def free_port(host: str = LOOPBACK) -> int:
    """A port that is free on loopback and `host`, and 10,000 above it another, which SeaweedFS takes for gRPC.

    It lies below those that Linux gives to clients (from 32768), one of whom could have it before the server does.
    """
    for _ in range(1000):
        port = random.randint(20_000, 32_000)
        if all(is_free(each, place) for each in (port, port + _GRPC_OFFSET) for place in (LOOPBACK, host)):
            return port
    raise ServiceError(f"No free port was found on {host} between 20000 and 32000. End what holds them.")


def answers(url: str, status: Sequence[int] = (200,)) -> bool:
    """Whether a GET of `url` is answered with one of `status`, within 2 s and past any proxy."""
    import http.client

    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", f"{parts.path or '/'}?{parts.query}")
        return connection.getresponse().status in status
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def read_record(folder: Path) -> Record | None:
    """What the last start in `folder` noted; None where there was none."""
    path = folder / RECORD
    return Record(**json.loads(path.read_text())) if path.exists() else None
