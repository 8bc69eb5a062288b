"""A Ray head with its dashboard and job server, which asks for a token.

The folder holds `token` (mode 0600, which nodes and clients read themselves) and Ray's sessions; where its path is too
long for Ray's sockets, those are in a private folder of the temporary directory, which `sessions` leads to.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from i2idist.errors import ServiceError
from services.hosts import interface, is_exposed
from services.supervise import Service, answers, claimed, write_secret

_NAME = "Ray head"
_PORTS = (
    "dashboard-port",
    "port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "ray-client-server-port",
    "node-manager-port",
    "object-manager-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)
_LONGEST = 40
"""Characters of a session folder's path: sockets below it may have 107, and Ray's names need the rest."""
_OBJECT_STORE_BYTES = 200_000_000
_HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""A host that is cut off is noticed within 6 s instead of a minute. Every other node sets the same."""


def start(
    folder: Path | str,
    port: int | None = None,
    *,
    host: str | None = None,
    cpus: int | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 90.0,
) -> Service:
    """Start the Ray head of `folder`, or find it running.

    Args:
        folder: where it keeps its token and log.
        port: of the dashboard, which takes jobs; None: as at the last start, else a free one.
        host: this machine's IPv4 address on which others reach it; None: as at the last start, else loopback.
        cpus: that jobs may use; None: this machine's.
        environment: of what jobs run, such as where the object store and the tracking server are: no secrets.
        timeout_s: how long it may take to answer.

    Raises:
        ServiceError: Ray's dashboard isn't installed, it ended, or didn't answer in time.
    """
    with claimed(_NAME, folder, host) as claim:
        ports = claim.ports(_PORTS, port)
        token = claim.folder / "token"
        if not token.exists():
            write_secret(token, secrets.token_hex(32))
        url = f"http://{claim.host}:{ports['dashboard-port']}"
        client = {"RAY_API_SERVER_ADDRESS": url, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        pid, started = claim.run(
            _command(claim.host, ports, _sessions(claim.folder), cpus),
            ready=lambda: answers(f"{url}/api/version", (401,)),
            timeout_s=timeout_s,
            settings={"cpus": cpus},
            environment=dict(environment or {}) | client | _for_jobs(claim.host),
        )
        return Service(_NAME, url, pid, claim.folder, client, ("RAY_ADDRESS",), started)


def _for_jobs(host: str) -> dict[str, str]:
    """What drivers and workers need: the programs of this Python, and the network that gloo shall use."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"PATH": programs, "GLOO_SOCKET_IFNAME": interface(host), **(_HEALTH if is_exposed(host) else {})}


def _sessions(folder: Path) -> Path:
    """A folder for Ray's sessions, of a path that is short enough."""
    if len(str(folder)) <= _LONGEST:
        return folder
    link = folder / "sessions"
    if not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(tempfile.mkdtemp(prefix="i2idist-ray-"))
    return link.resolve()


def forget_sessions(folder: Path | str) -> None:
    """Delete the session folders of a head that has ended; they hold its logs and sockets."""
    path = Path(folder)
    sessions = (path / "sessions").resolve() if (path / "sessions").is_symlink() else path
    for found in sessions.glob("session_*"):
        if found.is_symlink():
            found.unlink()
        else:
            shutil.rmtree(found, ignore_errors=True)


def _command(host: str, ports: Mapping[str, int], sessions: Path, cpus: int | None) -> list[str]:
    beside = Path(sys.executable).with_name("ray")
    if not beside.exists():
        raise ServiceError("Ray isn't installed: pip install 'ray[default]'.")
    # Ray takes 127.0.0.1 as "this host" and would go by the host's own address; 127.0.0.2 stays on loopback.
    node = host if is_exposed(host) else "127.0.0.2"
    return [
        *(str(beside), "start", "--head", "--block", f"--node-ip-address={node}", f"--dashboard-host={host}"),
        *(f"--{name}={number}" for name, number in ports.items()),
        *([] if cpus is None else [f"--num-cpus={cpus}"]),
        *(f"--object-store-memory={_OBJECT_STORE_BYTES}", "--include-dashboard=true", "--disable-usage-stats"),
        f"--temp-dir={sessions}",
    ]
