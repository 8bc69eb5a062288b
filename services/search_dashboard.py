"""optuna-dashboard, on loopback, over the storage that searches write to."""

from __future__ import annotations

import sys
from pathlib import Path

from i2idist.errors import ServiceError
from services.supervise import Service, answers, claimed, refuse_password

_NAME = "search dashboard"


def start(folder: Path | str, port: int | None = None, *, storage: str, timeout_s: float = 60.0) -> Service:
    """Start the dashboard of `folder`, or find it running.

    Args:
        folder: where it keeps its log.
        port: None: as at the last start, else a free one.
        storage: the SQLAlchemy URL of Optuna's storage, such as `services.postgres.address` gives: no password in it,
            since others can read command lines.
        timeout_s: how long it may take to answer.

    Raises:
        ServiceError: it isn't installed, ended, or didn't answer in time.
    """
    refuse_password(storage)
    beside = Path(sys.executable).with_name("optuna-dashboard")
    if not beside.exists():
        raise ServiceError("optuna-dashboard isn't installed: pip install optuna-dashboard.")
    _make_tables(storage)
    with claimed(_NAME, folder) as claim:
        number = claim.ports(("http",), port)["http"]
        url = f"http://127.0.0.1:{number}"
        pid, started = claim.run(
            [str(beside), storage, "--host", "127.0.0.1", "--port", str(number)],
            ready=lambda: answers(f"{url}/dashboard"),
            timeout_s=timeout_s,
            settings={"storage": storage},
        )
        return Service(_NAME, url, pid, claim.folder, {}, (), started)


def _make_tables(storage: str) -> None:
    """The dashboard refuses a database in which no search has begun."""
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage

    try:
        RDBStorage(storage)
    except (StorageInternalError, RuntimeError) as error:
        raise ServiceError(f"{storage} is no storage of this version of Optuna: {error}") from error
