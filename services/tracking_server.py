"""The MLflow tracking server, over SQLite or Postgres, with artifacts in a folder or in S3.

It hands artifacts through, so clients need no database address and no S3 keys. On loopback they need its address alone;
on another, the name and password in `credentials` too, and it answers only to that address.
"""

from __future__ import annotations

import importlib.util
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from i2idist.errors import ServiceError
from services.hosts import is_exposed
from services.supervise import Service, answers, claimed, refuse_password, write_secret

_NAME = "tracking server"
_UNSET = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_ROLE = "i2idist"
_CREDENTIALS = """[mlflow]
mlflow_tracking_username = {role}
mlflow_tracking_password = {password}
"""
"""As MLflow itself reads it from ~/.mlflow/credentials."""
# The database is beside it, where the server works. A right password is remembered for a minute: checking takes 50 ms.
_SETTINGS = """[mlflow]
default_permission = READ
database_uri = sqlite:///auth.db
admin_username = {role}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


def start(
    folder: Path | str,
    port: int | None = None,
    *,
    host: str | None = None,
    database: str | None = None,
    artifacts: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
) -> Service:
    """Start the tracking server of `folder`, or find it running.

    Args:
        folder: where it keeps its log, and by default everything else.
        port: None: as at the last start, else a free one.
        host: this machine's IPv4 address on which it is reached; None: as at the last start, else loopback.
        database: SQLAlchemy URL, such as `services.postgres.address` gives: no password in it, since others can read
            command lines; None: SQLite in `folder`.
        artifacts: folder or `s3://` URL; None: a folder in `folder`.
        environment: how it finds S3: the `environment` of `services.object_store.start`.
        timeout_s: how long it may take to answer.

    Raises:
        ServiceError: MLflow isn't installed, ended, or didn't answer in time, or it can't ask for passwords and shall
            listen on more than loopback.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise ServiceError("MLflow isn't installed: pip install mlflow.")
    with claimed(_NAME, folder, host) as claim:
        number = claim.ports(("http",), port)["http"]
        settings = {
            "database": database or f"sqlite:///{claim.folder / 'mlflow.db'}",
            "artifacts": artifacts or str(claim.folder / "artifacts"),
        }
        refuse_password(settings["database"])
        url = f"http://{claim.host}:{number}"
        guard, client = _guarded(claim.folder) if is_exposed(claim.host) else ({}, {})
        pid, started = claim.run(
            _command(claim.host, number, **settings),
            ready=lambda: answers(f"{url}/health"),
            timeout_s=timeout_s,
            settings=settings,
            # Otherwise it starts a runner of jobs and seven workers, 2.5 GB.
            environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **guard, **(environment or {})},
        )
        return Service(_NAME, url, pid, claim.folder, {"MLFLOW_TRACKING_URI": url, **client}, _UNSET, started)


def _guarded(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Draw a password, once; what the server and its clients set to use it."""
    if importlib.util.find_spec("flask_wtf") is None:
        raise ServiceError(
            "MLflow can't ask for passwords here, so it stays on loopback: pip install 'mlflow[auth]', or leave out "
            "the address."
        )
    key, credentials, settings = folder / "flask-key", folder / "credentials", folder / "auth.ini"
    if not settings.exists():
        password = secrets.token_hex(20)
        write_secret(key, secrets.token_hex(32))
        write_secret(credentials, _CREDENTIALS.format(role=_ROLE, password=password))
        write_secret(settings, _SETTINGS.format(role=_ROLE, password=password))
    server = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": key.read_text()}
    return server, {"I2IDIST_MLFLOW_CREDENTIALS": str(credentials)}


def _command(host: str, port: int, database: str, artifacts: str) -> list[str]:
    guard = []
    if is_exposed(host):
        guard = ["--app-name", "basic-auth", "--allowed-hosts", f"{host}:{port}"]
        guard += ["--cors-allowed-origins", f"http://{host}:{port}"]  # its own pages, which it would refuse
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", database, "--artifacts-destination", artifacts, *guard),
    ]
