"""A cluster's life: made, looked at, disturbed, taken away."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import services
from cluster.local.host import DASHBOARD_PORT, environment, exec_command, first_process, prepare
from cluster.local.network import free_subnet
from cluster.local.plan import HEAD, Driver, Host, Plan, Unit, forget, locked, read_plan, read_units, write_plan
from cluster.local.supervisor import end_units
from i2idist.errors import ServiceError, nearest
from services import object_store, postgres, tracking_server
from services.processes import find
from services.supervise import Service, claimed, read_record, write_secret

BUCKET = "i2idist"
_DATABASES = ("mlflow", "catalog", "optuna")
_NAMED = {name: f"platform.example.org:{port}" for name, port in (("s3", 8333), ("postgres", 5432), ("mlflow", 5000))}
"""How `cluster/node.env` names the services."""
_NEEDED = ("ip", "unshare", "nsenter", "mount")
_FIRST_HOST = 2
_POLL_S = 0.5
Say = Callable[[str], None]


def default_folder() -> Path:
    """`I2IDIST_CLUSTER`, else a folder that Postgres, which refuses root, can reach."""
    return Path(os.environ.get("I2IDIST_CLUSTER") or "/var/lib/i2idist-cluster")


@dataclass(frozen=True)
class HostState:
    """How a host stands.

    Attributes:
        name: of the host.
        address: its own.
        running: whether its first process runs.
        in_ray: whether the head counts it as alive; None where the head doesn't answer.
        connected: whether its wire is in the switch.
        starts: how often it was started.
        pid: of the process whose end ends it all.
    """

    name: str
    address: str
    running: bool
    in_ray: bool | None
    connected: bool
    starts: int
    pid: int | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


class Cluster:
    """The cluster of a folder, there or not."""

    def __init__(self, folder: Path | str) -> None:
        """Of `folder`, which holds the plan, the services' data, and each host's files."""
        self.folder = Path(folder).expanduser().resolve()

    # Its life

    def up(self, count: int, *, cpus: int = 1, cache_mb: int = 64, timeout_s: float = 180.0, say: Say = print) -> None:
        """Make what isn't there: services, network, a head and `count` hosts; wait until all are in Ray.

        Args:
            count: hosts that work, besides the head.
            cpus: that Ray may use on each.
            cache_mb: the size of each host's cache disk.
            timeout_s: how long to wait for hosts, once services answer.
            say: told what is ready.

        Raises:
            ServiceError: not root, a program is missing, or something doesn't start; what runs goes on.
        """
        _check_machine()
        with locked(self.folder):
            plan = read_plan(self.folder) or self._drawn(cache_mb)
            write_plan(self.folder, plan)  # before anything is made, so that `down` finds it
            Path(plan.node_folder).mkdir(exist_ok=True)
            plan.network.create()
            given = self._services(plan, say)
            places = {named: self._place(name) for name, named in _NAMED.items()}
            wanted = [HEAD, *(f"host{number}" for number in range(1, count + 1))]
            for number, name in enumerate(wanted):
                plan.hosts.setdefault(name, Host(_FIRST_HOST + number, 0 if name == HEAD else cpus))
            for name, each in plan.hosts.items():
                plan.network.attach(name, each.number)
                prepare(self.folder, plan, name, given, places)
            write_plan(self.folder, plan)
            self._supervise()
        self.wait(timeout_s=timeout_s, say=say)

    def down(self, say: Say = print) -> None:
        """End all of it, also after a crash; data and keys stay in the folder. None there is no error."""
        _check_machine()
        with locked(self.folder):
            plan = read_plan(self.folder)
            services.stop(self.folder / "supervisor", grace_s=0.0)
            end_units(self.folder)
            for name in ("mlflow", "postgres", "s3"):
                services.stop(self.folder / name)
            if plan:
                plan.network.remove()
                shutil.rmtree(plan.node_folder, ignore_errors=True)
                say(f"{plan.name} is down: {len(plan.hosts)} hosts, and the services")
            shutil.rmtree(self.folder / "hosts", ignore_errors=True)
            forget(self.folder)

    def _drawn(self, cache_mb: int) -> Plan:
        """A plan with names that no other cluster has."""
        node_folder = tempfile.mkdtemp(prefix="i2i-")
        return Plan(f"i2i{secrets.token_hex(3)}", free_subnet(), node_folder, cache_mb)

    def _services(self, plan: Plan, say: Say) -> dict[str, Path]:
        """Start them on this machine's address in the network; the secrets that hosts need copies of."""
        address = plan.network.address(1)
        found = self.start_services(address)
        say(", ".join(f"{name} at {service.url}" for name, service in found.items()))
        token = self.folder / "ray_token"
        if not token.exists():
            write_secret(token, secrets.token_hex(32))
        return {
            "aws_credentials": self.folder / "s3" / "credentials",
            "pgpass": self.folder / "postgres" / "pgpass",
            "mlflow_credentials": self.folder / "mlflow" / "credentials",
            "ray_token": token,
        }

    def start_services(self, address: str) -> dict[str, Service]:
        """Start each service that doesn't run, on ports that were free when it first did."""
        s3 = object_store.start(self.folder / "s3", buckets=(BUCKET,), host=address, volume_size_mb=64)
        pg = postgres.start(self.folder / "postgres", databases=_DATABASES, host=address)
        ml = tracking_server.start(
            self.folder / "mlflow",
            database=postgres.address(pg, "mlflow"),
            artifacts=f"s3://{BUCKET}/mlflow",
            environment=s3.environment,
            host=address,
        )
        return {"s3": s3, "postgres": pg, "mlflow": ml}

    def _supervise(self) -> None:
        """Start the supervisor, unless it runs."""
        with claimed("supervisor", self.folder / "supervisor") as claim:
            command = [sys.executable, "-m", "cluster.local.supervisor", str(self.folder)]
            clone = {"PYTHONPATH": str(Path(__file__).parents[2])}
            claim.run(command, ready=lambda: True, timeout_s=5.0, environment=clone)

    def wait(self, *, timeout_s: float, say: Say = print) -> None:
        """Wait until Ray knows every host that is on, and no other.

        Raises:
            ServiceError: it doesn't in time.
        """
        deadline, begun = time.monotonic() + timeout_s, time.monotonic()
        while True:
            plan = self.plan()
            missing = {plan.address(name) for name, host in plan.hosts.items() if host.up} ^ (self.in_ray() or set())
            if not missing:
                say(f"{len(plan.hosts) - 1} hosts and a head in Ray after {time.monotonic() - begun:.0f} s")
                return
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Ray's hosts aren't those of {self.folder} after {timeout_s:.0f} s: {', '.join(sorted(missing))} "
                    f"differ. See {self.folder}/hosts/NAME/log.txt and {self.folder}/supervisor/log.txt."
                )
            time.sleep(_POLL_S)

    # How it stands

    def plan(self) -> Plan:
        """What is planned.

        Raises:
            ServiceError: there is no cluster.
        """
        plan = read_plan(self.folder)
        if plan is None:
            raise ServiceError(f"There is no cluster in {self.folder}: python -m cluster.local up --hosts 3")
        return plan

    def in_ray(self) -> set[str] | None:
        """Addresses of the nodes that the head counts as alive; None where it doesn't answer."""
        connection = http.client.HTTPConnection(self.plan().address(HEAD), DASHBOARD_PORT, timeout=5)
        try:
            token = (self.folder / "ray_token").read_text()
            connection.request("GET", "/api/v0/nodes?limit=1000", headers={"Authorization": f"Bearer {token}"})
            found = json.loads(connection.getresponse().read())["data"]["result"]["result"]
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None
        finally:
            connection.close()
        return {node["node_ip"] for node in found if node["state"] == "ALIVE"}

    def states(self) -> list[HostState]:
        """How each host stands."""
        plan, units, alive = self.plan(), read_units(self.folder), self.in_ray()
        found = []
        for name in plan.hosts:
            unit, address = units.get(name), plan.address(name)
            running = unit is not None and find(unit.pid, unit.started) is not None
            in_ray = None if alive is None else address in alive
            starts, pid = (unit.starts, unit.pid) if unit else (0, None)
            found.append(HostState(name, address, running, in_ray, plan.network.plugged(name), starts, pid))
        return found

    def unit(self, name: str) -> Unit:
        """What the supervisor knows of a host, or of `driver NAME`.

        Raises:
            ServiceError: it hasn't started it.
        """
        units = read_units(self.folder)
        if name not in units:
            raise ServiceError(f"Nothing named '{name}' was started.{nearest(name, units)}")
        return units[name]

    def running(self, name: str) -> bool:
        """Whether a service of the platform, or the supervisor, runs."""
        record = read_record(self.folder / name)
        return record is not None and find(record.pid, record.started) is not None

    def client_environment(self) -> dict[str, str]:
        """What a process of this machine sets to use the cluster and its services; no secret.

        MLflow finds its password in the home folder alone, so that isn't among them: `mlflow/credentials` of the
        cluster's folder belongs to `~/.mlflow`.
        """
        passfile = self.folder / "postgres" / "pgpass"
        database = f"postgresql+psycopg://i2idist@{self._place('postgres')}"
        return {
            "AWS_ENDPOINT_URL": f"http://{self._place('s3')}",
            "AWS_DEFAULT_REGION": object_store.REGION,
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "s3" / "credentials"),
            "MLFLOW_TRACKING_URI": f"http://{self._place('mlflow')}",
            "I2IDIST_CATALOG": f"{database}/catalog?passfile={passfile}",
            "I2IDIST_STUDIES": f"{database}/optuna?passfile={passfile}",
            "I2IDIST_RUNS": f"s3://{BUCKET}/runs",
            "RAY_API_SERVER_ADDRESS": f"http://{self.plan().address(HEAD)}:{DASHBOARD_PORT}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "ray_token"),
        }

    def _place(self, name: str) -> str:
        """The address and port at which clients find a service.

        Raises:
            ServiceError: there is no cluster, or it was never started.
        """
        address, record = self.plan().network.address(1), read_record(self.folder / name)
        if record is None:
            raise ServiceError(f"The {name} of {self.folder} was never started: python -m cluster.local up")
        return f"{address}:{next(iter(record.ports.values()))}"

    # What is done to it

    def exec(self, name: str, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a command inside a host; options are those of `subprocess.run`."""
        plan = self.plan()
        plan.host(name)
        line = exec_command(name, read_units(self.folder).get(name), list(command))
        return subprocess.run(line, env=environment(self.folder, plan, name), **options)

    def add(self, *, cpus: int = 1, timeout_s: float = 60.0, say: Say = print) -> str:
        """Add a host; its name."""
        number = max(host.number for host in self.plan().hosts.values()) + 1 - _FIRST_HOST
        self.up(number, cpus=cpus, timeout_s=timeout_s, say=say)
        return f"host{number}"

    def kill(self, name: str) -> None:
        """Switch a host off at once, as a power cut does: nobody hears of it. `start` switches it on."""
        network = self.plan().network
        network.plug(name, False)
        self._set(name, up=False)
        network.end(name)

    def start(self, name: str) -> None:
        """Switch a host on that was switched off, or left."""
        self.plan().network.plug(name, True)
        self._set(name, up=True, again=True)

    def cut(self, name: str) -> None:
        """Pull a host's wire."""
        self.plan().network.plug(name, False)

    def mend(self, name: str) -> None:
        """Put a host's wire back."""
        self.plan().network.plug(name, True)

    def preempt(self, name: str) -> None:
        """Ask a host to leave, as whoever takes a spot machine back does: SIGTERM to its first process.

        Ray drains it for `RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S`, 30 s by default. It stays off until `start`.
        """
        inside = first_process(self.unit(name))
        if inside is None:
            raise ServiceError(f"The host '{name}' doesn't run.")
        self._set(name, again=False)
        os.kill(inside, signal.SIGTERM)

    def drive(self, name: str, command: Sequence[str], host: str = HEAD) -> None:
        """Run a command on a host until it succeeds: whenever it ends otherwise, it is run again."""
        with locked(self.folder):
            plan = self.plan()
            plan.host(host)
            plan.drivers[name] = Driver(host, list(command))
            write_plan(self.folder, plan)

    def _set(self, name: str, **values: bool) -> None:
        with locked(self.folder):
            plan = self.plan()
            for key, value in values.items():
                setattr(plan.host(name), key, value)
            write_plan(self.folder, plan)


def _check_machine() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ServiceError(
            "Hosts in network namespaces need Linux and root: use sudo. "
            "Without, one machine is enough for: python -m services up"
        )
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        raise ServiceError(f"{', '.join(missing)} isn't installed: it is in the packages iproute2 and util-linux.")
