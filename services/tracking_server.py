"""The MLflow tracking server, over SQLite or Postgres, with artifacts in a folder or in S3.

It hands artifacts through, so clients need its address alone: no database address, no S3 keys. On loopback it asks
for no password. Elsewhere it does: the folder then holds `credentials` (mode 0600), which clients keep as
`~/.mlflow/credentials`, and `auth.ini` and `key` (mode 0600) for the server.
"""

from __future__ import annotations

import configparser
import importlib.util
import io
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from i2idist.errors import ServiceError
from services.supervise import LOOPBACK, Service, answers, claimed, refuse_password, write_secret

_NAME = "tracking server"
_UNSET = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def start(
    folder: Path | str,
    port: int | None = None,
    *,
    database: str | None = None,
    artifacts: str | None = None,
    environment: Mapping[str, str] | None = None,
    address: str = LOOPBACK,
    timeout_s: float = 120.0,
) -> Service:
    """Start the tracking server of `folder`, or find it running.

    Args:
        folder: where it keeps its log, and by default everything else.
        port: None: as at the last start, else a free one.
        database: SQLAlchemy URL, such as `services.postgres.address` gives: no password in it, since others can read
            command lines; None: SQLite in `folder`.
        artifacts: folder or `s3://` URL; None: a folder in `folder`.
        environment: how it finds S3: the `environment` of `services.object_store.start`.
        address: of this machine, where it is served; anywhere but on loopback it asks for a password.
        timeout_s: how long it may take to answer.

    Raises:
        ServiceError: MLflow isn't installed, ended, or didn't answer in time.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise ServiceError("MLflow isn't installed: pip install mlflow.")
    exposed = address != LOOPBACK
    if exposed and importlib.util.find_spec("flask_wtf") is None:
        raise ServiceError("A tracking server that asks for passwords needs: pip install 'mlflow[auth]'.")
    with claimed(_NAME, folder, address) as claim:
        number = claim.ports(("http",), port)["http"]
        settings = {
            "database": database or f"sqlite:///{claim.folder / 'mlflow.db'}",
            "artifacts": artifacts or str(claim.folder / "artifacts"),
        }
        refuse_password(settings["database"])
        url = f"http://{address}:{number}"
        pid, started = claim.run(
            _command(address, number, exposed, **settings),
            ready=lambda: answers(f"{url}/health"),
            timeout_s=timeout_s,
            settings=settings,
            # Otherwise it starts a runner of jobs and seven workers, 2.5 GB.
            environment={
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                **(_guarded(claim.folder) if exposed else {}),
                **(environment or {}),
            },
        )
        return Service(_NAME, url, pid, claim.folder, {"MLFLOW_TRACKING_URI": url}, _UNSET, started)


def _guarded(folder: Path) -> dict[str, str]:
    """The server's own secrets, drawn once, and where it finds them."""
    if not (folder / "credentials").exists():
        name, password = "i2idist", secrets.token_hex(20)
        about = {
            "default_permission": "READ",
            "database_uri": f"sqlite:///{folder / 'auth.db'}",
            "admin_username": name,
            "admin_password": password,
            "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
            "auth_cache_ttl_seconds": "60",  # else each request pays for hashing the password
        }
        write_secret(folder / "key", secrets.token_hex(32))
        write_secret(folder / "auth.ini", _ini(about))
        known = {"mlflow_tracking_username": name, "mlflow_tracking_password": password}
        write_secret(folder / "credentials", _ini(known))
    key = (folder / "key").read_text()
    return {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": key}


def _ini(values: Mapping[str, str]) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser["mlflow"] = values
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def _command(address: str, port: int, exposed: bool, database: str, artifacts: str) -> list[str]:
    guard = ["--app-name", "basic-auth", "--allowed-hosts", f"{address},{address}:{port}"] if exposed else []
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", address, "--port", str(port), "--workers", "1", *guard),
        *("--backend-store-uri", database, "--artifacts-destination", artifacts),
    ]
