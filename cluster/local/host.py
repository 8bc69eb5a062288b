"""What a host is made of: its folder, its start, and how a command enters it.

```
FOLDER/hosts/NAME/home   its home: `i2idist/` with secrets and `node.env`, as on every cluster (../README.md, "Secrets")
                  ray    what it sees at the plan's `node_folder`: Ray's sessions and temporary files
                  names  its `/etc/hosts`: the cluster's
                  log.txt
```
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cluster.local.plan import HEAD, Plan, Unit
from i2idist.errors import ServiceError
from services.supervise import write_secret

MARK = "I2IDIST_HOSTS"
"""Variable of all that the supervisor starts: the cluster's folder."""

GCS_PORT, DASHBOARD_PORT = 6379, 8265
_CLONE = Path(__file__).parents[2]
_STORE_BYTES = 100_000_000
_KEPT = ("PATH", "LANG", "TERM")
_ENTER = 'set -a; . "$HOME/i2idist/node.env"; set +a; cd "$HOME"; '
_START = (
    'echo "$HOST" > /proc/sys/kernel/hostname; '
    'mount --bind "$OWN/names" /etc/hosts; mount --bind "$OWN/ray" "$NODE"; mkdir -p "$TMPDIR"; '
    "mount -t tmpfs -o size=256m tmpfs /dev/shm; "
    'mkdir -p "$HOME/.cache"; mount -t tmpfs -o "size=${CACHE_MB}m" tmpfs "$HOME/.cache"; '
    f'{_ENTER} exec "$@"'
)


def folder_of(folder: Path, name: str) -> Path:
    """A host's folder."""
    return folder / "hosts" / name


def prepare(folder: Path, plan: Plan, name: str, secrets: dict[str, Path], places: dict[str, str]) -> None:
    """Make a host's folder, with copies of the secrets that it reads itself.

    Args:
        folder: the cluster's.
        plan: the cluster.
        name: the host.
        secrets: by the names that `node.env` knows them by.
        places: where the services are, by how `node.env` names them.
    """
    place = folder_of(folder, name)
    home = place / "home" / "i2idist"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (place / "ray").mkdir(exist_ok=True)
    for kind, path in secrets.items():
        write_secret(home / kind, path.read_text())
    known = place / "home" / ".mlflow"
    known.mkdir(exist_ok=True, mode=0o700)
    write_secret(known / "credentials", secrets["mlflow_credentials"].read_text())
    everyone = "".join(f"{plan.address(each)} {each}\n" for each in plan.hosts)
    (place / "names").write_text(f"127.0.0.1 localhost\n{everyone}")
    text = (_CLONE / "cluster" / "node.env").read_text()
    for named, where in places.items():
        text = text.replace(named, where)
    (home / "node.env").write_text(text)


def environment(folder: Path, plan: Plan, name: str) -> dict[str, str]:
    """A host's environment, before it reads `node.env`; nothing of the caller's that leads elsewhere."""
    place = folder_of(folder, name)
    kept = {variable: os.environ[variable] for variable in _KEPT if variable in os.environ}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "PYTHONPATH": str(_CLONE),
        "HOME": str(place / "home"),
        "TMPDIR": f"{plan.node_folder}/tmp",
        "RAY_ADDRESS": f"{plan.address(HEAD)}:{GCS_PORT}",
        "OMP_NUM_THREADS": "1",
        "HOST": name,
        "OWN": str(place),
        "NODE": plan.node_folder,
        "CACHE_MB": str(plan.cache_mb),
        MARK: str(folder),
    }


def start_command(plan: Plan, name: str) -> list[str]:
    """What starts a host: its process 1 is `ray start`, with whose end all of it ends."""
    unshare = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
    space = ["ip", "netns", "exec", plan.network.namespace(name)]
    return [*space, *unshare, "sh", "-euc", _START, "sh", *_ray_start(plan, name)]


def _ray_start(plan: Plan, name: str) -> list[str]:
    address = plan.address(name)
    role = (
        ["--head", f"--port={GCS_PORT}", f"--dashboard-host={address}", f"--dashboard-port={DASHBOARD_PORT}"]
        if name == HEAD
        else [f"--address={plan.address(HEAD)}:{GCS_PORT}"]
    )
    return [
        *("ray", "start", "--block", f"--node-ip-address={address}", *role, f"--num-cpus={plan.host(name).cpus}"),
        *(f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats", f"--temp-dir={plan.node_folder}"),
    ]


def exec_command(name: str, unit: Unit | None, command: list[str]) -> list[str]:
    """What runs a command inside a host.

    Raises:
        ServiceError: the host doesn't run.
    """
    inside = unit and first_process(unit)
    if inside is None:
        raise ServiceError(f"The host '{name}' doesn't run: python -m cluster.local status")
    enter = ["nsenter", f"--target={inside}", "--mount", "--net", "--pid", "--uts"]
    return [*enter, "sh", "-euc", f'{_ENTER} exec "$@"', "sh", *command]


def first_process(unit: Unit) -> int | None:
    """The id, seen from outside, of a host's process 1; None where there is none."""
    try:
        children = Path(f"/proc/{unit.pid}/task/{unit.pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None
