"""What a cluster shall be, and what its supervisor has made of it: two files in the cluster's folder.

Commands write `plan.json` under a lock; the supervisor alone writes `state.json`. Neither holds a secret.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.local.network import Network
from i2idist.errors import ServiceError, nearest

HEAD = "head"
_PLAN, _STATE, _LOCK = "plan.json", "state.json", ".lock"


@dataclass
class Host:
    """A host as it shall be.

    Attributes:
        number: of its address; see `Network.address`.
        cpus: that Ray may use; none on the head.
        up: whether it is switched on.
        again: whether it is started again when it ends; not where it was asked to leave.
    """

    number: int
    cpus: int
    up: bool = True
    again: bool = True


@dataclass
class Driver:
    """A command that shall be run until it succeeds.

    Attributes:
        host: where.
        command: what, with its arguments; no secrets.
    """

    host: str
    command: list[str]


@dataclass
class Plan:
    """A cluster as it shall be.

    Attributes:
        name: of its network.
        subnet: its addresses.
        node_folder: where every host sees a folder of its own; short, since Ray makes sockets there.
        cache_mb: the size of each host's cache disk.
        hosts: by name.
        drivers: by name.
    """

    name: str
    subnet: str
    node_folder: str
    cache_mb: int
    hosts: dict[str, Host] = field(default_factory=dict)
    drivers: dict[str, Driver] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        """Its network."""
        return Network(self.name, self.subnet)

    def host(self, name: str) -> Host:
        """A host.

        Raises:
            ServiceError: there is none of that name.
        """
        if name not in self.hosts:
            raise ServiceError(f"There is no host '{name}'.{nearest(name, self.hosts)}")
        return self.hosts[name]

    def address(self, name: str) -> str:
        """A host's address."""
        return self.network.address(self.host(name).number)


@dataclass(frozen=True)
class Unit:
    """What the supervisor knows of a host's Ray, or of a driver.

    Attributes:
        pid: the process, the last one where it has ended.
        started: that process's start, seconds since the epoch.
        starts: how often it was started.
        exit_code: of a driver that has succeeded.
    """

    pid: int
    started: float
    starts: int = 1
    exit_code: int | None = None


def read_plan(folder: Path) -> Plan | None:
    """What is planned; None where there is no cluster."""
    path = folder / _PLAN
    if not path.exists():
        return None
    raw = json.loads(path.read_text())
    raw["hosts"] = {name: Host(**values) for name, values in raw["hosts"].items()}
    raw["drivers"] = {name: Driver(**values) for name, values in raw["drivers"].items()}
    return Plan(**raw)


def write_plan(folder: Path, plan: Plan) -> None:
    """Replace what is planned, whole."""
    _write(folder / _PLAN, dataclasses.asdict(plan))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One command at a time changes a cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forget(folder: Path) -> None:
    """The cluster is no more."""
    for name in (_PLAN, _STATE):
        (folder / name).unlink(missing_ok=True)


def read_units(folder: Path) -> dict[str, Unit]:
    """What the supervisor wrote last; empty before."""
    path = folder / _STATE
    return {name: Unit(**values) for name, values in json.loads(path.read_text()).items()} if path.exists() else {}


def write_units(folder: Path, units: Mapping[str, Unit]) -> None:
    """Replace what the supervisor wrote."""
    _write(folder / _STATE, {name: dataclasses.asdict(unit) for name, unit in units.items()})


def _write(path: Path, values: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(values, indent=1))
    temporary.replace(path)
