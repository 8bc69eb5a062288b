"""optuna-dashboard on the storage of studies, on loopback.

It asks for no password, so it stays on loopback whatever else is exposed.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from i2idist.errors import ServiceError
from services.supervise import Service, answers, claimed, refuse_password

_NAME = "study dashboard"


def start(folder: Path | str, storage: str, port: int | None = None, *, timeout_s: float = 60.0) -> Service:
    """Start the dashboard of `folder`, or find it running.

    Args:
        folder: where it keeps its log.
        storage: the studies: `sqlite:///FILE`, or a URL as `services.postgres.address` gives; no password in it, since
            others can read command lines.
        port: None: as at the last start, else a free one.
        timeout_s: how long it may take to answer.

    Raises:
        ServiceError: it isn't installed, the URL holds a password or no storage of this Optuna, it ended, or didn't
            answer in time.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise ServiceError("optuna-dashboard isn't installed: pip install optuna-dashboard.")
    refuse_password(storage)
    _make_tables(storage)
    with claimed(_NAME, folder) as claim:
        number = claim.ports(("http",), port)["http"]
        url = f"http://127.0.0.1:{number}"
        program = Path(sys.executable).with_name("optuna-dashboard")
        pid, started = claim.run(
            [str(program), storage, "--host", "127.0.0.1", "--port", str(number), "--server", "wsgiref"],
            ready=lambda: answers(f"{url}/dashboard"),
            timeout_s=timeout_s,
            settings={"storage": storage},
        )
        return Service(_NAME, url, pid, claim.folder, started=started)


def _make_tables(storage: str) -> None:
    """The dashboard refuses a database in which no search has begun."""
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage

    try:
        RDBStorage(storage)
    except (StorageInternalError, RuntimeError) as error:
        raise ServiceError(f"{storage} is no storage of this version of Optuna: {error}") from error
