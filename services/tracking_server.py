"""The MLflow tracking server, on loopback, over SQLite or Postgres, with artifacts in a folder or in S3.

It hands artifacts through, so clients need its address alone: no database address, no S3 keys.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from i2idist.errors import ServiceError
from services.supervise import Service, answers, claimed, refuse_password

_NAME = "tracking server"
_UNSET = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def start(
    folder: Path | str,
    port: int | None = None,
    *,
    database: str | None = None,
    artifacts: str | None = None,
    environment: Mapping[str, str] | None = None,
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
        timeout_s: how long it may take to answer.

    Raises:
        ServiceError: MLflow isn't installed, ended, or didn't answer in time.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise ServiceError("MLflow isn't installed: pip install mlflow.")
    with claimed(_NAME, folder) as claim:
        number = claim.ports(("http",), port)["http"]
        settings = {
            "database": database or f"sqlite:///{claim.folder / 'mlflow.db'}",
            "artifacts": artifacts or str(claim.folder / "artifacts"),
        }
        refuse_password(settings["database"])
        url = f"http://127.0.0.1:{number}"
        pid, started = claim.run(
            _command(number, **settings),
            ready=lambda: answers(f"{url}/health"),
            timeout_s=timeout_s,
            settings=settings,
            # Otherwise it starts a runner of jobs and seven workers, 2.5 GB.
            environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(environment or {})},
        )
        return Service(_NAME, url, pid, claim.folder, {"MLFLOW_TRACKING_URI": url}, _UNSET, started)


def _command(port: int, database: str, artifacts: str) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", database, "--artifacts-destination", artifacts),
    ]
